//! The machine's shared folders: virtio 9P devices, each with a thread of its own.

use std::sync::Arc;

use hv::Vm;

use super::Error;
use super::lockdown::Lockdown;
use super::stop::{Reason, Stop};
use super::virtio::Virtio;
use crate::devices::virtio::p9::Share;
use crate::devices::virtio::worker::{Threads, Worker, WorkerThread};
use crate::io::event::Event;
use crate::plan::{DevicePlan, SharePlan};

/// One: 9P has requests of a share end in order where one of them flushes another.
const THREADS: Threads<'_> = Threads { name: "share", count: 1 };

/// The device of a plan, in its place, and the thread that serves it.
pub(super) fn share<V: Vm>(
    virtio: &mut Virtio<'_, V>,
    device: &DevicePlan,
    plan: &SharePlan,
    stop: &Stop,
    lockdown: &mut Lockdown,
) -> Result<WorkerThread, Error> {
    let system = || Error::system("serve a shared folder");
    let mut worker = Worker::new(virtio.memory.clone()).map_err(system())?;
    let folder = || plan.folder.try_clone().map_err(system());
    let share = Share::new(&device.id, &plan.path, &plan.tag, folder()?);
    let identity = share.identity();
    let event = |_| Event::new().map(Arc::new).map_err(system());
    let events = identity.queues.iter().map(event).collect::<Result<_, _>>()?;
    let transport = virtio.place(device.slot, identity, events, worker.commands())?;
    worker.add(transport, Box::new(share)).map_err(system())?;
    let own = folder()?;
    let mut place = Some(lockdown.place_in(own));
    let begin = || {
        let place = place.take();
        move || place.is_some_and(|place| place.take())
    };
    let stop = stop.clone();
    let failed = move |why| stop.request(Reason::Failed(why));
    WorkerThread::start(worker, THREADS, begin, failed).map_err(system())
}
