//! ELF notes (gABI, "Note Section"), and what they say about a kernel.
//!
//! A note is namesz, descsz, type (32 bits each), the name with its NUL, the description, each
//! padded to 4 bytes, or to 8 where the segment is aligned to 8. Known here: PVH's entry (Xen's
//! `elfnote.h`, type 18) and the guest's name (6), Solo5's ABI1 and MFT1 ([`solo5`]), Hermit's entry version and the
//! version of uhyve's interface (`hermit-entry`), and GNU's ABI tag, which marks a program, or a kernel of Hermit's.

use super::bytes::{array, u32_at};
use super::solo5::{self, Abi, Manifest, ManifestError};
use crate::family::System;

const PVH_ENTRY: u32 = 18;
const GUEST_OS: u32 = 6;
const HERMIT_ENTRY: u32 = 0x5a00;
const UHYVE_INTERFACE: u32 = 0x5b00;
const GNU_ABI_TAG: u32 = 1;
const HERMIT: u32 = 6;
const HEADER: usize = 12;

/// A note that cannot be read. Offsets are from the start of the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The segment ends inside a note.
    #[error("the note at byte {0} of the segment runs past the segment's end")]
    Truncated(usize),
    /// A PVH entry note that holds no 32-bit address.
    #[error("the PVH note at byte {0} of the segment holds no 32-bit address")]
    PvhEntry(usize),
    /// A second PVH entry note disagrees with the first.
    #[error("two PVH notes name different entries, {0:#x} and {1:#x}")]
    TwoPvhEntries(u32, u32),
    /// A Solo5 note that is not what Solo5 writes.
    #[error("the Solo5 note at byte {0} of the segment is shorter than its target and version")]
    Solo5(usize),
    /// A Solo5 manifest that cannot be one.
    #[error("Solo5's manifest at byte {0} of the segment: {1}")]
    Manifest(usize, ManifestError),
    /// Two Solo5 notes of a sort that disagree.
    #[error("a second Solo5 note at byte {0} of the segment disagrees with the first")]
    TwoSolo5(usize),
    /// A HERMIT note that is not what Hermit writes.
    #[error("the HERMIT note at byte {0} of the segment holds no version")]
    Hermit(usize),
    /// A UHYVEIF note that is not what Hermit writes.
    #[error("the UHYVEIF note at byte {0} of the segment holds no version")]
    Uhyve(usize),
}

/// What all notes of a file say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Physical address of the 32-bit PVH entry.
    pub pvh_entry: Option<u32>,
    /// Whose kernel it says it is.
    pub guest: Option<System>,
    /// What a Solo5 unikernel is built for.
    pub solo5: Option<Abi>,
    /// The devices that it wants.
    pub solo5_manifest: Option<Manifest>,
    /// Entry version of a Hermit unikernel.
    pub hermit: Option<u8>,
    /// Version of uhyve's interface that it speaks.
    pub uhyve: Option<u32>,
    /// Version of its kernel.
    pub hermit_kernel: Option<[u32; 3]>,
    /// Whether GNU's ABI tag says that this is a program for Linux.
    pub linux_abi: bool,
}

impl Notes {
    /// Adds what the notes in one segment say; `align` is the segment's alignment.
    ///
    /// # Errors
    /// [`NoteError`]: notes are read to their end, or not at all.
    pub fn add(&mut self, segment: &[u8], align: u64) -> Result<(), NoteError> {
        let pad = if align == 8 { 8 } else { 4 };
        let mut at = 0;
        // Fewer bytes than a header are padding.
        while segment.len().saturating_sub(at) >= HEADER {
            let note = Note::at(segment, at, pad).ok_or(NoteError::Truncated(at))?;
            self.understand(&note, at)?;
            at = note.end;
        }
        Ok(())
    }

