//! The machine's physical map, as data, one for each architecture: RAM, the devices that every guest
//! has, and where virtio-mmio devices stand.

pub mod hvt;
pub mod pc;
pub mod uhyve;
pub mod virt;

use std::ops::Range;

use hv::Arch;

use super::slot::VirtioSlots;

/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;

/// A machine: what of it is not the hypervisor's.
#[derive(Debug, PartialEq, Eq)]
pub struct Board {
    /// Whose guests run on it.
    pub arch: Arch,
    /// Where RAM can be, in the order in which it is used.
    ram: &'static [Range<u64>],
    /// Where virtio devices stand.
    pub virtio: VirtioSlots,
    /// The devices that every guest has, for a person.
    pub fixed: &'static [&'static str],
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::slot::VirtioBus;
    use crate::machine::slot::{Place, VIRTIO_SLOTS, VIRTIO_WINDOW};
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
            [(Arch::X86_64, 5..16), (Arch::Aarch64, virt::PL011_LINE + 1..gic::FIRST_MSI)]
        {
            let slots = Board::of(arch).virtio.on(VirtioBus::Mmio).map(|slot| slot.place);
            let slots = slots.map(|place| match place {
                Place::Mmio { base, line } => (base, line),
                Place::Pci { .. } => panic!("{place}"),
            });
            let slots: Vec<_> = slots.collect();
            assert_eq!(slots.len(), VIRTIO_SLOTS);
            for pair in slots.windows(2) {
                assert_eq!(pair[0].0 + VIRTIO_WINDOW, pair[1].0);
                assert!(pair[0].1 < pair[1].1);
            }
            assert!(slots.iter().all(|slot| lines.contains(&slot.1)), "{slots:?}");
        }
    }

    #[test]
    fn what_is_told_of_a_board_is_where_it_is() {
        let text = |arch| Board::of(arch).fixed.join(" ");
        let virt = text(Arch::Aarch64);
        for at in [virt::PL011, virt::PL031] {
            let place = format!("{at:#x}-{:#x}", at + virt::REGISTERS - 1);
            assert!(virt.contains(&place), "{place}: {virt}");
        }
        assert!(virt.contains(&format!("line {}: the console", virt::PL011_LINE)), "{virt}");
        let pc = text(Arch::X86_64);
        for port in [pc::COM1, pc::RESET_PORT, pc::RTC] {
            assert!(pc.contains(&format!("{port:#x}")), "{port:#x}: {pc}");
        }
    }
}
