//! Descriptor and page tables in guest memory (AMD APM volume 2, 4.8 and 5.3; Linux
//! `Documentation/arch/x86/boot.rst`, "64-bit Boot Protocol", for the selectors).

use vm_memory::{Bytes, GuestAddress};

use crate::error::{Error, Kind, Result};
use crate::mem::GuestMemory;

/// 32-bit flat code, selector 0x8.
pub(super) const CODE32: u64 = 0x00cf_9b00_0000_ffff;
/// 64-bit flat code, selector 0x10: Linux's `__BOOT_CS`.
pub(super) const CODE64: u64 = 0x00af_9b00_0000_ffff;
/// Flat data, selector 0x18: Linux's `__BOOT_DS`.
pub(super) const DATA: u64 = 0x00cf_9300_0000_ffff;
/// A busy 32-bit TSS at 0, selector 0x20: virtual-machine extensions want TR usable.
pub(super) const TSS: u64 = 0x0000_8b00_0000_0067;

/// Bytes that [`write_gdt`] writes.
pub const GDT_SIZE: u16 = 8 * 5;

/// Bytes that [`write_identity_map`] writes: a PML4, a PDPT and a page directory.
pub const IDENTITY_MAP_SIZE: u64 = 3 * PAGE;

const PAGE: u64 = 0x1000;
const TABLE: usize = 0x1000;
/// Present, writable.
const PRESENT_WRITABLE: u64 = 0b11;
/// Present, writable, a 2 MiB page.
const LARGE: u64 = 0b1000_0011;
const LARGE_PAGE: u64 = 2 << 20;

/// Writes the GDT that [`State::long_mode`](super::State::long_mode) and
/// [`State::protected_mode`](super::State::protected_mode) have their segments from.
///
/// # Errors
/// `Invalid` when `at` is not RAM for [`GDT_SIZE`] bytes.
pub fn write_gdt(memory: &GuestMemory, at: u64) -> Result<()> {
    write(memory, at, [0, CODE32, CODE64, DATA, TSS].into_iter())
}

/// Writes page tables at `at` (4 KiB aligned) that map the first GiB of linear addresses to
/// itself with 2 MiB pages, and returns the value for CR3.
///
/// # Errors
/// `Invalid` when `at` is misaligned or not RAM for [`IDENTITY_MAP_SIZE`] bytes.
pub fn write_identity_map(memory: &GuestMemory, at: u64) -> Result<u64> {
    let out_of_range = || Error::new("write page tables", Kind::Invalid, format!("at GPA {at:#x}"));
    if !at.is_multiple_of(PAGE) {
        return Err(out_of_range());
    }
    let pdpt = at.checked_add(PAGE).ok_or_else(out_of_range)?;
    let pd = pdpt.checked_add(PAGE).ok_or_else(out_of_range)?;
    write(memory, at, std::iter::once(pdpt | PRESENT_WRITABLE))?;
    write(memory, pdpt, std::iter::once(pd | PRESENT_WRITABLE))?;
    write(memory, pd, (0..512).map(|index| (index * LARGE_PAGE) | LARGE))?;
    Ok(at)
}

/// Writes 64-bit entries from `at` on, in one copy. The rest of a table is zero because RAM is.
fn write(memory: &GuestMemory, at: u64, entries: impl Iterator<Item = u64>) -> Result<()> {
    let mut bytes = [0u8; TABLE];
    let mut len = 0;
    for (chunk, entry) in bytes.chunks_exact_mut(8).zip(entries) {
        chunk.copy_from_slice(&entry.to_le_bytes());
        len += 8;
    }
    memory
        .write_slice(bytes.get(..len).unwrap_or_default(), GuestAddress(at))
        .map_err(|error| Error::new("write tables", Kind::Invalid, format!("GPA {at:#x}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::{GuestRam, memory};

    #[test]
    fn the_first_gibibyte_maps_to_itself() {
        let memory = memory([(0, GuestRam::new(1 << 20).unwrap())]).unwrap();
        let cr3 = write_identity_map(&memory, 0x9000).unwrap();
        let entry = |table: u64, index: u64| -> u64 {
            memory.read_obj(GuestAddress((table & !0xfff) + 8 * index)).unwrap()
        };
        let linear: u64 = 0x2345_6789;
        let pd = entry(entry(cr3, 0), 0);
        let page = entry(pd, linear >> 21);
        assert_eq!(page & !(LARGE_PAGE - 1) | linear & (LARGE_PAGE - 1), linear);
        assert_eq!(page & 0xff, LARGE);
    }

    #[test]
    fn tables_outside_ram_or_off_a_page_are_refused() {
        let memory = memory([(0, GuestRam::new(1 << 20).unwrap())]).unwrap();
        for at in [0xf_f000, 0x9001, !0xfff] {
            assert!(write_identity_map(&memory, at).is_err(), "{at:#x}");
        }
        assert!(write_gdt(&memory, (1 << 20) - u64::from(GDT_SIZE) + 1).is_err());
    }
}
