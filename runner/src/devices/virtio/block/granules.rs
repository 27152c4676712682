//! Which parts of a disk an overlay has: one bit for 4 KiB.

use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes of a part.
pub(super) const GRANULE: u64 = GRANULE_BYTES as u64;
pub(super) const GRANULE_BYTES: usize = 4096;

/// Words of 64 bits in a leaf, which so stands for 16 MiB of the disk.
const WORDS: usize = 64;
const LEAF: u64 = WORDS as u64 * 64;

/// A set of granules, by their numbers. It takes memory where there are some of a leaf's but not all:
/// half a kilobyte for 16 MiB of the disk. So a guest that writes a little all over a terabyte makes
/// it grow to 36 MiB. [`super::overlay::Scratch::MOST`] bounds that.
#[derive(Debug, Default)]
pub(super) struct Granules {
    leaves: BTreeMap<u64, Leaf>,
}

/// 4096 granules, of which there is at least one.
#[derive(Debug)]
enum Leaf {
    Some(Box<[u64; WORDS]>),
    All,
}

impl Leaf {
    /// Adds the granules of `range`, numbers within the leaf.
    fn insert(&mut self, range: Range<u64>) {
        let Leaf::Some(words) = self else { return };
        for (word, first) in words.iter_mut().zip((0..LEAF).step_by(64)) {
            *word |= bits(range.start.saturating_sub(first), range.end.saturating_sub(first));
        }
        if words.iter().all(|word| *word == u64::MAX) {
            *self = Leaf::All;
        }
    }
}

impl Granules {
    /// The granules that `len` bytes from `offset` on touch.
    pub(super) fn touched(offset: u64, len: u64) -> Range<u64> {
        let end = offset.saturating_add(len).div_ceil(GRANULE);
        offset / GRANULE..end
    }

    /// Whether it has `granule`.
    pub(super) fn has(&self, granule: u64) -> bool {
        self.look(granule).0
    }

    /// Whether it has all of `range`.
    pub(super) fn has_all(&self, range: Range<u64>) -> bool {
        range.is_empty() || self.run(range.clone()) == (true, range.end)
    }

    /// Adds all of `range`, a leaf at a time.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        let mut start = range.start;
        while start < range.end {
            let (number, first) = (start / LEAF, start.saturating_sub(start % LEAF));
            let end = range.end.min(first.saturating_add(LEAF));
            let within = start.saturating_sub(first)..end.saturating_sub(first);
            if within == (0..LEAF) {
                self.leaves.insert(number, Leaf::All);
            } else {
                let leaf = self.leaves.entry(number);
                leaf.or_insert_with(|| Leaf::Some(Box::new([0; WORDS]))).insert(within);
            }
            start = end;
        }
    }

    /// The first of `range`'s parts that are alike: whether it has them, and where they end. A part
    /// ends at `range`'s end at the latest.
    pub(super) fn run(&self, range: Range<u64>) -> (bool, u64) {
        let (has, mut end) = self.look(range.start);
        while end < range.end {
            let (next, next_end) = self.look(end);
            if next != has {
                return (has, end);
            }
            end = next_end;
        }
        (has, end.min(range.end))
    }

    /// Whether it has `granule`, and where those end that one look shows to be like it: with the leaf,
    /// or within a word.
    fn look(&self, granule: u64) -> (bool, u64) {
        let within = granule % LEAF;
        let (word, len) = match self.leaves.get(&(granule / LEAF)) {
            None => return (false, granule.saturating_add(LEAF.saturating_sub(within))),
            Some(Leaf::All) => return (true, granule.saturating_add(LEAF.saturating_sub(within))),
            Some(Leaf::Some(words)) => {
                let word = usize::try_from(within / 64).ok().and_then(|index| words.get(index));
                (word.copied().unwrap_or(0) >> (within % 64), 64u64.saturating_sub(within % 64))
            }
        };
        let has = word & 1 != 0;
        let alike = if has { word.trailing_ones() } else { word.trailing_zeros() };
        (has, granule.saturating_add(u64::from(alike).min(len)))
    }
}

