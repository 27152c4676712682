//! ELF64 kernels: headers, the segments to load, the notes (gABI chapters 4 and 5).
//!
//! Everything a header says is checked against the file before it is used, so that a loader may take a [`Segment`]
//! at its word. What is not known here is the machine: whether a segment lies in RAM, and clear of what a boot
//! protocol puts there, is for the boot plan to check.

use super::bytes::{u16_at, u32_at, u64_at};
use super::notes::{NoteError, Notes};
use super::source::ReadError;
use super::view::View;

const EHDR: usize = 64;
const PHDR: usize = 56;
const PN_XNUM: u16 = 0xffff;
const ET_REL: u16 = 1;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const ET_CORE: u16 = 4;
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const PF_X: u32 = 1;
const OSABI_GNU: u8 = 3;
/// Real kernels have a few hundred bytes of notes; Solo5's manifest of 64 entries is the longest, with 7 KiB.
const NOTES_LIMIT: u64 = 64 << 10;

/// The instruction set a kernel is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// AMD64, Intel 64.
    X86_64,
    /// Arm, 64-bit.
    Aarch64,
}

impl std::fmt::Display for Arch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        })
    }
}

/// An ELF file that cannot be loaded. Program headers are counted from 0, as readelf prints them.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Shorter than a header.
    #[error("it has {0} bytes, and an ELF header has 64: it is truncated, copy or build it again")]
    NoHeader(u64),
    /// No ELF file.
    #[error("it does not begin as an ELF file does: name an ELF kernel")]
    Magic,
    /// 32 bits.
    #[error("it is a 32-bit ELF file: runner boots 64-bit kernels")]
    Class32,
    /// Neither 32 nor 64 bits.
    #[error("ELF class {0} (byte 4) does not exist: the file is damaged, build it again")]
    Class(u8),
    /// Big-endian, or neither.
    #[error("ELF data encoding {0} (byte 5) is not little-endian: build it for x86_64 or aarch64")]
    Endian(u8),
    /// Not version 1.
    #[error("ELF version {0} does not exist: the file is damaged, build it again")]
    Version(u32),
    /// Another machine.
    #[error("it is for ELF machine {0}: runner boots kernels for x86_64 (62) and aarch64 (183)")]
    Machine(u16),
    /// Neither an executable nor a shared object.
    #[error("it is {0}, which cannot be run: name the linked kernel")]
    Type(String),
    /// `e_phentsize`.
    #[error(
        "its program headers have {0} bytes instead of 56: the file is damaged, build it again"
    )]
    PhdrSize(u16),
    /// `e_phnum`.
    #[error("it says it has {0} program headers; between 1 and 65534 can be loaded")]
    PhdrCount(u16),
    /// The table lies outside of the file.
    #[error(
        "its {count} program headers at byte {offset} lie outside of its {len} bytes: it is truncated or damaged, \
         copy or build it again"
    )]
    PhdrsPastEnd {
        /// Number of headers.
        count: u16,
        /// Where the table should begin.
        offset: u64,
        /// Length of the file.
        len: u64,
    },
    /// A segment's contents lie outside of the file.
    #[error(
        "program header {index} takes {size} bytes at byte {offset}, and the file has {len}: it is truncated or \
         damaged, copy or build it again"
    )]
    SegmentPastEnd {
        /// Number of the program header.
        index: usize,
        /// `p_offset`.
        offset: u64,
        /// `p_filesz`.
        size: u64,
        /// Length of the file.
        len: u64,
    },
    /// More bytes in the file than in memory.
    #[error(
        "program header {index} loads {file_size} bytes into {mem_size}: the file is damaged, build it again"
    )]
    SegmentTooLong {
        /// Number of the program header.
        index: usize,
        /// `p_filesz`.
        file_size: u64,
        /// `p_memsz`.
        mem_size: u64,
    },
    /// The addresses wrap around.
    #[error(
        "program header {index}: {size:#x} bytes at {addr:#x} reach past the last address: build it again"
    )]
    SegmentWraps {
        /// Number of the program header.
        index: usize,
        /// `p_paddr` or `p_vaddr`.
        addr: u64,
        /// `p_memsz`.
        size: u64,
    },
    /// Two segments claim the same memory.
    #[error("program headers {0} and {1} load to the same memory, at {2:#x}: build it again")]
    Overlap(usize, usize, u64),
    /// Nothing to load.
    #[error("no program header loads anything: name the linked kernel")]
    NothingToLoad,
    /// A note segment longer than any kernel's.
    #[error("program header {index} holds {size} bytes of notes; no kernel has more than 65536")]
    NotesTooLong {
        /// Number of the program header.
        index: usize,
        /// Bytes of notes up to and with this header.
        size: u64,
    },
    /// A note cannot be read.
    #[error("program header {index}: {error}: the file is damaged, build it again")]
    Note {
        /// Number of the program header.
        index: usize,
        /// What is wrong.
        error: NoteError,
    },
    /// The entry is where nothing is loaded.
    #[error("its {which} entry {entry:#x} lies in no segment: the file is damaged, build it again")]
    EntryOutside {
        /// `ELF` or `PVH`.
        which: &'static str,
        /// The address.
        entry: u64,
    },
    /// The entry cannot be executed.
    #[error(
        "its {which} entry {entry:#x} lies in a segment that is not executable: build it again"
    )]
    EntryNotExecutable {
        /// `ELF` or `PVH`.
        which: &'static str,
        /// The address.
        entry: u64,
    },
    /// The entry is an address that only exists with paging, and no other entry is given.
    #[error(
        "its entry {0:#x} is a virtual address, and it has no PVH note with a physical one: no protocol enters it"
    )]
    EntryVirtual(u64),
    /// A program where a kernel should be.
    #[error(
        "it asks for the interpreter {0}, so it is a Linux program and not a kernel: build the image again"
    )]
    Interpreter(String),
    /// Needs relocating.
    #[error(
        "it is a position-independent executable, which no boot protocol relocates: link it at a fixed address"
    )]
    Relocatable,
}

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

    fn holds(&self, paddr: u64) -> bool {
        paddr
            .checked_sub(self.paddr)
            .is_some_and(|into| into < self.mem_size)
    }

    fn holds_virtual(&self, vaddr: u64) -> bool {
        vaddr
            .checked_sub(self.vaddr)
            .is_some_and(|into| into < self.mem_size)
    }
}

