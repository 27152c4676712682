//! Two disks and one worker, for the targets that attack a bus: what a driver does with them is the same
//! on every bus, and only where its registers are is not.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use hv::{GuestMemory, GuestRam};
use runner::devices::virtio::block::Disk;
use runner::devices::virtio::interrupts::Interrupts;
use runner::devices::virtio::transport::{Identity, Transport};
use runner::devices::virtio::worker::Worker;
use runner::io::event::Event;
use vm_memory::{Bytes, GuestAddress};

use super::input::Input;

const RAM: u64 = 0x2_0000;
const LEN: usize = 4 * 512;
/// Entries of a queue.
const SIZE: u64 = 4;

/// The guest's places for one disk's queue.
const PLACES: [u64; 2] = [0x1000, 0x9000];
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const HEADER: u64 = 0x3000;
const DATA: u64 = 0x4000;

/// The most that is done with one input.
const ACTIONS: usize = 256;

/// What a driver reads and writes, by the names that both transports have for it (virtio 1.2 §4.1.4.3,
/// §4.2.2). Addresses are 64 bits, the others 32 or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Status,
    DeviceFeaturesSelect,
    DeviceFeatures,
    DriverFeaturesSelect,
    DriverFeatures,
    QueueSelect,
    QueueSize,
    Descriptors,
    Available,
    Used,
    QueueEnable,
    Notify,
}

/// A bus with both disks on it.
pub(crate) trait Registers {
    fn set(&self, disk: usize, field: Field, value: u64);
    fn get(&self, disk: usize, field: Field) -> u64;
    /// Whatever this bus has beside what every one has.
    fn act(&mut self, disk: usize, input: &mut Input<'_>);
    /// Puts back what [`Registers::act`] may have moved: the registers are found again.
    fn restore(&mut self);
}

/// The disks, and what a driver has offered to each.
pub(crate) struct Disks {
    worker: Worker,
    memory: GuestMemory,
    offered: [u16; 2],
}

impl Disks {
    pub(crate) fn new() -> Self {
        let ram = GuestRam::new(RAM).expect("128 KiB");
        let memory = hv::mem::memory([(0, ram)]).expect("one piece");
        let worker = Worker::new(memory.clone()).expect("an event loop");
        Self { worker, memory, offered: [0; 2] }
    }

    /// One more, which interrupts as `interrupts` says.
    pub(crate) fn add<I>(&mut self, id: &str, interrupts: I) -> Arc<Transport>
    where
        I: FnOnce(&Identity) -> Arc<dyn Interrupts>,
    {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(&[0x5a; LEN]).expect("2 KiB");
        let disk = Disk::new(id, "fuzz", Arc::new(file), LEN as u64, false);
        let identity = disk.identity();
        let interrupts = interrupts(&identity);
        let doorbells = vec![Arc::new(Event::new().expect("an event"))];
        let commands = self.worker.commands();
        let transport =
            Transport::new(identity, self.memory.clone(), interrupts, doorbells, commands);
        let transport = Arc::new(transport);
        self.worker.add(Arc::clone(&transport), Box::new(disk)).expect("room for a device");
        transport
    }

    /// Does what `input` says, and then what a good driver does: it works.
    pub(crate) fn attack(mut self, bus: &mut impl Registers, mut input: Input<'_>) {
        for _ in 0..ACTIONS {
            if input.is_empty() {
                break;
            }
            self.act(bus, &mut input);
        }
        bus.restore();
        for disk in 0..2 {
            self.check(bus, disk);
        }
        self.worker.finish().expect("a flush");
    }

