//! Where a virtio device stands in the machine. One type for plan, devices, announcement and emulation;
//! the numbers are the board's ([`super::map`]).

use std::fmt;

/// How many virtio devices there can be.
pub const VIRTIO_SLOTS: usize = 8;

/// Bytes of a virtio-mmio device's window.
pub const VIRTIO_WINDOW: u64 = 0x200;

/// A virtio device's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioSlot {
    /// Number of the slot, from 0.
    pub index: usize,
    /// Where that is.
    pub place: Place,
}

/// Where a guest finds a virtio device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Virtio-mmio: a window of registers.
    Mmio {
        /// Guest physical address of the window.
        base: u64,
        /// Its interrupt line, edge-triggered.
        line: u32,
    },
}

/// A board's places for virtio devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioSlots {
    /// Guest physical address of the first virtio-mmio window; the others follow.
    pub mmio: u64,
    /// Its line; the others' follow.
    pub mmio_line: u32,
}

impl VirtioSlots {
    /// All places, in the order devices take them.
    pub fn iter(self) -> impl Iterator<Item = VirtioSlot> {
        let bases = (0..).map(move |index| self.mmio + index * VIRTIO_WINDOW);
        let places = (0..VIRTIO_SLOTS).zip(bases).zip(self.mmio_line..);
        places.map(|((index, base), line)| VirtioSlot { index, place: Place::Mmio { base, line } })
    }
}

/// For a person: `virtio-mmio 0xfeb00000, line 5`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Mmio { base, line } => write!(f, "virtio-mmio {base:#x}, line {line}"),
        }
    }
}
