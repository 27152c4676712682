//! A queue's registers, and the queue they make when the driver is done (virtio 1.2 §2.7, §4.2.2).
//!
//! Registers hold whatever the guest wrote. Nothing is believed before [`Registers::freeze`].

use hv::GuestMemory;
use virtio_queue::{Queue, QueueState, QueueT};

/// Why there can be no such queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Its size.
    #[error("its size {size} is not a power of two up to {max}")]
    Size {
        /// As the guest wrote it.
        size: u32,
        /// The most it can be.
        max: u16,
    },
    /// Alignment of a part (§2.7: 16, 2 and 4 bytes).
    #[error("its {part} at {address:#x} is not aligned")]
    Misaligned {
        /// Which part.
        part: &'static str,
        /// Where it was put.
        address: u64,
    },
    /// Two parts share memory: the device would overwrite what it reads.
    #[error("its parts overlap")]
    Overlap,
    /// Outside of RAM.
    #[error("it is not in the guest's RAM")]
    OutsideRam,
}

/// What a driver has written about one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    max: u16,
    /// Entries; the guest's word.
    pub size: u32,
    /// Whether the driver is done with it.
    pub ready: bool,
    /// Guest physical address of the descriptor table ("Descriptor Area").
    pub descriptors: u64,
    /// Guest physical address of the available ring ("Driver Area").
    pub available: u64,
    /// Guest physical address of the used ring ("Device Area").
    pub used: u64,
}

impl Registers {
    /// As they are after a reset. `max` is the most entries, a power of two.
    pub fn new(max: u16) -> Self {
        Self { max, size: max.into(), ready: false, descriptors: 0, available: 0, used: 0 }
    }

    /// The most entries the queue can have.
    pub fn max(&self) -> u16 {
        self.max
    }

    /// The queue as it is from now on.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn freeze(&self, memory: &GuestMemory, event_idx: bool) -> Result<Queue, Invalid> {
        let size = u16::try_from(self.size).ok();
        let size = size.filter(|size| size.is_power_of_two() && *size <= self.max);
        let size = size.ok_or(Invalid::Size { size: self.size, max: self.max })?;
        for (part, address, alignment) in [
            ("descriptor table", self.descriptors, 16),
            ("available ring", self.available, 2),
            ("used ring", self.used, 4),
        ] {
            if !address.is_multiple_of(alignment) {
                return Err(Invalid::Misaligned { part, address });
            }
        }
        self.check_overlap(size)?;
        let queue = Queue::try_from(QueueState {
            max_size: self.max,
            next_avail: 0,
            next_used: 0,
            event_idx_enabled: event_idx,
            size,
            ready: true,
            desc_table: self.descriptors,
            avail_ring: self.available,
            used_ring: self.used,
        });
        match queue {
            Ok(queue) if queue.is_valid(memory) => Ok(queue),
            _ => Err(Invalid::OutsideRam),
        }
    }

    /// The lengths are those of §2.7: 16 bytes, 6 and 2, 6 and 8 for each entry.
    fn check_overlap(&self, size: u16) -> Result<(), Invalid> {
        let part = |start: u64, fixed: u64, each: u64| {
            let len = u64::from(size).saturating_mul(each).saturating_add(fixed);
            start.checked_add(len).map(|end| start..end).ok_or(Invalid::OutsideRam)
        };
        let mut parts =
            [part(self.descriptors, 0, 16)?, part(self.available, 6, 2)?, part(self.used, 6, 8)?];
        parts.sort_by_key(|part| part.start);
        let [first, second, third] = parts;
        if first.end > second.start || second.end > third.start {
            return Err(Invalid::Overlap);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hv::GuestRam;

    const RAM: u64 = 1 << 20;

    fn memory() -> GuestMemory {
        hv::mem::memory([(0, GuestRam::new(RAM).unwrap())]).unwrap()
    }

    fn good() -> Registers {
        let new = Registers::new(256);
        Registers {
            size: 8,
            ready: true,
            descriptors: 0x1000,
            available: 0x2000,
            used: 0x3000,
            ..new
        }
    }

    #[test]
    fn a_good_queue_is_frozen_as_written() {
        let queue = good().freeze(&memory(), true).unwrap();
        assert_eq!((queue.size(), queue.desc_table()), (8, 0x1000));
        assert_eq!((queue.avail_ring(), queue.used_ring()), (0x2000, 0x3000));
        assert!(queue.event_idx_enabled());
    }

    #[test]
    fn sizes_that_are_no_power_of_two_or_too_large_are_refused() {
        // R22; 0x10000 is 0 to whoever narrows it.
        for size in [0, 3, 257, 512, 0x1_0000, 0x1_0008, u32::MAX] {
            let error = Registers { size, ..good() }.freeze(&memory(), false).unwrap_err();
            assert_eq!(error, Invalid::Size { size, max: 256 });
        }
    }

    #[test]
    fn parts_that_are_misaligned_are_refused_by_name() {
        // R23
        let memory = memory();
        for (registers, part) in [
            (Registers { descriptors: 0x1008, ..good() }, "descriptor table"),
            (Registers { available: 0x2001, ..good() }, "available ring"),
            (Registers { used: 0x3002, ..good() }, "used ring"),
        ] {
            let error = registers.freeze(&memory, false).unwrap_err();
            assert!(matches!(error, Invalid::Misaligned { part: p, .. } if p == part), "{error}");
        }
    }

    #[test]
    fn parts_that_overlap_are_refused() {
        // R23, R24: size 8 makes 0x80, 0x16 and 0x46 bytes.
        for registers in [
            Registers { available: 0x107e, ..good() },
            Registers { used: 0x1000, ..good() },
            Registers { used: 0x2014, ..good() },
            Registers { used: 0xffc, descriptors: 0x1000, ..good() },
        ] {
            assert_eq!(registers.freeze(&memory(), false), Err(Invalid::Overlap));
        }
        let touching = Registers { available: 0x1080, used: 0x1098, ..good() };
        assert!(touching.freeze(&memory(), false).is_ok());
    }

    #[test]
    fn parts_outside_of_ram_are_refused() {
        // R23: the last bytes of RAM, the MMIO hole, the end of the address space.
        let memory = memory();
        for registers in [
            Registers { used: RAM - 0x40, ..good() },
            Registers { descriptors: RAM, ..good() },
            Registers { available: 0xfeb0_0000, ..good() },
            Registers { descriptors: 0xffff_ffff_ffff_fff0, ..good() },
            Registers { used: 0xffff_ffff_ffff_fffc, ..good() },
        ] {
            assert_eq!(registers.freeze(&memory, false), Err(Invalid::OutsideRam));
        }
        let last = Registers { used: RAM - 0x48, ..good() };
        assert!(last.freeze(&memory, false).is_ok());
    }
}
