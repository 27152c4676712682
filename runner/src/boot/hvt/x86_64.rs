//! hvt on x86_64: long mode, with SSE (AMD APM volume 2, 5.3 and 5.4, for the page tables).

use hv::State;
use hv::arch::x86_64::{self, GDT_SIZE, write_gdt};

use super::paging::{Format, Map};
use super::{BOOT_INFO, Rights};
use crate::boot::Error;
use crate::boot::load::Loading;

const GDT: u64 = 0x1000;
const TABLES: u64 = 0x2000;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
/// A block in place of a table.
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;

/// CR4: FXSAVE, and SSE's exceptions.
const CR4_SSE: u64 = 1 << 9 | 1 << 10;
/// EFER: pages may forbid execution.
const EFER_NXE: u64 = 1 << 11;

static FORMAT: Format = Format {
    base: TABLES,
    table: |gpa| gpa | PRESENT | WRITABLE,
    block: |gpa, rights| page(gpa, rights) | LARGE,
    page,
    more: None,
};

fn page(gpa: u64, rights: Rights) -> u64 {
    match rights {
        Rights::None => 0,
        Rights::Read => gpa | PRESENT | NO_EXECUTE,
        Rights::Execute => gpa | PRESENT,
        Rights::Guarded => gpa | PRESENT | WRITABLE,
        Rights::Write => gpa | PRESENT | WRITABLE | NO_EXECUTE,
    }
}

/// Writes descriptor table and page tables, and returns the registers.
pub(super) fn load(entry: u64, map: &Map, loading: &mut Loading<'_>) -> Result<State, Error> {
    write_gdt(loading.memory, GDT)?;
    loading.ranges.push(GDT..GDT + u64::from(GDT_SIZE));
    map.write(&FORMAT, loading)?;
    let mut state = x86_64::State::long_mode(entry, TABLES, GDT);
    state.cr4 |= CR4_SSE;
    state.efer |= EFER_NXE;
    state.regs.rdi = BOOT_INFO;
    // As behind a call: 8 more is a multiple of 16 (System V ABI, 3.2.2).
    state.regs.rsp = map.memory - 8;
    Ok(State::X86_64(state))
}
