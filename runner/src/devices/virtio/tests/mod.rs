//! A driver for tests: drives a real transport by its registers, and a real worker by rings in
//! guest memory. Case numbers (R1 …, B41 …) are those of the list of what hostile guests do, kept
//! in the order of the specification: rings and transport first, then the block device.

mod block;
mod discard;
mod function;
mod p9;
mod pool;
mod registers;
mod reset;
mod rings;
mod state;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hv::{GuestMemory, GuestRam, Width};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use vm_memory::{Bytes, GuestAddress};

use super::COMMON_FEATURES;
use super::chain::{Broken, Chain};
use super::interrupts::Interrupts;
use super::mmio::Mmio;
use super::net::{self, Nic, Scratch, Work};
use super::pci::PciState;
use super::served::{self, Served};
use super::state::VirtioState;
use super::transport::{Identity, Transport};
use super::virtqueues::Virtqueues;
use super::worker::{Backend, Commands, Threads, Worker, WorkerThread};
use crate::devices::state::{Refused, Undescribed};
use crate::io::event::Event;
use crate::io::event_loop::Ready;
use crate::machine::bus::Device;
use crate::net::Link;
use function::Function;

/// RAM: two pieces side by side, the seam at `SEAM`, and nothing behind `RAM`. It is reserved and
/// not touched, so it can be large.
pub(super) const SEAM: u64 = 1 << 20;
pub(super) const RAM: u64 = 65 << 20;

/// Where the driver puts its queue.
pub(super) const DESCRIPTORS: u64 = 0x1000;
pub(super) const AVAILABLE: u64 = 0x3000;
pub(super) const USED: u64 = 0x4000;
/// Its further queues are as far behind one another, each.
pub(super) fn place_of(queue: usize) -> u64 {
    queue as u64 * 0x1_0000 + if queue > 0 { 0x8_0000 } else { 0 }
}
/// Entries of each, unless a test has more.
pub(super) const SIZE: u16 = 8;

/// Descriptor flags (§2.7.5).
pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;

/// Registers by the names of §4.2.2, as far as tests use them.
pub(super) mod reg {
    pub(crate) const MAGIC: u64 = 0x00;
    pub(crate) const VERSION: u64 = 0x04;
    pub(crate) const DEVICE_ID: u64 = 0x08;
    pub(crate) const DEVICE_FEATURES: u64 = 0x10;
    pub(crate) const DEVICE_FEATURES_SEL: u64 = 0x14;
    pub(crate) const DRIVER_FEATURES: u64 = 0x20;
    pub(crate) const DRIVER_FEATURES_SEL: u64 = 0x24;
    pub(crate) const QUEUE_SEL: u64 = 0x30;
    pub(crate) const QUEUE_NUM_MAX: u64 = 0x34;
    pub(crate) const QUEUE_NUM: u64 = 0x38;
    pub(crate) const QUEUE_READY: u64 = 0x44;
    pub(crate) const QUEUE_NOTIFY: u64 = 0x50;
    pub(crate) const INTERRUPT_STATUS: u64 = 0x60;
    pub(crate) const INTERRUPT_ACK: u64 = 0x64;
    pub(crate) const STATUS: u64 = 0x70;
    pub(crate) const QUEUE_DESC: u64 = 0x80;
    pub(crate) const QUEUE_DRIVER: u64 = 0x90;
    pub(crate) const QUEUE_DEVICE: u64 = 0xa0;
    pub(crate) const SHM_LEN: u64 = 0xb0;
    pub(crate) const CONFIG_GENERATION: u64 = 0xfc;
    pub(crate) const CONFIG: u64 = 0x100;
}

/// One device, its worker, and a driver's view of both.
pub(super) struct Rig {
    pub(super) memory: GuestMemory,
    pub(super) mmio: Arc<Mmio>,
    /// Without a device, where the I/O loop has it.
    pub(super) worker: Worker,
    on_loop: Option<OnLoop>,
    nic: Option<Nic>,
    /// By which the driver reaches it, where it is on PCI.
    function: Option<Function>,
    interrupts: Arc<AtomicU32>,
    /// Entries of each queue.
    size: u16,
    /// Of each queue that is set up, from 0 on.
    next_available: Vec<u16>,
}

/// A device on the I/O loop.
struct OnLoop {
    device: Box<dyn Served>,
    queues: Virtqueues,
    doorbells: Vec<Arc<Event>>,
    more: bool,
    now: Duration,
}

/// A device, and who serves it.
pub(super) enum Kind {
    Loop(Box<dyn Served>),
    Worker(Identity, Box<dyn Backend>),
    Nic(Box<dyn Link>),
}

