//! A driver on virtio-mmio: its queues in guest memory, and the registers that say where they are.

use std::sync::{Arc, mpsc};

use hv::{GuestMemory, GuestRam, Width};
use runner::devices::virtio::mmio::Mmio;
use runner::devices::virtio::transport::{Identity, Transport};
use runner::devices::virtio::worker::{Command, Commands};
use runner::io::event::Event;
use runner::machine::bus::Device as _;
use vm_memory::{Bytes, GuestAddress};

/// Where a queue's rings are, behind its descriptors.
pub(crate) const AVAILABLE: u64 = 0x1000;
pub(crate) const USED: u64 = 0x2000;

pub(crate) const STATUS: u64 = 0x70;
pub(crate) const NOTIFY: u64 = 0x50;

/// A descriptor: address, length, flags, next.
pub(crate) type Descriptor = (u64, u32, u16, u16);

/// RAM in two pieces, side by side, and nothing behind.
pub(crate) fn memory(len: u64) -> GuestMemory {
    let half = |at| (at, GuestRam::new(len / 2).expect("a little"));
    hv::mem::memory([half(0), half(len / 2)]).expect("two pieces")
}

pub(crate) struct Driver {
    pub(crate) mmio: Mmio,
    pub(crate) memory: GuestMemory,
    /// Where the queues are.
    places: Vec<u64>,
    /// Entries of each.
    size: u16,
    /// How many chains of each were made available.
    pub(crate) offered: Vec<u16>,
}

/// What serves a device needs of its transport.
pub(crate) struct Behind {
    pub(crate) transport: Arc<Transport>,
    pub(crate) commands: mpsc::Receiver<(usize, Command)>,
    pub(crate) doorbells: Vec<Arc<Event>>,
}

impl Driver {
    /// Of a device after power-on, with queues of `size` entries at `places`.
    pub(crate) fn new(
        identity: Identity,
        memory: GuestMemory,
        places: Vec<u64>,
        size: u16,
    ) -> (Self, Behind) {
        let event = || Arc::new(Event::new().expect("an event"));
        let (sender, commands) = Commands::channel(event());
        let doorbells: Vec<_> = places.iter().map(|_| event()).collect();
        let (bells, interrupt) = (doorbells.clone(), Arc::new(|| ()));
        let transport =
            Arc::new(Transport::new(identity, memory.clone(), interrupt, bells, sender));
        let (mmio, offered) = (Mmio(Arc::clone(&transport)), vec![0; places.len()]);
        let driver = Self { mmio, memory, places, size, offered };
        (driver, Behind { transport, commands, doorbells })
    }

    pub(crate) fn set(&self, register: u64, value: u64) {
        self.mmio.write(register, Width::W4, value);
    }

    pub(crate) fn get(&self, register: u64) -> u64 {
        self.mmio.read(register, Width::W4)
    }

    /// Starts the device as a good driver does, with these of the features below 2³².
    pub(crate) fn start(&self, features: u64) {
        for (register, value) in [
            (STATUS, 1),
            (STATUS, 3),
            (0x24, 0),
            (0x20, features & 0xffff_ffff),
            (0x24, 1),
            (0x20, 1),
            (STATUS, 0xb),
        ] {
            self.set(register, value);
        }
        for (index, place) in (0..).zip(&self.places) {
            for (register, value) in [
                (0x30, index),
                (0x38, self.size.into()),
                (0x80, *place),
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

    /// What was in the rings is over.
    pub(crate) fn clear(&mut self) {
        self.offered.fill(0);
        for place in &self.places {
            for ring in [AVAILABLE, USED] {
                self.write(place + ring, &[0; 0x100]);
            }
        }
    }

    /// Writes a descriptor of a queue.
    pub(crate) fn descriptor(&self, queue: usize, index: u64, descriptor: Descriptor) {
        self.descriptor_at(self.places[queue], index, descriptor);
    }

    /// The same in a table anywhere.
    pub(crate) fn descriptor_at(&self, table: u64, index: u64, descriptor: Descriptor) {
        let (address, len, flags, next) = descriptor;
        let at = table + 16 * index;
        self.write(at, &address.to_le_bytes());
        self.write(at + 8, &len.to_le_bytes());
        self.write(at + 12, &flags.to_le_bytes());
        self.write(at + 14, &next.to_le_bytes());
    }

    /// Makes the chain at `head` available.
    pub(crate) fn offer(&mut self, queue: usize, head: u16) {
        let ring = self.places[queue] + AVAILABLE;
        let entry = u64::from(self.offered[queue] % self.size);
        self.write(ring + 4 + 2 * entry, &head.to_le_bytes());
        self.offered[queue] = self.offered[queue].wrapping_add(1);
        self.write(ring + 2, &self.offered[queue].to_le_bytes());
    }

    pub(crate) fn write(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).expect("a place of ours is in RAM");
    }

    pub(crate) fn read(&self, at: u64, bytes: &mut [u8]) {
        self.memory.read_slice(bytes, GuestAddress(at)).expect("a place of ours is in RAM");
    }
}
