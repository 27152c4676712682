//! Puts virtio devices where they stand: on the bus, with their interrupts and doorbells.

use std::sync::Arc;

use hv::{Address, Doorbell, GuestMemory, Kind, Vm, Width};

use super::Error;
use super::bus::Bus;
use super::devices::interrupt;
use super::slot::{Place, VIRTIO_WINDOW, VirtioSlot};
use crate::devices::virtio::mmio::{Mmio, QUEUE_NOTIFY};
use crate::devices::virtio::transport::{Identity, RESET_PATIENCE, Transport};
use crate::devices::virtio::worker::Commands;
use crate::io::event::Event;

/// The machine's virtio devices while they are made.
pub(super) struct Virtio<'m, V: Vm> {
    pub(super) vm: &'m V,
    pub(super) memory: &'m GuestMemory,
    pub(super) bus: &'m mut Bus,
    /// They ring for as long as these live.
    pub(super) doorbells: Vec<V::Registration>,
}

impl<V: Vm> Virtio<'_, V> {
    /// The part of a device that vCPUs reach, in `slot`. Notifications of its queues signal `events`,
    /// one for each.
    pub(super) fn place(
        &mut self,
        slot: VirtioSlot,
        identity: Identity,
        events: Vec<Arc<Event>>,
        commands: Commands,
    ) -> Result<Arc<Transport>, Error> {
        let Place::Mmio { base, line } = slot.place;
        for (queue, event) in (0..).zip(&events) {
            let bell = Doorbell {
                at: Address::Mmio(base.saturating_add(QUEUE_NOTIFY)),
                value: Some((Width::W4, queue)),
            };
            self.doorbells.extend(doorbell(self.vm, bell, event)?);
        }
        let line = interrupt(self.vm, line)?;
        let line = Arc::new(move || line());
        let transport = Transport::new(identity, self.memory.clone(), line, events, commands);
        let transport = Arc::new(transport.patient(RESET_PATIENCE));
        let registers = Arc::new(Mmio(Arc::clone(&transport)));
        self.bus.add(Address::Mmio(base), VIRTIO_WINDOW, registers);
        Ok(transport)
    }
}

/// Lets writes that match `bell` signal `event` without an exit. Where the host has no doorbells the
/// exit does it.
fn doorbell<V: Vm>(
    vm: &V,
    bell: Doorbell,
    event: &Event,
) -> Result<Option<V::Registration>, Error> {
    match vm.doorbell(bell, event.signal_fd()) {
        Ok(registration) => Ok(Some(registration)),
        Err(error) if error.kind == Kind::Unsupported => Ok(None),
        Err(error) => Err(error.into()),
    }
}
