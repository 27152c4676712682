//! A disk behind virtio-mmio: registers as any vCPU may write them, rings as any driver may lay
//! them out, on the real transport, worker and block device.

use std::fs::File;
use std::io::{Seek, Write};
use std::sync::Arc;
use std::time::Duration;

use hv::{GuestMemory, GuestRam, Width};
use runner::devices::virtio::block::{Disk, Scratch};
use runner::devices::virtio::mmio::Mmio;
use runner::devices::virtio::transport::Transport;
use runner::devices::virtio::worker::Worker;
use runner::io::event::Event;
use runner::machine::bus::Device;
use vm_memory::{Bytes, GuestAddress};

use super::input::Input;

/// Two pieces of RAM, side by side, and nothing behind.
const RAM: u64 = 0x20000;
/// The disk: eight sectors, and half of one that the guest must not see.
const LEN: usize = 8 * 512 + 256;

const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const TABLE: u64 = 0x4000;
const HEADER: u64 = 0x5000;
const STATUS: u64 = 0x70;
const NOTIFY: u64 = 0x50;

/// Requests whose data the device reads.
const OUT: u32 = 1;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// Actions in one input, at most: what more bytes could do, fewer do as well.
const ACTIONS: usize = 256;

/// A list of actions. The first byte: what is to become of writes.
pub fn block(data: &[u8]) {
    let mut input = Input(data);
    let kind = match input.byte() % 4 {
        0 => Kind::ReadWrite,
        2 => Kind::Ephemeral,
        _ => Kind::ReadOnly,
    };
    let mut driver = Driver::new(kind);
    for _ in 0..ACTIONS {
        if input.0.is_empty() {
            break;
        }
        driver.act(&mut input);
    }
    driver.finish(kind);
}

/// What becomes of what the driver writes.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    ReadWrite,
    ReadOnly,
    Ephemeral,
}

impl Input<'_> {
    /// An address: mostly in RAM, sometimes near an end of something, sometimes anything.
    fn address(&mut self) -> u64 {
        match self.byte() % 8 {
            0 => u64::from_le_bytes(self.bytes()),
            1 => RAM - u64::from(self.byte()),
            2 => RAM / 2 - u64::from(self.byte()),
            3 => HEADER,
            _ => u64::from(self.word()) % RAM,
        }
    }

    /// A length: mostly of sectors or a status, sometimes anything.
    fn len(&mut self) -> u32 {
        match self.byte() % 8 {
            0 => self.word(),
            1 => 1,
            2 => 16,
            3 => self.byte().into(),
            _ => u32::from(self.byte() % 10) * 512,
        }
    }
}

struct Driver {
    mmio: Mmio,
    worker: Worker,
    memory: GuestMemory,
    file: File,
    next: u16,
}

impl Driver {
    fn new(kind: Kind) -> Self {
        let piece = || GuestRam::new(RAM / 2).expect("128 KiB");
        let memory = hv::mem::memory([(0, piece()), (RAM / 2, piece())]).expect("two pieces");
        let file = disk();
        let shared = Arc::new(file.try_clone().expect("a descriptor"));
        let disk = match kind {
            Kind::Ephemeral => {
                Disk::ephemeral("disk0", "fuzz", shared, LEN as u64, scratch(LEN as u64))
            }
            other => Disk::new("disk0", "fuzz", shared, LEN as u64, other == Kind::ReadOnly),
        };
        let mut worker = Worker::new(memory.clone()).expect("an event loop");
        let transport = Arc::new(Transport::new(
            disk.identity(),
            memory.clone(),
            Arc::new(|| ()),
            vec![Arc::new(Event::new().expect("an event"))],
            worker.commands(),
        ));
        worker.add(Arc::clone(&transport), Box::new(disk)).expect("room for a device");
        Self { mmio: Mmio(transport), worker, memory, file, next: 0 }
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.byte() % 12 {
            0 => {
                let (offset, width) = (u64::from(input.half() % 0x220), input.width());
                self.mmio.write(offset, width, u64::from_le_bytes(input.bytes()) & width.mask());
            }
            1 => {
                let (offset, width) = (u64::from(input.half() % 0x220), input.width());
                self.mmio.read(offset, width);
            }
            2 => self.start(input),
            3 => {
                let descriptor = (input.address(), input.len(), input.half() % 8, input.half() % 9);
                let (table, index) = if input.one_in(4) { (TABLE, 16) } else { (DESCRIPTORS, 8) };
                self.descriptor(table, u64::from(input.byte()) % index, descriptor);
            }
            4 => {
                let sector = if input.one_in(8) { u64::MAX } else { input.byte().into() };
                let kind = if input.one_in(4) { input.word() } else { input.word() % 14 };
                self.request(kind, sector, input);
            }
            5 => {
                let (at, bytes) = (input.address(), input.bytes::<8>());
                let _ = self.memory.write_slice(&bytes, GuestAddress(at));
            }
            6 => self.offer(input.half() % 10),
            7 => self.write_memory(AVAILABLE + 2, &input.half().to_le_bytes()),
            8 => self.turn(),
            9 => {
                self.mmio.write(STATUS, Width::W4, 0);
                self.next = 0;
            }
            _ => {
                self.offer(0);
                self.mmio.write(NOTIFY, Width::W4, 0);
                self.turn();
            }
        }
    }

