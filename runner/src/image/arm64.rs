//! Linux's Image for arm64 (`Documentation/arch/arm64/booting.rst`, "Call the kernel image"): 64 bytes of
//! header, the first of them a jump, in front of the kernel; loaded and entered at its first byte.
//!
//! Checked here is what the file says about itself. Whether it fits into RAM is for the boot plan.

use super::bytes::{array, u64_at};
use super::{Segment, View};
use crate::machine::map::virt;

/// Offsets in the file.
mod offset {
    pub(super) const TEXT_OFFSET: usize = 8;
    pub(super) const IMAGE_SIZE: usize = 16;
    pub(super) const FLAGS: usize = 24;
    pub(super) const MAGIC: usize = 56;
}

/// `flags`: the kernel is big-endian.
const BIG_ENDIAN: u64 = 1;
/// `text_offset` of a kernel that does not say how large it is, whatever stands there.
const OLD_TEXT_OFFSET: u64 = 0x8_0000;
/// Less than any kernel is aligned to.
const ALIGNED: u64 = 16;
/// Readable, writable, executable.
const RWX: u32 = 7;

/// An Image that cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum Arm64Error {
    /// For the other byte order.
    #[error(
        "it is big-endian, and guests here begin little-endian: build it without CONFIG_CPU_BIG_ENDIAN"
    )]
    BigEndian,
    /// There are more bytes in the file than it needs in memory.
    #[error(
        "it says that it needs {image_size} bytes of memory, and has {len}: the file is damaged, copy or \
         build it again"
    )]
    ImageSize {
        /// By the header.
        image_size: u64,
        /// Length of the file.
        len: u64,
    },
    /// Code is nowhere aligned so.
    #[error(
        "it wants to be {0:#x} bytes behind a multiple of 2 MiB, which is no multiple of 16: the file is \
         damaged, build it again"
    )]
    Misaligned(u64),
    /// The addresses wrap around.
    #[error(
        "{size:#x} bytes, {text_offset:#x} behind where kernels are loaded, reach past the last address: \
         the file is damaged, build it again"
    )]
    Wraps {
        /// By the header.
        text_offset: u64,
        /// By the header.
        size: u64,
    },
}

/// Whether the file begins as an Image does.
#[must_use]
pub fn is_arm64_image(head: &[u8]) -> bool {
    array(head, offset::MAGIC) == Some(*b"ARM\x64")
}

/// What to load of the Image in `view`, which begins with `head`.
///
/// It wants to be `text_offset` bytes behind a multiple of 2 MiB, as close to the beginning of RAM as
/// may be: behind that itself, if it leaves room for the device tree there. There are kernels that
/// run nowhere else, whatever their flags say: Unikraft is linked there, and OSv takes its addresses from where RAM
/// begins.
///
/// # Errors
/// [`Arm64Error`].
pub(super) fn segment(view: &View, head: &[u8]) -> Result<Segment, Arm64Error> {
    let field = |at| u64_at(head, at).unwrap_or_default();
    if field(offset::FLAGS) & BIG_ENDIAN != 0 {
        return Err(Arm64Error::BigEndian);
    }
    let len = view.len();
    let size = match field(offset::IMAGE_SIZE) {
        0 => len,
        size => size,
    };
    let text_offset = text_offset(head);
    if size < len {
        return Err(Arm64Error::ImageSize { image_size: size, len });
    }
    if !text_offset.is_multiple_of(ALIGNED) {
        return Err(Arm64Error::Misaligned(text_offset));
    }
    let base = if text_offset < virt::TREE { virt::KERNELS } else { virt::RAM };
    let at = base.checked_add(text_offset).filter(|at| at.checked_add(size).is_some());
    let paddr = at.ok_or(Arm64Error::Wraps { text_offset, size })?;
    Ok(Segment {
        index: 0,
        file_offset: 0,
        file_size: len,
        mem_size: size,
        paddr,
        vaddr: paddr,
        flags: RWX,
    })
}

/// How far behind a multiple of 2 MiB the Image that begins with `head` wants to be.
pub(super) fn text_offset(head: &[u8]) -> u64 {
    match u64_at(head, offset::IMAGE_SIZE) {
        // From before Linux 3.17.
        None | Some(0) => OLD_TEXT_OFFSET,
        Some(_) => u64_at(head, offset::TEXT_OFFSET).unwrap_or_default(),
    }
}

#[cfg(test)]
#[path = "arm64_tests.rs"]
mod tests;
