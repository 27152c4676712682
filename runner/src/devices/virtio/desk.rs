//! Where the threads of a worker find their work: devices, their rings, and who waits for what.
//! Everything here is under one lock, held for a few instructions.

use std::fmt;
use std::sync::{Arc, mpsc};

use hv::GuestMemory;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_INDIRECT_DESC;

use super::Fault;
use super::chain::{Broken, Table};
use super::interrupts::Queues;
use super::ring::Ring;
use super::state::VirtioState;
use super::transport::Transport;
use super::worker::{Activation, Backend, Command};
use crate::devices::state::{Refused, Undescribed};

/// A request that a thread has taken, and that is its until it says [`Desk::done`].
#[derive(Debug)]
pub(super) struct Job {
    device: usize,
    ring: usize,
    generation: u64,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) table: Table,
    /// The chain's first descriptor.
    pub(super) head: u16,
}

/// One device on the worker's side.
#[derive(Debug)]
pub(super) struct Device {
    transport: Arc<Transport>,
    backend: Arc<dyn Backend>,
    /// What wakes a thread for it: numbers of the worker's waiter.
    doorbells: Vec<usize>,
    /// There may be more in the rings: a doorbell rang.
    rung: bool,
    active: Option<Active>,
    /// Requests that threads have taken.
    in_flight: usize,
    /// A reset of that activation waits for them.
    resetting: Option<u64>,
    /// Why it stopped, until somebody has said so.
    note: Option<String>,
}

#[derive(Debug)]
struct Active {
    generation: u64,
    rings: Vec<(usize, Ring)>,
}

/// What is under the lock.
#[derive(Debug)]
pub(super) struct Desk {
    devices: Vec<Device>,
    commands: mpsc::Receiver<(usize, Command)>,
    /// The device that is asked first for the next request.
    turn: usize,
    /// Threads that wait for events.
    pub(super) idle: usize,
    /// Requests that were begun so far.
    pub(super) begun: u64,
    /// Whether somebody sees to it that those that are begun come on.
    pub(super) watch: Watch,
}

/// Of those who carry out requests while others wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    /// There is none.
    None,
    /// The next thread that has nothing to do is to keep it.
    Wanted,
    /// A thread keeps it.
    Kept,
}

impl Desk {
    pub(super) fn new(commands: mpsc::Receiver<(usize, Command)>) -> Self {
        Self { devices: Vec::new(), commands, turn: 0, idle: 0, begun: 0, watch: Watch::None }
    }

    pub(super) fn add(&mut self, device: Device) {
        self.devices.push(device);
    }

    /// How many devices there are.
    pub(super) fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Whether there may be requests that nobody has noted.
    pub(super) fn is_rung(&self) -> bool {
        self.devices.iter().any(|device| device.rung)
    }

    /// Whether there are requests to take.
    pub(super) fn is_waiting(&self) -> bool {
        self.devices.iter().any(Device::is_waiting)
    }

    /// Carries out the commands that have come, and notes the requests behind the doorbells that
    /// rang, now or before.
    pub(super) fn collect(&mut self, rung: &[usize], memory: &GuestMemory) {
        self.obey();
        for device in &mut self.devices {
            let now = device.doorbells.iter().any(|doorbell| rung.contains(doorbell));
            if std::mem::take(&mut device.rung) || now {
                device.collect(memory);
            }
        }
    }

    /// The same, doorbell or not.
    pub(super) fn collect_all(&mut self, memory: &GuestMemory) {
        self.obey();
        for device in &mut self.devices {
            device.collect(memory);
        }
    }

    fn obey(&mut self) {
        while let Ok((device, command)) = self.commands.try_recv() {
            if let Some(device) = self.devices.get_mut(device) {
                device.obey(command);
            }
        }
    }

    /// A request for the calling thread. The devices take turns.
    pub(super) fn take(&mut self, memory: &GuestMemory) -> Option<Job> {
        let count = self.devices.len();
        for step in 0..count {
            let index = self.turn.saturating_add(step).checked_rem(count)?;
            if let Some(job) = self.take_of(index, memory) {
                self.turn = index.saturating_add(1);
                self.begun = self.begun.wrapping_add(1);
                return Some(job);
            }
        }
        None
    }

    /// A request of one device.
    pub(super) fn take_of(&mut self, device: usize, memory: &GuestMemory) -> Option<Job> {
        let index = device;
        let device = self.devices.get_mut(index)?;
        let (ring, generation, table, head) = device.take(memory)?;
        let backend = Arc::clone(&device.backend);
        Some(Job { device: index, ring, generation, backend, table, head })
    }

    /// `job` is over: `done` is how many bytes were written into it, or why its device stops.
    pub(super) fn done(&mut self, memory: &GuestMemory, job: &Job, done: Result<u32, Broken>) {
        if let Some(device) = self.devices.get_mut(job.device) {
            device.done(memory, job, done);
        }
    }

    /// Tells the guest of what was used since the last call.
    pub(super) fn tell(&mut self, memory: &GuestMemory) {
        for device in &mut self.devices {
            device.tell(memory);
        }
    }

    /// What there is to say, without the lock: a stderr that nobody reads makes it wait.
    pub(super) fn notes(&mut self) -> Vec<String> {
        self.devices.iter_mut().filter_map(|device| device.note.take()).collect()
    }

    /// What a device is while none of its requests is served.
    pub(super) fn describe(&self, device: usize) -> Result<VirtioState, Undescribed> {
        match self.devices.get(device) {
            Some(device) => device.describe(),
            None => unreachable!("devices are not taken away"),
        }
    }

