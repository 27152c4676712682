//! How a virtio device on PCI interrupts (virtio 1.2 §4.1.5.2 to §4.1.5.4): by a message for each queue
//! and one for the configuration where the driver has switched MSI-X on, else by a level on its pin,
//! which is high while the ISR status has a bit set.

use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::VectorsState;
use crate::devices::Level;
use crate::devices::pci::msix::Msix;
use crate::devices::state::Refused;
use crate::devices::virtio::interrupts::{Interrupts, Queues};

/// No message (§4.1.5.1.3, VIRTIO_MSI_NO_VECTOR).
const NO_VECTOR: u16 = 0xffff;

/// A device's interrupts.
pub struct Signals {
    /// Where the board can send messages.
    pub msix: Option<Msix>,
    config: AtomicU16,
    queues: Vec<AtomicU16>,
    level: Level,
    pin: Mutex<Pin>,
    /// The guest has switched the pin off.
    disabled: AtomicBool,
}

impl std::fmt::Debug for Signals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signals").field("msix", &self.msix).finish_non_exhaustive()
    }
}

/// The pin, and what it stands for.
#[derive(Debug, Default)]
struct Pin {
    /// As it was last driven.
    high: bool,
    /// Queues with something to tell that the driver has not seen, if MSI-X was off.
    queues: Queues,
    /// The configuration, the same.
    config: bool,
}

/// What a vector register is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Config,
    Queue(u32),
}

impl Signals {
    /// Interrupts of a device with so many queues.
    pub fn new(queues: usize, msix: Option<Msix>, level: Level) -> Arc<Self> {
        let vector = || AtomicU16::new(NO_VECTOR);
        Arc::new(Self {
            msix,
            config: vector(),
            queues: std::iter::repeat_with(vector).take(queues).collect(),
            level,
            pin: Mutex::default(),
            disabled: AtomicBool::new(false),
        })
    }

    fn register(&self, source: Source) -> Option<&AtomicU16> {
        match source {
            Source::Config => Some(&self.config),
            Source::Queue(queue) => self.queues.get(usize::try_from(queue).ok()?),
        }
    }

    /// The vector of a source.
    pub(super) fn vector(&self, source: Source) -> u16 {
        self.register(source).map_or(NO_VECTOR, |vector| vector.load(Ordering::Relaxed))
    }

    /// The driver gives a source a vector. One that does not exist is none, which it can read back.
    pub(super) fn set_vector(&self, source: Source, vector: u16) {
        let vectors = self.msix.as_ref().map_or(0, Msix::vectors);
        let vector = if usize::from(vector) < vectors { vector } else { NO_VECTOR };
        if let Some(register) = self.register(source) {
            register.store(vector, Ordering::Relaxed);
        }
    }

    /// The driver resets the device.
    pub(super) fn reset(&self) {
        for register in self.queues.iter().chain([&self.config]) {
            register.store(NO_VECTOR, Ordering::Relaxed);
        }
        let mut pin = self.pin();
        (pin.queues, pin.config) = (Queues::default(), false);
        drop(pin);
        if let Some(msix) = &self.msix {
            msix.forget();
        }
    }

    /// The vectors of the configuration and of each queue.
    pub(super) fn vectors(&self) -> VectorsState {
        let load = |vector: &AtomicU16| vector.load(Ordering::Relaxed);
        VectorsState { config: load(&self.config), queues: self.queues.iter().map(load).collect() }
    }

    /// Has them what they were.
    pub(super) fn restore(&self, saved: &VectorsState) -> Result<(), Refused> {
        let (count, own) = (saved.queues.len(), self.queues.len());
        Refused::unless(count == own, "queues", &format!("{count}, and it has {own}"))?;
        self.set_vector(Source::Config, saved.config);
        for (queue, vector) in (0..).zip(&saved.queues) {
            self.set_vector(Source::Queue(queue), *vector);
        }
        let why = format!("some of {saved:?} do not exist");
        Refused::unless(self.vectors() == *saved, "queues", &why)
    }

    /// The guest has written the command register. [`Interrupts::settle`] comes next.
    pub(super) fn disable_pin(&self, disabled: bool) {
        self.disabled.store(disabled, Ordering::Relaxed);
    }

    /// The guest has written MSI-X's control register, or the bus-master bit; [`Interrupts::settle`] comes
    /// next. What the pin stood for goes out as messages where MSI-X is switched on: the pin goes down,
    /// and a driver that has not looked yet would never hear of it.
    pub(super) fn control(&self, control: u16, bus_master: bool) {
        let Some(msix) = &self.msix else { return };
        let mut pin = self.pin();
        msix.control(control, bus_master);
        if self.send(sources(pin.queues, pin.config)) {
            (pin.queues, pin.config) = (Queues::default(), false);
        }
    }

    /// Whether the device interrupts by messages, and not by its pin.
    pub(super) fn are_messages(&self) -> bool {
        self.msix.as_ref().is_some_and(Msix::enabled)
    }

    fn pin(&self) -> MutexGuard<'_, Pin> {
        self.pin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the pin. What is asked for under the lock is as new as what the pin is set to.
    fn drive(&self, pin: &mut Pin, pending: &dyn Fn() -> bool) {
        let masked = self.are_messages() || self.disabled.load(Ordering::Relaxed);
        let wanted = !masked && pending();
        if pin.high != wanted {
            pin.high = wanted;
            (self.level)(wanted);
        }
    }

