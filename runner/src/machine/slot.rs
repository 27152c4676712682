//! Where a virtio device stands in the machine: in a window of its own, or on the PCI bus. One type for
//! plan, devices, announcement and emulation; the numbers are the board's ([`super::map`]).

use std::fmt;

use crate::devices::virtio::pci::BAR_LEN;

/// How many virtio devices there can be.
pub const VIRTIO_SLOTS: usize = 8;

/// Bytes of a virtio-mmio device's window.
pub const VIRTIO_WINDOW: u64 = 0x200;

/// Where a run's virtio devices are, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VirtioBus {
    /// Each in a window of registers.
    Mmio,
    /// On the PCI bus.
    Pci,
}

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
    /// Virtio over PCI: function 0 of a device on bus 0.
    Pci {
        /// The device's number.
        device: u8,
        /// Guest physical address of its BAR before the guest runs.
        bar: u32,
        /// The line of its interrupt pin, level-triggered and shared.
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
    /// The PCI bus.
    pub pci: PciHost,
}

/// A board's PCI bus. A machine has it when a device is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciHost {
    /// Guest physical address of bus 0's configuration space.
    pub ecam: u64,
    /// Where BARs can be, below 4 GiB.
    pub window: u32,
    /// Bytes of that.
    pub window_len: u32,
    /// The interrupt pin's line of device 0, and of every fourth after it; the next three are the
    /// others', level-triggered, as bridges swizzle them (PCI-to-PCI Bridge Architecture 1.2, 9.1).
    pub line: u32,
    /// The first of a PC's ports for configuration space.
    pub ports: Option<u16>,
    /// Guests can be sent messages.
    pub msi: bool,
}

impl VirtioSlots {
    /// All places on a bus, in the order devices take them.
    pub fn on(self, bus: VirtioBus) -> impl Iterator<Item = VirtioSlot> {
        let place = move |index: usize| match bus {
            VirtioBus::Mmio => self.mmio_place(index as u64),
            VirtioBus::Pci => self.pci.place(index as u64),
        };
        (0..VIRTIO_SLOTS).map(move |index| VirtioSlot { index, place: place(index) })
    }

    fn mmio_place(self, index: u64) -> Place {
        let line = self.mmio_line + u32::try_from(index).unwrap_or_default();
        Place::Mmio { base: self.mmio + index * VIRTIO_WINDOW, line }
    }
}

impl PciHost {
    /// Device 0 is the host bridge. BARs come one after the other from the window's beginning, where
    /// Linux would put them if it did so itself.
    fn place(self, index: u64) -> Place {
        let index = u8::try_from(index).unwrap_or_default();
        let device = index + 1;
        let bar = self.window + u32::from(index) * BAR_LEN;
        Place::Pci { device, bar, line: self.line_of(device) }
    }

    /// The line of a device's interrupt pin.
    pub fn line_of(self, device: u8) -> u32 {
        self.line + u32::from(device % 4)
    }
}

/// For a person: `virtio-mmio 0xfeb00000, line 5`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Mmio { base, line } => write!(f, "virtio-mmio {base:#x}, line {line}"),
            Place::Pci { device, bar, line } => {
                write!(f, "virtio-pci 00:{device:02x}.0, BAR {bar:#x}, line {line}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::map::Board;
    use hv::Arch;

    #[test]
    fn every_pci_slot_has_a_bar_in_the_window_and_one_of_four_lines() {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let slots = Board::of(arch).virtio;
            let PciHost { window, window_len, line: first, .. } = slots.pci;
            let mut free = window;
            for (index, slot) in slots.on(VirtioBus::Pci).enumerate() {
                let Place::Pci { device, bar, line } = slot.place else { panic!("{slot:?}") };
                assert_eq!((usize::from(device), bar), (index + 1, free));
                assert_eq!((bar % BAR_LEN, line), (0, first + u32::from(device) % 4));
                free += BAR_LEN;
            }
            assert!(free - window <= window_len);
        }
    }
}
