//! hvt on aarch64: EL1 with the MMU on, and floating point (Arm ARM DDI 0487: D8 for the page tables, D19.2 for
//! the registers).
//!
//! A vCPU starts with the MMU off. The few instructions that turn it on are ours, in the last page before
//! the kernel's: the guest is entered with its system registers as hvt has them, and X0 at boot info.

use hv::State;
use hv::arch::aarch64;

use super::paging::{Format, Map};
use super::{BOOT_INFO, KERNELS, PAGE, Rights};
use crate::boot::Error;
use crate::boot::load::Loading;

const TABLES: u64 = 0x1000;
/// Where the instructions are.
const START: u64 = KERNELS - PAGE;

const TABLE: u64 = 0b11;
const PAGE_4K: u64 = 0b11;
const BLOCK_2M: u64 = 0b01;
/// Not to be written (AP[2]).
const READ_ONLY: u64 = 1 << 7;
/// Inner shareable.
const SHARED: u64 = 3 << 8;
/// Accessed: no fault at the first access.
const ACCESSED: u64 = 1 << 10;
/// EL1 does not execute it; EL0 never does.
const NO_EXECUTE: u64 = 1 << 53;
const NO_EXECUTE_EL0: u64 = 1 << 54;
/// Places in `MAIR`.
const DEVICE: u64 = 1 << 2;
const NORMAL: u64 = 4 << 2;

/// Of 0 to 5: Device-nGnRnE, Device-nGnRE, Device-GRE, Normal non-cacheable, write-back, write-through.
const MAIR: u64 = 0x0000_bbff_440c_0400;
/// 40 bits of virtual addresses in both halves; walks write-back and inner shareable; 4 KiB; 40 bits of
/// physical addresses; ASIDs of 16 bits; the top byte ignored in the lower half.
const TCR: u64 = 24
    | 24 << 16
    | 1 << 8
    | 1 << 10
    | 1 << 24
    | 1 << 26
    | 3 << 12
    | 3 << 28
    | 2 << 30
    | 2 << 32
    | 1 << 36
    | 1 << 37;
/// Floating point and vectors are not trapped.
const CPACR: u64 = 3 << 20;
/// MMU, data and instruction cache on, and what is 1 on every processor.
const SCTLR: u64 = 0x30d0_0800 | 1 << 0 | 1 << 2 | 1 << 12;

/// X1 to X5 into their registers, cleared then, and on to where X16 says.
const CODE: [u32; 16] = [
    0xd518_a201, // msr  mair_el1, x1
    0xd518_2042, // msr  tcr_el1, x2
    0xd518_2003, // msr  ttbr0_el1, x3
    0xd518_1044, // msr  cpacr_el1, x4
    0xd503_3f9f, // dsb  sy
    0xd508_871f, // tlbi vmalle1
    0xd503_3f9f, // dsb  sy
    0xd503_3fdf, // isb
    0xd518_1005, // msr  sctlr_el1, x5
    0xd503_3fdf, // isb
    0xaa1f_03e1, // mov  x1, xzr
    0xaa1f_03e2, // mov  x2, xzr
    0xaa1f_03e3, // mov  x3, xzr
    0xaa1f_03e4, // mov  x4, xzr
    0xaa1f_03e5, // mov  x5, xzr
    0xd61f_0200, // br   x16
];

static FORMAT: Format = Format {
    base: TABLES,
    table: |gpa| gpa | TABLE,
    block: |gpa, rights| with(gpa | BLOCK_2M, rights),
    page: |gpa, rights| match gpa {
        START => with(gpa | PAGE_4K, Rights::Execute),
        _ => with(gpa | PAGE_4K, rights),
    },
    // The GiB behind the memory, where hypercalls go.
    more: Some((4, 4 << 30 | BLOCK_2M | SHARED | ACCESSED | DEVICE | NO_EXECUTE | NO_EXECUTE_EL0)),
};

fn with(entry: u64, rights: Rights) -> u64 {
    let entry = entry | SHARED | ACCESSED | NORMAL | NO_EXECUTE_EL0;
    match rights {
        Rights::None => 0,
        Rights::Read => entry | READ_ONLY | NO_EXECUTE,
        Rights::Execute => entry | READ_ONLY,
        Rights::Guarded => entry,
        Rights::Write => entry | NO_EXECUTE,
    }
}

/// Writes page tables and the first instructions, and returns the registers.
pub(super) fn load(entry: u64, map: &Map, loading: &mut Loading<'_>) -> Result<State, Error> {
    map.write(&FORMAT, loading)?;
    loading.write(START, &CODE.map(u32::to_le_bytes).concat())?;
    let mut state = aarch64::State::el1(START, BOOT_INFO);
    for (x, value) in state.x.iter_mut().skip(1).zip([MAIR, TCR, TABLES, CPACR, SCTLR]) {
        *x = value;
    }
    state.x[16] = entry;
    state.sp_el1 = map.memory - 16;
    Ok(state.into())
}
