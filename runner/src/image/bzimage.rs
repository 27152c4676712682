//! Linux's bzImage for x86 (`Documentation/arch/x86/boot.rst`, "The Real-Mode Kernel Header"): a
//! boot sector and setup code for real mode, which nobody runs here, and behind them the kernel,
//! entered in 32-bit mode at its first byte, in 64-bit mode at byte 0x200.
//!
//! Checked here is what the file says about itself. Whether it fits into RAM is for the boot plan.

use super::bytes::{array, u16_at, u32_at, u64_at};
use super::source::ReadError;
use super::{Segment, View};

/// Offsets in the file, and in the zero page.
mod offset {
    pub(super) const SETUP_SECTS: usize = 0x1f1;
    pub(super) const SYSSIZE: usize = 0x1f4;
    pub(super) const BOOT_FLAG: usize = 0x1fe;
    pub(super) const JUMP: usize = 0x201;
    pub(super) const MAGIC: usize = 0x202;
    pub(super) const VERSION: usize = 0x206;
    pub(super) const KERNEL_VERSION: usize = 0x20e;
    pub(super) const LOADFLAGS: usize = 0x211;
    pub(super) const CODE32_START: usize = 0x214;
    pub(super) const INITRD_ADDR_MAX: usize = 0x22c;
    pub(super) const KERNEL_ALIGNMENT: usize = 0x230;
    pub(super) const RELOCATABLE: usize = 0x234;
    pub(super) const XLOADFLAGS: usize = 0x236;
    pub(super) const CMDLINE_SIZE: usize = 0x238;
    pub(super) const PREF_ADDRESS: usize = 0x258;
    pub(super) const INIT_SIZE: usize = 0x260;
}

/// Byte 0x201 counts from here to the header's end.
const JUMP_FROM: usize = 0x202;
/// In the zero page other things begin here.
const HEADER_END: usize = 0x290;
/// The first version that says how long a command line may be: Linux 2.6.22.
const OLDEST: u16 = 0x0206;
/// `pref_address` and `init_size`.
const WITH_INIT_SIZE: u16 = 0x020a;
/// `xloadflags`.
const WITH_XLOADFLAGS: u16 = 0x020c;
/// `loadflags`: the kernel goes to 1 MiB, not below 640 KiB.
const LOADED_HIGH: u8 = 1;
/// `xloadflags`: there is a 64-bit entry.
const KERNEL_64: u16 = 1;
/// Where the 64-bit entry is.
const ENTRY_64: u64 = 0x200;
const SECTOR: u64 = 512;
/// 0 in `setup_sects` means this many.
const SETUP_SECTS: u64 = 4;
/// `syssize` counts these; files end within the last one.
const PARAGRAPH: u64 = 16;
/// Readable, writable, executable.
const RWX: u32 = 7;

/// A bzImage that cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum BzImageError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The header ends before it has said what it must.
    #[error(
        "its setup header ends at byte {end:#x}, and boot protocol {} has fields up to {needed:#x}: \
         the file is damaged, copy or build it again", dotted(*.version)
    )]
    ShortHeader {
        /// Where it ends.
        end: usize,
        /// Where it should.
        needed: usize,
        /// Of the boot protocol.
        version: u16,
    },
    /// From before Linux 2.6.22.
    #[error(
        "its boot protocol is {}, and runner knows 2.06 (Linux 2.6.22) and later: use a newer kernel",
        dotted(*.0)
    )]
    TooOld(u16),
    /// A zImage.
    #[error(
        "it is a zImage, which is loaded below 640 KiB: build a bzImage, or use a newer kernel"
    )]
    LoadedLow,
    /// No protected-mode entry.
    #[error(
        "it starts in real mode only (code32_start is 0), as boot loaders do, and runner has no BIOS: \
         run a kernel, or use `qemu-system-x86_64 -kernel`"
    )]
    RealMode,
    /// The file ends before the kernel does.
    #[error(
        "its kernel takes {size} bytes at byte {offset}, and the file has {len}: it is truncated, \
         copy or build it again"
    )]
    PastEnd {
        /// Where the kernel begins in the file.
        offset: u64,
        /// Its length by the header.
        size: u64,
        /// Length of the file.
        len: u64,
    },
    /// `syssize` is 0.
    #[error("it holds no kernel (syssize is 0): copy or build it again")]
    NoKernel,
    /// `init_size` contradicts the rest.
    #[error(
        "it says that its {size} bytes need {init_size} bytes of memory: the file is damaged, build \
         it again"
    )]
    InitSize {
        /// Bytes of the kernel in the file.
        size: u64,
        /// By the header.
        init_size: u64,
    },
    /// The addresses wrap around.
    #[error(
        "its {size:#x} bytes at {address:#x} reach past the last address: the file is damaged, build \
         it again"
    )]
    Wraps {
        /// Where it wants to be loaded.
        address: u64,
        /// The memory it needs there.
        size: u64,
    },
    /// `kernel_alignment` and `pref_address` contradict each other.
    #[error(
        "it is relocatable by {alignment:#x}, and wants to be at {address:#x}: the file is damaged, \
         build it again"
    )]
    Alignment {
        /// `kernel_alignment`.
        alignment: u32,
        /// `pref_address`.
        address: u64,
    },
    /// `xloadflags` promises an entry that the file has not.
    #[error(
        "it promises a 64-bit entry at byte 0x200 of its kernel, which has {0} bytes: the file is \
         damaged, build it again"
    )]
    NoEntry64(u64),
    /// The 32-bit entry cannot be reached in 32-bit mode.
    #[error("it wants to be at {0:#x}, which 32-bit code cannot reach: build it again")]
    Beyond32(u64),
}

