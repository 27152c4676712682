//! Two disks on one bus and one worker: registers at any address and width, both queues, rings in
//! the same memory, notifications, resets, in any order. What a good driver of one disk does works
//! whatever becomes of the other.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use hv::{Address, Arch, GuestMemory, GuestRam, Width};
use runner::devices::virtio::block::Disk;
use runner::devices::virtio::mmio::Mmio;
use runner::devices::virtio::transport::Transport;
use runner::devices::virtio::worker::Worker;
use runner::io::event::Event;
use runner::machine::bus::Bus;
use runner::machine::map::Board;
use runner::machine::slot::{Place, VIRTIO_WINDOW, VirtioBus};
use vm_memory::{Bytes, GuestAddress};

use super::input::Input;

const RAM: u64 = 0x2_0000;
const LEN: usize = 4 * 512;
const SIZE: u64 = 4;

const ACTIONS: usize = 256;

/// The guest's places for one disk's queue.
const PLACES: [u64; 2] = [0x1000, 0x9000];
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const HEADER: u64 = 0x3000;
const DATA: u64 = 0x4000;

const STATUS: u64 = 0x70;
const NOTIFY: u64 = 0x50;

/// A list of actions.
pub fn mmio(data: &[u8]) {
    let mut input = Input(data);
    let mut machine = Machine::new();
    for _ in 0..ACTIONS {
        if input.is_empty() {
            break;
        }
        machine.act(&mut input);
    }
    for disk in 0..2 {
        machine.check(disk);
    }
    machine.worker.finish().expect("a flush");
}

struct Machine {
    bus: Bus,
    worker: Worker,
    memory: GuestMemory,
    bases: Vec<u64>,
    offered: [u16; 2],
}

impl Machine {
    fn new() -> Self {
        let ram = GuestRam::new(RAM).expect("128 KiB");
        let memory = hv::mem::memory([(0, ram)]).expect("one piece");
        let mut worker = Worker::new(memory.clone()).expect("an event loop");
        let (mut bus, mut bases) = (Bus::default(), Vec::new());
        for (slot, id) in Board::of(Arch::X86_64).virtio.on(VirtioBus::Mmio).zip(["disk0", "disk1"])
        {
            let mut file = tempfile::tempfile().expect("a temporary file");
            file.write_all(&[0x5a; LEN]).expect("2 KiB");
            let disk = Disk::new(id, "fuzz", Arc::new(file), LEN as u64, false);
            let transport = Arc::new(Transport::new(
                disk.identity(),
                memory.clone(),
                Arc::new(|| ()),
                vec![Arc::new(Event::new().expect("an event"))],
                worker.commands(),
            ));
            worker.add(Arc::clone(&transport), Box::new(disk)).expect("room for a device");
            let Place::Mmio { base, .. } = slot.place else { continue };
            bus.add(Address::Mmio(base), VIRTIO_WINDOW, Arc::new(Mmio(transport)));
            bases.push(base);
        }
        Self { bus, worker, memory, bases, offered: [0; 2] }
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let action = input.byte();
        let disk = usize::from(action >> 7);
        match action % 10 {
            0 => {
                let (at, width) = (self.address(input), input.width());
                self.bus.write(at, width, input.long() & width.mask());
            }
            1 => {
                let (at, width) = (self.address(input), input.width());
                assert_eq!(self.bus.read(at, width) & !width.mask(), 0);
            }
            // One register of the queue, most of them good.
            2 => {
                let register = [0x30, 0x38, 0x44, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4];
                let register = register[usize::from(input.byte() % 9)];
                let value = if input.one_in(4) { input.word() } else { input.byte().into() };
                self.set(disk, register, value.into());
            }
            3 => self.start(disk, input.word()),
            4 => {
                let value = if input.one_in(4) { input.word().into() } else { 0 };
                self.set(disk, NOTIFY, value);
            }
            5 => self.set(disk, STATUS, 0),
            6 => {
                let (kind, sector) = (u32::from(input.byte() % 16), input.byte() % 8);
                let len = u32::from(input.byte()) * 64;
                self.request(disk, kind, sector.into(), len);
                self.offer(disk, u16::from(input.byte() % 6));
            }
            7 => {
                let at = u64::from(input.word()) % (RAM - 8);
                self.write(at, &input.bytes::<8>());
            }
            _ => self.turn(),
        }
    }

    /// Mostly a device's, sometimes near one, sometimes anywhere.
    fn address(&self, input: &mut Input<'_>) -> Address {
        match input.byte() % 8 {
            0 => Address::Mmio(input.long()),
            1 => Address::Port(input.half()),
            2 => Address::Mmio(self.bases[0].wrapping_sub(8) + u64::from(input.half() % 0x410)),
            _ => Address::Mmio(self.bases[0] + u64::from(input.half() % 0x100) * 4),
        }
    }

    fn set(&self, disk: usize, register: u64, value: u64) {
        self.bus.write(Address::Mmio(self.bases[disk] + register), Width::W4, value);
    }

    fn get(&self, disk: usize, register: u64) -> u64 {
        self.bus.read(Address::Mmio(self.bases[disk] + register), Width::W4)
    }

    /// Starts a disk as a good driver does, with any of the features that it may have.
    fn start(&mut self, disk: usize, features: u32) {
        let place = PLACES[disk];
        let features = u64::from(features) & self.features(disk);
        self.offered[disk] = 0;
        for (register, value) in [
            (STATUS, 1),
            (STATUS, 3),
            (0x24, 0),
            (0x20, features),
            (0x24, 1),
            (0x20, 1),
            (STATUS, 0xb),
            (0x30, 0),
            (0x38, SIZE),
            (0x80, place),
            (0x84, 0),
            (0x90, place + AVAILABLE),
            (0x94, 0),
            (0xa0, place + USED),
            (0xa4, 0),
            (0x44, 1),
            (STATUS, 0xf),
        ] {
            self.set(disk, register, value);
        }
    }

    fn features(&self, disk: usize) -> u64 {
        self.set(disk, 0x14, 0);
        self.get(disk, 0x10)
    }

    /// Lays out a request at descriptor 0.
    fn request(&mut self, disk: usize, kind: u32, sector: u64, len: u32) {
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
    fn check(&mut self, disk: usize) {
        self.set(disk, STATUS, 0);
        self.turn();
        assert_eq!(self.get(disk, STATUS), 0, "a reset that does not end");
        let place = PLACES[disk];
        for page in [place + AVAILABLE, place + USED] {
            self.write(page, &[0; 0x100]);
        }
        self.start(disk, 0);
        self.request(disk, 0, 1, 512);
        self.offer(disk, 0);
        self.set(disk, NOTIFY, 0);
        self.turn();
        let mut answer = [0xff];
        let at = GuestAddress(place + HEADER + 16);
        self.memory.read_slice(&mut answer, at).expect("in RAM");
        assert_eq!((self.get(disk, STATUS), answer), (0xf, [0]), "it works");
    }
}
