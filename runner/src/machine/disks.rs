//! The machine's disks: virtio block devices, and the threads behind them.

use std::sync::Arc;

use hv::Vm;

use super::Error;
use super::lockdown::Lockdown;
use super::stop::{Reason, Stop};
use super::virtio::Virtio;
use crate::config::DiskFormat;
use crate::devices::virtio::block::{Disk, Qcow2};
use crate::devices::virtio::worker::{Threads, Worker, WorkerThread};
use crate::io::event::Event;
use crate::jail::Role;
use crate::plan::DiskPlan;

/// A flush, a write or a read that waits for the medium, and one more.
const THREADS: Threads<'_> = Threads { name: "disk", count: 3 };

/// The disks, and the threads that serve them all.
pub(super) struct Disks {
    worker: WorkerThread,
}

impl Disks {
    /// One device for each plan, in its place, and their threads.
    pub(super) fn new<V: Vm>(
        virtio: &mut Virtio<'_, V>,
        plans: &[DiskPlan],
        stop: &Stop,
        lockdown: &mut Lockdown,
    ) -> Result<Self, Error> {
        let system = || Error::system("serve the guest's disks");
        let mut worker = Worker::new(virtio.memory.clone()).map_err(system())?;
        for plan in plans {
            let disk = disk(plan).map_err(system())?;
            let identity = disk.identity();
            let event = |_| Event::new().map(Arc::new).map_err(system());
            let events = identity.queues.iter().map(event).collect::<Result<_, _>>()?;
            let transport = virtio.place(plan.slot, identity, events, worker.commands())?;
            worker.add(transport, Box::new(disk)).map_err(system())?;
        }
        let stop = stop.clone();
        let begin = || {
            let place = lockdown.place(Role::Disk);
            move || place.take()
        };
        let failed = move |why| stop.request(Reason::Failed(why));
        let worker = WorkerThread::start(worker, THREADS, begin, failed).map_err(system())?;
        Ok(Self { worker })
    }

    /// Serves what the guest left, and flushes.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        self.worker.finish()
    }
}

/// The device, with what the guest is told by its disk.
fn disk(plan: &DiskPlan) -> std::io::Result<Disk> {
    let (path, len) = (plan.source.name(), plan.size);
    let (id, file) = (&plan.id, plan.file.clone());
    if plan.format == DiskFormat::Qcow2 {
        let image = Qcow2::open(&file, plan.source.len()).map_err(std::io::Error::other)?;
        return Ok(Disk::qcow2(id, path, image, plan.scratch.clone()));
    }
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