/// The bus that it is on: for PCI, whether it interrupts by messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    Mmio,
    Pci { messages: bool },
}

/// A device that takes everything and does nothing.
#[derive(Debug)]
pub(super) struct Nothing;

impl Backend for Nothing {
    fn activate(&self, _features: u64) {}
    fn serve(&self, _chain: Chain<'_>, _slow: &mut dyn FnMut()) -> Result<u32, Broken> {
        Ok(0)
    }
    fn finish(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A device with one queue and nothing else.
pub(super) fn identity() -> Identity {
    Identity {
        name: "test".into(),
        device: 42,
        features: COMMON_FEATURES,
        queues: vec![256],
        config: Vec::new(),
        writable: 0..0,
    }
}

/// Interrupts that are counted, and their count.
fn counted() -> (Arc<dyn Interrupts>, Arc<AtomicU32>) {
    let interrupts = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&interrupts);
    let interrupt = move || {
        count.fetch_add(1, Ordering::SeqCst);
    };
    (Arc::new(interrupt), interrupts)
}

/// A transport, and what its notifications signal.
fn transport(
    identity: Identity,
    memory: &GuestMemory,
    interrupts: Arc<dyn Interrupts>,
    commands: Commands,
) -> (Transport, Vec<Arc<Event>>) {
    let doorbells =
        identity.queues.iter().map(|_| Arc::new(Event::new().unwrap())).collect::<Vec<_>>();
    let (memory, events) = (memory.clone(), doorbells.clone());
    (Transport::new(identity, memory, interrupts, events, commands), doorbells)
}

impl OnLoop {
    /// As the machine does it.
    fn turn(&mut self, memory: &GuestMemory) {
        for (queue, doorbell) in self.doorbells.iter().enumerate() {
            if doorbell.clear() {
                self.queues.ring(queue);
            }
        }
        if self.queues.obey() {
            self.device.reset();
        }
        self.more = self.device.serve(&mut self.queues, memory, self.now);
        self.queues.tell(memory);
    }
}

pub(super) fn memory() -> GuestMemory {
    let piece = |len| GuestRam::new(len).unwrap();
    hv::mem::memory([(0, piece(SEAM)), (SEAM, piece(RAM - SEAM))]).unwrap()
}

impl Rig {
    pub(super) fn new(identity: Identity, backend: Box<dyn Backend>) -> Self {
        Self::patient(identity, backend, Duration::ZERO)
    }

    /// The same, whose resets wait up to `patience`: for a worker on its threads.
    pub(super) fn patient(
        identity: Identity,
        backend: Box<dyn Backend>,
        patience: Duration,
    ) -> Self {
        let (wires, interrupts) = counted();
        Self { interrupts, ..Self::wired(identity, backend, patience, wires) }
    }

    /// The same, whose interrupts go to `wires` and are not counted.
    pub(super) fn wired(
        identity: Identity,
        backend: Box<dyn Backend>,
        patience: Duration,
        wires: Arc<dyn Interrupts>,
    ) -> Self {
        let memory = memory();
        let mut worker = Worker::new(memory.clone()).unwrap();
        let (transport, _) = transport(identity, &memory, wires, worker.commands());
        let transport = Arc::new(transport.patient(patience));
        worker.add(Arc::clone(&transport), backend).unwrap();
        let (mmio, interrupts) = (Arc::new(Mmio(transport)), Arc::default());
        let (on_loop, nic, function, size, next_available) = (None, None, None, SIZE, vec![0]);
        Self { memory, mmio, worker, on_loop, nic, function, interrupts, size, next_available }
    }

    /// A device that the I/O loop serves.
    pub(super) fn served(device: Box<dyn Served>) -> Self {
        Self::on(On::Mmio, Kind::Loop(device), memory())
    }

