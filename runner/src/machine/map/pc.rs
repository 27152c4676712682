//! The x86_64 machine: a PC's ports, and virtio-mmio where QEMU's `microvm` has it
//! (hw/i386/microvm.c, without ACPI), so that one command line serves a guest here and in software
//! emulation.

use hv::Arch;

use super::Board;
use crate::machine::slot::{PciHost, VirtioSlots};

/// RAM below 4 GiB ends here at the latest; the last GiB is for devices and the APICs.
pub const LOW_RAM_END: u64 = 3 << 30;

/// RAM that does not fit below begins here.
pub const HIGH_RAM: u64 = 4 << 30;

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

pub(super) static BOARD: Board = Board {
    arch: Arch::X86_64,
    ram: &[0..LOW_RAM_END, HIGH_RAM..u64::MAX],
    virtio: VirtioSlots {
        mmio: 0xfeb0_0000,
        mmio_line: 5,
        pci: PciHost {
            ecam: 0xe000_0000,
            window: 0xc000_0000,
            window_len: 0x2000_0000,
            line: 12,
            ports: Some(0xcf8),
            msi: true,
        },
    },
    fixed: &["com1, ports 0x3f8-0x3ff, line 4: the console", "reset, port 0x64; clock, port 0x70"],
};
