//! The ELF header and program headers (gABI, "ELF Header", "Program Header"), of 64 bits and, for x86, of 32,
//! each checked against the file.

use super::{Arch, ElfError, Extent, Segment, Tls, is_elf};
use crate::image::bytes::{u16_at, u32_at, u64_at};
use crate::image::view::View;

/// The header of a 64-bit file; no file is shorter.
const EHDR: usize = 64;
/// Read at once: the header, and the program headers of every linker.
const HEAD: u64 = 1024;
const PN_XNUM: u16 = 0xffff;
const ET_REL: u16 = 1;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const ET_CORE: u16 = 4;
const EM_386: u16 = 3;
const EM_X86_64: u16 = 62;
const OSABI_GNU: u8 = 3;
const EM_AARCH64: u16 = 183;
pub(super) const PT_LOAD: u32 = 1;
pub(super) const PT_DYNAMIC: u32 = 2;
pub(super) const PT_INTERP: u32 = 3;
pub(super) const PT_NOTE: u32 = 4;
pub(super) const PT_TLS: u32 = 7;

/// How long addresses and offsets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Elf32,
    Elf64,
}

impl Class {
    /// Bytes of a program header.
    fn phdr(self) -> usize {
        match self {
            Class::Elf32 => 32,
            Class::Elf64 => 56,
        }
    }
}

pub(super) struct Header {
    pub(super) arch: Arch,
    pub(super) class: Class,
    kind: u16,
    osabi: u8,
    pub(super) entry: u64,
    phoff: u64,
    phnum: u16,
}

impl Header {
    /// Reads the header, which says what else there is, and with it the first bytes of the file.
    pub(super) fn read(view: &View) -> Result<(Self, Vec<u8>), ElfError> {
        let mut head = vec![0; usize::try_from(view.len().min(HEAD)).unwrap_or_default()];
        view.read_exact_at(0, &mut head)?;
        let header = head.first_chunk().ok_or(ElfError::NoHeader(view.len()))?;
        Ok((Self::check(header)?, head))
    }

    fn check(header: &[u8; EHDR]) -> Result<Self, ElfError> {
        if !is_elf(header) {
            return Err(ElfError::Magic);
        }
        let [_, _, _, _, class, data, ident_version, osabi, ..] = *header;
        let class = match class {
            2 => Class::Elf64,
            1 => Class::Elf32,
            other => return Err(ElfError::Class(other)),
        };
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
        let arch = match (class, u16_of(18)) {
            (Class::Elf64, EM_X86_64) | (Class::Elf32, EM_386) => Arch::X86_64,
            (Class::Elf64, EM_AARCH64) => Arch::Aarch64,
            (Class::Elf64, other) => return Err(ElfError::Machine(other)),
            (Class::Elf32, _) => return Err(ElfError::Class32),
        };
        let kind = u16_of(16);
        match kind {
            ET_EXEC | ET_DYN => {}
            ET_REL => return Err(ElfError::Type("an object file".into())),
            ET_CORE => return Err(ElfError::Type("a core dump".into())),
            other => return Err(ElfError::Type(format!("an ELF file of type {other}"))),
        }
        let u32_of = |at| u64::from(u32_at(header, at).unwrap_or_default());
        let (entry, phoff, phentsize, phnum) = match class {
            Class::Elf32 => (u32_of(24), u32_of(28), u16_of(42), u16_of(44)),
            Class::Elf64 => (u64_of(24), u64_of(32), u16_of(54), u16_of(56)),
        };
        if phnum == 0 || phnum == PN_XNUM {
            return Err(ElfError::PhdrCount(phnum));
        }
        if usize::from(phentsize) != class.phdr() {
            return Err(ElfError::PhdrSize(phentsize, class.phdr()));
        }
        Ok(Self { arch, class, kind, osabi, entry, phoff, phnum })
    }

    pub(super) fn dynamic(&self) -> bool {
        self.kind == ET_DYN
    }

    pub(super) fn gnu_abi(&self) -> bool {
        self.osabi == OSABI_GNU
    }