    /// Any device, on any bus, before any memory.
    pub(super) fn on(bus: On, kind: Kind, memory: GuestMemory) -> Self {
        let mut worker = Worker::new(memory.clone()).unwrap();
        let (channel, receiver) = Commands::channel(Arc::new(Event::new().unwrap()));
        let (identity, commands) = match &kind {
            Kind::Loop(device) => (device.identity("test"), channel),
            Kind::Worker(identity, _) => (identity.clone(), worker.commands()),
            Kind::Nic(link) => (net::identity("test", &link.offer()), channel),
        };
        let (wires, interrupts, signals) = match bus {
            On::Mmio => {
                let (wires, interrupts) = counted();
                (wires, interrupts, None)
            }
            On::Pci { messages } => {
                let (signals, interrupts) = function::signals(&identity, messages);
                (Arc::clone(&signals) as Arc<dyn Interrupts>, interrupts, Some(signals))
            }
        };
        let (transport, doorbells) = transport(identity, &memory, wires, commands);
        let transport = Arc::new(transport);
        let function = signals.map(|signals| Function::new(Arc::clone(&transport), signals));
        let mmio = Arc::new(Mmio(Arc::clone(&transport)));
        let (mut on_loop, mut nic, next_available) = (None, None, vec![0]);
        match kind {
            Kind::Loop(device) => {
                let queues = Virtqueues::new(transport, receiver);
                let (more, now) = (false, Duration::ZERO);
                on_loop = Some(OnLoop { device, queues, doorbells, more, now });
            }
            Kind::Worker(_, backend) => worker.add(transport, backend).unwrap(),
            Kind::Nic(link) => nic = Some(Nic::new(transport, receiver, link)),
        }
        let size = SIZE;
        Self { memory, mmio, worker, on_loop, nic, function, interrupts, size, next_available }
    }

    /// What the device is, and its function.
    pub(super) fn describe(&self) -> Result<(VirtioState, Option<PciState>), Undescribed> {
        let state = match (&self.on_loop, &self.nic) {
            (Some(OnLoop { device, queues, .. }), _) => served::describe(&**device, queues),
            (_, Some(nic)) => nic.describe(),
            _ => self.worker.describe(0),
        };
        Ok((state?, self.function.as_ref().map(Function::describe)))
    }

    /// Makes a new device what another one was, whose driver goes on.
    pub(super) fn restore(
        &mut self,
        (state, function): &(VirtioState, Option<PciState>),
    ) -> Result<(), Refused> {
        if let Some((own, saved)) = self.function.as_ref().zip(function.as_ref()) {
            own.restore(saved)?;
        }
        match (&mut self.on_loop, &mut self.nic) {
            (Some(OnLoop { device, queues, .. }), _) => {
                served::restore(&mut **device, queues, state)
            }
            (_, Some(nic)) => nic.restore(state),
            _ => self.worker.restore(0, state),
        }
    }

    pub(super) fn on_pci(&self) -> bool {
        self.function.is_some()
    }

    /// The driver holds every message back, or lets them go.
    pub(super) fn mask_messages(&self, masked: bool) {
        self.function.as_ref().unwrap().mask_messages(masked);
    }

    /// The same driver before another device.
    pub(super) fn moved_to(&self, bus: On, kind: Kind) -> Self {
        let next_available = self.next_available.clone();
        Self { next_available, ..Self::on(bus, kind, self.memory.clone()) }
    }

    /// What the device is.
    pub(super) fn identity(&self) -> &Identity {
        self.mmio.0.identity()
    }

    /// When a device on the loop wants a turn in any case.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.on_loop.as_ref().unwrap().device.deadline()
    }

    /// Lets time pass, for a device on the loop.
    pub(super) fn pass(&mut self, time: Duration) {
        self.on_loop.as_mut().unwrap().now += time;
    }

    /// What a device on the loop has watched with `key` is ready, and it has a turn.
    pub(super) fn ready(&mut self, key: usize) {
        self.hears(&[Ready { key, readable: true, writable: true, hung_up: false }]);
        self.turn();
    }

    /// So is what a loop of a test's own has found.
    pub(super) fn hears(&mut self, ready: &[Ready]) {
        let device = &mut self.on_loop.as_mut().unwrap().device;
        ready.iter().for_each(|ready| device.ready(*ready));
    }

    /// A device on the loop, as what it is.
    pub(super) fn device<D: Served>(&self) -> &D {
        let device: &dyn Any = &*self.on_loop.as_ref().unwrap().device;
        device.downcast_ref().unwrap()
    }

    /// The run is over.
    pub(super) fn finish(&mut self) {
        let OnLoop { device, queues, now, .. } = self.on_loop.as_mut().unwrap();
        device.finish(queues, &self.memory, *now);
    }

    /// Whether a device on the loop had more to do in its last turn.
    pub(super) fn more(&self) -> bool {
        self.on_loop.as_ref().unwrap().more
    }

    /// Gives the worker its threads. What the rig does with its own from now on does nothing.
    pub(super) fn threads(&mut self) -> WorkerThread {
        let other = Worker::new(self.memory.clone()).unwrap();
        let worker = std::mem::replace(&mut self.worker, other);
        let threads = Threads { name: "test", count: 3 };
        WorkerThread::start(worker, threads, || || true, |why| panic!("{why}")).unwrap()
    }

