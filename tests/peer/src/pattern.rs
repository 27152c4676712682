//! Bytes that say where they belong: their period is a prime above every segment and buffer there is,
//! so that none of those can be lost, doubled or moved without a difference.

use std::sync::OnceLock;

/// The period: the largest prime below 2^16.
const PERIOD: usize = 65521;

/// Bytes that [`at`] can give at a time.
pub const CHUNK: usize = 1 << 16;

/// A chunk of the pattern from position `position` on.
#[must_use]
pub fn at(position: u64) -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let mut state = 0x9e37_79b9_u32;
        let mut byte = || {
            // xorshift32
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        };
        let period: Vec<u8> = (0..PERIOD).map(|_| byte()).collect();
        period.iter().copied().cycle().take(PERIOD + CHUNK).collect()
    });
    let from = usize::try_from(position % PERIOD as u64).unwrap_or(0);
    table.get(from..from + CHUNK).unwrap_or_default()
}

/// Whether `bytes`, no more than a chunk, are the pattern from `position` on.
#[must_use]
pub fn is_at(bytes: &[u8], position: u64) -> bool {
    at(position).get(..bytes.len()) == Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_goes_on_from_chunk_to_chunk_and_differs_at_every_small_distance() {
        assert_eq!(at(7)[100..200], at(107)[..100]);
        assert_eq!(at(0), at(PERIOD as u64));
        assert!(is_at(&at(1 << 40)[..CHUNK], 1 << 40));
        for moved in [1, 536, 1448, 1460, 4096, 1 << 15, 1 << 16, 1 << 20] {
            assert!(!is_at(&at(moved)[..64], 0), "{moved}");
        }
    }
}