/// What is in an ELF64 file's headers.
#[derive(Debug, Clone)]
pub struct Elf {
    /// The machine it is for.
    pub arch: Arch,
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
        let len = view.len();
        let mut header = [0; EHDR];
        if len < 64 {
            return Err(ElfError::NoHeader(len));
        }
        view.read_exact_at(0, &mut header)?;
        let fields = Header::check(&header)?;
        let phdrs = fields.program_headers(view)?;
        let mut elf = Self {
            arch: fields.arch,
            entry: fields.entry,
            dynamic: fields.kind == ET_DYN,
            gnu_abi: fields.osabi == OSABI_GNU,
            interpreter: None,
            segments: Vec::new(),
            notes: Notes::default(),
        };
        let mut note_bytes = 0;
        for (index, raw) in phdrs.chunks_exact(PHDR).enumerate() {
            let Some(phdr) = Phdr::read(raw, index) else {
                break;
            };
            match phdr.kind {
                PT_LOAD => elf.segments.extend(phdr.segment(len)?),
                PT_INTERP => elf.interpreter = Some(phdr.interpreter(view)),
                PT_NOTE => elf.add_notes(view, &phdr, &mut note_bytes)?,
                _ => {}
            }
        }
        if elf.segments.is_empty() {
            return Err(ElfError::NothingToLoad);
        }
        overlaps(&elf.segments)?;
        Ok(elf)
    }

    fn add_notes(&mut self, view: &View, phdr: &Phdr, total: &mut u64) -> Result<(), ElfError> {
        let index = phdr.index;
        phdr.in_file(view.len())?;
        *total = total.saturating_add(phdr.file_size);
        let too_long = ElfError::NotesTooLong {
            index,
            size: *total,
        };
        if *total > NOTES_LIMIT {
            return Err(too_long);
        }
        let mut notes = vec![0; usize::try_from(phdr.file_size).map_err(|_| too_long)?];
        view.read_exact_at(phdr.offset, &mut notes)?;
        self.notes
            .add(&notes, phdr.align)
            .map_err(|error| ElfError::Note { index, error })
    }

    /// The physical address of the ELF entry, checked to be in an executable segment. `None`: it is virtual.
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

struct Header {
    arch: Arch,
    kind: u16,
    osabi: u8,
    entry: u64,
    phoff: u64,
    phnum: u16,
}

