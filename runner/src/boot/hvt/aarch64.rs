//! hvt on aarch64: EL1 with the MMU on, and floating point (Arm ARM DDI 0487: D8 for the page tables, D19.2 for
//! the registers).
//!
//! What turns the MMU on is in the last page before the kernel's ([`crate::boot::el1`]).

use hv::State;

use super::paging::{Format, Map};
use super::{BOOT_INFO, KERNELS, PAGE, Rights};
use crate::boot::Error;
use crate::boot::el1::{Mmu, start};
use crate::boot::load::Loading;
use crate::machine::map::hvt::AARCH64_FIRST;

const TABLES: u64 = AARCH64_FIRST;
/// Where the instructions are.
const START: u64 = KERNELS - PAGE;

const TABLE: u64 = 0b11;
const PAGE_4K: u64 = 0b11;
/// 2 MiB on the third level, 1 GiB on the second.
const BLOCK: u64 = 0b01;
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

static MMU: Mmu = Mmu { mair: MAIR, tcr: TCR, cpacr: CPACR, sctlr: SCTLR };

static FORMAT: Format = Format {
    base: TABLES,
    table: |gpa| gpa | TABLE,
    block: |gpa, rights| with(gpa | BLOCK, rights),
    page: |gpa, rights| match gpa {
        START => with(gpa | PAGE_4K, Rights::Execute),
        _ => with(gpa | PAGE_4K, rights),
    },
    // The GiB behind the memory, where hypercalls go.
    more: Some((4, 4 << 30 | BLOCK | SHARED | ACCESSED | DEVICE | NO_EXECUTE | NO_EXECUTE_EL0)),
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
    let mut state = start(&MMU, TABLES, START, entry, loading)?;
    state.x[0] = BOOT_INFO;
    state.sp_el1 = map.memory - 16;
    Ok(state.into())
}
