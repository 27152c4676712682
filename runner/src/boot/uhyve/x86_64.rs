//! Uhyve on x86_64: long mode, pages of 2 MiB (AMD APM volume 2, 5.3), and the table of the first level as its own
//! last entry, where kernels look for it.

use std::ops::Range;

use hv::State;
use hv::arch::x86_64::{self, GDT_SIZE, write_gdt};

use super::{BOOT_INFO, GDT, PAGE, PAGE_TABLES, STACK};
use crate::boot::Error;
use crate::boot::load::{Loading, does_not_fit};

const PRESENT_WRITABLE: u64 = 0b11;
/// A page of 2 MiB.
const LARGE: u64 = 0b1000_0011;
const LARGE_PAGE: u64 = 2 << 20;
/// What a table of the third level spans, and of the second.
const THIRD: u64 = 1 << 30;
const SECOND: u64 = THIRD << 9;
/// Place of the last entry.
const LAST: u64 = 511 * 8;
/// EFER: pages may forbid execution.
const EFER_NXE: u64 = 1 << 11;

/// Writes descriptor table and page tables for what is `mapped`, from the beginning of memory on.
pub(super) fn load(
    entry: u64,
    mapped: &Range<u64>,
    loading: &mut Loading<'_>,
) -> Result<State, Error> {
    let at = |place: u64| mapped.start.saturating_add(place);
    write_gdt(loading.memory, at(GDT))?;
    loading.ranges.push(at(GDT)..at(GDT) + u64::from(GDT_SIZE));
    let (first, second, third) =
        (at(PAGE_TABLES.start), at(PAGE_TABLES.start + PAGE), at(PAGE_TABLES.start + 2 * PAGE));
    let (from, to) = (mapped.start / THIRD, mapped.end.div_ceil(THIRD));
    let tables_end = third.saturating_add((to - from).saturating_mul(PAGE));
    // All of it is behind one entry of the first level.
    if tables_end > at(PAGE_TABLES.end) || mapped.end.div_ceil(SECOND) != 1 {
        let why = "the stack is behind their place".to_owned();
        let remedy = "use a smaller kernel, or link it lower";
        return Err(does_not_fit("page tables".to_owned(), &(first..tables_end), why, remedy));
    }
    let put =
        |loading: &mut Loading<'_>, gpa: u64, entry: u64| loading.put(gpa, &entry.to_le_bytes());
    loading.ranges.push(first..tables_end);
    put(loading, first, second | PRESENT_WRITABLE)?;
    put(loading, first + LAST, first | PRESENT_WRITABLE)?;
    for (number, gib) in (0..).zip(from..to) {
        let table = third + number * PAGE;
        put(loading, second + gib * 8, table | PRESENT_WRITABLE)?;
        let pages = (gib * THIRD..(gib + 1) * THIRD).step_by(2 << 20);
        let entries =
            pages.map(|page| match page < mapped.end && page + LARGE_PAGE > mapped.start {
                true => page | LARGE,
                false => 0,
            });
        let bytes: Vec<u8> = entries.flat_map(u64::to_le_bytes).collect();
        loading.put(table, &bytes)?;
    }
    let mut state = x86_64::State::long_mode(entry, first, at(GDT));
    state.efer |= EFER_NXE;
    state.regs.rdi = at(BOOT_INFO);
    state.regs.rsp = at(STACK);
    Ok(State::X86_64(state))
}
