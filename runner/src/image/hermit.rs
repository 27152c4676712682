//! What a Hermit unikernel says of itself (`hermit-entry` 0.10, `src/note.rs`, `src/elf.rs`): the version of its entry, of
//! uhyve's interface (`uhyve-interface` 0.3) and of its kernel, and how it is relocated.
//!
//! Most are position-independent, and lie where whoever loads them likes: their relocations (gABI,
//! "Relocation") are carried out before they run. Known are those of the kinds that Hermit's linkers make:
//! a 64-bit address relative to where the image lies, and that of a symbol.

use std::fmt;

use hv::Arch;

use super::bytes::{u16_at, u32_at, u64_at};
use super::elf::{Elf, ElfError, Extent, Segment, Tls, is_elf};
use super::view::View;
use super::{Error, Problem, Source};

/// The version of the entry that is known here (`HERMIT_ENTRY_VERSION`).
const ENTRY_VERSION: u8 = 4;

/// Bytes of an entry of the table for linkers, of a relocation and of a symbol.
const DYN: usize = 16;
const RELA: usize = 24;
const SYM: u64 = 24;
/// Relocations that are read at once.
const BATCH: u64 = 512;
/// No table for linkers is longer; they have a dozen entries.
const MOST_DYNAMIC: u64 = 64 << 10;
/// Relocations that are carried out, which is before the guest's time begins: programs of a hundred MiB have a
/// tenth of that.
const MOST_RELOCATIONS: u64 = 4 << 20;

const DT_NEEDED: u64 = 1;
const DT_SYMTAB: u64 = 6;
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_REL: u64 = 17;
const DT_JMPREL: u64 = 23;
const DT_RELR: u64 = 36;

/// A symbol may be missing.
const STB_WEAK: u8 = 2;
const SHN_UNDEF: u16 = 0;

/// Uhyve's interface, by how a guest makes hypercalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// Version 1: pointers of 32 bits on x86_64.
    V1,
    /// Versions 2 and 3: pointers of 64 bits.
    V2,
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "version 1",
            Self::V2 => "version 2 or 3",
        })
    }
}

/// What makes an ELF file a Hermit unikernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hermit {
    /// Its first instruction: physical once it is loaded.
    pub entry: u64,
    /// How it makes hypercalls.
    pub interface: Interface,
    /// The version of its kernel; those before 0.10 do not say it.
    pub kernel: Option<[u32; 3]>,
    /// What each thread has for itself, and where that is, physically.
    pub tls: Option<Tls>,
    /// Whether it can lie anywhere.
    pub is_relocatable: bool,
    relocations: Relocations,
}

/// Where its relocations are, in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Relocations {
    table: Option<Extent>,
    /// Where the symbols begin.
    symbols: Option<u64>,
}

/// Why a Hermit unikernel cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HermitError {
    /// Another version of the entry.
    #[error(
        "it has version {0} of Hermit's entry, and runner has version 4: build it with a kernel from 0.5 on \
         that has that, or look for a newer runner"
    )]
    Version(u8),
    /// Another version of uhyve's interface.
    #[error(
        "it speaks version {0} of uhyve's interface, and runner versions 1 to 3: look for a newer runner"
    )]
    Interface(u32),
    /// An address that is mapped to another.
    #[error(
        "program header {0} has a virtual address other than its physical one: link it with Hermit's own target"
    )]
    Virtual(usize),
    /// It needs libraries.
    #[error("it is linked to dynamic libraries: link it statically, with Hermit's own target")]
    Library,
    /// A table that is not in the file.
    #[error("its {0} is not in the file: it is truncated or damaged, build it again")]
    NoTable(&'static str),
    /// A table for which no segment has the bytes.
    #[error(
        "its relocation table, {size} bytes at {at:#x}, is not in the file bytes of one segment: the file is damaged, \
         build it again"
    )]
    TableOutside {
        /// Where it is, as linked.
        at: u64,
        /// Its bytes.
        size: u64,
    },
    /// More relocations than any program has.
    #[error(
        "its relocation table at {at:#x} has {count} entries, and runner takes {MOST_RELOCATIONS}: the file is damaged, \
         build it again"
    )]
    TooMany {
        /// Where the table is, as linked.
        at: u64,
        /// Its entries.
        count: u64,
    },
    /// Relocations that nobody carries out.
    #[error(
        "it has relocations of a sort that is not known here ({0}): link it with Hermit's own target"
    )]
    Sort(&'static str),
    /// One of a kind that is not known.
    #[error(
        "relocation {index} is of kind {kind}, which is not known here: link it with Hermit's own target"
    )]
    Kind {
        /// Its number.
        index: u64,
        /// Its kind.
        kind: u32,
    },
    /// One outside of what is loaded.
    #[error(
        "relocation {index} is at {at:#x}, where nothing is loaded: the file is damaged, build it again"
    )]
    Outside {
        /// Its number.
        index: u64,
        /// Where it is, as linked.
        at: u64,
    },
    /// One with a symbol that is nowhere.
    #[error(
        "relocation {0} needs a symbol that is not there: link it statically, with Hermit's own target"
    )]
    Symbol(u64),
    /// What threads have for themselves is not in the image.
    #[error(
        "its thread-local storage is not in what is loaded: the file is damaged, build it again"
    )]
    Tls,
}

