//! What a Solo5 unikernel says of itself in its ELF notes: which target it is built for (`ABI1`), and its
//! manifest (`MFT1`), the devices that it wants by name (Solo5, `include/elf_abi.h`, `include/mft_abi.h`).
//!
//! A manifest is a version, a number of entries, and those: 104 bytes each, of which a file has the name
//! (68 bytes, NUL-terminated) and the type. Whoever runs the unikernel fills in the rest. An entry's place
//! is the device's handle; the first is nobody's.

use std::fmt;

use super::bytes::{array, u32_at};

/// The owner of both notes.
pub(super) const NAME: &[u8] = b"Solo5";
/// "ABI1".
pub(super) const ABI: u32 = 0x3149_4241;
/// "MFT1".
pub(super) const MANIFEST: u32 = 0x3154_464d;

/// The one version of a manifest.
const VERSION: u32 = 1;
/// Version and number of entries.
const HEADER: usize = 8;
/// Bytes of an entry.
pub const ENTRY: usize = 104;
/// Bytes of a name with its NUL.
pub const NAME_SIZE: usize = 68;
/// A handle is a bit in a word of 64.
const MOST_ENTRIES: usize = 64;
/// The type of the first entry, and of all that are nobody's device.
const RESERVED: u32 = 1 << 30;
/// The description of a manifest's note begins with so many bytes of padding: it is aligned to 8, and the
/// note's name to 4.
const PADDING: usize = 4;

/// Which target a unikernel is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abi {
    /// The target's number.
    pub target: u32,
    /// The version of the target's ABI.
    pub version: u32,
}

impl Abi {
    /// The hardware virtualized tender.
    pub const HVT: u32 = 1;

    pub(super) fn read(desc: &[u8]) -> Option<Self> {
        Some(Self { target: u32_at(desc, 0)?, version: u32_at(desc, 4)? })
    }
}

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `BLOCK_BASIC`.
    Block,
    /// `NET_BASIC`.
    Net,
}

impl Kind {
    /// The number of the type.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Kind::Block => 1,
            Kind::Net => 2,
        }
    }
}

/// As a manifest's source has it.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Block => "BLOCK_BASIC",
            Kind::Net => "NET_BASIC",
        })
    }
}

/// A device that the unikernel wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its name: ASCII letters and digits, at most 67.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// A manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// By handle. `None`: nobody's, as the first always is.
    pub entries: Vec<Option<Declared>>,
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not even a header.
    #[error("the note does not fall within valid size, it ends inside the manifest's header")]
    Truncated,
    /// Another version.
    #[error("it has version {0}, and 1 is known")]
    Version(u32),
    /// None, or too many.
    #[error("it says it has {0} entries, and there can be 1 to 64")]
    Count(u32),
    /// Entries of another size, or bytes behind them.
    #[error("its {count} entries need {need} bytes, and there are {has}")]
    Size {
        /// How many entries.
        count: u32,
        /// Their bytes, with the header.
        need: usize,
        /// The bytes that are there.
        has: usize,
    },
    /// The first entry is a device.
    #[error("its first entry is not the reserved one")]
    First,
    /// A name that is no name.
    #[error("the name of entry {0} is not 1 to 67 letters and digits with a NUL behind them")]
    Name(usize),
    /// A device of a type that nobody knows.
    #[error("entry {entry} has type {kind}; 1 (BLOCK_BASIC) and 2 (NET_BASIC) are known")]
    Type {
        /// Its place.
        entry: usize,
        /// The number.
        kind: u32,
    },
    /// An entry that says its device is there.
    #[error("entry {0} says that its device is attached, and nobody has attached one yet")]
    Attached(usize),
    /// Two devices that cannot be told apart.
    #[error("entry {0} has the name of one before it")]
    Twice(usize),
}

