//! The x86_64 machine's physical map: RAM, and where virtio-mmio devices stand.
//!
//! Device places are those of QEMU's `microvm` machine (hw/i386/microvm.c, without ACPI), so that
//! one command line serves a guest here and in software emulation.

use std::ops::Range;

use super::slot::VirtioSlots;

/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;

/// RAM below 4 GiB ends here at the latest; the last GiB is for devices and the APICs.
pub const LOW_RAM_END: u64 = 3 << 30;

/// RAM that does not fit below begins here.
pub const HIGH_RAM: u64 = 4 << 30;

/// RAM as (address, length), for `memory` bytes in all, a multiple of 4 KiB.
pub fn ram(memory: u64) -> Vec<Range<u64>> {
    let low = memory.min(LOW_RAM_END);
    let mut ranges = Vec::new();
    ranges.push(0..low);
    if memory > low {
        ranges.push(HIGH_RAM..HIGH_RAM.saturating_add(memory - low));
    }
    ranges
}

/// The first serial port of a PC, its first port and its interrupt.
pub const COM1: u16 = 0x3f8;
/// IOAPIC pin, edge-triggered.
pub const COM1_LINE: u32 = 4;
/// The keyboard controller's command port, and the command that resets the machine.
pub const RESET_PORT: u16 = 0x64;
/// Pulses the processor's reset line.
pub const RESET_COMMAND: u8 = 0xfe;
/// The real-time clock's first port.
pub const RTC: u16 = 0x70;
/// Every processor's own local APIC, as reset leaves it.
pub const LOCAL_APIC: u32 = 0xfee0_0000;
/// The IOAPIC, whose pins are lines 0 to 23.
pub const IOAPIC: u32 = 0xfec0_0000;

/// Where virtio devices stand.
pub const VIRTIO: VirtioSlots = VirtioSlots { mmio: 0xfeb0_0000, mmio_line: 5 };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::slot::{Place, VIRTIO_SLOTS, VIRTIO_WINDOW};

    #[test]
    fn ram_leaves_the_hole_below_four_gibibytes_free() {
        assert_eq!(ram(512 * MIB), [0..512 * MIB]);
        assert_eq!(ram(3 << 30), [0..3 << 30]);
        assert_eq!(ram(5 << 30), [0..3 << 30, (4 << 30)..(6 << 30)]);
    }

    #[test]
    fn every_virtio_slot_has_a_window_and_a_line_of_its_own() {
        let slots = VIRTIO.iter().map(|slot| slot.place);
        let slots: Vec<_> = slots.map(|Place::Mmio { base, line }| (base, line)).collect();
        assert_eq!(slots.len(), VIRTIO_SLOTS);
        for pair in slots.windows(2) {
            assert_eq!(pair[0].0 + VIRTIO_WINDOW, pair[1].0);
            assert!(pair[0].1 < pair[1].1 && pair[1].1 < 16);
        }
    }
}
