//! The machine's physical map, as data, one for each architecture: RAM, the devices that every guest
//! has, and where virtio-mmio devices stand.

pub mod pc;
pub mod virt;

use std::ops::Range;

use hv::Arch;

/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;

/// How many virtio-mmio devices there can be: one interrupt line each.
pub const VIRTIO_SLOTS: usize = 8;

/// Bytes of a virtio-mmio device's window.
pub const VIRTIO_WINDOW: u64 = 0x200;

/// A machine: what of it is not the hypervisor's.
#[derive(Debug, PartialEq, Eq)]
pub struct Board {
    /// Whose guests run on it.
    pub arch: Arch,
    /// Where RAM can be, in the order in which it is used.
    ram: &'static [Range<u64>],
    /// Guest physical address of the first virtio-mmio device.
    virtio: u64,
    /// Its line; the others' follow.
    virtio_line: u32,
    /// The devices that every guest has, for a person.
    pub fixed: &'static [&'static str],
}

/// A virtio-mmio device's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioSlot {
    /// Number of the slot, from 0.
    pub index: usize,
    /// Guest physical address of its window.
    pub base: u64,
    /// Its line, edge-triggered: an IOAPIC pin, or an SPI's INTID.
    pub line: u32,
}

impl Board {
    /// The machine for guests of `arch`.
    pub fn of(arch: Arch) -> &'static Board {
        match arch {
            Arch::X86_64 => &pc::BOARD,
            Arch::Aarch64 => &virt::BOARD,
        }
    }

    /// RAM, for `memory` bytes in all, a multiple of 4 KiB.
    pub fn ram(&self, memory: u64) -> Vec<Range<u64>> {
        let mut left = memory;
        let take = |place: &Range<u64>| {
            let len = left.min(place.end - place.start);
            left -= len;
            place.start..place.start + len
        };
        self.ram.iter().map(take).filter(|range| !range.is_empty()).collect()
    }

    /// All places for virtio-mmio devices, in the order devices take them.
    pub fn virtio_slots(&self) -> impl Iterator<Item = VirtioSlot> + use<> {
        let (first, line) = (self.virtio, self.virtio_line);
        let bases = (0..).map(move |index| first + index * VIRTIO_WINDOW);
        let slots = (0..VIRTIO_SLOTS).zip(bases).zip(line..);
        slots.map(|((index, base), line)| VirtioSlot { index, base, line })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hv::arch::aarch64::gic;

    #[test]
    fn ram_of_a_pc_leaves_the_hole_below_four_gibibytes_free() {
        let ram = |memory| Board::of(Arch::X86_64).ram(memory);
        assert_eq!(ram(512 * MIB), [0..512 * MIB]);
        assert_eq!(ram(3 << 30), [0..3 << 30]);
        assert_eq!(ram(5 << 30), [0..3 << 30, (4 << 30)..(6 << 30)]);
    }

    #[test]
    fn ram_of_virt_is_one_piece_behind_its_devices() {
        let ram = Board::of(Arch::Aarch64).ram(5 << 30);
        assert_eq!(ram, [0x4000_0000..0x1_8000_0000]);
    }

    #[test]
    fn every_virtio_slot_has_a_window_and_a_line_of_its_own() {
        for (arch, lines) in
            [(Arch::X86_64, 5..16), (Arch::Aarch64, virt::PL031_LINE + 1..gic::FIRST_MSI)]
        {
            let slots: Vec<_> = Board::of(arch).virtio_slots().collect();
            assert_eq!(slots.len(), VIRTIO_SLOTS);
            for pair in slots.windows(2) {
                assert_eq!(pair[0].base + VIRTIO_WINDOW, pair[1].base);
                assert!(pair[0].line < pair[1].line);
            }
            assert!(slots.iter().all(|slot| lines.contains(&slot.line)), "{slots:?}");
        }
    }

    #[test]
    fn what_is_told_of_a_board_is_where_it_is() {
        let text = |arch| Board::of(arch).fixed.join(" ");
        let virt = text(Arch::Aarch64);
        for (at, line) in [(virt::PL011, virt::PL011_LINE), (virt::PL031, virt::PL031_LINE)] {
            let place = format!("{at:#x}-{:#x}, line {line}", at + 0xfff);
            assert!(virt.contains(&place), "{place}: {virt}");
        }
        let pc = text(Arch::X86_64);
        for port in [pc::COM1, pc::RESET_PORT, pc::RTC, crate::boot::EXIT_PORT] {
            assert!(pc.contains(&format!("{port:#x}")), "{port:#x}: {pc}");
        }
    }
}