fn dotted(version: u16) -> String {
    let [minor, major] = version.to_le_bytes();
    format!("{major}.{minor:02}")
}

/// What a boot loader needs to know of a bzImage beside its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Version of the boot protocol, the major one in the upper byte.
    pub protocol: u16,
    /// The setup header, which stands at [`Setup::HEADER_AT`] in the zero page, too.
    pub header: Vec<u8>,
    /// The last address a ram disk may cover.
    pub initrd_addr_max: u32,
    /// The longest command line, in bytes, without its NUL.
    pub cmdline_size: u32,
    /// What the kernel calls its version, printable.
    pub version: Option<String>,
}

impl Setup {
    /// Where the setup header begins, in the file and in the zero page.
    pub const HEADER_AT: usize = offset::SETUP_SECTS;
}

impl std::fmt::Display for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "boot protocol: {}", dotted(self.protocol))
    }
}

/// A bzImage, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BzImage {
    /// What is loaded, and the memory it needs to start.
    pub segment: Segment,
    /// Physical address of the 64-bit entry.
    pub entry64: Option<u64>,
    /// Physical address of the 32-bit entry.
    pub entry32: u32,
    /// Everything else.
    pub setup: Setup,
}

/// Whether the file begins as a bzImage does: the boot sector's signature and `HdrS`.
#[must_use]
pub fn is_bzimage(head: &[u8]) -> bool {
    array(head, offset::BOOT_FLAG) == Some([0x55, 0xaa])
        && array(head, offset::MAGIC) == Some(*b"HdrS")
}

impl BzImage {
    /// Reads the setup header; `view` begins as [`is_bzimage`] wants it.
    ///
    /// # Errors
    /// [`BzImageError`], for all that could not be loaded as it is.
    pub fn parse(view: &View) -> Result<Self, BzImageError> {
        let mut head = vec![0; usize::try_from(view.len()).unwrap_or(HEADER_END).min(HEADER_END)];
        view.read_exact_at(0, &mut head)?;
        let header = Header::new(&head)?;
        let (offset, size) = header.kernel(view.len())?;
        let (paddr, mem_size) = header.place(size)?;
        let segment = Segment {
            index: 0,
            file_offset: offset,
            file_size: size,
            mem_size,
            paddr,
            vaddr: paddr,
            flags: RWX,
        };
        let entry32 = u32::try_from(paddr).map_err(|_| BzImageError::Beyond32(paddr))?;
        let entry64 = match header.flag(offset::XLOADFLAGS, KERNEL_64) {
            false => None,
            true if size > ENTRY_64 => paddr.checked_add(ENTRY_64),
            true => return Err(BzImageError::NoEntry64(size)),
        };
        let setup = Setup {
            protocol: header.version,
            header: header.bytes.get(Setup::HEADER_AT..).unwrap_or_default().to_vec(),
            initrd_addr_max: header.u32(offset::INITRD_ADDR_MAX),
            cmdline_size: header.u32(offset::CMDLINE_SIZE),
            version: header.kernel_version(view, offset),
        };
        Ok(Self { segment, entry64, entry32, setup })
    }
}

/// The file's first bytes, up to the header's end, which are all that its version promises.
struct Header<'a> {
    bytes: &'a [u8],
    version: u16,
}

