//! Whose kernel it is: where [`System`]'s marks are looked for. What they are is in [`crate::family::MARKS`].

use super::bzimage::Setup;
use super::elf::{Elf, Segment, is_elf, sections};
use super::view::View;
use crate::family::{Mark, System};

const PAGE: u64 = 4096;
/// Where the ELF file begins that an Image of OSv's is made of (`arch/aarch64/preboot.S`).
const OSV_ELF: u64 = 0x1_0000;

/// The most bytes in which text is looked for: loaders have 200 KB, and twenty times that for who debugs them.
const MOST_TEXT: u64 = 4 << 20;

impl System {
    /// Whose name stands in Xen's note.
    pub(super) fn by_name(name: &[u8]) -> Option<Self> {
        let name = name.strip_suffix(b"\0").unwrap_or(name);
        Self::marked(|mark| matches!(mark, Mark::XenNote(known) if *known == name))
    }

    /// Whose an ELF kernel is.
    pub(super) fn of_elf(view: &View, elf: &Elf) -> Option<Self> {
        elf.notes.guest.or_else(|| Self::by_sections(view))
    }

    fn by_sections(view: &View) -> Option<Self> {
        let names = sections::names(view);
        let mut names = names.split(|byte| *byte == 0);
        names.find_map(|name| {
            Self::marked(|mark| matches!(mark, Mark::Section(known) if name.starts_with(known)))
        })
    }

    /// Whose an Image for arm64 is that wants to be `text_offset` bytes behind a multiple of 2 MiB.
    pub(super) fn of_arm64_image(view: &View, text_offset: u64) -> Option<Self> {
        let behind = text_offset % PAGE;
        let by_place = Self::marked(|mark| matches!(mark, Mark::BehindPage(at) if *at == behind));
        by_place.or_else(|| {
            let elf = view.behind(OSV_ELF)?;
            let mut magic = [0; 4];
            elf.read_exact_at(0, &mut magic).ok()?;
            is_elf(&magic).then(|| Self::by_sections(&elf)).flatten()
        })
    }

    /// Whose a kernel is by text in `segments`, of which each is in `view`. Nobody's where they are long.
    pub(super) fn by_text(view: &View, segments: &[Segment]) -> Option<Self> {
        let len = segments.iter().map(|segment| segment.file_size).fold(0, u64::saturating_add);
        let mut segments = segments.iter().filter(|_| len <= MOST_TEXT);
        segments.find_map(|segment| {
            let mut bytes = vec![0; usize::try_from(segment.file_size).ok()?];
            view.read_exact_at(segment.file_offset, &mut bytes).ok()?;
            let has = |text: &[u8]| bytes.windows(text.len()).any(|it| it == text);
            Self::marked(|mark| matches!(mark, Mark::Text(known) if has(known)))
        })
    }

    /// Whose a bzImage is.
    pub(super) fn of_bzimage(setup: &Setup) -> Option<Self> {
        let version = setup.version.as_deref()?;
        Self::marked(|mark| matches!(mark, Mark::Version(known) if version.starts_with(known)))
    }
}

#[cfg(test)]
#[path = "system_tests.rs"]
mod tests;
