//! Which parts of a disk an overlay has: one bit for 4 KiB.

use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes of a part.
pub(super) const GRANULE: u64 = 4096;

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