impl Header {
    fn check(header: &[u8; EHDR]) -> Result<Self, ElfError> {
        if !is_elf(header) {
            return Err(ElfError::Magic);
        }
        let [_, _, _, _, class, data, ident_version, osabi, ..] = *header;
        match class {
            2 => {}
            1 => return Err(ElfError::Class32),
            other => return Err(ElfError::Class(other)),
        }
        if data != 1 {
            return Err(ElfError::Endian(data));
        }
        let u16_of = |at| u16_at(header, at).unwrap_or_default();
        let u64_of = |at| u64_at(header, at).unwrap_or_default();
        let version = u32_at(header, 20).unwrap_or_default();
        if ident_version != 1 || version != 1 {
            return Err(ElfError::Version(if ident_version == 1 {
                version
            } else {
                ident_version.into()
            }));
        }
        let arch = match u16_of(18) {
            EM_X86_64 => Arch::X86_64,
            EM_AARCH64 => Arch::Aarch64,
            other => return Err(ElfError::Machine(other)),
        };
        let kind = u16_of(16);
        match kind {
            ET_EXEC | ET_DYN => {}
            ET_REL => return Err(ElfError::Type("an object file".into())),
            ET_CORE => return Err(ElfError::Type("a core dump".into())),
            other => return Err(ElfError::Type(format!("an ELF file of type {other}"))),
        }
        let (phnum, phentsize) = (u16_of(56), u16_of(54));
        if phnum == 0 || phnum == PN_XNUM {
            return Err(ElfError::PhdrCount(phnum));
        }
        if usize::from(phentsize) != PHDR {
            return Err(ElfError::PhdrSize(phentsize));
        }
        Ok(Self {
            arch,
            kind,
            osabi,
            entry: u64_of(24),
            phoff: u64_of(32),
            phnum,
        })
    }

    fn program_headers(&self, view: &View) -> Result<Vec<u8>, ElfError> {
        let past_end = ElfError::PhdrsPastEnd {
            count: self.phnum,
            offset: self.phoff,
            len: view.len(),
        };
        let size = usize::from(self.phnum).saturating_mul(PHDR);
        let end = u64::try_from(size)
            .ok()
            .and_then(|size| self.phoff.checked_add(size));
        if end.is_none_or(|end| end > view.len()) {
            return Err(past_end);
        }
        let mut table = vec![0; size];
        view.read_exact_at(self.phoff, &mut table)?;
        Ok(table)
    }
}

struct Phdr {
    index: usize,
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    file_size: u64,
    mem_size: u64,
    align: u64,
}

impl Phdr {
    fn read(raw: &[u8], index: usize) -> Option<Self> {
        Some(Self {
            index,
            kind: u32_at(raw, 0)?,
            flags: u32_at(raw, 4)?,
            offset: u64_at(raw, 8)?,
            vaddr: u64_at(raw, 16)?,
            paddr: u64_at(raw, 24)?,
            file_size: u64_at(raw, 32)?,
            mem_size: u64_at(raw, 40)?,
            align: u64_at(raw, 48)?,
        })
    }

    fn in_file(&self, len: u64) -> Result<(), ElfError> {
        if self
            .offset
            .checked_add(self.file_size)
            .is_none_or(|end| end > len)
        {
            let (index, offset, size) = (self.index, self.offset, self.file_size);
            return Err(ElfError::SegmentPastEnd {
                index,
                offset,
                size,
                len,
            });
        }
        Ok(())
    }

    /// What it loads; nothing, if it is empty.
    fn segment(&self, len: u64) -> Result<Option<Segment>, ElfError> {
        let Self {
            index,
            flags,
            offset,
            vaddr,
            paddr,
            file_size,
            mem_size,
            ..
        } = *self;
        self.in_file(len)?;
        if file_size > mem_size {
            return Err(ElfError::SegmentTooLong {
                index,
                file_size,
                mem_size,
            });
        }
        for addr in [paddr, vaddr] {
            if addr.checked_add(mem_size).is_none() {
                return Err(ElfError::SegmentWraps {
                    index,
                    addr,
                    size: mem_size,
                });
            }
        }
        let segment = Segment {
            index,
            file_offset: offset,
            file_size,
            mem_size,
            paddr,
            vaddr,
            flags,
        };
        Ok((mem_size > 0).then_some(segment))
    }

    /// For a message only: an unreadable one is as good as an empty one.
    fn interpreter(&self, view: &View) -> Vec<u8> {
        let mut name = vec![0; usize::try_from(self.file_size.min(64)).unwrap_or_default()];
        if view.read_exact_at(self.offset, &mut name).is_err() {
            name.clear();
        }
        let end = name
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(name.len());
        name.truncate(end);
        name
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
#[path = "elf_tests.rs"]
mod tests;