impl Manifest {
    /// Reads the description of a note.
    pub(super) fn read(desc: &[u8]) -> Result<Self, ManifestError> {
        let bytes = desc.get(PADDING..).ok_or(ManifestError::Truncated)?;
        let version = u32_at(bytes, 0).ok_or(ManifestError::Truncated)?;
        let count = u32_at(bytes, 4).ok_or(ManifestError::Truncated)?;
        if version != VERSION {
            return Err(ManifestError::Version(version));
        }
        let entries = usize::try_from(count).unwrap_or(usize::MAX);
        if entries == 0 || entries > MOST_ENTRIES {
            return Err(ManifestError::Count(count));
        }
        let need = entries.saturating_mul(ENTRY).saturating_add(HEADER);
        if bytes.len() != need {
            return Err(ManifestError::Size { count, need, has: bytes.len() });
        }
        let mut manifest = Self::default();
        let raw = bytes.get(HEADER..).unwrap_or_default().chunks_exact(ENTRY);
        for (index, entry) in raw.enumerate() {
            let declared = declared(entry, index)?;
            if declared.is_some() && manifest.entries.contains(&declared) {
                return Err(ManifestError::Twice(index));
            }
            manifest.entries.push(declared);
        }
        Ok(manifest)
    }

    /// The devices, with their handles.
    pub fn devices(&self) -> impl Iterator<Item = (usize, &Declared)> {
        let entries = self.entries.iter().enumerate();
        entries.filter_map(|(handle, entry)| Some((handle, entry.as_ref()?)))
    }

    /// The device by this name.
    #[must_use]
    pub fn find(&self, name: &str, kind: Kind) -> Option<usize> {
        let named =
            |(_, declared): &(usize, &Declared)| declared.name == name && declared.kind == kind;
        self.devices().find(named).map(|(handle, _)| handle)
    }
}

/// A device, or nobody's entry.
fn declared(entry: &[u8], index: usize) -> Result<Option<Declared>, ManifestError> {
    let kind = u32_at(entry, NAME_SIZE).ok_or(ManifestError::Truncated)?;
    if array::<1>(entry, 96) != Some([0]) {
        return Err(ManifestError::Attached(index));
    }
    if index == 0 {
        let nameless = array::<1>(entry, 0) == Some([0]);
        return if kind == RESERVED && nameless { Ok(None) } else { Err(ManifestError::First) };
    }
    let kind = match kind {
        1 => Kind::Block,
        2 => Kind::Net,
        RESERVED.. => return Ok(None),
        _ => return Err(ManifestError::Type { entry: index, kind }),
    };
    let name = entry.get(..NAME_SIZE).unwrap_or_default();
    let end = name.iter().position(|byte| *byte == 0).ok_or(ManifestError::Name(index))?;
    let name = name.get(..end).unwrap_or_default();
    if name.is_empty() || !name.iter().all(u8::is_ascii_alphanumeric) {
        return Err(ManifestError::Name(index));
    }
    Ok(Some(Declared { name: String::from_utf8_lossy(name).into_owned(), kind }))
}

/// What makes an ELF file a unikernel for hvt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solo5 {
    /// Target and version.
    pub abi: Abi,
    /// The devices.
    pub manifest: Manifest,
    /// Physical address of its first instruction.
    pub entry: u64,
}

/// Why a unikernel for hvt cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Solo5Error {
    /// Another version of the ABI.
    #[error(
        "it wants version {0} of hvt's ABI, and runner has version 2: build it with Solo5 0.6 or later"
    )]
    Version(u32),
    /// No manifest.
    #[error("it has no manifest (an MFT1 note): link it with Solo5's toolchain, and its manifest")]
    NoManifest,
    /// It would have to be relocated.
    #[error("it is position-independent: link it with Solo5's toolchain, at a fixed address")]
    Dynamic,
    /// An address that is mapped to another.
    #[error(
        "program header {0} has a virtual address other than its physical one: link it with Solo5's \
         toolchain"
    )]
    Virtual(usize),
    /// Below where unikernels are.
    #[error("program header {index} begins at {start:#x}, and unikernels do at 0x100000 or above")]
    TooLow {
        /// Number of the program header.
        index: usize,
        /// Where it begins.
        start: u64,
    },
    /// What can be written can be executed.
    #[error(
        "program header {0} can be written and executed, which hvt's memory protection forbids"
    )]
    WriteExecute(usize),
    /// Memory whose pages have two sorts of rights.
    #[error(
        "program headers {0} and {1} have a page in common: link it with segments that are aligned to pages"
    )]
    SharedPage(usize, usize),
}

#[cfg(test)]
#[path = "solo5_tests.rs"]
mod tests;
