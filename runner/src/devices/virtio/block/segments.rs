//! Discard and write-zeroes: the segments of a request (virtio 1.2 §5.2.6).

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};

use super::request::{Answer, place};
use super::{Buffers, SECTOR};

/// Bytes of a segment: sector, number of sectors, flags.
const SEGMENT: usize = 16;

/// The most segments of any request.
const MAX_SEGMENTS: u8 = 32;

/// What is to become of segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Their contents do not matter any more.
    Discard,
    /// They become zeros.
    Zero,
}

impl Use {
    /// The feature that offers it.
    pub(super) fn feature(self) -> u32 {
        match self {
            Use::Discard => VIRTIO_BLK_F_DISCARD,
            Use::Zero => VIRTIO_BLK_F_WRITE_ZEROES,
        }
    }

    /// What messages call it.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Use::Discard => "discard",
            Use::Zero => "write zeros",
        }
    }

    /// The most segments in one request.
    pub(super) fn max_segments(self) -> u32 {
        match self {
            Use::Discard => MAX_SEGMENTS.into(),
            Use::Zero => 1,
        }
    }

    /// The most sectors in one segment. Where a file system cannot make zeros they are written: 64
    /// MiB are the most that a reset, or the end of the run, waits for in each thread.
    pub(super) fn max_sectors(self) -> u32 {
        match self {
            Use::Discard => 1 << 23,
            Use::Zero => 1 << 17,
        }
    }

    /// What so many bytes of the disk are in bytes to be moved. Zeros may have to be written, all of
    /// them; for room that is given back a file system changes its records, of which 4 MiB stand for
    /// 4 GiB.
    fn work(self, len: u64) -> u64 {
        match self {
            Use::Discard => len / 1024,
            Use::Zero => len,
        }
    }
}

/// A part of the disk: bytes, whole sectors, all of them there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) len: u64,
    /// Zeros need take no room.
    pub(super) unmap: bool,
}

/// Reads the segments of a request for a disk of `sectors`.
///
/// # Errors
/// What to answer: a part of a segment, none, too many, or one that is not on the disk is an error;
/// a flag that is not known, or not for this use, is not supported.
pub(super) fn parse(
    wanted: Use,
    output: &Buffers<'_>,
    sectors: u64,
) -> Result<Vec<Segment>, Answer> {
    let mut bytes = [0; SEGMENT * MAX_SEGMENTS as usize];
    let len = usize::try_from(output.len()).map_err(|_| Answer::Error)?;
    let most = usize::try_from(wanted.max_segments()).unwrap_or(0).saturating_mul(SEGMENT);
    if len == 0 || len > most || !len.is_multiple_of(SEGMENT) {
        return Err(Answer::Error);
    }
    output.copy_to(&mut bytes);
    let (raw, _) = bytes.as_chunks::<SEGMENT>();
    raw.iter().take(len / SEGMENT).map(|raw| segment(wanted, raw, sectors)).collect()
}

/// How much work the segments of a request are: nothing when they will be refused.
pub(super) fn work(wanted: Use, output: &Buffers<'_>, sectors: u64) -> u64 {
    let segments = parse(wanted, output, sectors).unwrap_or_default();
    segments.iter().fold(0, |sum, segment| sum.saturating_add(wanted.work(segment.len)))
}

fn segment(wanted: Use, raw: &[u8; SEGMENT], sectors: u64) -> Result<Segment, Answer> {
    let raw = u128::from_le_bytes(*raw);
    let word = |shift: u32| u32::try_from(raw >> shift & 0xffff_ffff).unwrap_or_default();
    let sector = u64::from(word(32)) << 32 | u64::from(word(0));
    let (count, flags) = (word(64), word(96));
    let allowed = match wanted {
        Use::Discard => 0,
        Use::Zero => VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
    };
    if flags & !allowed != 0 {
        return Err(Answer::Unsupported);
    }
    let len = u64::from(count).saturating_mul(SECTOR);
    match place(sector, len, sectors).filter(|_| count <= wanted.max_sectors()) {
        Some(offset) => Ok(Segment { offset, len, unmap: flags != 0 }),
        None => Err(Answer::Error),
    }
}
