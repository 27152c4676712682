//! A driver for tests: drives a real transport by its registers, and a real worker by rings in
//! guest memory. Case numbers (R1 …, B41 …) are those of the list of what hostile guests do, kept
//! in the order of the specification: rings and transport first, then the block device.

mod block;
mod discard;
mod p9;
mod pool;
mod registers;
mod reset;
mod rings;

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
use super::served::Served;
use super::transport::{Identity, Transport};
use super::virtqueues::Virtqueues;
use super::worker::{Backend, Commands, Threads, Worker, WorkerThread};
use crate::io::event::Event;
use crate::machine::bus::Device;

/// RAM: two pieces side by side, the seam at `SEAM`, and nothing behind `RAM`. It is reserved and
/// not touched, so it can be large.
pub(super) const SEAM: u64 = 1 << 20;
pub(super) const RAM: u64 = 65 << 20;

/// Where the driver puts its queue.
pub(super) const DESCRIPTORS: u64 = 0x1000;
pub(super) const AVAILABLE: u64 = 0x3000;
pub(super) const USED: u64 = 0x4000;
/// Entries of it.
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
    interrupts: Arc<AtomicU32>,
    next_available: u16,
}

/// A device on the I/O loop.
struct OnLoop {
    device: Box<dyn Served>,
    queues: Virtqueues,
    doorbells: Vec<Arc<Event>>,
    more: bool,
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
        self.more = self.device.serve(&mut self.queues, memory, Duration::ZERO);
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
        Self { memory, mmio, worker, on_loop: None, interrupts, next_available: 0 }
    }

    /// A device that the I/O loop serves.
    pub(super) fn served(device: Box<dyn Served>) -> Self {
        let memory = memory();
        let worker = Worker::new(memory.clone()).unwrap();
        let (commands, receiver) = Commands::channel(Arc::new(Event::new().unwrap()));
        let (wires, interrupts) = counted();
        let (transport, doorbells) = transport(device.identity("test"), &memory, wires, commands);
        let transport = Arc::new(transport);
        let mmio = Arc::new(Mmio(Arc::clone(&transport)));
        let queues = Virtqueues::new(transport, receiver);
        let on_loop = Some(OnLoop { device, queues, doorbells, more: false });
        Self { memory, mmio, worker, on_loop, interrupts, next_available: 0 }
    }

    /// What the device is.
    pub(super) fn identity(&self) -> &Identity {
        self.mmio.0.identity()
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

    pub(super) fn read(&self, register: u64) -> u64 {
        self.mmio.read(register, Width::W4)
    }

    pub(super) fn write(&self, register: u64, value: u64) {
        self.mmio.write(register, Width::W4, value);
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

    /// Sets queue 0 up.
    pub(super) fn configure(&self) {
        self.write(reg::QUEUE_SEL, 0);
        self.write(reg::QUEUE_NUM, SIZE.into());
        self.write_address(reg::QUEUE_DESC, DESCRIPTORS);
        self.write_address(reg::QUEUE_DRIVER, AVAILABLE);
        self.write_address(reg::QUEUE_DEVICE, USED);
        self.write(reg::QUEUE_READY, 1);
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
        match &mut self.on_loop {
            Some(on_loop) => on_loop.turn(&self.memory),
            None => self.worker.turn(Some(Duration::ZERO)).unwrap(),
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

    /// Makes the chain at `head` available.
    pub(super) fn offer(&mut self, head: u16) {
        let slot = AVAILABLE + 4 + 2 * u64::from(self.next_available % SIZE);
        self.memory.write_obj(head.to_le(), GuestAddress(slot)).unwrap();
        self.next_available = self.next_available.wrapping_add(1);
        self.set_available_index(self.next_available);
    }

    pub(super) fn set_available_index(&self, index: u16) {
        self.memory.store(index.to_le(), GuestAddress(AVAILABLE + 2), Ordering::Release).unwrap();
    }

    /// Notifies queue 0 and lets the worker serve.
    pub(super) fn kick(&mut self) {
        self.write(reg::QUEUE_NOTIFY, 0);
        self.turn();
    }

    pub(super) fn used_index(&self) -> u16 {
        u16::from_le(self.memory.load(GuestAddress(USED + 2), Ordering::Acquire).unwrap())
    }

    /// The used ring's entry `index`: descriptor and length.
    pub(super) fn used(&self, index: u16) -> (u32, u32) {
        let at = USED + 4 + 8 * u64::from(index % SIZE);
        let word = |at| u32::from_le(self.memory.read_obj(GuestAddress(at)).unwrap());
        (word(at), word(at + 4))
    }

    pub(super) fn fill(&self, at: u64, byte: u8, len: usize) {
        self.memory.write_slice(&vec![byte; len], GuestAddress(at)).unwrap();
    }

    pub(super) fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
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

    /// Resets the device, whose worker confirms, and starts it again with an empty queue.
    #[track_caller]
    pub(super) fn restart(&mut self, features: u64) {
        self.write(reg::STATUS, 0);
        assert_ne!(self.status(), 0, "before the worker let go");
        self.turn();
        assert_eq!(self.status(), 0);
        for at in [AVAILABLE, USED] {
            self.fill(at, 0, 0x100);
        }
        self.next_available = 0;
        self.interrupts();
        self.start(features);
    }
}
