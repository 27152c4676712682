//! A device that the I/O loop serves, on virtio-mmio: registers at any address and width, rings and what
//! they point to, notifications, resets, in any order. After it a good driver's requests are served.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use hv::{GuestMemory, GuestRam, Width};
use runner::devices::virtio::mmio::Mmio;
use runner::devices::virtio::served::Served;
use runner::devices::virtio::transport::Transport;
use runner::devices::virtio::virtqueues::Virtqueues;
use runner::devices::virtio::worker::{Command, Commands};
use runner::io::event::Event;
use runner::io::event_loop::Ready;
use runner::machine::bus::Device as _;
use vm_memory::{Bytes, GuestAddress};

use super::input::Input;

/// Guest memory, in two pieces.
pub(crate) const RAM: u64 = 0x4_0000;
/// Entries of each queue.
const SIZE: u64 = 4;

const ACTIONS: usize = 256;

/// Each queue has its parts in pages of its own, below this.
const QUEUES: u64 = DATA;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const PLACE: u64 = 0x3000;

/// Buffers.
pub(crate) const DATA: u64 = 0x1_8000;

/// A descriptor that the device may write.
pub(crate) const WRITE: u16 = 2;
const NEXT: u16 = 1;

const STATUS: u64 = 0x70;
const NOTIFY: u64 = 0x50;

/// A device and its driver.
pub(crate) struct Machine<D> {
    pub(crate) device: D,
    pub(crate) memory: GuestMemory,
    mmio: Mmio,
    queues: Virtqueues,
    doorbells: Vec<Arc<Event>>,
    offered: Vec<u16>,
    now: Duration,
}

impl<D: Served> Machine<D> {
    /// With a device after power-on.
    pub(crate) fn new(device: D) -> Self {
        let half = |at| (at, GuestRam::new(RAM / 2).expect("128 KiB"));
        let memory = hv::mem::memory([half(0), half(RAM / 2)]).expect("two pieces");
        let event = || Arc::new(Event::new().expect("an event"));
        let (commands, receiver): (_, mpsc::Receiver<(usize, Command)>) =
            Commands::channel(event());
        let identity = device.identity("fuzz");
        let doorbells: Vec<_> = identity.queues.iter().map(|_| event()).collect();
        let (bells, interrupt) = (doorbells.clone(), Arc::new(|| ()));
        let transport =
            Arc::new(Transport::new(identity, memory.clone(), interrupt, bells, commands));
        let queues = Virtqueues::new(Arc::clone(&transport), receiver);
        let offered = vec![0; doorbells.len()];
        Self {
            device,
            memory,
            mmio: Mmio(transport),
            queues,
            doorbells,
            offered,
            now: Duration::ZERO,
        }
    }

