//! Small frames that wait until the guest has room: answers to ARP, DHCP, pings, errors. A guest that
//! makes no room loses the ones that come after; no answer is worth memory without bounds.

use crate::net::frame::Offload;
use crate::net::{Inbox, Put};

/// Bytes of frames that wait, at most.
const ROOM: usize = 128 << 10;

/// Frames as bytes, each behind its length. All room is there from the start.
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// Where the next frame begins.
    next: usize,
    dropped: u64,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waiting = self.bytes.len().saturating_sub(self.next);
        write!(f, "{waiting} bytes waiting, {} frames dropped", self.dropped)
    }
}

impl std::fmt::Display for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} frames that it had no room for", self.dropped)
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self { bytes: Vec::with_capacity(ROOM), next: 0, dropped: 0 }
    }
}

impl Outbox {
    /// A whole frame, its checksums done, in pieces. Returns whether there was room.
    pub(super) fn push(&mut self, pieces: &[&[u8]]) -> bool {
        let len = pieces.iter().fold(0usize, |sum, piece| sum.saturating_add(piece.len()));
        let end = self.bytes.len().saturating_add(len).saturating_add(size_of::<u32>());
        let (Ok(length), true) = (u32::try_from(len), end <= ROOM) else {
            self.dropped = self.dropped.saturating_add(1);
            return false;
        };
        self.bytes.extend(length.to_ne_bytes());
        for piece in pieces {
            self.bytes.extend_from_slice(piece);
        }
        true
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Gives the guest what it has room for. Whether all is gone.
    pub(super) fn deliver(&mut self, inbox: &mut dyn Inbox) -> bool {
        while let Some((frame, end)) = self.first() {
            if inbox.put(Offload::default(), &[frame]) == Put::Full {
                return false;
            }
            self.next = end;
        }
        self.clear();
        true
    }

    /// Forgets what waits.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.next = 0;
    }

    /// The first frame, and where the one behind it begins.
    fn first(&self) -> Option<(&[u8], usize)> {
        let (length, rest) = self.bytes.get(self.next..)?.split_first_chunk()?;
        let len = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
        let end = self.next.saturating_add(size_of::<u32>()).saturating_add(len);
        Some((rest.get(..len)?, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::Mailbox;

    #[test]
    fn frames_come_out_as_they_went_in_when_there_is_room() {
        let (mut outbox, mut inbox) = (Outbox::default(), Mailbox::with_room(1));
        assert!(outbox.push(&[b"one", b"", b"two"]) && outbox.push(&[b"three"]));
        assert!(!outbox.deliver(&mut inbox) && !outbox.is_empty());
        inbox.room = 5;
        assert!(outbox.deliver(&mut inbox) && outbox.is_empty());
        assert_eq!(inbox.bytes(), [&b"onetwo"[..], b"three"]);
    }

    #[test]
    fn a_guest_that_makes_no_room_loses_frames_and_nothing_grows() {
        let mut outbox = Outbox::default();
        let taken = (0..1000).filter(|_| outbox.push(&[&[7; 1000]])).count();
        assert_eq!(taken, ROOM / 1004);
        assert_eq!(outbox.bytes.capacity(), ROOM);
        let mut inbox = Mailbox::with_room(usize::MAX);
        assert!(outbox.deliver(&mut inbox));
        assert_eq!(inbox.frames.len(), taken);
        assert!(outbox.push(&[b"again"]));
    }
}
