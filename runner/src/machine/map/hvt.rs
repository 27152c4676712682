//! The machine of Solo5's hvt: memory from 0 on, hypercalls, and nothing else (`hvt_abi.h`). A pointer
//! in a hypercall has 32 bits, so that there are 4 GiB at most.
//!
//! Hypervisor.framework maps nothing at 0. No guest sees the first 64 KiB, so that on arm64 there is no RAM in
//! the first 16 KiB, a Mac's page, whatever runs the guest.

use hv::{Address, Arch};

use super::{Board, pc, virt};

/// Memory comes in multiples of this: a block of the page tables.
pub const MEMORY_UNIT: u64 = 2 << 20;

/// Unikernels begin here, at the lowest (`HVT_GUEST_MIN_BASE`).
pub const KERNELS: u64 = 0x10_0000;

/// Memory protection is by pages of so many bytes.
pub const PAGE: u64 = 0x1000;

/// Where RAM begins.
pub fn first(arch: Arch) -> u64 {
    match arch {
        Arch::X86_64 => 0,
        Arch::Aarch64 => AARCH64_FIRST,
    }
}

/// Hypercalls there are, with 0, which is none.
pub const CALLS: u64 = 9;

/// Where a guest makes hypercalls: number `n` by a write of 32 bits, `n` steps behind the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doorbell {
    /// Number 0.
    pub at: Address,
    /// A step is so many addresses, as a power of two.
    pub shift: u32,
}

/// Where guests of `arch` make hypercalls.
pub fn doorbell(arch: Arch) -> Doorbell {
    match arch {
        Arch::X86_64 => Doorbell { at: Address::Port(0x500), shift: 0 },
        Arch::Aarch64 => Doorbell { at: Address::Mmio(0x1_0000_0000), shift: 3 },
    }
}

/// The machine for guests of `arch`.
pub fn board(arch: Arch) -> &'static Board {
    match arch {
        Arch::X86_64 => &X86_64,
        Arch::Aarch64 => &AARCH64,
    }
}

/// Bytes of memory at the most: the last 2 MiB before 4 GiB are left out, since Intel's processors need
/// pages of KVM's there to start (api.rst 4.35).
const X86_64_MOST: u64 = (4 << 30) - MEMORY_UNIT;
const AARCH64_MOST: u64 = 4 << 30;
/// The first address on aarch64 that has RAM.
pub const AARCH64_FIRST: u64 = 16 << 10;

/// No guest of hvt has virtio devices; the slots are those of the other machine of its architecture.
static X86_64: Board = Board {
    arch: Arch::X86_64,
    ram: &[0..X86_64_MOST],
    virtio: pc::BOARD.virtio,
    fixed: &["hypercalls, ports 0x501-0x508: console, clock, devices, end"],
};

static AARCH64: Board = Board {
    arch: Arch::Aarch64,
    ram: &[0..AARCH64_MOST],
    virtio: virt::BOARD.virtio,
    fixed: &["hypercalls, 0x100000008-0x100000043: console, clock, devices, end"],
};
