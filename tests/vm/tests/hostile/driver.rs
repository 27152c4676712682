//! A driver for a virtio disk, on mmio or PCI, as steps of a script: what a good one does, for a bad one
//! to begin with and to end with (virtio 1.2 §3.1.1, §4.1, §4.2, §5.2).

pub(super) use super::arch::{BAR, DEVICE, RAM};
use super::script::{Bus, Script};

/// Bytes of a virtio-mmio device, behind which the next one begins.
const WINDOW: u64 = 0x200;

/// Bytes of a BAR, behind which the next one's begins.
const BAR_LEN: u64 = 0x8000;
/// Where in it ISR status, configuration, notifications, and MSI-X's tables are.
pub(super) const ISR: u64 = BAR + 0x1000;
pub(super) const CONFIGURATION: u64 = BAR + 0x2000;
pub(super) const NOTIFY: u64 = BAR + 0x3000;
#[cfg(target_arch = "x86_64")]
pub(super) const MSIX_TABLE: u64 = BAR + 0x4000;
#[cfg(target_arch = "x86_64")]
pub(super) const MSIX_PENDING: u64 = BAR + 0x5000;

/// Registers (§4.2.2).
pub(super) mod register {
    pub(in super::super) const MAGIC: u64 = 0x00;
    pub(in super::super) const DRIVER_FEATURES: u64 = 0x20;
    pub(in super::super) const DRIVER_FEATURES_SEL: u64 = 0x24;
    pub(in super::super) const QUEUE_SEL: u64 = 0x30;
    pub(in super::super) const QUEUE_NUM_MAX: u64 = 0x34;
    pub(in super::super) const QUEUE_NUM: u64 = 0x38;
    pub(in super::super) const QUEUE_READY: u64 = 0x44;
    pub(in super::super) const QUEUE_NOTIFY: u64 = 0x50;
    pub(in super::super) const INTERRUPT_STATUS: u64 = 0x60;
    pub(in super::super) const INTERRUPT_ACK: u64 = 0x64;
    pub(in super::super) const STATUS: u64 = 0x70;
    pub(in super::super) const QUEUE_DESC: u64 = 0x80;
    pub(in super::super) const QUEUE_AVAIL: u64 = 0x90;
    pub(in super::super) const QUEUE_USED: u64 = 0xa0;
    pub(in super::super) const CONFIG: u64 = 0x100;
}
use register::*;

/// Features of the driver's (§6, §5.2.3).
pub(super) const FLUSH: u64 = 1 << 9;
pub(super) const DISCARD_FEATURE: u64 = 1 << 13;
pub(super) const WRITE_ZEROES_FEATURE: u64 = 1 << 14;
pub(super) const INDIRECT: u64 = 1 << 28;
pub(super) const EVENT_IDX: u64 = 1 << 29;
pub(super) const VERSION_1: u64 = 1 << 32;

/// The device status field (§2.1).
pub(super) const NEEDS_RESET: u64 = 0x40;
pub(super) const DRIVER_OK: u64 = 0xf;

/// Where a guest keeps its queue: memory that is zero and free.
pub(super) const DESCRIPTORS: u64 = RAM + 0x21_0000;
pub(super) const AVAILABLE: u64 = RAM + 0x21_2000;
pub(super) const USED: u64 = RAM + 0x21_4000;
pub(super) const HEADER: u64 = RAM + 0x21_8000;
pub(super) const ANSWER: u64 = RAM + 0x21_8010;
pub(super) const DATA: u64 = RAM + 0x22_0000;
/// Room for a MiB.
pub(super) const BIG: u64 = RAM + 0x40_0000;
/// Indirect tables.
pub(super) const TABLE: u64 = RAM + 0x24_0000;

/// Descriptor flags (§2.7.5).
pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const TABLE_AT: u16 = 4;

/// Request types (§5.2.6).
pub(super) const IN: u32 = 0;
pub(super) const OUT: u32 = 1;
pub(super) const FLUSH_IT: u32 = 4;
pub(super) const GET_ID: u32 = 8;
pub(super) const DISCARD: u32 = 11;
pub(super) const WRITE_ZEROES: u32 = 13;

/// Answers (§5.2.6).
pub(super) const OK: u64 = 0;
pub(super) const IO_ERROR: u64 = 1;
pub(super) const UNSUPPORTED: u64 = 2;

/// A descriptor: address, length, flags, next.
pub(super) type Descriptor = (u64, u32, u16, u16);

/// A queue as a driver tells the device of it.
#[derive(Clone, Copy)]
pub(super) struct Queue {
    pub(super) size: u64,
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
}