    /// Starts the device as a good driver does, up to two bytes of its own in the features.
    fn start(&mut self, input: &mut Input<'_>) {
        let features = u64::from(input.word() & 0x3000_6220);
        let size = if input.one_in(8) { input.word() } else { 8 };
        for (register, value) in [
            (STATUS, 1),
            (STATUS, 3),
            (0x24, 0),
            (0x20, features),
            (0x24, 1),
            (0x20, 1),
            (STATUS, 0xb),
            (0x30, 0),
            (0x38, size.into()),
            (0x80, DESCRIPTORS),
            (0x90, AVAILABLE),
            (0xa0, USED),
            (0x44, 1),
            (STATUS, 0xf),
        ] {
            self.mmio.write(register, Width::W4, value);
        }
    }

    /// Lays out a whole request at descriptor 0, its data as the input wants it.
    fn request(&mut self, kind: u32, sector: u64, input: &mut Input<'_>) {
        self.write_memory(HEADER, &kind.to_le_bytes());
        self.write_memory(HEADER + 8, &sector.to_le_bytes());
        let flags = if [OUT, DISCARD, WRITE_ZEROES].contains(&kind) { 1 } else { 3 };
        let mut data = (input.address(), input.len(), flags, 2);
        if kind == DISCARD || kind == WRITE_ZEROES {
            // Mostly a segment, most of whose bits are 0.
            let segment = [input.byte(), 0, input.byte() % 10, input.byte() % 3].map(u32::from);
            for (at, word) in (HEADER + 0x100..).step_by(4).zip(segment) {
                self.write_memory(at, &word.to_le_bytes());
            }
            if !input.one_in(4) {
                data = (HEADER + 0x100, 16, flags, 2);
            }
        }
        self.descriptor(DESCRIPTORS, 0, (HEADER, 16, 1, 1));
        self.descriptor(DESCRIPTORS, 1, data);
        self.descriptor(DESCRIPTORS, 2, (HEADER + 16, 1, 2, 0));
    }

    fn descriptor(&self, table: u64, index: u64, descriptor: (u64, u32, u16, u16)) {
        let (address, len, flags, next) = descriptor;
        let at = table + 16 * index;
        self.write_memory(at, &address.to_le_bytes());
        self.write_memory(at + 8, &len.to_le_bytes());
        self.write_memory(at + 12, &flags.to_le_bytes());
        self.write_memory(at + 14, &next.to_le_bytes());
    }

    fn offer(&mut self, head: u16) {
        self.write_memory(AVAILABLE + 4 + 2 * u64::from(self.next % 8), &head.to_le_bytes());
        self.next = self.next.wrapping_add(1);
        self.write_memory(AVAILABLE + 2, &self.next.to_le_bytes());
    }

    fn write_memory(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).expect("a place of ours is in RAM");
    }

    fn turn(&mut self) {
        self.worker.turn(Some(Duration::ZERO)).expect("waiting works");
    }

    /// Whatever was done to it, the device can be reset and works again, and the file has kept its
    /// length and what the guest must not reach.
    fn finish(mut self, kind: Kind) {
        self.mmio.write(STATUS, Width::W4, 0);
        self.turn();
        assert_eq!(self.mmio.read(STATUS, Width::W4), 0, "a reset that does not end");
        self.next = 0;
        for page in [AVAILABLE, USED] {
            self.write_memory(page, &[0; 0x100]);
        }
        self.start(&mut Input(&[0, 0, 0, 0, 1]));
        self.request(0, 7, &mut Input(&[4, 0, 0x80, 0, 0, 4, 1]));
        self.write_memory(HEADER + 16, &[0xff]);
        self.offer(0);
        self.mmio.write(NOTIFY, Width::W4, 0);
        self.turn();
        let mut answer = [0];
        self.memory.read_slice(&mut answer, GuestAddress(HEADER + 16)).expect("in RAM");
        assert_eq!((self.mmio.read(STATUS, Width::W4), answer), (0xf, [0]), "it works");
        self.worker.finish().expect("a flush");
        check_disk(&self.file, kind);
    }
}

/// A file whose bytes are all 0x5a, without a name.
fn disk() -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(&[0x5a; LEN]).expect("4 KiB");
    file
}

/// What takes the writes to an ephemeral disk.
fn scratch(len: u64) -> Scratch {
    let file = tempfile::tempfile().expect("a temporary file");
    file.set_len(len).expect("a hole");
    Scratch { file: Arc::new(file), folder: "/tmp".into() }
}

fn check_disk(mut file: &File, kind: Kind) {
    let mut bytes = Vec::new();
    file.rewind().expect("a file");
    std::io::Read::read_to_end(&mut file, &mut bytes).expect("a file");
    assert_eq!(bytes.len(), LEN, "the file's length");
    let kept = if kind == Kind::ReadWrite { 8 * 512 } else { 0 };
    assert!(bytes[kept..].iter().all(|byte| *byte == 0x5a), "bytes out of the guest's reach");
}