    fn act(&mut self, bus: &mut impl Registers, input: &mut Input<'_>) {
        let action = input.byte();
        let disk = usize::from(action >> 7);
        match action % 16 {
            // One register of the queue, most of them good.
            0 => {
                use Field::{Available, Descriptors, QueueEnable, QueueSelect, QueueSize, Used};
                let fields = [QueueSelect, QueueSize, QueueEnable, Descriptors, Available, Used];
                let field = fields[usize::from(input.byte() % 6)];
                let value = if input.one_in(4) { input.long() } else { input.byte().into() };
                bus.set(disk, field, value);
            }
            1 => self.start(bus, disk, input.word()),
            2 => {
                let value = if input.one_in(4) { input.word().into() } else { 0 };
                bus.set(disk, Field::Notify, value);
            }
            3 => bus.set(disk, Field::Status, 0),
            4 => {
                let (kind, sector) = (u32::from(input.byte() % 16), input.byte() % 8);
                let len = u32::from(input.byte()) * 64;
                self.request(disk, kind, sector.into(), len);
                self.offer(disk, u16::from(input.byte() % 6));
            }
            5 => {
                let at = u64::from(input.word()) % (RAM - 8);
                self.write(at, &input.bytes::<8>());
            }
            6 | 7 => self.turn(),
            _ => bus.act(disk, input),
        }
    }

    /// Starts a disk as a good driver does, with any of the features that it may have.
    fn start(&mut self, bus: &impl Registers, disk: usize, features: u32) {
        let place = PLACES[disk];
        bus.set(disk, Field::DeviceFeaturesSelect, 0);
        let features = u64::from(features) & bus.get(disk, Field::DeviceFeatures);
        self.offered[disk] = 0;
        for (field, value) in [
            (Field::Status, 1),
            (Field::Status, 3),
            (Field::DriverFeaturesSelect, 0),
            (Field::DriverFeatures, features),
            (Field::DriverFeaturesSelect, 1),
            (Field::DriverFeatures, 1),
            (Field::Status, 0xb),
            (Field::QueueSelect, 0),
            (Field::QueueSize, SIZE),
            (Field::Descriptors, place),
            (Field::Available, place + AVAILABLE),
            (Field::Used, place + USED),
            (Field::QueueEnable, 1),
            (Field::Status, 0xf),
        ] {
            bus.set(disk, field, value);
        }
    }

    /// Lays out a request at descriptor 0.
    fn request(&self, disk: usize, kind: u32, sector: u64, len: u32) {
        let place = PLACES[disk];
        self.write(place + HEADER, &u64::from(kind).to_le_bytes());
        self.write(place + HEADER + 8, &sector.to_le_bytes());
        self.write(place + HEADER + 16, &[0xff]);
        let flags: u16 = if kind == 1 { 1 } else { 3 };
        for (index, (address, len, flags, next)) in (0..).zip([
            (place + HEADER, 16, 1, 1u16),
            (place + DATA, len, flags, 2),
            (place + HEADER + 16, 1, 2, 0),
        ]) {
            let at = place + 16 * index;
            self.write(at, &address.to_le_bytes());
            self.write(at + 8, &len.to_le_bytes());
            self.write(at + 12, &flags.to_le_bytes());
            self.write(at + 14, &next.to_le_bytes());
        }
    }

    fn offer(&mut self, disk: usize, head: u16) {
        let place = PLACES[disk] + AVAILABLE;
        let entry = u64::from(self.offered[disk]) % SIZE;
        self.offered[disk] = self.offered[disk].wrapping_add(1);
        self.write(place + 4 + 2 * entry, &head.to_le_bytes());
        self.write(place + 2, &self.offered[disk].to_le_bytes());
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).expect("a place of ours is in RAM");
    }

    fn turn(&mut self) {
        self.worker.turn(Some(Duration::ZERO)).expect("waiting works");
    }

    /// The disk can be reset and reads a sector.
    fn check(&mut self, bus: &impl Registers, disk: usize) {
        bus.set(disk, Field::Status, 0);
        self.turn();
        assert_eq!(bus.get(disk, Field::Status), 0, "a reset that does not end");
        let place = PLACES[disk];
        for page in [place + AVAILABLE, place + USED] {
            self.write(page, &[0; 0x100]);
        }
        self.start(bus, disk, 0);
        self.request(disk, 0, 1, 512);
        self.offer(disk, 0);
        bus.set(disk, Field::Notify, 0);
        self.turn();
        let mut answer = [0xff];
        let at = GuestAddress(place + HEADER + 16);
        self.memory.read_slice(&mut answer, at).expect("in RAM");
        assert_eq!((bus.get(disk, Field::Status), answer), (0xf, [0]), "it works");
    }
}
