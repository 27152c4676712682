//! The aarch64 machine: that of QEMU's `virt` (hw/arm/virt.c), which guests have built in. The
//! interrupt controller is the hypervisor's, [`hv::arch::aarch64::gic`].

use hv::Arch;

use super::Board;
use crate::machine::slot::{PciHost, VirtioSlots};

/// RAM begins here, and goes on as far as there is some.
pub const RAM: u64 = 0x4000_0000;
/// The device tree has so many bytes at the beginning of RAM, of which that of the most processors with the longest
/// command line takes a fifth. It is as far as old Linux and OSv want to be from there.
pub const TREE: u64 = 0x8_0000;
/// Kernels begin here that do not leave the device tree its place themselves.
pub const KERNELS: u64 = RAM + 0x20_0000;

/// The INTID of the first shared peripheral interrupt (Arm IHI 0069, "INTIDs").
pub const SPI_0: u32 = 32;

/// Bytes of the registers of a device of Arm's.
pub const REGISTERS: u64 = 0x1000;
/// The serial port, a PL011.
pub const PL011: u64 = 0x0900_0000;
/// Its interrupt's INTID, level-triggered.
pub const PL011_LINE: u32 = SPI_0 + 1;
/// The real-time clock, a PL031.
pub const PL031: u64 = 0x0901_0000;

pub(super) static BOARD: Board = Board {
    arch: Arch::Aarch64,
    ram: &[RAM..u64::MAX],
    virtio: VirtioSlots {
        mmio: 0x0a00_0000,
        mmio_line: SPI_0 + 16,
        pci: PciHost {
            ecam: 0x3f00_0000,
            window: 0x1000_0000,
            window_len: 0x2eff_0000,
            line: SPI_0 + 3,
            ports: None,
            msi: false,
        },
    },
    fixed: &[
        "pl011, 0x9000000-0x9000fff, line 33: the console",
        "pl031, 0x9010000-0x9010fff: the clock",
    ],
};