    /// The program headers, in order. Mostly they are in `head`, the first bytes of the file.
    pub(super) fn program_headers(&self, view: &View, head: &[u8]) -> Result<Vec<Phdr>, ElfError> {
        let each = self.class.phdr();
        let size = usize::from(self.phnum).saturating_mul(each);
        let end = u64::try_from(size).ok().and_then(|size| self.phoff.checked_add(size));
        if end.is_none_or(|end| end > view.len()) {
            let (count, offset, len) = (self.phnum, self.phoff, view.len());
            return Err(ElfError::PhdrsPastEnd { count, offset, len });
        }
        let at = usize::try_from(self.phoff).ok();
        let table = match at.and_then(|at| head.get(at..)?.get(..size)) {
            Some(table) => table.to_vec(),
            None => {
                let mut table = vec![0; size];
                view.read_exact_at(self.phoff, &mut table)?;
                table
            }
        };
        let each = table.chunks_exact(each).enumerate();
        Ok(each.filter_map(|(index, raw)| Phdr::read(raw, index, self.class)).collect())
    }
}

pub(super) struct Phdr {
    pub(super) index: usize,
    pub(super) kind: u32,
    flags: u32,
    pub(super) offset: u64,
    vaddr: u64,
    paddr: u64,
    pub(super) file_size: u64,
    mem_size: u64,
    pub(super) align: u64,
}

impl Phdr {
    fn read(raw: &[u8], index: usize, class: Class) -> Option<Self> {
        let short = |at| u32_at(raw, at).map(u64::from);
        let (flags, [offset, vaddr, paddr, file_size, mem_size, align]) = match class {
            Class::Elf32 => (
                u32_at(raw, 24)?,
                [short(4)?, short(8)?, short(12)?, short(16)?, short(20)?, short(28)?],
            ),
            Class::Elf64 => {
                let long = |at| u64_at(raw, at);
                let sizes = [long(8)?, long(16)?, long(24)?, long(32)?, long(40)?, long(48)?];
                (u32_at(raw, 4)?, sizes)
            }
        };
        let kind = u32_at(raw, 0)?;
        Some(Self { index, kind, flags, offset, vaddr, paddr, file_size, mem_size, align })
    }

    /// Checks that what it describes lies in a file of `len` bytes. What is empty may lie anywhere:
    /// linkers give a segment of only zeros an offset past the end.
    pub(super) fn in_file(&self, len: u64) -> Result<(), ElfError> {
        if self.file_size == 0 {
            return Ok(());
        }
        if self.offset.checked_add(self.file_size).is_none_or(|end| end > len) {
            let (index, offset, size) = (self.index, self.offset, self.file_size);
            return Err(ElfError::SegmentPastEnd { index, offset, size, len });
        }
        Ok(())
    }

    /// What it loads; nothing, if it is empty.
    pub(super) fn segment(&self, len: u64) -> Result<Option<Segment>, ElfError> {
        let Self { index, flags, offset, vaddr, paddr, file_size, mem_size, .. } = *self;
        self.in_file(len)?;
        if file_size > mem_size {
            return Err(ElfError::SegmentTooLong { index, file_size, mem_size });
        }
        for addr in [paddr, vaddr] {
            if addr.checked_add(mem_size).is_none() {
                return Err(ElfError::SegmentWraps { index, addr, size: mem_size });
            }
        }
        let segment = Segment {
            index,
            file_offset: if file_size == 0 { 0 } else { offset },
            file_size,
            mem_size,
            paddr,
            vaddr,
            flags,
        };
        Ok((mem_size > 0).then_some(segment))
    }

    pub(super) fn tls(&self) -> Tls {
        let Self { vaddr, file_size, mem_size, align, .. } = *self;
        Tls { vaddr, file_size, mem_size, align }
    }

    /// Where it is, which need not be in the file.
    pub(super) fn extent(&self) -> Extent {
        Extent { offset: self.offset, size: self.file_size }
    }

    /// For a message only: an unreadable one is as good as an empty one.
    pub(super) fn interpreter(&self, view: &View) -> Vec<u8> {
        let mut name = vec![0; usize::try_from(self.file_size.min(64)).unwrap_or_default()];
        if view.read_exact_at(self.offset, &mut name).is_err() {
            name.clear();
        }
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        name
    }
}