impl<'a> Header<'a> {
    fn new(head: &'a [u8]) -> Result<Self, BzImageError> {
        let version = u16_at(head, offset::VERSION).unwrap_or_default();
        let jump = head.get(offset::JUMP).copied().unwrap_or_default();
        let end = JUMP_FROM.saturating_add(jump.into()).min(HEADER_END);
        if !(OLDEST..0x0300).contains(&version) {
            return Err(BzImageError::TooOld(version));
        }
        // Protocols name their fields' offsets: the last one of each version that matters here.
        let needed = match version {
            WITH_INIT_SIZE.. => offset::INIT_SIZE.saturating_add(4),
            _ => offset::CMDLINE_SIZE.saturating_add(4),
        };
        match head.get(..end) {
            Some(bytes) if end >= needed => Ok(Self { bytes, version }),
            _ => Err(BzImageError::ShortHeader { end: end.min(head.len()), needed, version }),
        }
    }

    fn u32(&self, at: usize) -> u32 {
        u32_at(self.bytes, at).unwrap_or_default()
    }

    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or_default()
    }

    /// A flag of `xloadflags`, where there are such.
    fn flag(&self, at: usize, flag: u16) -> bool {
        self.version >= WITH_XLOADFLAGS && u16_at(self.bytes, at).unwrap_or_default() & flag != 0
    }

    /// The kernel's bytes in a file of `len`: offset and length.
    fn kernel(&self, len: u64) -> Result<(u64, u64), BzImageError> {
        let sectors = match self.byte(offset::SETUP_SECTS) {
            0 => SETUP_SECTS,
            sectors => sectors.into(),
        };
        // Both fit: a byte of sectors, 32 bits of paragraphs.
        let offset = sectors.saturating_add(1).saturating_mul(SECTOR);
        let size = u64::from(self.u32(offset::SYSSIZE)).saturating_mul(PARAGRAPH);
        if size == 0 {
            return Err(BzImageError::NoKernel);
        }
        let there = len.saturating_sub(offset).min(size);
        if size.saturating_sub(there) >= PARAGRAPH {
            return Err(BzImageError::PastEnd { offset, size, len });
        }
        Ok((offset, there))
    }

    /// Where `size` bytes of kernel go, and how much memory they need from there on.
    ///
    /// A relocatable kernel goes where it prefers to be: elsewhere it would move itself there, or
    /// to the next place that suits it, so there is nothing to gain. One that is not says where it
    /// is loaded, and moves itself if it wants to.
    fn place(&self, size: u64) -> Result<(u64, u64), BzImageError> {
        let code32_start = self.u32(offset::CODE32_START);
        if self.byte(offset::LOADFLAGS) & LOADED_HIGH == 0 {
            return Err(BzImageError::LoadedLow);
        }
        if code32_start == 0 {
            return Err(BzImageError::RealMode);
        }
        let loaded = u64::from(code32_start);
        if self.version < WITH_INIT_SIZE {
            // How much it needs to unpack itself is not written anywhere.
            return Ok((loaded, size));
        }
        let init_size = u64::from(self.u32(offset::INIT_SIZE));
        if init_size < size {
            return Err(BzImageError::InitSize { size, init_size });
        }
        let preferred = match u64_at(self.bytes, offset::PREF_ADDRESS) {
            None | Some(0) => loaded,
            Some(preferred) => preferred,
        };
        let wraps = || BzImageError::Wraps { address: preferred, size: init_size };
        let end = preferred.checked_add(init_size).ok_or_else(wraps)?;
        if self.byte(offset::RELOCATABLE) == 0 {
            let end = end.max(loaded.saturating_add(size));
            return Ok((loaded, end.saturating_sub(loaded)));
        }
        let alignment = self.u32(offset::KERNEL_ALIGNMENT);
        if !alignment.is_power_of_two() || !preferred.is_multiple_of(alignment.into()) {
            return Err(BzImageError::Alignment { alignment, address: preferred });
        }
        Ok((preferred, init_size))
    }

    /// The string that `kernel_version` points at, in the setup code; for a person, so an unreadable
    /// one is none.
    fn kernel_version(&self, view: &View, setup_size: u64) -> Option<String> {
        let pointer = u16_at(self.bytes, offset::KERNEL_VERSION).filter(|at| *at != 0)?;
        let at = u64::from(pointer).checked_add(0x200)?;
        let mut text = vec![0; usize::try_from(setup_size.checked_sub(at)?.min(128)).ok()?];
        view.read_exact_at(at, &mut text).ok()?;
        let text = text.split(|byte| *byte == 0).next()?;
        (!text.is_empty()).then(|| text.escape_ascii().to_string())
    }
}

#[cfg(test)]
#[path = "bzimage_tests.rs"]
mod tests;