/// Eight entries, each part on a page of its own.
pub(super) const QUEUE: Queue =
    Queue { size: 8, descriptors: DESCRIPTORS, available: AVAILABLE, used: USED };

impl Queue {
    /// Each has 32 KiB of memory from 0x26_0000 on. All entries of the available ring are the first descriptor,
    /// as memory is zero there.
    pub(super) fn numbered(number: u64) -> Self {
        let descriptors = RAM + 0x26_0000 + 0x8000 * number;
        Self { size: 8, descriptors, available: descriptors + 0x2000, used: descriptors + 0x4000 }
    }
}

/// The bytes of a descriptor.
pub(super) fn descriptor((address, len, flags, next): Descriptor) -> Vec<u8> {
    let mut bytes = address.to_le_bytes().to_vec();
    bytes.extend(len.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(next.to_le_bytes());
    bytes
}

impl Script {
    /// A register's width and address, by its name on mmio.
    pub(super) fn location(&self, register: u64) -> (u8, u64) {
        if self.bus == Bus::Mmio {
            return (4, DEVICE + self.device * WINDOW + register);
        }
        let (width, address) = Self::location_on_pci(register);
        (width, address + self.device * BAR_LEN)
    }

    fn location_on_pci(register: u64) -> (u8, u64) {
        // struct virtio_pci_common_cfg (§4.1.4.3).
        match register {
            DRIVER_FEATURES => (4, BAR + 0x0c),
            DRIVER_FEATURES_SEL => (4, BAR + 0x08),
            QUEUE_SEL => (2, BAR + 0x16),
            QUEUE_NUM | QUEUE_NUM_MAX => (2, BAR + 0x18),
            QUEUE_READY => (2, BAR + 0x1c),
            INTERRUPT_STATUS => (1, ISR),
            STATUS => (1, BAR + 0x14),
            QUEUE_DESC..CONFIG => {
                let (field, half) = (register & !4, register & 4);
                let first =
                    [QUEUE_DESC, QUEUE_AVAIL, QUEUE_USED].iter().position(|&at| at == field);
                (4, BAR + 0x20 + 8 * first.expect("an address") as u64 + half)
            }
            other => panic!("register {other:#x} is mmio's alone"),
        }
    }

    /// Writes a register.
    pub(super) fn set(self, register: u64, value: u64) -> Self {
        match (self.bus, register) {
            // Each queue has an address, and the pages behind those of all queues are others'.
            (Bus::Pci, QUEUE_NOTIFY) => {
                let notify = NOTIFY + self.device * BAR_LEN;
                self.store(2, notify + 4 * (value % 0x400), value)
            }
            (Bus::Pci, INTERRUPT_ACK) => {
                let isr = ISR + self.device * BAR_LEN;
                self.read(1, isr)
            }
            _ => {
                let (width, address) = self.location(register);
                self.store(width, address, value)
            }
        }
    }

    /// Reads one, which has to be `value`.
    pub(super) fn get(self, register: u64, value: u64) -> Self {
        let (width, address) = self.location(register);
        self.expect(width, address, value)
    }

    /// Reads one until the bits in `mask` are `value`.
    pub(super) fn wait_for(self, register: u64, mask: u64, value: u64) -> Self {
        let (width, address) = self.location(register);
        self.wait(width, address, mask, value)
    }

    /// Goes as far as FEATURES_OK with these features.
    pub(super) fn negotiate(self, features: u64) -> Self {
        self.set(STATUS, 1)
            .set(STATUS, 3)
            .set(DRIVER_FEATURES_SEL, 0)
            .set(DRIVER_FEATURES, features & 0xffff_ffff)
            .set(DRIVER_FEATURES_SEL, 1)
            .set(DRIVER_FEATURES, features >> 32)
            .set(STATUS, 0xb)
            .get(STATUS, 0xb)
    }

    /// Tells the device of a queue.
    pub(super) fn queue(self, queue: Queue) -> Self {
        self.numbered_queue(0, queue)
    }

    /// Tells the device of its queue with that number.
    pub(super) fn numbered_queue(self, number: u64, queue: Queue) -> Self {
        let mut script = self.set(QUEUE_SEL, number).set(QUEUE_NUM, queue.size);
        for (register, address) in [
            (QUEUE_DESC, queue.descriptors),
            (QUEUE_AVAIL, queue.available),
            (QUEUE_USED, queue.used),
        ] {
            script = script.set(register, address & 0xffff_ffff).set(register + 4, address >> 32);
        }
        script.set(QUEUE_READY, 1)
    }

    /// Brings the device into service as a good driver does.
    pub(super) fn start(self, features: u64) -> Self {
        self.negotiate(VERSION_1 | features).queue(QUEUE).set(STATUS, DRIVER_OK).get(STATUS, 0xf)
    }

    /// Brings a device with so many queues into service, each part of them on a page of its own.
    pub(super) fn start_queues(self, features: u64, count: u64) -> Self {
        let mut script = self.negotiate(VERSION_1 | features);
        for number in 0..count {
            script = script.numbered_queue(number, Queue::numbered(number));
        }
        script.set(STATUS, DRIVER_OK).get(STATUS, 0xf)
    }

    /// Makes the chain at descriptor 0 of a queue available, behind others, and notifies the device.
    pub(super) fn offer_to(self, number: u64, chain: &[Descriptor]) -> Self {
        let Queue { descriptors, available, .. } = Queue::numbered(number);
        self.descriptors(descriptors, chain).add(available + 2, 1).set(QUEUE_NOTIFY, number)
    }

    /// Waits until the device has used `count` chains of a queue since it started.
    pub(super) fn served_by(self, number: u64, count: u16) -> Self {
        self.wait(2, Queue::numbered(number).used + 2, u64::MAX, count.into())
    }

    /// Zeroes the rings of queues, for a device that was reset.
    pub(super) fn zero_rings(mut self, count: u64) -> Self {
        for number in 0..count {
            let Queue { available, used, .. } = Queue::numbered(number);
            self = self.store(4, available, 0).store(4, used, 0);
        }
        self
    }

    /// Resets the device and waits for it.
    pub(super) fn reset(self) -> Self {
        self.set(STATUS, 0).wait_for(STATUS, u64::MAX, 0)
    }

    /// Writes descriptors from the first of the table on.
    pub(super) fn chain(self, descriptors: &[Descriptor]) -> Self {
        self.descriptors(DESCRIPTORS, descriptors)
    }

    /// Writes descriptors from an address on.
    pub(super) fn descriptors(self, at: u64, descriptors: &[Descriptor]) -> Self {
        let bytes: Vec<u8> = descriptors.iter().flat_map(|one| descriptor(*one)).collect();
        self.copy(at, &bytes)
    }

    /// Writes a request's header, and an answer that is none.
    pub(super) fn header(self, kind: u32, sector: u64) -> Self {
        let mut bytes = u64::from(kind).to_le_bytes().to_vec();
        bytes.extend(sector.to_le_bytes());
        self.copy(HEADER, &bytes).store(1, ANSWER, 0xff)
    }

    /// Makes chains available, as the first since the reset, and notifies the device.
    pub(super) fn offer(self, heads: &[u16]) -> Self {
        self.place(heads).add(AVAILABLE + 2, u16::try_from(heads.len()).unwrap()).notify()
    }

    /// Writes them into the ring and no more.
    pub(super) fn place(self, heads: &[u16]) -> Self {
        let bytes: Vec<u8> = heads.iter().flat_map(|head| head.to_le_bytes()).collect();
        self.copy(AVAILABLE + 4, &bytes)
    }

    /// Rings the doorbell of queue 0.
    pub(super) fn notify(self) -> Self {
        self.set(QUEUE_NOTIFY, 0)
    }

    /// Waits until the device has used `count` chains since it started.
    pub(super) fn served(self, count: u16) -> Self {
        self.wait(2, USED + 2, u64::MAX, count.into())
    }

    /// Waits until the device has given up, and says so as it must: the status bit, an interrupt for
    /// a change of configuration, nothing used.
    pub(super) fn broken(self) -> Self {
        let script = self.wait_for(STATUS, NEEDS_RESET, NEEDS_RESET);
        let (width, address) = script.location(INTERRUPT_STATUS);
        script.expect_bits(width, address, 2, 2)
    }

    /// Resets the device and reads a sector as if nothing had been.
    pub(super) fn recovers(self) -> Self {
        self.reset()
            .get(INTERRUPT_STATUS, 0)
            .store(4, AVAILABLE, 0)
            .store(4, USED, 0)
            .start(0)
            .request(IN, 1, &[(DATA, 512, WRITE)])
            .expect(1, ANSWER, OK)
            .expect(8, DATA, u64::from_le_bytes([0x5a; 8]))
    }

    /// One request as the first since the start, and its service: a header, then data, each part an
    /// address, a length and WRITE or 0.
    pub(super) fn request(self, kind: u32, sector: u64, data: &[(u64, u32, u16)]) -> Self {
        let mut chain: Vec<Descriptor> = vec![(HEADER, 16, NEXT, 1)];
        for ((address, len, flags), next) in data.iter().zip(2..) {
            chain.push((*address, *len, flags | NEXT, next));
        }
        chain.push((ANSWER, 1, WRITE, 0));
        self.header(kind, sector).chain(&chain).offer(&[0]).served(1)
    }
}