    /// Registers are virtio-mmio's by name, whatever the bus.
    pub(super) fn read(&self, register: u64) -> u64 {
        match &self.function {
            Some(function) => function.read(register),
            None => self.mmio.read(register, Width::W4),
        }
    }

    pub(super) fn write(&self, register: u64, value: u64) {
        match &self.function {
            Some(function) => function.write(register, value),
            None => self.mmio.write(register, Width::W4, value),
        }
    }

    /// Writes both halves of a queue address.
    pub(super) fn write_address(&self, register: u64, value: u64) {
        self.write(register, value & 0xffff_ffff);
        self.write(register + 4, value >> 32);
    }

    /// The features the device offers.
    pub(super) fn offered(&self) -> u64 {
        self.write(reg::DEVICE_FEATURES_SEL, 1);
        let high = self.read(reg::DEVICE_FEATURES);
        self.write(reg::DEVICE_FEATURES_SEL, 0);
        high << 32 | self.read(reg::DEVICE_FEATURES)
    }

    /// Goes up to FEATURES_OK.
    pub(super) fn negotiate(&self, features: u64) {
        self.write(reg::STATUS, 1);
        self.write(reg::STATUS, 3);
        for (select, half) in [(0, features & 0xffff_ffff), (1, features >> 32)] {
            self.write(reg::DRIVER_FEATURES_SEL, select);
            self.write(reg::DRIVER_FEATURES, half);
        }
        self.write(reg::STATUS, 0xb);
    }

    /// The same, whose driver uses `count` queues of `size` entries, up to 256, before it has started.
    pub(super) fn with_queues(self, count: usize, size: u16) -> Self {
        Self { size, next_available: vec![0; count], ..self }
    }

    /// Has the driver use that many queues, from now on.
    pub(super) fn set_up_queues(&mut self, count: usize) {
        self.next_available = vec![0; count];
    }

    /// Sets up the queues that the driver uses.
    pub(super) fn configure(&self) {
        for queue in 0..self.next_available.len() {
            let place = place_of(queue);
            self.write(reg::QUEUE_SEL, queue as u64);
            self.write(reg::QUEUE_NUM, self.size.into());
            self.write_address(reg::QUEUE_DESC, DESCRIPTORS + place);
            self.write_address(reg::QUEUE_DRIVER, AVAILABLE + place);
            self.write_address(reg::QUEUE_DEVICE, USED + place);
            if let Some(function) = &self.function {
                function.set_vector();
            }
            self.write(reg::QUEUE_READY, 1);
        }
        self.write(reg::QUEUE_SEL, 0);
    }

    /// Brings the device up with VERSION_1 and `features`.
    pub(super) fn start(&mut self, features: u64) {
        self.negotiate(features | 1 << VIRTIO_F_VERSION_1);
        self.configure();
        self.write(reg::STATUS, 0xf);
        self.turn();
        assert_eq!(self.status(), 0xf);
    }

    /// The worker, or the loop, does what there is to do, once.
    pub(super) fn turn(&mut self) {
        match (&mut self.on_loop, &mut self.nic) {
            (Some(on_loop), _) => on_loop.turn(&self.memory),
            (_, Some(nic)) => {
                let all = Work { commands: true, transmit: true, receive: true };
                nic.serve(&self.memory, &mut Scratch::default(), all, Duration::ZERO);
            }
            _ => self.worker.turn(Some(Duration::ZERO)).unwrap(),
        }
    }

    pub(super) fn status(&self) -> u64 {
        self.read(reg::STATUS)
    }

    /// Interrupts since the last call.
    pub(super) fn interrupts(&self) -> u32 {
        self.interrupts.swap(0, Ordering::SeqCst)
    }

    /// Writes one descriptor into the table at `table`.
    pub(super) fn descriptor_at(&self, table: u64, index: u16, d: (u64, u32, u16, u16)) {
        let (address, len, flags, next) = d;
        let at = table + 16 * u64::from(index);
        self.memory.write_obj(address.to_le(), GuestAddress(at)).unwrap();
        self.memory.write_obj(len.to_le(), GuestAddress(at + 8)).unwrap();
        self.memory.write_obj(flags.to_le(), GuestAddress(at + 12)).unwrap();
        self.memory.write_obj(next.to_le(), GuestAddress(at + 14)).unwrap();
    }

    pub(super) fn descriptor(&self, index: u16, d: (u64, u32, u16, u16)) {
        self.descriptor_at(DESCRIPTORS, index, d);
    }

    /// Writes descriptors from 0 on, chained in order: (address, length, flags beside NEXT).
    pub(super) fn chain(&self, buffers: &[(u64, u32, u16)]) {
        self.chain_at(DESCRIPTORS, buffers);
    }

