//! The machine's disks: virtio-mmio block devices, their doorbells, and the threads behind them.

use std::sync::Arc;

use hv::{Address, GuestMemory, Vm};

use super::Error;
use super::bus::Bus;
use super::devices::{doorbell, interrupt};
use super::lockdown::Lockdown;
use super::map::VIRTIO_WINDOW;
use super::stop::{Reason, Stop};
use crate::devices::virtio::block::Disk;
use crate::devices::virtio::mmio::Mmio;
use crate::devices::virtio::transport::{RESET_PATIENCE, Transport};
use crate::devices::virtio::worker::{Worker, WorkerThread};
use crate::io::event::Event;
use crate::jail::Role;
use crate::plan::DiskPlan;

/// The disks, and the threads that serve them all.
pub(super) struct Disks<V: Vm> {
    worker: WorkerThread,
    #[expect(dead_code, reason = "doorbells ring for as long as these live")]
    doorbells: Vec<V::Registration>,
}

impl<V: Vm> Disks<V> {
    /// One device for each plan, on the bus, and their threads.
    pub(super) fn new(
        vm: &V,
        memory: &GuestMemory,
        plans: &[DiskPlan],
        stop: &Stop,
        bus: &mut Bus,
        lockdown: &mut Lockdown,
    ) -> Result<Self, Error> {
        let system = || Error::system("serve the guest's disks");
        let mut worker = Worker::new(memory.clone()).map_err(system())?;
        let mut doorbells = Vec::new();
        for plan in plans {
            let slot = plan.slot;
            let disk = disk(plan).map_err(system())?;
            let identity = disk.identity();
            let mut events = Vec::new();
            for (queue, _) in (0..).zip(&identity.queues) {
                let event = Arc::new(Event::new().map_err(system())?);
                doorbells.extend(doorbell(vm, slot.base, queue, &event)?);
                events.push(event);
            }
            let (line, commands) = (interrupt(vm, slot.line)?, worker.commands());
            let transport = Transport::new(identity, memory.clone(), line, events, commands);
            let transport = Arc::new(transport.patient(RESET_PATIENCE));
            worker.add(Arc::clone(&transport), Box::new(disk)).map_err(system())?;
            bus.add(Address::Mmio(slot.base), VIRTIO_WINDOW, Arc::new(Mmio(transport)));
        }
        let stop = stop.clone();
        let begin = || {
            let place = lockdown.place(Role::Disk);
            move || place.take()
        };
        let failed = move |why| stop.request(Reason::Failed(why));
        let worker = WorkerThread::start(worker, "disk", begin, failed).map_err(system())?;
        Ok(Self { worker, doorbells })
    }

    /// Serves what the guest left, and flushes.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        self.worker.finish()
    }
}

/// The device, with what the guest is told by its disk.
fn disk(plan: &DiskPlan) -> std::io::Result<Disk> {
    let (path, len) = (plan.source.name(), plan.source.len());
    let (id, file) = (&plan.id, plan.file.clone());
    let Some(scratch) = &plan.scratch else {
        return Ok(match plan.patch.clone() {
            Some(patch) => Disk::patched(id, path, file, len, patch),
            None => Disk::new(id, path, file, len, plan.read_only),
        });
    };
    let disk = Disk::ephemeral(id, path, file, len, scratch.clone());
    if let Some(patch) = plan.patch.clone() {
        disk.apply(patch)?;
    }
    Ok(disk)
}
