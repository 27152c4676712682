//! Bytes on their way through us, first in, first out, and the memory that all of them may have
//! together.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

use crate::net::frame::Bytes;

/// What a ring has at first: enough for a question or an answer.
pub(crate) const BASE: usize = 16 << 10;

/// A ring. Without memory until it needs some.
#[derive(Default)]
pub(crate) struct Ring {
    bytes: Box<[u8]>,
    /// The first byte's place.
    start: usize,
    len: usize,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of {}", self.len, self.bytes.len())
    }
}

impl Ring {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// How many bytes more there is memory for.
    pub(crate) fn spare(&self) -> usize {
        self.capacity().saturating_sub(self.len)
    }

    /// The first `most` bytes of that memory.
    pub(crate) fn spare_mut(&mut self, most: usize) -> [&mut [u8]; 2] {
        let most = most.min(self.spare());
        let end = self.wrap(self.len);
        let (before, behind) = self.bytes.split_at_mut_checked(end).unwrap_or_default();
        let first = most.min(behind.len());
        let second = most.saturating_sub(first);
        [behind.get_mut(..first).unwrap_or_default(), before.get_mut(..second).unwrap_or_default()]
    }

    /// Of the spare memory, the first `count` bytes are bytes of the ring now.
    pub(crate) fn filled(&mut self, count: usize) {
        self.len = self.len.saturating_add(count.min(self.spare()));
    }

    /// `len` bytes from the one at `offset` on, or as many as there are.
    pub(crate) fn peek(&self, offset: usize, len: usize) -> [&[u8]; 2] {
        let len = len.min(self.len.saturating_sub(offset));
        if len == 0 {
            return [&[], &[]];
        }
        let (before, behind) = self.bytes.split_at_checked(self.wrap(offset)).unwrap_or_default();
        let first = len.min(behind.len());
        let second = len.saturating_sub(first);
        [behind.get(..first).unwrap_or_default(), before.get(..second).unwrap_or_default()]
    }

    /// Lets go of the first `count` bytes.
    pub(crate) fn take(&mut self, count: usize) {
        let count = count.min(self.len);
        self.start = self.wrap(count);
        self.len = self.len.saturating_sub(count);
        if self.len == 0 {
            // The memory that was used last is in the processor's caches.
            self.start = 0;
        }
    }

    /// Adds `bytes`, or as many as there is memory for, and returns how many.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        let [first, second] = self.spare_mut(bytes.len());
        let (head, tail) = bytes.split_at_checked(first.len()).unwrap_or_default();
        first.copy_from_slice(head);
        let tail = tail.get(..second.len()).unwrap_or_default();
        second.copy_from_slice(tail);
        let count = head.len().saturating_add(tail.len());
        self.filled(count);
        count
    }

    /// The same with bytes in guest memory.
    pub(crate) fn push_guest(&mut self, bytes: Bytes<'_>) -> usize {
        let [first, second] = self.spare_mut(bytes.len());
        let head = bytes.copy_to(first);
        let tail = bytes.skip(head).copy_to(second);
        let count = head.saturating_add(tail);
        self.filled(count);
        count
    }

    /// The place of the byte at `offset`, which is at most the capacity.
    fn wrap(&self, offset: usize) -> usize {
        let place = self.start.saturating_add(offset);
        place.checked_sub(self.capacity()).unwrap_or(place)
    }

    /// Moves to other memory, which is at least as large.
    fn move_to(&mut self, bytes: Box<[u8]>) -> Box<[u8]> {
        let mut larger = Self { bytes, start: 0, len: 0 };
        for piece in self.peek(0, self.len) {
            larger.push(piece);
        }
        std::mem::replace(self, larger).bytes
    }
}

/// Rings of the first size that are kept for whoever needs one next.
const KEPT: usize = 64;

/// The memory of all rings.
#[derive(Debug)]
pub(crate) struct Room {
    /// Bytes that are still to be had.
    left: usize,
    /// Of these, bytes that are kept for rings of the first size.
    reserved: usize,
    kept: Vec<Box<[u8]>>,
}

impl Room {
    /// `total` bytes, `reserved` of them for rings of the first size.
    pub(crate) fn new(total: usize, reserved: usize) -> Self {
        Self { left: total, reserved, kept: Vec::with_capacity(KEPT) }
    }