    /// Tells the driver, by messages or by the pin. Which of them is decided under the lock under which
    /// the guest switches MSI-X on, so that none of them is neither.
    fn tell(&self, queues: Queues, config: bool, pending: &dyn Fn() -> bool) {
        if self.send(sources(queues, config)) {
            return;
        }
        let mut pin = self.pin();
        if self.send(sources(queues, config)) {
            return;
        }
        if pending() {
            pin.queues.extend(queues);
            pin.config |= config;
        }
        self.drive(&mut pin, pending);
    }

    /// Sends the messages of `sources`, where the driver has switched MSI-X on; whether it has.
    fn send(&self, sources: impl Iterator<Item = Source>) -> bool {
        let Some(msix) = &self.msix else { return false };
        // Queues may share a vector, which is then one message.
        let mut vectors = 0u64;
        for vector in sources.map(|source| self.vector(source)) {
            vectors |= 1u64.checked_shl(vector.into()).unwrap_or_default();
        }
        msix.raise(vectors)
    }
}

impl Interrupts for Signals {
    fn used(&self, queues: Queues, pending: &dyn Fn() -> bool) {
        self.tell(queues, false, pending);
    }

    fn config(&self, pending: &dyn Fn() -> bool) {
        self.tell(Queues::default(), true, pending);
    }

    /// The pin goes down even where it has to go up again at once: Nanos leaves its interrupts as the
    /// interrupt controller has them, which under KVM is edge-triggered, and a pin that stays high has
    /// no edge any more for what comes later.
    fn settle(&self, pending: &dyn Fn() -> bool) {
        let mut pin = self.pin();
        self.drive(&mut pin, &|| false);
        self.drive(&mut pin, pending);
        if !pending() {
            (pin.queues, pin.config) = (Queues::default(), false);
        }
    }
}

/// Queues, and the configuration.
fn sources(queues: Queues, config: bool) -> impl Iterator<Item = Source> {
    let queues = queues.iter().filter_map(|queue| u32::try_from(queue).ok());
    queues.map(Source::Queue).chain(config.then_some(Source::Config))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::pci::msix::{ENABLE, ENTRY};
    use hv::Width;

    #[test]
    fn a_pin_that_is_still_wanted_goes_down_and_up_again_when_the_driver_has_looked() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let pin: Level = {
            let log = Arc::clone(&log);
            Arc::new(move |high| log.lock().unwrap().push(high))
        };
        let signals = Signals::new(1, None, pin);
        signals.used(Queues::default(), &|| true);
        signals.used(Queues::default(), &|| true);
        assert_eq!(*log.lock().unwrap(), [true]);
        // The device has used another buffer since the driver read the status.
        signals.settle(&|| true);
        assert_eq!(*log.lock().unwrap(), [true, false, true]);
        signals.settle(&|| false);
        signals.settle(&|| false);
        assert_eq!(*log.lock().unwrap(), [true, false, true, false]);
        signals.disable_pin(true);
        signals.used(Queues::default(), &|| true);
        assert_eq!(log.lock().unwrap().len(), 4);
    }

    /// Signals of two queues, each with its vector, and so the configuration; MSI-X is off. What comes out:
    /// the messages' data.
    fn with_messages() -> (Arc<Signals>, impl Fn() -> Vec<u32>) {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&sent);
        let msix = Msix::new(3, Arc::new(move |_, data| log.lock().unwrap().push(data)));
        for vector in 0..3 {
            msix.write_table(ENTRY * vector + 8, Width::W8, 0x40 + vector);
        }
        let signals = Signals::new(2, Some(msix), Arc::new(|_| ()));
        for (vector, source) in (0..).zip([Source::Queue(0), Source::Queue(1), Source::Config]) {
            signals.set_vector(source, vector);
        }
        (signals, move || std::mem::take(&mut *sent.lock().unwrap()))
    }

    fn only(queue: usize) -> Queues {
        let mut queues = Queues::default();
        queues.insert(queue);
        queues
    }

    #[test]
    fn what_the_pin_stood_for_is_a_message_when_msix_is_switched_on_and_what_was_seen_is_none() {
        let (signals, sent) = with_messages();
        signals.used(only(1), &|| true);
        signals.config(&|| true);
        signals.control(ENABLE, true);
        assert_eq!(sent(), [0x41, 0x42]);
        signals.control(ENABLE, true);
        assert!(sent().is_empty());
        signals.control(0, true);
        signals.used(only(0), &|| true);
        signals.settle(&|| false);
        // The driver was faster than the pin.
        signals.used(only(1), &|| false);
        signals.control(ENABLE, true);
        assert!(sent().is_empty());
    }

    #[test]
    fn no_interrupt_is_lost_when_msix_is_switched_on_meanwhile() {
        for _ in 0..2000 {
            let (signals, sent) = with_messages();
            std::thread::scope(|scope| {
                scope.spawn(|| signals.used(only(0), &|| true));
                scope.spawn(|| {
                    signals.control(ENABLE, true);
                    signals.settle(&|| true);
                });
            });
            assert_eq!(sent(), [0x40]);
        }
    }
}
