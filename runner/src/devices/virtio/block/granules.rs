//! Which parts of a disk an overlay has: one bit for 4 KiB.

use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes of a part.
pub(super) const GRANULE: u64 = GRANULE_BYTES as u64;
pub(super) const GRANULE_BYTES: usize = 4096;

/// Words of 64 bits in a leaf, which so stands for 16 MiB of the disk.
const WORDS: usize = 64;
const LEAF: u64 = WORDS as u64 * 64;

/// A set of granules, by their numbers. It takes memory where there are any: half a kilobyte for 16
/// MiB of the disk, so a guest that writes all over a terabyte makes it grow to 32 MiB.
#[derive(Debug, Default)]
pub(super) struct Granules {
    leaves: BTreeMap<u64, Box<[u64; WORDS]>>,
}

impl Granules {
    /// The granules that `len` bytes from `offset` on touch.
    pub(super) fn touched(offset: u64, len: u64) -> Range<u64> {
        let end = offset.saturating_add(len).div_ceil(GRANULE);
        offset / GRANULE..end
    }

    /// Whether it has `granule`.
    pub(super) fn has(&self, granule: u64) -> bool {
        let leaf = self.leaves.get(&(granule / LEAF));
        leaf.is_some_and(|leaf| {
            word(granule).is_some_and(|(word, bit)| leaf_word(leaf, word) & bit != 0)
        })
    }

    /// Whether it has all of `range`.
    pub(super) fn has_all(&self, mut range: Range<u64>) -> bool {
        range.all(|granule| self.has(granule))
    }

    /// Adds all of `range`.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        for granule in range {
            let leaf = self.leaves.entry(granule / LEAF).or_insert_with(|| Box::new([0; WORDS]));
            if let Some((word, bit)) = word(granule)
                && let Some(word) = leaf.get_mut(word)
            {
                *word |= bit;
            }
        }
    }

    /// The first of `range`'s parts that are alike: whether it has them, and where they end. A part
    /// ends at `range`'s end at the latest.
    pub(super) fn run(&self, range: Range<u64>) -> (bool, u64) {
        let first = self.has(range.start);
        let mut rest = range.clone();
        let other = rest.find(|granule| self.has(*granule) != first);
        (first, other.unwrap_or(range.end))
    }
}

/// The word of a leaf and the bit in it that stand for `granule`.
fn word(granule: u64) -> Option<(usize, u64)> {
    let within = granule % LEAF;
    Some((usize::try_from(within / 64).ok()?, 1 << (within % 64)))
}

fn leaf_word(leaf: &[u64; WORDS], word: usize) -> u64 {
    leaf.get(word).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

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