    /// Gives an empty ring memory of the first size. Whether it has some.
    pub(crate) fn begin(&mut self, ring: &mut Ring) -> bool {
        if ring.capacity() > 0 {
            return true;
        }
        let Some(left) = self.left.checked_sub(BASE) else { return false };
        self.left = left;
        ring.bytes = self.kept.pop().unwrap_or_else(|| vec![0; BASE].into());
        true
    }

    /// Has a ring grow to `capacity`, without touching what is reserved. Whether it has.
    pub(crate) fn grow(&mut self, ring: &mut Ring, capacity: usize) -> bool {
        let more = capacity.saturating_sub(ring.capacity());
        match self.left.checked_sub(more) {
            Some(left) if left >= self.reserved => self.left = left,
            _ => return false,
        }
        // New memory, as none may grow in place: the jail has no mremap(2).
        let before = ring.move_to(vec![0; capacity].into());
        self.keep(before);
        true
    }

    /// Takes an idle ring's memory back: at once when it is small or others may need it, otherwise it
    /// is for the bytes that come next.
    pub(crate) fn rest(&mut self, ring: &mut Ring) {
        let short = self.left < self.reserved.saturating_mul(2);
        if ring.is_empty() && (ring.capacity() <= BASE || short) {
            self.free(ring);
        }
    }

    /// Takes a ring's memory back, with all that is in it.
    pub(crate) fn free(&mut self, ring: &mut Ring) {
        let Ring { bytes, .. } = std::mem::take(ring);
        self.left = self.left.saturating_add(bytes.len());
        self.keep(bytes);
    }

    fn keep(&mut self, bytes: Box<[u8]>) {
        if bytes.len() == BASE && self.kept.len() < KEPT {
            self.kept.push(bytes);
        }
    }

    /// Bytes that are still to be had.
    #[cfg(test)]
    pub(crate) fn left(&self) -> usize {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(ring: &Ring) -> Vec<u8> {
        ring.peek(0, usize::MAX).concat()
    }

    #[test]
    fn bytes_come_out_as_they_went_in_wherever_the_ring_wraps() {
        let mut room = Room::new(1 << 20, 0);
        let mut ring = Ring::default();
        assert_eq!((ring.push(b"x"), all(&ring).len()), (0, 0));
        assert!(room.begin(&mut ring));
        let (mut wanted, mut next) = (Vec::new(), 0u8);
        for round in 0..2000 {
            let bytes: Vec<u8> = (0..97).map(|n| next.wrapping_add(n)).collect();
            next = next.wrapping_add(101);
            let taken = ring.push(&bytes);
            wanted.extend_from_slice(&bytes[..taken]);
            let gone = (round * 7) % 150;
            let gone = gone.min(wanted.len());
            wanted.drain(..gone);
            ring.take(gone);
            assert_eq!((ring.len(), ring.spare()), (wanted.len(), BASE - wanted.len()));
            assert_eq!(all(&ring), wanted);
            let middle = wanted.len() / 2;
            assert_eq!(
                ring.peek(middle, 10).concat(),
                wanted[middle..(middle + 10).min(wanted.len())]
            );
        }
    }

    #[test]
    fn a_ring_grows_with_its_bytes_and_gives_its_memory_back() {
        let mut room = Room::new(8 * BASE, 2 * BASE);
        let mut ring = Ring::default();
        assert!(room.begin(&mut ring));
        assert_eq!(ring.push(&[1; BASE + 5]), BASE);
        ring.take(10);
        assert_eq!(ring.push(&[2; 10]), 10);
        assert!(room.grow(&mut ring, 4 * BASE));
        assert_eq!((ring.capacity(), room.left()), (4 * BASE, 4 * BASE));
        assert_eq!(all(&ring), [vec![1; BASE - 10], vec![2; 10]].concat());
        assert!(!room.grow(&mut ring, 8 * BASE), "what is reserved is not for growing");
        room.rest(&mut ring);
        assert_eq!(ring.capacity(), 4 * BASE, "not idle");
        room.free(&mut ring);
        assert_eq!((ring.capacity(), room.left()), (0, 8 * BASE));
    }

    #[test]
    fn what_is_reserved_is_for_rings_of_the_first_size() {
        let mut room = Room::new(2 * BASE, 2 * BASE);
        let mut rings: [Ring; 3] = Default::default();
        let begun: Vec<bool> = rings.iter_mut().map(|ring| room.begin(ring)).collect();
        assert_eq!(begun, [true, true, false]);
        rings.iter_mut().for_each(|ring| room.rest(ring));
        assert_eq!(room.left(), 2 * BASE);
    }
}
