//! Names of an ELF file's sections (gABI, "Sections", "Special Sections"). Nothing is loaded by sections, and
//! tools may remove them: what is wrong with them is no error, and a file without names.

use crate::image::bytes::{u16_at, u32_at, u64_at};
use crate::image::view::View;

/// Bytes of the ELF header of a 64-bit file; no file is shorter.
const EHDR: usize = 64;
/// The most bytes of names that are looked at: kernels have a few hundred.
const MOST: u64 = 64 << 10;

/// The names of all sections, NUL-terminated, one behind the other. Empty where there are none.
#[must_use]
pub fn names(view: &View) -> Vec<u8> {
    string_table(view).unwrap_or_default()
}

fn string_table(view: &View) -> Option<Vec<u8>> {
    let mut header = [0; EHDR];
    view.read_exact_at(0, &mut header).ok()?;
    let short = header.get(4) == Some(&1);
    let word = |bytes: &[u8], at| u32_at(bytes, at).map(u64::from);
    let (table, size, index) = match short {
        true => (word(&header, 32)?, u16_at(&header, 46)?, u16_at(&header, 50)?),
        false => (u64_at(&header, 40)?, u16_at(&header, 58)?, u16_at(&header, 62)?),
    };
    // Where in a section's header the place of its bytes is, and their number.
    let mut entry = if short { vec![0; 40] } else { vec![0; 64] };
    if usize::from(size) != entry.len() {
        return None;
    }
    let at = u64::from(index).checked_mul(size.into())?.checked_add(table)?;
    view.read_exact_at(at, &mut entry).ok()?;
    let (offset, len) = match short {
        true => (word(&entry, 16)?, word(&entry, 20)?),
        false => (u64_at(&entry, 24)?, u64_at(&entry, 32)?),
    };
    if len > MOST {
        return None;
    }
    let mut names = vec![0; usize::try_from(len).ok()?];
    view.read_exact_at(offset, &mut names).ok()?;
    Some(names)
}
