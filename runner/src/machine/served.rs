//! The machine's devices that the I/O loop serves, but for the network: what they are by the plan, their
//! places, and their turns.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use hv::{GuestMemory, Vm};

use super::Error;
use super::console::Ends;
use super::virtio::Virtio;
use crate::devices::virtio::balloon::Balloon;
use crate::devices::virtio::rng::Rng;
use crate::devices::virtio::served::Served;
use crate::devices::virtio::virtqueues::Virtqueues;
use crate::devices::virtio::worker::Commands;
use crate::io::event::Event;
use crate::io::event_loop::{EventLoop, Ready};
use crate::plan::{DeviceKind, DevicePlan};

/// Each device has so many keys of the loop's, and the network the first of them.
const KEYS: usize = 1 << 42;
/// From here on they are for the device's queues and, behind those, its commands; below for what it
/// watches itself.
const OWN: usize = 1 << 41;

/// A device and its queues, for the I/O loop to serve.
#[derive(Debug)]
pub(super) struct Station {
    device: Box<dyn Served>,
    queues: Virtqueues,
    memory: GuestMemory,
    /// Signalled by the queues' doorbells, in order, and the last by commands.
    events: Vec<Arc<Event>>,
    /// The first of its keys.
    base: usize,
    more: bool,
}

/// What a device of the plan is; nothing for one that has threads of its own.
fn device(kind: &DeviceKind, ends: &Ends) -> Result<Option<Box<dyn Served>>, Error> {
    Ok(match kind {
        DeviceKind::Rng => Some(Box::new(Rng::default())),
        DeviceKind::Balloon(size) => Some(Box::new(Balloon::new(*size))),
        DeviceKind::Console(plan) => Some(Box::new(ends.console(plan)?)),
        DeviceKind::Share(_) => None,
        DeviceKind::Vsock(vsock) => match vsock.take_device() {
            Some(device) => Some(Box::new(device)),
            None => unreachable!("a plan is carried out once"),
        },
    })
}

impl Station {
    /// The device of a plan, in its place. Nothing where the loop does not serve it.
    pub(super) fn new<V: Vm>(
        virtio: &mut Virtio<'_, V>,
        plan: &DevicePlan,
        ends: &Ends,
        event_loop: &EventLoop,
    ) -> Result<Option<Self>, Error> {
        let system = || Error::system("serve the guest's devices");
        let Some(mut device) = device(&plan.kind, ends)? else { return Ok(None) };
        let identity = device.identity(&plan.id);
        let base = plan.slot.index.saturating_add(1).saturating_mul(KEYS);
        let event = |_| Event::new().map(Arc::new).map_err(system());
        let events: Vec<_> = (0..=identity.queues.len()).map(event).collect::<Result<_, _>>()?;
        let watcher = || event_loop.watcher().map(|watcher| watcher.based(base)).map_err(system());
        let own = watcher()?;
        for (event, key) in events.iter().zip(OWN..) {
            own.watch_reading(event.as_fd(), key).map_err(system())?;
        }
        device.watch(watcher()?).map_err(system())?;
        let mut doorbells = events.clone();
        let wake = doorbells.pop().unwrap_or_else(|| unreachable!("there is one for commands"));
        let (commands, receiver) = Commands::channel(wake);
        let transport = virtio.place(plan.slot, identity, doorbells, commands)?;
        let (queues, memory) = (Virtqueues::new(transport, receiver), virtio.memory.clone());
        Ok(Some(Self { device, queues, memory, events, base, more: false }))
    }

    /// Does what there is to do, up to a bound. `ready` is what the loop found, `now` since the run
    /// began.
    pub(super) fn serve(&mut self, ready: &[Ready], now: Duration) {
        let mut any = self.more || self.device.deadline().is_some_and(|deadline| deadline <= now);
        for ready in ready {
            let Some(key) = ready.key.checked_sub(self.base).filter(|key| *key < KEYS) else {
                continue;
            };
            any = true;
            match key.checked_sub(OWN) {
                None => self.device.ready(Ready { key, ..*ready }),
                Some(own) => {
                    if let Some(event) = self.events.get(own) {
                        event.rearm();
                    }
                    self.queues.ring(own);
                }
            }
        }
        if any {
            if self.queues.obey() {
                self.device.reset();
            }
            self.more = self.device.serve(&mut self.queues, &self.memory, now);
            self.queues.tell(&self.memory);
        }
    }

    /// How long it may be left alone.
    pub(super) fn wait(&self, now: Duration) -> Option<Duration> {
        match self.more {
            true => Some(Duration::ZERO),
            false => self.device.deadline().map(|deadline| deadline.saturating_sub(now)),
        }
    }

    /// The guest is gone: what it has sent goes on its way.
    pub(super) fn finish(&mut self, now: Duration) {
        // It may have started the device and ended before the loop has had a turn.
        if self.queues.obey() {
            self.device.reset();
        }
        // And nobody has looked at doorbells since the stop.
        (0..self.events.len()).for_each(|queue| self.queues.ring(queue));
        self.device.finish(&mut self.queues, &self.memory, now);
        crate::info!("device: {:?}; {:?}", self.queues, self.device);
    }
}
