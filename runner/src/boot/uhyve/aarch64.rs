//! Uhyve on arm64 (Arm ARM DDI 0487: D8 for the page tables, D19.2 for the registers): EL1 with the MMU on, pages of
//! 4 KiB, and the table of the first level as its own last entry, where kernels look for it.

use std::ops::Range;

use hv::State;

use super::{BOOT_INFO, PAGE, PAGE_TABLES, STACK, START};
use crate::boot::Error;
use crate::boot::el1::{Mmu, start};
use crate::boot::load::{Loading, does_not_fit};

pub(super) use crate::boot::el1::SECOND_ARGUMENT;

const PAGE_4K: u64 = 0b11;
/// Inner shareable, accessed.
const USED: u64 = 3 << 8 | 1 << 10;
/// Places in `MAIR`.
const DEVICE: u64 = 1 << 2;
const NORMAL: u64 = 4 << 2;
/// A table, which by way of the last entry is a page as well.
const TABLE: u64 = PAGE_4K | USED | NORMAL;
/// Nobody executes it.
const NO_EXECUTE: u64 = 3 << 53;
/// A bit for the kernel: this entry is the table itself.
const SELF: u64 = 1 << 55;

/// Hypercalls are in these pages, where no memory is.
const CALLS: Range<u64> = 0..2 * PAGE;

/// 48 bits of virtual addresses in both halves; walks write-back and inner shareable; 4 KiB; 40 bits of
/// physical addresses.
const TCR: u64 =
    16 | 16 << 16 | 1 << 8 | 1 << 10 | 1 << 24 | 1 << 26 | 3 << 12 | 3 << 28 | 2 << 30 | 2 << 32;

static MMU: Mmu = Mmu {
    // Of 0 to 4: Device-nGnRnE, Device-nGnRE, Device-GRE, Normal non-cacheable, write-back.
    mair: 0xff_440c_0400,
    tcr: TCR,
    // Floating point and vectors are not trapped.
    cpacr: 3 << 20,
    // MMU, data and instruction cache on, both stack checks; cache maintenance, WFI and WFE are EL0's, too;
    // SETEND is not.
    sctlr: 0x04d5_d91d,
};

/// Tables while they are written.
struct Tables<'t, 'm> {
    loading: &'t mut Loading<'m>,
    /// Where the next one goes.
    next: u64,
    end: u64,
}

impl Tables<'_, '_> {
    fn take(&mut self) -> Result<u64, Error> {
        let table = self.next;
        if table >= self.end {
            let range = table..table.saturating_add(PAGE);
            let why = "the stack is behind their place".to_owned();
            return Err(does_not_fit(
                "page tables".to_owned(),
                &range,
                why,
                "use a smaller kernel, or link it lower",
            ));
        }
        self.next = table.saturating_add(PAGE);
        self.loading.ranges.push(table..self.next);
        Ok(table)
    }

    /// Maps the page at `gpa` to itself.
    fn map(&mut self, first: u64, gpa: u64, attributes: u64) -> Result<(), Error> {
        let mut table = first;
        for shift in [39, 30, 21] {
            let at = table + ((gpa >> shift) & 0x1ff) * 8;
            let entry = self.loading.get(at)?;
            table = match entry {
                0 => {
                    let below = self.take()?;
                    self.loading.put(at, &(below | TABLE).to_le_bytes())?;
                    below
                }
                entry => entry & !0xfff,
            };
        }
        let at = table + ((gpa >> 12) & 0x1ff) * 8;
        self.loading.put(at, &(gpa | PAGE_4K | USED | attributes).to_le_bytes())
    }
}

/// Writes page tables for what is `mapped`, from the beginning of memory on, and the first instructions.
pub(super) fn load(
    entry: u64,
    mapped: &Range<u64>,
    loading: &mut Loading<'_>,
) -> Result<State, Error> {
    let at = |place: u64| mapped.start.saturating_add(place);
    let mut tables = Tables { loading, next: at(PAGE_TABLES.start), end: at(PAGE_TABLES.end) };
    let first = tables.take()?;
    for gpa in CALLS.step_by(0x1000) {
        tables.map(first, gpa, DEVICE | NO_EXECUTE)?;
    }
    for gpa in (mapped.start..mapped.end).step_by(0x1000) {
        tables.map(first, gpa, NORMAL)?;
    }
    let itself = first | TABLE | SELF;
    loading.put(first + 511 * 8, &itself.to_le_bytes())?;
    let mut state = start(&MMU, first, at(START), entry, loading)?;
    state.x[0] = at(BOOT_INFO);
    state.sp_el1 = at(STACK);
    Ok(state.into())
}
