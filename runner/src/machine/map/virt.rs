//! The aarch64 machine: that of QEMU's `virt` (hw/arm/virt.c), which guests have built in. The
//! interrupt controller is the hypervisor's, [`hv::arch::aarch64::gic`].

use hv::Arch;

use super::Board;
use crate::machine::slot::VirtioSlots;

/// RAM begins here, and goes on as far as there is some.
pub const RAM: u64 = 0x4000_0000;

/// The serial port, PL011, and its interrupt.
pub const PL011: u64 = 0x0900_0000;
/// INTID of SPI 1, level-triggered.
pub const PL011_LINE: u32 = spi(1);
/// The real-time clock, PL031, and its interrupt.
pub const PL031: u64 = 0x0901_0000;
/// INTID of SPI 2, level-triggered.
pub const PL031_LINE: u32 = spi(2);

/// The INTID of a shared peripheral interrupt (Arm IHI 0069, "INTIDs").
pub const fn spi(number: u32) -> u32 {
    32 + number
}

pub(super) static BOARD: Board = Board {
    arch: Arch::Aarch64,
    ram: &[RAM..u64::MAX],
    virtio: VirtioSlots { mmio: 0x0a00_0000, mmio_line: spi(16) },
    fixed: &[
        "pl011, 0x9000000-0x9000fff, line 33: the console",
        "pl031, 0x9010000-0x9010fff, line 34: the clock",
    ],
};