/// The bits from `start` to `end` of a word, as far as it has them.
fn bits(start: u64, end: u64) -> u64 {
    let from = |bit: u64| if bit < 64 { u64::MAX << bit } else { 0 };
    from(start) & !from(end)
}

#[cfg(test)]
mod tests {
    use super::super::overlay::Scratch;
    use super::*;

    const MOST: u64 = Scratch::MOST;

    #[test]
    fn runs_end_where_the_next_one_begins_or_the_range_does() {
        let mut granules = Granules::default();
        granules.insert(10..20);
        granules.insert(4095..4098);
        assert_eq!(granules.run(0..100), (false, 10));
        assert_eq!(granules.run(10..100), (true, 20));
        assert_eq!(granules.run(12..15), (true, 15));
        assert_eq!(granules.run(20..30), (false, 30));
        assert_eq!(granules.run(4090..5000), (false, 4095));
        assert_eq!(granules.run(4095..5000), (true, 4098), "across leaves");
        assert!(granules.has_all(10..20) && !granules.has_all(10..21) && granules.has_all(5..5));
    }

    #[test]
    fn bytes_touch_the_granules_that_hold_them() {
        assert_eq!(Granules::touched(0, 4096), 0..1);
        assert_eq!(Granules::touched(4095, 2), 0..2);
        assert_eq!(Granules::touched(8192, 0), 2..2);
        assert_eq!(Granules::touched(u64::MAX - 511, u64::MAX).end, u64::MAX / GRANULE + 1);
    }

    #[test]
    fn it_has_what_was_inserted_and_nothing_else_whatever_leaves_and_words_are_cut() {
        let mut granules = Granules::default();
        let mut expected = vec![false; 5 * 4096];
        let mut chance = 1u64;
        let mut below = |limit: usize| {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(chance >> 33).unwrap() % limit
        };
        for round in 0..300 {
            let start = below(expected.len());
            // Long ones now and then: a leaf fills at once, or bit by bit.
            let most = if round % 50 == 49 { 9000 } else { 130 };
            let end = expected.len().min(start + 1 + below(most));
            granules.insert(start as u64..end as u64);
            expected[start..end].fill(true);
            let (from, to) = (below(start + 1), expected.len());
            let like = expected[from..to].iter().position(|has| *has != expected[from]);
            let until = like.map_or(to, |len| from + len);
            let run = granules.run(from as u64..to as u64);
            assert_eq!(run, (expected[from], until as u64), "{round}");
            assert!(granules.has_all(start as u64..end as u64));
        }
        for (granule, has) in (0..).zip(&expected) {
            assert_eq!(granules.has(granule), *has, "{granule}");
        }
        granules.insert(0..5 * LEAF);
        assert!(granules.leaves.values().all(|leaf| matches!(leaf, Leaf::All)));
        assert_eq!(granules.run(7..6 * LEAF), (true, 5 * LEAF));
    }

    #[test]
    fn all_of_the_largest_disk_is_a_leaf_at_a_time_and_full_leaves_have_no_words() {
        let mut granules = Granules::default();
        // Granule by granule under a lock it would be a thousand million steps.
        for _ in 0..8 {
            granules.insert(1..MOST / GRANULE - 1);
        }
        assert_eq!(granules.leaves.len(), usize::try_from(MOST / GRANULE / LEAF).unwrap());
        let with_words = granules.leaves.values().filter(|leaf| matches!(leaf, Leaf::Some(_)));
        assert_eq!(with_words.count(), 2, "the first and the last");
        assert_eq!(granules.run(1..MOST / GRANULE), (true, MOST / GRANULE - 1));
    }

    #[test]
    fn memory_is_taken_for_what_is_there_and_not_for_the_disk() {
        let mut granules = Granules::default();
        let last = u64::MAX / GRANULE;
        granules.insert(last..last + 1);
        granules.insert(0..1);
        assert!(granules.has(last) && !granules.has(last - 1));
        assert_eq!(granules.leaves.len(), 2);
        assert_eq!(LEAF * GRANULE, 16 << 20);
    }
}