/// The machine that the Hermit unikernel in `source` is for, which Hermit's loader is given as its ram disk and
/// looks at itself; nothing where it is anything else.
#[must_use]
pub fn program(source: &Source) -> Option<Arch> {
    let mut head = [0; 4];
    source.read_exact_at(0, &mut head).ok().filter(|()| is_elf(&head))?;
    let elf = Elf::parse(&View::whole(source.clone())).ok()?;
    elf.notes.hermit.map(|_| elf.arch)
}

impl Hermit {
    /// What the file says; `entry` is its version.
    pub(super) fn new(view: &View, elf: &Elf, entry: u8) -> Result<Self, Problem> {
        if entry != ENTRY_VERSION {
            return Err(HermitError::Version(entry).into());
        }
        if elf.is_32_bit {
            return Err(Problem::Elf { file: None, error: ElfError::Class32 });
        }
        let interface = match elf.notes.uhyve {
            None | Some(1) => Interface::V1,
            Some(2 | 3) => Interface::V2,
            Some(other) => return Err(HermitError::Interface(other).into()),
        };
        if let Some(segment) = elf.segments.iter().find(|it| it.vaddr != it.paddr) {
            return Err(HermitError::Virtual(segment.index).into());
        }
        let tls = elf.tls.filter(|tls| *tls != Tls::default());
        // Where all of it begins as zeros, linkers put its place between segments.
        let template = tls.filter(|tls| tls.file_size != 0);
        if template.is_some_and(|tls| !is_loaded(&elf.segments, tls.vaddr, tls.file_size)) {
            return Err(HermitError::Tls.into());
        }
        let physical = elf.physical_entry().map_err(|error| Problem::Elf { file: None, error })?;
        let relocations = match elf.dynamic {
            true => Relocations::find(view, elf)?,
            false => Relocations::default(),
        };
        Ok(Self {
            entry: physical.unwrap_or(elf.entry),
            interface,
            kernel: elf.notes.hermit_kernel,
            tls,
            is_relocatable: elf.dynamic,
            relocations,
        })
    }

    /// The same, `base` higher.
    pub(super) fn moved(mut self, base: u64) -> Option<Self> {
        self.entry = self.entry.checked_add(base)?;
        if let Some(tls) = &mut self.tls {
            tls.vaddr = tls.vaddr.checked_add(base)?;
        }
        Some(self)
    }