    /// The same in a table anywhere.
    pub(super) fn chain_at(&self, table: u64, buffers: &[(u64, u32, u16)]) {
        let last = buffers.len() - 1;
        for (index, (address, len, flags)) in (0u16..).zip(buffers) {
            let next = if usize::from(index) == last { 0 } else { NEXT };
            self.descriptor_at(table, index, (*address, *len, flags | next, index + 1));
        }
    }

    /// The same from descriptor 0 of another queue on.
    pub(super) fn chain_of(&self, queue: usize, buffers: &[(u64, u32, u16)]) {
        self.chain_at(DESCRIPTORS + place_of(queue), buffers);
    }

    /// Makes the chain at `head` of queue 0 available.
    pub(super) fn offer(&mut self, head: u16) {
        self.offer_to(0, head);
    }

    pub(super) fn offer_to(&mut self, queue: usize, head: u16) {
        let available = AVAILABLE + place_of(queue);
        let next = &mut self.next_available[queue];
        let slot = available + 4 + 2 * u64::from(*next % self.size);
        self.memory.write_obj(head.to_le(), GuestAddress(slot)).unwrap();
        *next = next.wrapping_add(1);
        self.memory.store(next.to_le(), GuestAddress(available + 2), Ordering::Release).unwrap();
    }

    /// How many chains of a queue were made available.
    pub(super) fn offered_of(&self, queue: usize) -> u16 {
        self.next_available[queue]
    }

    pub(super) fn set_available_index(&self, index: u16) {
        self.memory.store(index.to_le(), GuestAddress(AVAILABLE + 2), Ordering::Release).unwrap();
    }

    /// Notifies queue 0 and lets the worker serve.
    pub(super) fn kick(&mut self) {
        self.kick_queue(0);
    }

    pub(super) fn kick_queue(&mut self, queue: usize) {
        self.write(reg::QUEUE_NOTIFY, queue as u64);
        self.turn();
    }

    pub(super) fn used_index(&self) -> u16 {
        self.used_index_of(0)
    }

    pub(super) fn used_index_of(&self, queue: usize) -> u16 {
        let at = GuestAddress(USED + place_of(queue) + 2);
        u16::from_le(self.memory.load(at, Ordering::Acquire).unwrap())
    }

    /// The used ring's entry `index`: descriptor and length.
    pub(super) fn used(&self, index: u16) -> (u32, u32) {
        self.used_of(0, index)
    }

    pub(super) fn used_of(&self, queue: usize, index: u16) -> (u32, u32) {
        let at = USED + place_of(queue) + 4 + 8 * u64::from(index % self.size);
        let word = |at| u32::from_le(self.memory.read_obj(GuestAddress(at)).unwrap());
        (word(at), word(at + 4))
    }

    pub(super) fn write_bytes(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
    }

    pub(super) fn fill(&self, at: u64, byte: u8, len: usize) {
        self.memory.write_slice(&vec![byte; len], GuestAddress(at)).unwrap();
    }

    pub(super) fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    /// Whether pages are gone that were given back, where that shows: Linux takes them at once.
    pub(super) fn is_gone(&self, at: u64, len: usize) -> bool {
        // macOS takes them when it likes.
        self.bytes(at, len).iter().all(|byte| *byte == 0) || cfg!(target_os = "macos")
    }

    /// The device has given up, said so once, and does nothing more.
    #[track_caller]
    pub(super) fn expect_broken(&mut self) {
        assert_eq!(self.status(), 0x4f, "NEEDS_RESET");
        assert_eq!(self.read(reg::INTERRUPT_STATUS) & 2, 2, "configuration change");
        assert!(self.interrupts() > 0);
        let used = self.used_index();
        self.kick();
        assert_eq!((self.used_index(), self.interrupts()), (used, 0), "it went on");
    }

    /// Every queue is as a driver makes it.
    pub(super) fn empty_queues(&mut self) {
        for queue in 0..self.next_available.len() {
            for at in [AVAILABLE, USED] {
                self.fill(at + place_of(queue), 0, 0x1000);
            }
        }
        self.next_available.fill(0);
    }

    /// Resets the device, whose worker confirms, and starts it again with an empty queue.
    #[track_caller]
    pub(super) fn restart(&mut self, features: u64) {
        self.write(reg::STATUS, 0);
        assert_ne!(self.status(), 0, "before the worker let go");
        self.turn();
        assert_eq!(self.status(), 0);
        self.empty_queues();
        self.interrupts();
        self.start(features);
    }
}
