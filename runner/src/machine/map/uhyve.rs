//! The machine of Hermit's unikernels as uhyve has it (`src/mem_layout.rs`, `src/arch`): memory in one piece, an
//! interrupt controller, hypercalls, and a PCI bus for its network.
//!
//! On x86_64 a pointer of the interface's version 1 has 32 bits, and memory ends where a PC's devices begin;
//! with version 2 it begins behind them. On arm64 memory is where QEMU's `virt` has it, whose interrupt
//! controller and bus this machine has as well.

use hv::{Address, Arch};

use super::{Board, pc, virt};
use crate::image::hermit::Interface;

/// Where version 1's hypercalls begin, and how many addresses they take.
pub const V1: (u16, u64) = (0x400, 0x484);
/// The same for version 2's.
pub const V2: (u16, u64) = (0x1010, 0x204);

/// Where guests of `arch` write to call what is at `place`: a port, or an address.
pub fn address(arch: Arch, place: u16) -> Address {
    match arch {
        Arch::X86_64 => Address::Port(place),
        Arch::Aarch64 => Address::Mmio(place.into()),
    }
}

/// The machine for guests of `arch` that speak `interface`.
pub fn board(arch: Arch, interface: Interface) -> &'static Board {
    match (arch, interface) {
        (Arch::X86_64, Interface::V1) => &LOW,
        (Arch::X86_64, Interface::V2) => &HIGH,
        (Arch::Aarch64, _) => &VIRT,
    }
}

/// What a page table's entry of the first level spans less what other things may need: far more than any host has.
const MOST: u64 = 64 << 30;

const PORTS: &[&str] = &["hypercalls, ports 0x400-0x883 and 0x1010-0x1213: console, files, end"];

static LOW: Board = Board {
    arch: Arch::X86_64,
    ram: &[0..pc::LOW_RAM_END],
    virtio: pc::BOARD.virtio,
    fixed: PORTS,
};

static HIGH: Board = Board {
    arch: Arch::X86_64,
    ram: &[pc::HIGH_RAM..MOST],
    virtio: pc::BOARD.virtio,
    fixed: PORTS,
};

static VIRT: Board = Board {
    arch: Arch::Aarch64,
    ram: &[virt::RAM..MOST],
    virtio: virt::BOARD.virtio,
    fixed: &["hypercalls, 0x400-0x883 and 0x1010-0x1213: console, files, end"],
};
