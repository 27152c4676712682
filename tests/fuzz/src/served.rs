//! A device that the I/O loop serves, on virtio-mmio: registers at any address and width, rings and what
//! they point to, notifications, resets, in any order. After it a good driver's requests are served.

use std::sync::Arc;
use std::time::Duration;

use hv::GuestMemory;
use runner::devices::state::{Refused, Undescribed};
use runner::devices::virtio::served::{self, Served};
use runner::devices::virtio::state::VirtioState;
use runner::devices::virtio::virtqueues::Virtqueues;
use runner::io::event::Event;
use runner::io::event_loop::Ready;
use runner::machine::bus::Device as _;

use super::driver::{self, Behind, Driver, NOTIFY, STATUS, USED};
use super::input::Input;

/// Guest memory, in two pieces.
pub(crate) const RAM: u64 = 0x4_0000;
/// Entries of each queue.
const SIZE: u16 = 4;

const ACTIONS: usize = 256;

/// Each queue has its parts in pages of its own, below this.
const QUEUES: u64 = DATA;
const PLACE: u64 = 0x3000;

/// Buffers.
pub(crate) const DATA: u64 = 0x1_8000;

/// A descriptor that the device may write.
pub(crate) const WRITE: u16 = 2;
const NEXT: u16 = 1;

/// A device and its driver.
pub(crate) struct Machine<D> {
    pub(crate) device: D,
    driver: Driver,
    queues: Virtqueues,
    doorbells: Vec<Arc<Event>>,
    now: Duration,
}

impl<D: Served> Machine<D> {
    /// With a device after power-on.
    pub(crate) fn new(device: D) -> Self {
        Self::on(device, driver::memory(RAM))
    }

    /// The same driver before another device.
    pub(crate) fn moved_to(self, device: D) -> Self {
        let offered = self.driver.offered;
        let mut machine = Self::on(device, self.driver.memory);
        machine.driver.offered = offered;
        machine
    }

    fn on(device: D, memory: GuestMemory) -> Self {
        let identity = device.identity("fuzz");
        let places = (0..identity.queues.len() as u64).map(|queue| queue * PLACE).collect();
        assert!(identity.queues.len() as u64 * PLACE <= QUEUES, "a place for each queue");
        let (driver, Behind { transport, commands, doorbells }) =
            Driver::new(identity, memory, places, SIZE);
        let queues = Virtqueues::new(transport, commands);
        Self { device, driver, queues, doorbells, now: Duration::ZERO }
    }

    /// Does what the input says; `poke` is what else may happen to the device.
    pub(crate) fn run(&mut self, mut input: Input<'_>, poke: impl Fn(&mut Self, &mut Input<'_>)) {
        self.acts(&mut input, poke);
        self.reset();
    }

    /// The same, and leaves the device as it is then.
    pub(crate) fn acts(&mut self, input: &mut Input<'_>, poke: impl Fn(&mut Self, &mut Input<'_>)) {
        for _ in 0..ACTIONS {
            if input.is_empty() {
                break;
            }
            self.act(input, &poke);
        }
    }

    /// Resets the device, and starts it as a good driver does.
    pub(crate) fn reset(&mut self) {
        self.driver.set(STATUS, 0);
        self.turn();
        assert_eq!(self.driver.get(STATUS), 0, "a reset that does not end");
        self.start(0);
    }

    pub(crate) fn describe(&self) -> Result<VirtioState, Undescribed> {
        served::describe(&self.device, &self.queues)
    }

    pub(crate) fn restore(&mut self, saved: &VirtioState) -> Result<(), Refused> {
        served::restore(&mut self.device, &mut self.queues, saved)
    }

    fn act(&mut self, input: &mut Input<'_>, poke: &impl Fn(&mut Self, &mut Input<'_>)) {
        let queue = usize::from(input.byte()) % self.driver.offered.len();
        match input.byte() % 10 {
            0 => {
                let (at, width) = (u64::from(input.half() % 0x240), input.width());
                self.driver.mmio.write(at, width, input.long() & width.mask());
            }
            1 => {
                let (at, width) = (u64::from(input.half() % 0x240), input.width());
                assert_eq!(self.driver.mmio.read(at, width) & !width.mask(), 0);
            }
            // One register of a queue, most of them good.
            2 => {
                let register = [0x30, 0x38, 0x44, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4];
                let register = register[usize::from(input.byte() % 9)];
                let value = if input.one_in(4) { input.word() } else { input.byte().into() };
                self.driver.set(register, value.into());
            }
            3 => self.start(input.long()),
            4 => {
                let told = if input.one_in(4) { input.word().into() } else { queue as u64 };
                self.driver.set(NOTIFY, told);
            }
            5 => self.driver.set(STATUS, 0),
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
                self.driver.offer(queue, u16::from(input.byte() % 6));
            }
            7 => {
                let at = u64::from(input.word()) % (RAM - 8);
                self.write(at, &input.bytes::<8>());
            }
            8 => poke(self, input),
            _ => self.turn(),
        }
    }

    pub(crate) fn get(&self, register: u64) -> u64 {
        self.driver.get(register)
    }

    /// Starts the device as a good driver does, with any of the features that it may have.
    pub(crate) fn start(&mut self, features: u64) {
        self.driver.set(0x14, 0);
        let features = features & self.get(0x10);
        self.driver.clear();
        self.driver.start(features);
    }

    /// Lays out a chain from descriptor 0 on: address, length, flags but NEXT.
    pub(crate) fn chain(&self, queue: usize, buffers: &[(u64, u32, u16)]) {
        for (index, (address, len, flags)) in (0u16..).zip(buffers) {
            let last = usize::from(index) + 1 == buffers.len();
            let next = if last { 0 } else { NEXT };
            let descriptor = (*address, *len, flags | next, index + 1);
            self.driver.descriptor(queue, index.into(), descriptor);
        }
    }

    /// A good driver's request at descriptor 0 of a queue, behind nothing else.
    pub(crate) fn request(&mut self, queue: usize, buffers: &[(u64, u32, u16)]) {
        self.chain(queue, buffers);
        self.driver.offer(queue, 0);
        self.driver.set(NOTIFY, queue as u64);
        self.turn();
    }

    /// How many chains of a queue the device has used, and how much it wrote into the last of them.
    pub(crate) fn used(&self, queue: usize) -> (u16, u32) {
        let place = queue as u64 * PLACE + USED;
        let mut index = [0; 2];
        self.read(place + 2, &mut index);
        let index = u16::from_le_bytes(index);
        let mut written = [0; 4];
        let last = u64::from(index.wrapping_sub(1) % SIZE);
        self.read(place + 4 + 8 * last + 4, &mut written);
        (index, u32::from_le_bytes(written))
    }

    pub(crate) fn write(&self, at: u64, bytes: &[u8]) {
        self.driver.write(at, bytes);
    }

    pub(crate) fn read(&self, at: u64, bytes: &mut [u8]) {
        self.driver.read(at, bytes);
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
        self.device.serve(&mut self.queues, &self.driver.memory, self.now);
        self.queues.tell(&self.driver.memory);
    }
}
