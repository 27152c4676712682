//! ELF kernels: headers, the segments to load, the notes (gABI chapters 4 and 5).
//!
//! Everything a header says is checked against the file before it is used, so that a loader may
//! take a [`Segment`] at its word. What is not known here is the machine: whether a segment lies in
//! RAM, and clear of what a boot protocol puts there, is for the boot plan to check.

mod error;
mod header;
pub mod sections;

pub use error::ElfError;
use hv::Arch;

use super::notes::Notes;
use super::view::View;
use header::{Class, Header, PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_NOTE, PT_TLS, Phdr};

const PF_X: u32 = 1;
const PF_W: u32 = 2;
/// Real kernels have a few hundred bytes of notes; Solo5's manifest of 64 entries is the longest,
/// with 7 KiB.
const NOTES_LIMIT: u64 = 64 << 10;

/// Segments to load, which kernels have a handful of. Each is looked at for many a page and relocation, and
/// may become a piece of RAM of its own.
const MOST_SEGMENTS: usize = 512;

/// A piece of memory to fill: `file_size` bytes from the file, then zeros up to `mem_size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Number of its program header.
    pub index: usize,
    /// First byte in the file; `file_offset + file_size` lies in the file.
    pub file_offset: u64,
    /// Bytes from the file, at most `mem_size`.
    pub file_size: u64,
    /// Bytes in memory, more than 0; `paddr + mem_size` does not overflow.
    pub mem_size: u64,
    /// Physical address to load to.
    pub paddr: u64,
    /// Virtual address it was linked for.
    pub vaddr: u64,
    /// `p_flags`: 1 executable, 2 writable, 4 readable.
    pub flags: u32,
}

impl Segment {
    /// The address after its last.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.paddr.saturating_add(self.mem_size)
    }

    /// Whether it may be executed.
    #[must_use]
    pub fn executable(&self) -> bool {
        self.flags & PF_X != 0
    }

    /// Whether it may be written.
    #[must_use]
    pub fn writable(&self) -> bool {
        self.flags & PF_W != 0
    }

    fn holds(&self, paddr: u64) -> bool {
        paddr.checked_sub(self.paddr).is_some_and(|into| into < self.mem_size)
    }

    fn holds_virtual(&self, vaddr: u64) -> bool {
        vaddr.checked_sub(self.vaddr).is_some_and(|into| into < self.mem_size)
    }
}

/// The image of what each thread has for itself (`PT_TLS`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tls {
    /// Virtual address it was linked for.
    pub vaddr: u64,
    /// Bytes that are not zero.
    pub file_size: u64,
    /// All bytes.
    pub mem_size: u64,
    /// What it is aligned to.
    pub align: u64,
}

/// A part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Its first byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// What is in an ELF file's headers.
#[derive(Debug, Clone)]
pub struct Elf {
    /// The machine it is for.
    pub arch: Arch,
    /// Whether it is a 32-bit file: its ELF entry is one in 32-bit mode.
    pub is_32_bit: bool,
    /// `e_entry`, as it stands.
    pub entry: u64,
    /// Whether it asks to be relocated (`ET_DYN`).
    pub dynamic: bool,
    /// Whether the OS ABI byte says GNU/Linux.
    pub gnu_abi: bool,
    /// The program interpreter it asks for, cut off at 64 bytes.
    pub interpreter: Option<Vec<u8>>,
    /// What is loaded, in the order of the file; no two overlap in physical memory.
    pub segments: Vec<Segment>,
    /// What its notes say.
    pub notes: Notes,
    /// What each thread has for itself.
    pub tls: Option<Tls>,
    /// The table for who links and relocates it (`PT_DYNAMIC`).
    pub dynamic_table: Option<Extent>,
}

/// Whether the file begins as an ELF file does.
#[must_use]
pub fn is_elf(head: &[u8]) -> bool {
    head.starts_with(b"\x7fELF")
}

