//! The machine's network device: its place, and the part that the I/O loop serves.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use hv::{GuestMemory, Vm};

use super::Error;
use super::virtio::Virtio;
use crate::devices::virtio::net::{Nic, Scratch, Work, identity};
use crate::devices::virtio::worker::Commands;
use crate::io::event::Event;
use crate::io::event_loop::{EventLoop, Ready};
use crate::plan::NetworkPlan;

/// Keys of the device's own events. Links have those below.
const RECEIVE: usize = 1 << 40;
const TRANSMIT: usize = RECEIVE + 1;
const COMMANDS: usize = RECEIVE + 2;

/// The network device, for the I/O loop to serve.
#[derive(Debug)]
pub(super) struct Network {
    nic: Nic,
    memory: GuestMemory,
    /// What the device's keys stand for, in their order.
    events: [Arc<Event>; 3],
}

impl Network {
    /// The device of the plan, in its place. Nothing where the plan has none.
    pub(super) fn new<V: Vm>(
        virtio: &mut Virtio<'_, V>,
        plan: &NetworkPlan,
        event_loop: &EventLoop,
    ) -> Result<Option<Self>, Error> {
        let system = || Error::system("serve the guest's network");
        let Some(mut link) = plan.take_link() else { return Ok(None) };
        let identity = identity("net0", &link.offer());
        let event = || Event::new().map(Arc::new).map_err(system());
        let events = [event()?, event()?, event()?];
        let watcher = event_loop.watcher().map_err(system())?;
        for (event, key) in events.iter().zip([RECEIVE, TRANSMIT, COMMANDS]) {
            watcher.watch(event.as_fd(), key).map_err(system())?;
        }
        link.watch(watcher).map_err(system())?;
        let [receive, transmit, wake] = &events;
        let (commands, receiver) = Commands::channel(Arc::clone(wake));
        let queues = vec![Arc::clone(receive), Arc::clone(transmit)];
        let transport = virtio.place(plan.slot, identity, queues, commands)?;
        let nic = Nic::new(transport, receiver, link);
        Ok(Some(Self { nic, memory: virtio.memory.clone(), events }))
    }

    /// What serves it, for as long as the loop runs.
    pub(super) fn service(&mut self) -> Service<'_> {
        let Self { nic, memory, events } = self;
        Service { nic, memory, events, scratch: Scratch::default(), more: false }
    }
}

/// The device in service.
pub(super) struct Service<'m> {
    nic: &'m mut Nic,
    memory: &'m GuestMemory,
    events: &'m [Arc<Event>; 3],
    scratch: Scratch<'m>,
    more: bool,
}

impl Service<'_> {
    /// Does what there is to do, up to a bound. `ready` is what the loop found, `now` since the run
    /// began.
    pub(super) fn serve(&mut self, ready: &[Ready], now: Duration) {
        let mut work = Work::default();
        for ready in ready {
            match ready.key.checked_sub(RECEIVE) {
                None => {
                    self.nic.link().ready(*ready, now);
                    self.nic.unblock();
                }
                Some(own) => {
                    if let Some(event) = self.events.get(own) {
                        event.rearm();
                    }
                    work.receive |= ready.key == RECEIVE;
                    work.transmit |= ready.key == TRANSMIT;
                    work.commands |= ready.key == COMMANDS;
                }
            }
        }
        let due = self.nic.link().deadline().is_some_and(|deadline| deadline <= now);
        if due || self.more || !ready.is_empty() {
            self.more = self.nic.serve(self.memory, &mut self.scratch, work, now);
        }
    }

    /// The guest is gone: what it has sent goes on its way.
    pub(super) fn finish(mut self, now: Duration) {
        self.nic.finish(self.memory, &mut self.scratch, now);
        crate::info!("device: {:?}", self.nic);
    }

    /// How long it may be left alone.
    pub(super) fn wait(&mut self, now: Duration) -> Option<Duration> {
        match self.more {
            true => Some(Duration::ZERO),
            false => self.nic.link().deadline().map(|deadline| deadline.saturating_sub(now)),
        }
    }
}
