//! A file as its reader sees it: bytes from 0 to its length, scattered over its source.
//!
//! A plain file is one run; a file inside a file system is a run per extent, with holes between.
//! Readers of headers and the loader of segments work on this alone and need not know which one
//! they have.

use super::source::{ReadError, Source};

/// A run of bytes of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Distance from the start of what was asked for, in bytes.
    pub at: u64,
    /// Length in bytes, never 0.
    pub len: u64,
    /// Where it begins in the source. `None`: a hole, which reads as zeros.
    pub source: Option<u64>,
}

/// A file's bytes inside a source.
#[derive(Debug, Clone)]
pub struct View {
    source: Source,
    /// In order, without gaps or overlaps, from 0 to `len`; `at` is from the start of the file.
    runs: Vec<Piece>,
    len: u64,
}

impl View {
    /// The source as it is.
    #[must_use]
    pub fn whole(source: Source) -> Self {
        let len = source.len();
        let runs = if len == 0 { Vec::new() } else { vec![Piece { at: 0, len, source: Some(0) }] };
        Self { source, runs, len }
    }

    /// A file of `len` bytes made of `extents`: (offset in the file, length, offset in the source),
    /// in bytes, sorted by the first. What no extent covers is a hole; what lies beyond `len` is
    /// cut off. `None` when two extents overlap or one reaches past the source's end.
    pub(super) fn of_extents(
        source: Source,
        len: u64,
        extents: &[(u64, u64, Option<u64>)],
    ) -> Option<Self> {
        let mut runs = Vec::new();
        let mut next: u64 = 0;
        for &(at, extent, place) in extents {
            let end = at.checked_add(extent)?;
            if at < next
                || place.is_some_and(|p| p.checked_add(extent).is_none_or(|end| end > source.len()))
            {
                return None;
            }
            let (at, end) = (at.min(len), end.min(len));
            push(&mut runs, next, at, None);
            push(&mut runs, at, end, place);
            next = end.max(next);
        }
        push(&mut runs, next, len, None);
        Some(Self { source, runs, len })
    }

    /// What of the file begins at `offset`, as a file; nothing where there is nothing.
    #[must_use]
    pub fn behind(&self, offset: u64) -> Option<Self> {
        let len = self.len.checked_sub(offset).filter(|len| *len > 0)?;
        Some(Self { source: self.source.clone(), runs: self.pieces(offset, len).collect(), len })
    }

    /// The source underneath.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What `len` bytes from `offset` on consist of, in order and without gaps. Beyond the end
    /// there is nothing: ask for less than [`View::len`], or the pieces end early.
    pub fn pieces(&self, offset: u64, len: u64) -> impl Iterator<Item = Piece> + '_ {
        let end = offset.saturating_add(len);
        let first = self.runs.partition_point(|run| run.at.saturating_add(run.len) <= offset);
        self.runs.iter().skip(first).map_while(move |run| {
            let from = run.at.max(offset);
            let to = run.at.saturating_add(run.len).min(end);
            let len = to.checked_sub(from).filter(|len| *len > 0)?;
            let skipped = from.saturating_sub(run.at);
            let source = run.source.map(|place| place.saturating_add(skipped));
            Some(Piece { at: from.saturating_sub(offset), len, source })
        })
    }

    /// Fills `buf` from byte `offset` of the file on; holes give zeros.
    ///
    /// # Errors
    /// [`ReadError`]: beyond the file's end, with offsets in the file; otherwise with offsets in
    /// the source.
    pub fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let wanted = u64::try_from(buf.len()).unwrap_or(u64::MAX);
        let past_end = ReadError::PastEnd { offset, wanted, len: self.len };
        if offset.checked_add(wanted).is_none_or(|end| end > self.len) {
            return Err(past_end);
        }
        let mut rest = buf;
        for piece in self.pieces(offset, wanted) {
            let Some((part, tail)) =
                usize::try_from(piece.len).ok().and_then(|len| rest.split_at_mut_checked(len))
            else {
                return Err(past_end);
            };
            match piece.source {
                Some(place) => self.source.read_exact_at(place, part)?,
                None => part.fill(0),
            }
            rest = tail;
        }
        Ok(())
    }
}

fn push(runs: &mut Vec<Piece>, from: u64, to: u64, source: Option<u64>) {
    if let Some(len) = to.checked_sub(from).filter(|len| *len > 0) {
        runs.push(Piece { at: from, len, source });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters() -> Source {
        Source::from_bytes("letters", b"abcdefghij")
    }

    #[test]
    fn a_hole_between_extents_reads_as_zeros() {
        let view = View::of_extents(letters(), 9, &[(0, 2, Some(4)), (5, 3, Some(0))]).unwrap();
        let mut all = [0xff; 9];
        view.read_exact_at(0, &mut all).unwrap();
        assert_eq!(&all, b"ef\0\0\0abc\0");
        let pieces: Vec<_> = view.pieces(1, 6).collect();
        assert_eq!(
            pieces,
            [
                Piece { at: 0, len: 1, source: Some(5) },
                Piece { at: 1, len: 3, source: None },
                Piece { at: 4, len: 2, source: Some(0) },
            ]
        );
    }

    #[test]
    fn an_extent_is_cut_off_at_the_length_of_the_file() {
        let view = View::of_extents(letters(), 3, &[(0, 8, Some(1)), (8, 1, Some(0))]).unwrap();
        let pieces: Vec<_> = view.pieces(0, u64::MAX).collect();
        assert_eq!(pieces, [Piece { at: 0, len: 3, source: Some(1) }]);
        assert!(matches!(
            view.read_exact_at(2, &mut [0; 2]),
            Err(ReadError::PastEnd { offset: 2, wanted: 2, len: 3 })
        ));
    }

    #[test]
    fn overlapping_extents_and_those_past_the_source_are_refused() {
        assert!(View::of_extents(letters(), 9, &[(0, 3, Some(0)), (2, 2, Some(4))]).is_none());
        assert!(View::of_extents(letters(), 9, &[(0, 3, Some(8))]).is_none());
        assert!(View::of_extents(letters(), 9, &[(0, 3, Some(u64::MAX))]).is_none());
        assert!(View::of_extents(letters(), u64::MAX, &[(u64::MAX, 2, Some(0))]).is_none());
    }

    #[test]
    fn what_begins_in_the_middle_of_a_file_is_a_file() {
        let view = View::of_extents(letters(), 9, &[(0, 2, Some(4)), (5, 3, Some(0))]).unwrap();
        let behind = view.behind(1).unwrap();
        let mut all = [0xff; 8];
        behind.read_exact_at(0, &mut all).unwrap();
        assert_eq!(&all, b"f\0\0\0abc\0");
        assert!(behind.read_exact_at(8, &mut [0]).is_err());
        assert_eq!(view.behind(8).unwrap().len(), 1);
        assert!(view.behind(9).is_none() && view.behind(u64::MAX).is_none());
    }

    #[test]
    fn pieces_beyond_the_end_do_not_exist() {
        let view = View::whole(letters());
        assert_eq!(view.pieces(10, 1).count(), 0);
        assert_eq!(view.pieces(u64::MAX, u64::MAX).count(), 0);
        assert_eq!(
            view.pieces(8, 5).collect::<Vec<_>>(),
            [Piece { at: 0, len: 2, source: Some(8) }]
        );
        assert_eq!(View::whole(Source::from_bytes("", b"")).pieces(0, 1).count(), 0);
    }
}
