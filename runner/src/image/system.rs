//! Whose kernel it is, where a kernel says so and something depends on it: old hardware that it takes for
//! granted, how it is told of its devices, how it ends.
//!
//! Marks are the kernels' own: the guest's name among Xen's ELF notes (`xen/include/public/elfnote.h`, type 6),
//! names of ELF sections, the version in a bzImage, and what makes up an Image for arm64. None of them is needed to
//! boot, and who has none is nobody's. Hermit's loader has none either, and is known by what it is given.

use std::fmt;

use super::bzimage::Setup;
use super::elf::{Elf, is_elf, sections};
use super::view::View;

/// Whose kernel it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Unikraft: its linker scripts have sections `.uk_…` (`plat/common/include/uk/plat/common/common.lds.h`); its
    /// Images have a header of their own.
    Unikraft,
    /// OSv: by Xen's note, or by the sections of its trace points (`arch/x64/loader.ld`), which the ELF file in an
    /// Image has as well.
    Osv,
    /// FreeBSD, by Xen's note.
    FreeBsd,
    /// NetBSD, by Xen's note.
    NetBsd,
    /// memtest86+, by the version of its bzImage.
    Memtest86Plus,
    /// Hermit's loader: a kernel whose ram disk is a Hermit unikernel.
    HermitLoader,
}

/// How names of sections begin that are one system's alone.
const SECTIONS: [(&[u8], System); 2] =
    [(b".uk_", System::Unikraft), (b".tracepoint_patch_sites", System::Osv)];

/// Names in Xen's note.
const NAMES: [(&[u8], System); 3] =
    [(b"osv", System::Osv), (b"FreeBSD", System::FreeBsd), (b"NetBSD", System::NetBsd)];

/// Bytes of the header of an Image. Unikraft puts it in front of a kernel that begins with a page
/// (`support/scripts/mklinux.py`), where Linux's is the kernel's first page.
const IMAGE_HEADER: u64 = 64;
const PAGE: u64 = 4096;
/// Where the ELF file begins that an Image of OSv's is made of (`arch/aarch64/preboot.S`).
const OSV_ELF: u64 = 0x1_0000;

impl System {
    /// Whose name stands in Xen's note.
    pub(super) fn by_name(name: &[u8]) -> Option<Self> {
        let name = name.strip_suffix(b"\0").unwrap_or(name);
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, system)| *system)
    }

    /// Whose an ELF kernel is.
    pub(super) fn of_elf(view: &View, elf: &Elf) -> Option<Self> {
        elf.notes.guest.or_else(|| Self::by_sections(view))
    }

    fn by_sections(view: &View) -> Option<Self> {
        let names = sections::names(view);
        let mut names = names.split(|byte| *byte == 0);
        names.find_map(|name| {
            SECTIONS.iter().find(|(known, _)| name.starts_with(known)).map(|(_, system)| *system)
        })
    }

    /// Whose an Image for arm64 is that wants to be `text_offset` bytes behind a multiple of 2 MiB.
    pub(super) fn of_arm64_image(view: &View, text_offset: u64) -> Option<Self> {
        if text_offset % PAGE == PAGE - IMAGE_HEADER {
            return Some(System::Unikraft);
        }
        let elf = view.behind(OSV_ELF)?;
        let mut magic = [0; 4];
        elf.read_exact_at(0, &mut magic).ok()?;
        is_elf(&magic).then(|| Self::by_sections(&elf)).flatten()
    }

    /// Whose a bzImage is.
    pub(super) fn of_bzimage(setup: &Setup) -> Option<Self> {
        let version = setup.version.as_deref()?;
        version.starts_with("Memtest86+").then_some(System::Memtest86Plus)
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            System::Unikraft => "Unikraft",
            System::Osv => "OSv",
            System::FreeBsd => "FreeBSD",
            System::NetBsd => "NetBSD",
            System::Memtest86Plus => "memtest86+",
            System::HermitLoader => "Hermit's loader",
        })
    }
}

#[cfg(test)]
#[path = "system_tests.rs"]
mod tests;