    /// Does what the input says; `poke` is what else may happen to the device.
    pub(crate) fn run(&mut self, mut input: Input<'_>, poke: impl Fn(&mut Self, &mut Input<'_>)) {
        for _ in 0..ACTIONS {
            if input.is_empty() {
                break;
            }
            self.act(&mut input, &poke);
        }
        self.set(STATUS, 0);
        self.turn();
        assert_eq!(self.get(STATUS), 0, "a reset that does not end");
        self.start(0);
    }

    fn act(&mut self, input: &mut Input<'_>, poke: &impl Fn(&mut Self, &mut Input<'_>)) {
        let queue = usize::from(input.byte()) % self.offered.len();
        match input.byte() % 10 {
            0 => {
                let (at, width) = (u64::from(input.half() % 0x240), input.width());
                self.mmio.write(at, width, input.long() & width.mask());
            }
            1 => {
                let (at, width) = (u64::from(input.half() % 0x240), input.width());
                assert_eq!(self.mmio.read(at, width) & !width.mask(), 0);
            }
            // One register of a queue, most of them good.
            2 => {
                let register = [0x30, 0x38, 0x44, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4];
                let register = register[usize::from(input.byte() % 9)];
                let value = if input.one_in(4) { input.word() } else { input.byte().into() };
                self.set(register, value.into());
            }
            3 => self.start(input.long()),
            4 => self.set(NOTIFY, if input.one_in(4) { input.word().into() } else { queue as u64 }),
            5 => self.set(STATUS, 0),
            6 => {
                let count = usize::from(input.byte() % 4) + 1;
                let buffers: Vec<_> = (0..count)
                    .map(|_| {
                        let wild = input.one_in(8);
                        let at = if wild { input.long() } else { u64::from(input.word()) % RAM };
                        let len =
                            if wild { input.word() } else { u32::from(input.half()) % 0x1200 };
                        (at, len, u16::from(input.byte() % 8) & !NEXT)
                    })
                    .collect();
                self.chain(queue, &buffers);
                self.offer(queue, u16::from(input.byte() % 6));
            }
            7 => {
                let at = u64::from(input.word()) % (RAM - 8);
                self.write(at, &input.bytes::<8>());
            }
            8 => poke(self, input),
            _ => self.turn(),
        }
    }

    fn set(&self, register: u64, value: u64) {
        self.mmio.write(register, Width::W4, value);
    }

    pub(crate) fn get(&self, register: u64) -> u64 {
        self.mmio.read(register, Width::W4)
    }

    fn offered_features(&self) -> u64 {
        self.set(0x14, 0);
        self.get(0x10)
    }

    /// Starts the device as a good driver does, with any of the features that it may have.
    pub(crate) fn start(&mut self, features: u64) {
        let features = features & self.offered_features();
        for (register, value) in [
            (STATUS, 1),
            (STATUS, 3),
            (0x24, 0),
            (0x20, features),
            (0x24, 1),
            (0x20, 1),
            (STATUS, 0xb),
        ] {
            self.set(register, value);
        }
        for queue in 0..self.offered.len() {
            let place = queue as u64 * PLACE;
            assert!(place + PLACE <= QUEUES, "a place for each queue");
            // What was there is over.
            self.write(place + AVAILABLE, &[0; 0x20]);
            self.write(place + USED, &[0; 0x40]);
            self.offered[queue] = 0;
            for (register, value) in [
                (0x30, queue as u64),
                (0x38, SIZE),
                (0x80, place),
                (0x84, 0),
                (0x90, place + AVAILABLE),
                (0x94, 0),
                (0xa0, place + USED),
                (0xa4, 0),
                (0x44, 1),
            ] {
                self.set(register, value);
            }
        }
        self.set(STATUS, 0xf);
    }

    /// Lays out a chain from descriptor 0 on: address, length, flags but NEXT.
    pub(crate) fn chain(&self, queue: usize, buffers: &[(u64, u32, u16)]) {
        for (index, (address, len, flags)) in (0u16..).zip(buffers) {
            let last = usize::from(index) + 1 == buffers.len();
            let at = queue as u64 * PLACE + 16 * u64::from(index);
            self.write(at, &address.to_le_bytes());
            self.write(at + 8, &len.to_le_bytes());
            self.write(at + 12, &(flags | if last { 0 } else { NEXT }).to_le_bytes());
            self.write(at + 14, &(index + 1).to_le_bytes());
        }
    }

    /// Makes the chain at `head` available.
    pub(crate) fn offer(&mut self, queue: usize, head: u16) {
        let place = queue as u64 * PLACE + AVAILABLE;
        let entry = u64::from(self.offered[queue]) % SIZE;
        self.offered[queue] = self.offered[queue].wrapping_add(1);
        self.write(place + 4 + 2 * entry, &head.to_le_bytes());
        self.write(place + 2, &self.offered[queue].to_le_bytes());
    }

    /// A good driver's request at descriptor 0 of a queue, behind nothing else.
    pub(crate) fn request(&mut self, queue: usize, buffers: &[(u64, u32, u16)]) {
        self.chain(queue, buffers);
        self.offer(queue, 0);
        self.set(NOTIFY, queue as u64);
        self.turn();
    }

    /// How many chains of a queue the device has used, and how much it wrote into the last of them.
    pub(crate) fn used(&self, queue: usize) -> (u16, u32) {
        let place = queue as u64 * PLACE + USED;
        let mut index = [0; 2];
        self.read(place + 2, &mut index);
        let index = u16::from_le_bytes(index);
        let mut written = [0; 4];
        let last = u64::from(index.wrapping_sub(1)) % SIZE;
        self.read(place + 4 + 8 * last + 4, &mut written);
        (index, u32::from_le_bytes(written))
    }

    pub(crate) fn write(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).expect("a place of ours is in RAM");
    }

    pub(crate) fn read(&self, at: u64, bytes: &mut [u8]) {
        self.memory.read_slice(bytes, GuestAddress(at)).expect("a place of ours is in RAM");
    }

    /// Something that the device has watched is ready.
    pub(crate) fn ready(&mut self, key: usize) {
        self.device.ready(Ready { key, readable: true, writable: true, hung_up: false });
        self.turn();
    }

    /// A while later.
    pub(crate) fn later(&mut self) {
        self.now += Duration::from_secs(1);
        self.turn();
    }

    /// The loop's turn, as the machine has it.
    pub(crate) fn turn(&mut self) {
        for (queue, doorbell) in self.doorbells.iter().enumerate() {
            if doorbell.clear() {
                self.queues.ring(queue);
            }
        }
        if self.queues.obey() {
            self.device.reset();
        }
        self.device.serve(&mut self.queues, &self.memory, self.now);
        self.queues.tell(&self.memory);
    }
}