    fn understand(&mut self, note: &Note<'_>, at: usize) -> Result<(), NoteError> {
        match (note.name, note.kind) {
            (b"Xen", PVH_ENTRY) => {
                let entry = pvh_entry(note.desc).ok_or(NoteError::PvhEntry(at))?;
                if let Some(first) = self.pvh_entry.filter(|first| *first != entry) {
                    return Err(NoteError::TwoPvhEntries(first, entry));
                }
                self.pvh_entry = Some(entry);
            }
            (b"Xen", GUEST_OS) => self.guest = self.guest.or(System::by_name(note.desc)),
            (solo5::NAME, solo5::ABI) => {
                let abi = Abi::read(note.desc).ok_or(NoteError::Solo5(at))?;
                same(&mut self.solo5, abi, at)?;
            }
            (solo5::NAME, solo5::MANIFEST) => {
                let manifest = Manifest::read(note.desc);
                let manifest = manifest.map_err(|error| NoteError::Manifest(at, error))?;
                same(&mut self.solo5_manifest, manifest, at)?;
            }
            (b"HERMIT", HERMIT_ENTRY) => {
                let version = *note.desc.first().ok_or(NoteError::Hermit(at))?;
                self.hermit = self.hermit.or(Some(version));
            }
            (b"UHYVEIF", UHYVE_INTERFACE) => {
                // The only big-endian number of them all.
                let version = array(note.desc, 0).map(u32::from_be_bytes);
                self.uhyve = self.uhyve.or(Some(version.ok_or(NoteError::Uhyve(at))?));
            }
            (b"GNU", GNU_ABI_TAG) => self.abi_tag(note.desc),
            _ => {}
        }
        Ok(())
    }
}

impl Notes {
    /// The first word is the operating system: 0 is Linux, 6 Hermit. Its version follows.
    fn abi_tag(&mut self, desc: &[u8]) {
        let word = |at| u32_at(desc, at);
        self.linux_abi |= word(0) == Some(0);
        if word(0) == Some(HERMIT)
            && let (Some(major), Some(minor), Some(patch)) = (word(4), word(8), word(12))
        {
            self.hermit_kernel = Some([major, minor, patch]);
        }
    }
}

/// Keeps what a note says, and refuses another that says something else.
fn same<T: PartialEq>(known: &mut Option<T>, said: T, at: usize) -> Result<(), NoteError> {
    match known {
        Some(first) if *first != said => Err(NoteError::TwoSolo5(at)),
        _ => {
            *known = Some(said);
            Ok(())
        }
    }
}

struct Note<'a> {
    name: &'a [u8],
    kind: u32,
    desc: &'a [u8],
    /// Where the next note begins; more than where this one does.
    end: usize,
}

impl<'a> Note<'a> {
    fn at(segment: &'a [u8], at: usize, pad: usize) -> Option<Self> {
        let name_len = usize::try_from(u32_at(segment, at)?).ok()?;
        let desc_len = usize::try_from(u32_at(segment, at.checked_add(4)?)?).ok()?;
        let kind = u32_at(segment, at.checked_add(8)?)?;
        let name_at = at.checked_add(HEADER)?;
        let name_end = name_at.checked_add(name_len)?;
        let name = segment.get(name_at..name_end)?;
        let name = name.strip_suffix(b"\0").unwrap_or(name);
        // Solo5 pads its name to 4 and says so in the length behind it, also where the segment is
        // aligned to 8.
        let pad = if name == solo5::NAME { 4 } else { pad };
        let desc_at = name_end.checked_next_multiple_of(pad)?;
        let desc_end = desc_at.checked_add(desc_len)?;
        // An empty description may end the segment before its padding does.
        let desc = if desc_len == 0 { &[][..] } else { segment.get(desc_at..desc_end)? };
        let end = desc_end.checked_next_multiple_of(pad)?;
        Some(Self { name, kind, desc, end })
    }
}

/// Linux writes the address as 64 bits, everybody else as 32.
fn pvh_entry(desc: &[u8]) -> Option<u32> {
    match desc.len() {
        4 => u32_at(desc, 0),
        8 => u32::try_from(u64::from_le_bytes(array(desc, 0)?)).ok(),
        _ => None,
    }
}

#[cfg(test)]
#[path = "notes_tests.rs"]
mod tests;
