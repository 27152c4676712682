//! Page tables with the rights of each page: four levels, 2 MiB in a block, 4 KiB pages where rights
//! change inside of one. Both architectures have the same shape; what differs is how an entry is written.

use std::ops::Range;

use super::{BOOT_INFO, KERNELS, PAGE, Rights, pages};
use crate::boot::Error;
use crate::boot::load::{Loading, does_not_fit};
use crate::image::Segment;

/// Bytes of a block, an entry of the third level.
const BLOCK: u64 = 2 << 20;
/// Bytes behind an entry of the second level.
const GIB: u64 = 1 << 30;
/// Entries of a table.
const ENTRIES: u64 = 512;

/// Which rights a guest has where.
pub(super) struct Map {
    /// Each segment's pages.
    segments: Vec<(Range<u64>, Rights)>,
    /// Bytes of memory.
    pub(super) memory: u64,
}

/// How an architecture writes its entries.
pub(super) struct Format {
    /// Where the tables are, one behind the other.
    pub(super) base: u64,
    /// One that leads to a table.
    pub(super) table: fn(u64) -> u64,
    /// A block of 2 MiB.
    pub(super) block: fn(u64, Rights) -> u64,
    /// A page of 4 KiB.
    pub(super) page: fn(u64, Rights) -> u64,
    /// Another entry of the second level, and its place there.
    pub(super) more: Option<(u64, u64)>,
}

impl Map {
    /// `guarded`: writes to what is read-only are caught elsewhere.
    pub(super) fn new(segments: &[Segment], memory: u64, guarded: bool) -> Self {
        let rights = |segment: &Segment| match (segment.executable(), segment.writable()) {
            (true, _) if guarded => Rights::Guarded,
            (true, _) => Rights::Execute,
            (false, false) if !guarded => Rights::Read,
            (false, _) => Rights::Write,
        };
        let segments = segments.iter().map(|segment| (pages(segment), rights(segment)));
        Self { segments: segments.collect(), memory }
    }

    fn at(&self, gpa: u64) -> Rights {
        if gpa < BOOT_INFO {
            return Rights::None;
        }
        if gpa < KERNELS {
            return Rights::Read;
        }
        let found = self.segments.iter().find(|(pages, _)| pages.contains(&gpa));
        found.map_or(Rights::Write, |(_, rights)| *rights)
    }

    /// Whether all pages of the block at `gpa` have the same rights.
    fn is_uniform(&self, gpa: u64) -> bool {
        let inside = |edge: u64| gpa < edge && edge < gpa.saturating_add(BLOCK);
        let edges = self.segments.iter().flat_map(|(pages, _)| [pages.start, pages.end]);
        gpa >= BLOCK && !edges.into_iter().any(inside)
    }

    /// Writes the tables. The one of the first level is at the format's base.
    pub(super) fn write(&self, format: &Format, loading: &mut Loading<'_>) -> Result<(), Error> {
        let table = |number: u64| format.base + number * PAGE;
        // Up to four of the third level: that much memory there is at most.
        let (second, third, thirds) = (table(1), 2, self.memory.div_ceil(GIB));
        let mut entries: Vec<u64> =
            (0..thirds).map(|number| (format.table)(table(third + number))).collect();
        if let Some((index, entry)) = format.more {
            entries.resize(usize::try_from(index).unwrap_or_default(), 0);
            entries.push(entry);
        }
        put(loading, format.base, &[(format.table)(second)])?;
        put(loading, second, &entries)?;
        let mut fourth = table(third + thirds);
        let mut blocks = Vec::new();
        for gpa in (0..self.memory / BLOCK).map(|block| block * BLOCK) {
            if self.is_uniform(gpa) {
                blocks.push((format.block)(gpa, self.at(gpa)));
                continue;
            }
            if fourth >= BOOT_INFO {
                let what = "the kernel's segments, for each of which a page table may be needed,";
                let range = table(0)..fourth.saturating_add(PAGE);
                let why = format!("boot info is at {BOOT_INFO:#x}");
                let remedy = "link the kernel with fewer segments";
                return Err(does_not_fit(what.to_owned(), &range, why, remedy));
            }
            let page = |index| gpa + index * PAGE;
            let entry = |index| (format.page)(page(index), self.at(page(index)));
            put(loading, fourth, &(0..ENTRIES).map(entry).collect::<Vec<u64>>())?;
            blocks.push((format.table)(fourth));
            fourth += PAGE;
        }
        put(loading, table(third), &blocks)
    }
}

fn put(loading: &mut Loading<'_>, gpa: u64, entries: &[u64]) -> Result<(), Error> {
    let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    loading.write(gpa, &bytes)
}