    /// Hands every relocation to `put`: an address in one of the loaded `segments`, which lie `base` above
    /// where they are linked, and the 64 bits that belong there.
    ///
    /// # Errors
    /// What `put` says, and what is wrong with a relocation.
    pub fn relocate<E: From<Error>>(
        &self,
        view: &View,
        arch: Arch,
        (segments, base): (&[Segment], u64),
        put: &mut dyn FnMut(u64, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(table) = self.relocations.table else { return Ok(()) };
        let wrong = |problem: Problem| E::from(Error::new(view.source().name(), problem));
        let count = table.size.checked_div(RELA as u64).unwrap_or_default();
        let mut first = 0;
        while first < count {
            let batch = BATCH.min(count.saturating_sub(first));
            let bytes = usize::try_from(batch).unwrap_or_default().saturating_mul(RELA);
            let mut raw = vec![0; bytes];
            let at = table.offset.saturating_add(first.saturating_mul(RELA as u64));
            view.read_exact_at(at, &mut raw).map_err(|error| wrong(error.into()))?;
            for (index, raw) in (first..).zip(raw.chunks_exact(RELA)) {
                let rela = Rela::read(raw, index).unwrap_or_default();
                let value = rela.value(view, arch, &self.relocations, base).map_err(wrong)?;
                let Some(value) = value else { continue };
                let at = rela.offset.checked_add(base);
                let at = at
                    .filter(|at| is_loaded(segments, *at, 8))
                    .ok_or_else(|| wrong(HermitError::Outside { index, at: rela.offset }.into()))?;
                put(at, value)?;
            }
            first = first.saturating_add(batch);
        }
        Ok(())
    }
}

/// Whether all of it is in the memory of one segment.
fn is_loaded(segments: &[Segment], at: u64, len: u64) -> bool {
    let Some(end) = at.checked_add(len) else { return false };
    segments.iter().any(|segment| segment.paddr <= at && end <= segment.end())
}

impl Relocations {
    fn find(view: &View, elf: &Elf) -> Result<Self, Problem> {
        let Some(extent) = elf.dynamic_table else { return Ok(Self::default()) };
        let missing = |what| Problem::from(HermitError::NoTable(what));
        let table = "table for linkers";
        let in_file = |extent: Extent| {
            extent.offset.checked_add(extent.size).is_some_and(|end| end <= view.len())
        };
        if extent.size > MOST_DYNAMIC || !in_file(extent) {
            return Err(missing(table));
        }
        let mut raw = vec![0; usize::try_from(extent.size).map_err(|_| missing(table))?];
        view.read_exact_at(extent.offset, &mut raw)?;
        let (mut rela, mut size, mut symbols) = (None, 0, None);
        for entry in raw.chunks_exact(DYN) {
            let value = u64_at(entry, 8).unwrap_or_default();
            match u64_at(entry, 0).unwrap_or_default() {
                0 => break,
                DT_NEEDED => return Err(HermitError::Library.into()),
                DT_RELA => rela = Some(value),
                DT_RELASZ => size = value,
                DT_SYMTAB => symbols = in_the_file(&elf.segments, value, SYM),
                DT_REL => return Err(HermitError::Sort("DT_REL").into()),
                DT_JMPREL => return Err(HermitError::Sort("DT_JMPREL").into()),
                DT_RELR => return Err(HermitError::Sort("DT_RELR").into()),
                _ => {}
            }
        }
        let Some(rela) = rela.filter(|_| size > 0) else {
            return Ok(Self { table: None, symbols });
        };
        let outside = HermitError::TableOutside { at: rela, size };
        let offset = in_the_file(&elf.segments, rela, size).ok_or(outside)?;
        match size.div_ceil(RELA as u64) {
            count if count > MOST_RELOCATIONS => {
                Err(HermitError::TooMany { at: rela, count }.into())
            }
            _ => Ok(Self { table: Some(Extent { offset, size }), symbols }),
        }
    }
}

/// Where in the file the bytes are that are linked for `vaddr`, `len` of them in one segment. (That has its bytes in
/// the file, which may be one with holes, and as long as it likes.)
fn in_the_file(segments: &[Segment], vaddr: u64, len: u64) -> Option<u64> {
    segments.iter().find_map(|segment| {
        let into = vaddr.checked_sub(segment.vaddr)?;
        into.checked_add(len).filter(|end| *end <= segment.file_size)?;
        segment.file_offset.checked_add(into)
    })
}

/// A relocation.
#[derive(Debug, Clone, Copy, Default)]
struct Rela {
    index: u64,
    offset: u64,
    symbol: u32,
    kind: u32,
    addend: u64,
}

impl Rela {
    fn read(raw: &[u8], index: u64) -> Option<Self> {
        let (offset, addend) = (u64_at(raw, 0)?, u64_at(raw, 16)?);
        Some(Self { index, offset, kind: u32_at(raw, 8)?, symbol: u32_at(raw, 12)?, addend })
    }

    /// What belongs there; nothing where a symbol may be missing and is.
    fn value(
        &self,
        view: &View,
        arch: Arch,
        relocations: &Relocations,
        base: u64,
    ) -> Result<Option<u64>, Problem> {
        let (absolute, data, relative) = match arch {
            Arch::X86_64 => (1, 6, 8),
            Arch::Aarch64 => (257, 1025, 1027),
        };
        let Rela { index, kind, addend, .. } = *self;
        match kind {
            0 => Ok(None),
            kind if kind == relative => Ok(Some(base.wrapping_add(addend))),
            kind if kind == absolute || kind == data => {
                let symbol = self.symbol(view, relocations)?;
                Ok(symbol.map(|value| base.wrapping_add(value).wrapping_add(addend)))
            }
            _ => Err(HermitError::Kind { index, kind }.into()),
        }
    }

    fn symbol(&self, view: &View, relocations: &Relocations) -> Result<Option<u64>, Problem> {
        let missing = || Problem::from(HermitError::Symbol(self.index));
        let offset = u64::from(self.symbol).saturating_mul(SYM);
        let at = relocations.symbols.and_then(|symbols| symbols.checked_add(offset));
        let mut raw = [0; 24];
        view.read_exact_at(at.ok_or_else(missing)?, &mut raw).map_err(|_| missing())?;
        let [_, _, _, _, info, ..] = raw;
        if u16_at(&raw, 6) != Some(SHN_UNDEF) {
            return Ok(u64_at(&raw, 8));
        }
        if info >> 4 == STB_WEAK { Ok(None) } else { Err(missing()) }
    }
}

#[cfg(test)]
#[path = "hermit_tests.rs"]
mod tests;