impl Elf {
    /// Reads headers, program headers and notes.
    ///
    /// # Errors
    /// [`ElfError`], for all that could not be loaded as it is.
    pub fn parse(view: &View) -> Result<Self, ElfError> {
        let (header, head) = Header::read(view)?;
        let mut elf = Self {
            arch: header.arch,
            is_32_bit: header.class == Class::Elf32,
            entry: header.entry,
            dynamic: header.dynamic(),
            gnu_abi: header.gnu_abi(),
            interpreter: None,
            segments: Vec::new(),
            notes: Notes::default(),
            tls: None,
            dynamic_table: None,
        };
        let mut note_bytes = 0;
        for phdr in header.program_headers(view, &head)? {
            match phdr.kind {
                PT_LOAD => elf.segments.extend(phdr.segment(view.len())?),
                PT_INTERP if elf.interpreter.is_none() => {
                    elf.interpreter = Some(phdr.interpreter(view))
                }
                PT_NOTE => elf.add_notes(view, &phdr, &mut note_bytes)?,
                PT_TLS => elf.tls = Some(phdr.tls()),
                PT_DYNAMIC => elf.dynamic_table = Some(phdr.extent()),
                _ => {}
            }
        }
        if elf.segments.is_empty() {
            return Err(ElfError::NothingToLoad);
        }
        if elf.segments.len() > MOST_SEGMENTS {
            return Err(ElfError::TooMany(elf.segments.len()));
        }
        overlaps(&elf.segments)?;
        Ok(elf)
    }

    fn add_notes(&mut self, view: &View, phdr: &Phdr, total: &mut u64) -> Result<(), ElfError> {
        let index = phdr.index;
        if phdr.file_size == 0 {
            return Ok(());
        }
        phdr.in_file(view.len())?;
        *total = total.saturating_add(phdr.file_size);
        let too_long = ElfError::NotesTooLong { index, size: *total };
        if *total > NOTES_LIMIT {
            return Err(too_long);
        }
        let mut notes = vec![0; usize::try_from(phdr.file_size).map_err(|_| too_long)?];
        view.read_exact_at(phdr.offset, &mut notes)?;
        self.notes.add(&notes, phdr.align).map_err(|error| ElfError::Note { index, error })
    }

    /// The physical address of the ELF entry, checked to be in an executable segment. `None`: it is
    /// virtual.
    ///
    /// # Errors
    /// [`ElfError::EntryOutside`], [`ElfError::EntryNotExecutable`].
    pub fn physical_entry(&self) -> Result<Option<u64>, ElfError> {
        match self.check_entry("ELF", self.entry) {
            Err(ElfError::EntryOutside { .. })
                if self.segments.iter().any(|s| s.holds_virtual(self.entry)) =>
            {
                Ok(None)
            }
            checked => checked.map(|()| Some(self.entry)),
        }
    }

    /// Where the byte that the ELF entry names is loaded, be that a physical or a virtual address.
    #[must_use]
    pub fn loaded_entry(&self) -> Option<u64> {
        if self.segments.iter().any(|segment| segment.holds(self.entry)) {
            return Some(self.entry);
        }
        let segment = self.segments.iter().find(|segment| segment.holds_virtual(self.entry))?;
        segment.paddr.checked_add(self.entry.checked_sub(segment.vaddr)?)
    }

    /// The entry of the PVH note, checked to be in an executable segment.
    ///
    /// # Errors
    /// [`ElfError::EntryOutside`], [`ElfError::EntryNotExecutable`].
    pub fn pvh_entry(&self) -> Result<Option<u32>, ElfError> {
        match self.notes.pvh_entry {
            None => Ok(None),
            Some(entry) => self.check_entry("PVH", entry.into()).map(|()| Some(entry)),
        }
    }

    fn check_entry(&self, which: &'static str, entry: u64) -> Result<(), ElfError> {
        match self.segments.iter().find(|segment| segment.holds(entry)) {
            None => Err(ElfError::EntryOutside { which, entry }),
            Some(segment) if !segment.executable() => {
                Err(ElfError::EntryNotExecutable { which, entry })
            }
            Some(_) => Ok(()),
        }
    }
}

fn overlaps(segments: &[Segment]) -> Result<(), ElfError> {
    let mut sorted: Vec<&Segment> = segments.iter().collect();
    sorted.sort_by_key(|segment| segment.paddr);
    for pair in sorted.windows(2) {
        if let [below, above] = pair
            && above.paddr < below.end()
        {
            return Err(ElfError::Overlap(below.index, above.index, above.paddr));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
