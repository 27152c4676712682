//! Multiboot kernels (Multiboot Specification 0.6.96, §3.1): the header, and what it says about loading.
//!
//! The header lies in the file's first 8 KiB, at a multiple of 4. A kernel says in it where its bytes go, or
//! is an ELF file that says so itself, of 32 or 64 bits. It is entered in 32-bit mode either way.

use super::bytes::u32_at;
use super::elf::{Elf, Segment};

const MAGIC: u32 = 0x1bad_b002;
/// The header is looked for this far.
const HEAD: usize = 8 << 10;
/// Page-aligned modules, memory information, a video mode: asked for, and told of what there is (§3.1.2).
/// There is no video, and the kernel is told none.
const KNOWN: u32 = 0b111;
/// Features above this bit are wishes, all below are requirements.
const WISHES: u32 = 16;
/// The header has the addresses to load to.
const ADDRESSES: u32 = 1 << 16;

/// A Multiboot header that cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MultibootError {
    /// It requires what this specification has not.
    #[error("it requires features {0:#x} of its boot loader, which no version defines")]
    Required(u32),
    /// The file ends within the header.
    #[error("the file ends within it: it is truncated, copy or build it again")]
    Truncated,
    /// The load address says that the kernel begins before the file does, or behind its header.
    #[error(
        "its load address {load:#x} does not fit the header's, {header:#x}, at byte {offset} of the file: \
         build it again"
    )]
    Load {
        /// `load_addr`.
        load: u32,
        /// `header_addr`.
        header: u32,
        /// Where the header is.
        offset: usize,
    },
    /// The addresses are not in order.
    #[error(
        "it is loaded from {load:#x} to {end:#x} and zeroed to {bss:#x}, which is out of order or more than \
         the file has ({has} bytes): it is truncated or damaged, copy or build it again"
    )]
    Order {
        /// `load_addr`.
        load: u32,
        /// `load_end_addr`.
        end: u32,
        /// `bss_end_addr`.
        bss: u32,
        /// Bytes from the load address to the end of the file.
        has: u64,
    },
    /// The entry is where nothing is loaded.
    #[error("its entry {0:#x} lies where nothing is loaded: build it again")]
    Entry(u64),
    /// Neither addresses nor an ELF file.
    #[error(
        "it has no addresses, and the file is no ELF kernel for x86: nothing says where to load it"
    )]
    NoAddresses,
}

/// How a Multiboot kernel is loaded and entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multiboot {
    /// What is loaded instead of an ELF file's segments.
    pub segment: Option<Segment>,
    /// Physical address of the 32-bit entry.
    pub entry: u32,
}

impl Multiboot {
    /// What the header in `head`, the first bytes of a file of `len`, says of the kernel; `None` without a
    /// header. `elf`: what the file is beside it.
    ///
    /// # Errors
    /// [`MultibootError`].
    pub fn parse(head: &[u8], len: u64, elf: Option<&Elf>) -> Option<Result<Self, MultibootError>> {
        let at = find(head)?;
        let flags = u32_at(head, at.checked_add(4)?)?;
        let unknown = flags & ((1 << WISHES) - 1) & !KNOWN;
        Some(match (unknown, flags & ADDRESSES) {
            (0, 0) => Self::by_elf(elf),
            (0, _) => Self::by_addresses(head, at, len),
            _ => Err(MultibootError::Required(unknown)),
        })
    }

    /// As the ELF file says, whose entry may be a virtual address.
    fn by_elf(elf: Option<&Elf>) -> Result<Self, MultibootError> {
        let elf = elf.filter(|elf| elf.arch == hv::Arch::X86_64);
        let elf = elf.ok_or(MultibootError::NoAddresses)?;
        let entry = elf.loaded_entry().and_then(|entry| u32::try_from(entry).ok());
        Ok(Self { segment: None, entry: entry.ok_or(MultibootError::Entry(elf.entry))? })
    }

    /// §3.1.3: one stretch of the file, in which the header has its place, and zeros behind it.
    fn by_addresses(head: &[u8], at: usize, len: u64) -> Result<Self, MultibootError> {
        let field = |index: usize| {
            let at = index.checked_mul(4).and_then(|offset| at.checked_add(offset));
            at.and_then(|at| u32_at(head, at)).ok_or(MultibootError::Truncated)
        };
        let [header, load, end, bss, entry] =
            [field(3)?, field(4)?, field(5)?, field(6)?, field(7)?];
        let offset =
            header.checked_sub(load).and_then(|before| (at as u64).checked_sub(before.into()));
        let file_offset = offset.ok_or(MultibootError::Load { load, header, offset: at })?;
        let has = len.saturating_sub(file_offset);
        let file_size = match end {
            0 => Some(has),
            end => end.checked_sub(load).map(u64::from),
        };
        let mem_size = match bss {
            0 => file_size,
            bss => bss.checked_sub(load).map(u64::from),
        };
        let in_order = |(file, memory): &(u64, u64)| *file <= has && file <= memory && *memory > 0;
        let sizes = file_size.zip(mem_size).filter(in_order);
        let (file_size, mem_size) = sizes.ok_or(MultibootError::Order { load, end, bss, has })?;
        let paddr = u64::from(load);
        let segment =
            Segment { index: 0, file_offset, file_size, mem_size, paddr, vaddr: paddr, flags: 7 };
        match (paddr..segment.end()).contains(&entry.into()) {
            true => Ok(Self { segment: Some(segment), entry }),
            false => Err(MultibootError::Entry(entry.into())),
        }
    }
}

/// Where the header is: at its magic, with flags and a checksum that makes the sum of the three 0.
fn find(head: &[u8]) -> Option<usize> {
    let head = head.get(..head.len().min(HEAD))?;
    (0..head.len()).step_by(4).find(|at| {
        let word = |index: usize| at.checked_add(index).and_then(|at| u32_at(head, at));
        let sum = || Some(word(0)?.wrapping_add(word(4)?).wrapping_add(word(8)?));
        word(0) == Some(MAGIC) && sum() == Some(0)
    })
}

#[cfg(test)]
#[path = "multiboot_tests.rs"]
mod tests;
