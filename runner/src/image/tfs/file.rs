//! Files by their metadata (nanos `src/fs/tfs.c`).
//!
//! A file is `(filelength: bytes, extents: ("<sector in the file>": (offset, length, allocated)))`,
//! the last three in sectors of the file system. Sectors without an extent are holes; an extent
//! with `uninited` has not been written.

use std::collections::HashSet;

use super::Region;
use super::log::extension;
use super::tree::{Tuple, Value};
use crate::image::mbr::SECTOR;
use crate::image::source::Source;
use crate::image::view::View;

/// Extents of one file. Only kernels are looked up, and they have one.
pub(super) const MAX_EXTENTS: usize = 1 << 16;

/// What is wrong with a file's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// A directory, or something else without extents.
    #[error("it is no regular file")]
    NotFile,
    /// No length, or no number.
    #[error("its length is not a number of bytes")]
    Length,
    /// Too many extents.
    #[error("it has more than {MAX_EXTENTS} extents")]
    Extents,
    /// An extent at no sector.
    #[error("an extent's place in the file is not a number of sectors")]
    Place,
    /// An extent that is none.
    #[error("its extent at sector {0} has no offset or length")]
    Extent(u64),
    /// An extent that is not in the file system.
    #[error(
        "its extent at sector {sector} is {length} sectors at {offset}, outside of the file system"
    )]
    Outside {
        /// Its place in the file.
        sector: u64,
        /// Its place in the file system.
        offset: u64,
        /// Its length in sectors.
        length: u64,
    },
    /// Extents that are one tuple.
    #[error("its extent at sector {0} is that at another sector, too")]
    Shared(u64),
    /// Extents that claim the same sectors of the file.
    #[error("two of its extents overlap")]
    Overlap,
}

/// The bytes of the file that `tuple` describes.
pub(super) fn view(tuple: &Tuple<'_>, source: &Source, region: Region) -> Result<View, FileError> {
    let Some(Value::Tuple(extents)) = tuple.get("extents") else {
        return Err(FileError::NotFile);
    };
    let length =
        tuple.get("filelength").and_then(|length| length.number()).ok_or(FileError::Length)?;
    let extents = extents.entries();
    if extents.len() > MAX_EXTENTS {
        return Err(FileError::Extents);
    }
    let mut runs = Vec::new();
    // Were the same tuple, with a million entries, allowed at each of a million sectors, this would
    // take for ever.
    let mut seen = HashSet::new();
    for (key, value) in extents {
        let sector = key.number().ok_or(FileError::Place)?;
        let Value::Tuple(extent) = value else {
            return Err(FileError::Extent(sector));
        };
        if !seen.insert(extent.node()) {
            return Err(FileError::Shared(sector));
        }
        runs.push(run(sector, &extent, region)?);
    }
    runs.sort_unstable_by_key(|(at, ..)| *at);
    View::of_extents(source.clone(), length, &runs).ok_or(FileError::Overlap)
}

/// An extent as (offset in the file, length, offset in the source), in bytes.
fn run(
    sector: u64,
    extent: &Tuple<'_>,
    region: Region,
) -> Result<(u64, u64, Option<u64>), FileError> {
    let number =
        |name| extent.get(name).and_then(|value| value.number()).ok_or(FileError::Extent(sector));
    let (offset, length) = (number("offset")?, number("length")?);
    let at = sector.checked_mul(SECTOR).ok_or(FileError::Place)?;
    let found =
        extension(region, offset, length).ok_or(FileError::Outside { sector, offset, length })?;
    let place = if extent.get("uninited").is_some() { None } else { Some(found.start) };
    Ok((at, found.len, place))
}