    /// Makes a device what another one was. Nobody serves it before it is.
    pub(super) fn restore(&mut self, device: usize, saved: &VirtioState) -> Result<(), Refused> {
        let backend = match self.devices.get(device) {
            Some(device) => {
                device.transport.restore(saved, &(0..0))?;
                Arc::clone(&device.backend)
            }
            None => unreachable!("devices are not taken away"),
        };
        self.obey();
        backend.restore(&saved.own)
    }

    /// A device's backend, and its state for a person, when the run is over.
    pub(super) fn part_with(&self, device: usize) -> Option<(Arc<dyn Backend>, String)> {
        let device = self.devices.get(device)?;
        Some((Arc::clone(&device.backend), device.to_string()))
    }
}

impl Device {
    pub(super) fn new(
        transport: Arc<Transport>,
        backend: Arc<dyn Backend>,
        doorbells: Vec<usize>,
    ) -> Self {
        let (active, in_flight, resetting, note) = (None, 0, None, None);
        Self { transport, backend, doorbells, rung: false, active, in_flight, resetting, note }
    }

    fn describe(&self) -> Result<VirtioState, Undescribed> {
        let busy = || self.transport.busy("a request under way");
        if self.in_flight > 0 || self.resetting.is_some() {
            return Err(busy());
        }
        let positions = self.active.as_ref().map(|active| {
            let positions = active.rings.iter().map(|(queue, ring)| ring.position(*queue));
            positions.collect::<Option<Vec<_>>>().ok_or_else(busy)
        });
        let registers = self.transport.saved(positions.transpose()?.as_deref())?;
        let own = self.backend.describe().map_err(|why| Undescribed::Never {
            device: self.transport.identity().name.clone(),
            why,
        })?;
        Ok(VirtioState { device: self.transport.identity().device, registers, own })
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Activate(Activation { generation, features, queues }) => {
                self.backend.activate(features);
                let indirect = features & (1 << VIRTIO_RING_F_INDIRECT_DESC) != 0;
                let ring = |(index, queue)| (index, Ring::new(queue, indirect));
                let rings = queues.into_iter().map(ring).collect();
                self.active = Some(Active { generation, rings });
                // What was made available before is not announced again.
                self.rung = true;
            }
            Command::Reset { generation } => {
                self.active = None;
                self.resetting = Some(generation);
                self.end_reset();
            }
        }
    }

    /// The driver may use its memory again when nobody here does.
    fn end_reset(&mut self) {
        if self.in_flight == 0
            && let Some(generation) = self.resetting.take()
        {
            self.transport.reset_done(generation);
        }
    }

    fn collect(&mut self, memory: &GuestMemory) {
        self.each_ring(|_, ring| ring.collect(memory));
    }

    fn is_waiting(&self) -> bool {
        self.active.iter().flat_map(|active| &active.rings).any(|(_, ring)| ring.is_waiting())
    }

    /// The next request: its ring's place in the list, generation, table and head.
    fn take(&mut self, memory: &GuestMemory) -> Option<(usize, u64, Table, u16)> {
        let active = self.active.as_mut()?;
        let generation = active.generation;
        if !self.transport.wants(generation) {
            active.rings.iter_mut().for_each(|(_, ring)| ring.forget());
            return None;
        }
        for (place, (_, ring)) in active.rings.iter_mut().enumerate() {
            match ring.take(memory) {
                Ok(Some((head, more))) => {
                    if more {
                        self.rung = true;
                    }
                    self.in_flight = self.in_flight.saturating_add(1);
                    return Some((place, generation, ring.table(), head));
                }
                Ok(None) => {}
                Err(fault) => {
                    self.stop(fault);
                    return None;
                }
            }
        }
        None
    }

    /// What became of a request of an activation that is over is nobody's business any more.
    fn done(&mut self, memory: &GuestMemory, job: &Job, done: Result<u32, Broken>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let active = self.active.as_mut().filter(|active| active.generation == job.generation);
        if let Some((_, ring)) = active.and_then(|active| active.rings.get_mut(job.ring)) {
            let head = job.head;
            let done = done.map_err(|error| Fault::Chain { head, error });
            if let Err(fault) = done.and_then(|written| ring.give_back(memory, head, written)) {
                self.stop(fault);
            }
        }
        self.end_reset();
    }

    fn tell(&mut self, memory: &GuestMemory) {
        let mut wanted = Queues::default();
        self.each_ring(|index, ring| {
            if ring.tell(memory)? {
                wanted.insert(index);
            }
            Ok(())
        });
        if !wanted.is_empty()
            && let Some(active) = &self.active
        {
            self.transport.used(active.generation, wanted);
        }
    }

    /// Does something with every ring; a fault ends their service.
    fn each_ring(&mut self, mut work: impl FnMut(usize, &mut Ring) -> Result<(), Fault>) {
        let Some(active) = &mut self.active else { return };
        let mut rings = active.rings.iter_mut();
        if let Err(fault) = rings.try_for_each(|(index, ring)| work(*index, ring)) {
            self.stop(fault);
        }
    }

    fn stop(&mut self, fault: Fault) {
        if let Some(active) = self.active.take() {
            self.note = self.transport.fault(active.generation, fault);
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}: {}, in flight {}",
            self.backend,
            self.transport.describe(),
            self.in_flight
        )?;
        for (index, ring) in self.active.iter().flat_map(|active| &active.rings) {
            write!(f, ", queue {index}: {ring:?}")?;
        }
        Ok(())
    }
}
