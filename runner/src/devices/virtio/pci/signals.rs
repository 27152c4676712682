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
    pin: Level,
    /// The pin as it was last driven.
    high: Mutex<bool>,
    /// The guest has switched the pin off.
    disabled: AtomicBool,
}

impl std::fmt::Debug for Signals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signals").field("msix", &self.msix).finish_non_exhaustive()
    }
}

/// What a vector register is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Config,
    Queue(u32),
}

impl Signals {
    /// Interrupts of a device with so many queues.
    pub fn new(queues: usize, msix: Option<Msix>, pin: Level) -> Arc<Self> {
        let vector = || AtomicU16::new(NO_VECTOR);
        Arc::new(Self {
            msix,
            config: vector(),
            queues: std::iter::repeat_with(vector).take(queues).collect(),
            pin,
            high: Mutex::new(false),
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

    /// Whether the device interrupts by messages, and not by its pin.
    pub(super) fn are_messages(&self) -> bool {
        self.msix.as_ref().is_some_and(Msix::enabled)
    }

    fn high(&self) -> MutexGuard<'_, bool> {
        self.high.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the pin. What is asked for under the lock is as new as what the pin is set to.
    fn drive(&self, high: &mut bool, pending: &dyn Fn() -> bool) {
        let masked = self.are_messages() || self.disabled.load(Ordering::Relaxed);
        let wanted = !masked && pending();
        if *high != wanted {
            *high = wanted;
            (self.pin)(wanted);
        }
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
        let sources = queues.iter().filter_map(|queue| u32::try_from(queue).ok());
        if !self.send(sources.map(Source::Queue)) {
            self.drive(&mut self.high(), pending);
        }
    }

    fn config(&self, pending: &dyn Fn() -> bool) {
        if !self.send(std::iter::once(Source::Config)) {
            self.drive(&mut self.high(), pending);
        }
    }

    /// The pin goes down even where it has to go up again at once: Nanos leaves its interrupts as the
    /// interrupt controller has them, which under KVM is edge-triggered, and a pin that stays high has
    /// no edge any more for what comes later.
    fn settle(&self, pending: &dyn Fn() -> bool) {
        let mut high = self.high();
        self.drive(&mut high, &|| false);
        self.drive(&mut high, pending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
