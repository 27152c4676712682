//! Datagrams that come in fragments (RFC 791 §3.2, RFC 8200 §4.5), put together again: UDP and ICMP alone,
//! a few at a time and not for long. Fragments that overlap have no honest use, and drop the whole
//! datagram (RFC 5722 says so for IPv6).

use std::net::IpAddr;
use std::time::Duration;

use smoltcp::wire::IpProtocol;

use super::packet::Header;
use crate::net::frame::Bytes;

/// Datagrams whose fragments wait for others. Beyond them the oldest is dropped.
const MOST: usize = 16;
/// How long they wait.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of the largest datagram, without its header.
const LARGEST: usize = 65_535 - 20;
/// Pieces of a datagram that do not touch each other. Those of one that comes in order are one.
const PIECES: usize = 32;

/// A part of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    /// By which the parts of one are known.
    pub(super) identification: u32,
    /// Where it begins.
    pub(super) at: usize,
    /// Whether there is more behind it.
    pub(super) more: bool,
}

/// Whose fragment it is (RFC 791 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    protocol: IpProtocol,
    identification: u32,
}

#[derive(Debug)]
struct Datagram {
    key: Key,
    until: Duration,
    /// Bytes of all of it, when the last fragment has come.
    len: Option<usize>,
    /// Which of its bytes are there: in order, with gaps between.
    there: Vec<(usize, usize)>,
    bytes: Vec<u8>,
}

/// Datagrams of which something has come.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    /// The oldest first.
    waiting: Vec<Datagram>,
    dropped: u64,
}

impl Fragments {
    /// A fragment with its bytes. Returns the datagram when it is complete.
    pub(super) fn add(
        &mut self,
        header: &Header,
        fragment: Fragment,
        bytes: Bytes<'_>,
        now: Duration,
    ) -> Option<Vec<u8>> {
        let key = Key {
            source: header.source,
            destination: header.destination,
            protocol: header.protocol,
            identification: fragment.identification,
        };
        let index = match self.waiting.iter().position(|datagram| datagram.key == key) {
            Some(index) => index,
            None => self.begin(key, now),
        };
        let datagram = self.waiting.get_mut(index)?;
        match datagram.add(fragment, bytes) {
            // Another fragment of a datagram that is dropped begins it anew, and never ends it.
            None => {
                self.dropped = self.dropped.saturating_add(1);
                self.waiting.remove(index);
                None
            }
            Some(false) => None,
            Some(true) => {
                let Datagram { len, mut bytes, .. } = self.waiting.remove(index);
                bytes.truncate(len?);
                Some(bytes)
            }
        }
    }

    fn begin(&mut self, key: Key, now: Duration) -> usize {
        if self.waiting.len() >= MOST {
            self.dropped = self.dropped.saturating_add(1);
            self.waiting.remove(0);
        }
        self.waiting.push(Datagram {
            key,
            until: now.saturating_add(PATIENCE),
            len: None,
            there: Vec::with_capacity(PIECES),
            bytes: vec![0; LARGEST],
        });
        self.waiting.len().saturating_sub(1)
    }

    /// Drops those that have waited for too long.
    pub(super) fn expire(&mut self, now: Duration) {
        let before = self.waiting.len();
        self.waiting.retain(|datagram| datagram.until > now);
        let dropped = before.saturating_sub(self.waiting.len());
        self.dropped = self.dropped.saturating_add(u64::try_from(dropped).unwrap_or(u64::MAX));
    }

    /// When the next one will have.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.waiting.first().map(|datagram| datagram.until)
    }

    /// Datagrams dropped since this was asked last.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

impl Datagram {
    /// Whether all of it is there. `None` when it makes no sense.
    fn add(&mut self, fragment: Fragment, bytes: Bytes<'_>) -> Option<bool> {
        let (from, len) = (fragment.at, bytes.len());
        let to = from.checked_add(len).filter(|to| *to <= LARGEST && len > 0)?;
        let whole = match (fragment.more, self.len) {
            // All but the last are so many times eight bytes.
            (true, _) if !len.is_multiple_of(8) => return None,
            (true, whole) => whole,
            (false, None) => Some(to),
            (false, Some(_)) => return None,
        };
        let before = self.there.partition_point(|(_, end)| *end <= from);
        let (start, end) = (
            before.checked_sub(1).and_then(|index| self.there.get(index).copied()),
            self.there.get(before).copied(),
        );
        let overlaps = end.is_some_and(|(next, _)| next < to);
        let last = self.there.last().map_or(to, |(_, end)| (*end).max(to));
        if overlaps || whole.is_some_and(|whole| last > whole) {
            return None;
        }
        bytes.copy_to(self.bytes.get_mut(from..to)?);
        self.len = whole;
        self.note(before, start, end, (from, to))?;
        let complete = self.there.first().map(|(from, to)| (*from == 0).then_some(*to));
        Some(whole.is_some() && complete == Some(whole))
    }

    /// Notes that a piece is there, between the pieces `start` and `end`, the second of which has the
    /// number `index`. Those that touch become one.
    fn note(
        &mut self,
        index: usize,
        start: Option<(usize, usize)>,
        end: Option<(usize, usize)>,
        (from, to): (usize, usize),
    ) -> Option<()> {
        let start = start.filter(|(_, end)| *end == from);
        let end = end.filter(|(start, _)| *start == to);
        let whole = (start.map_or(from, |(start, _)| start), end.map_or(to, |(_, end)| end));
        match (start, end) {
            (None, None) => {
                if self.there.len() >= PIECES {
                    return None;
                }
                self.there.insert(index, whole);
            }
            (Some(_), Some(_)) => {
                self.there.remove(index);
                *self.there.get_mut(index.checked_sub(1)?)? = whole;
            }
            (Some(_), None) => *self.there.get_mut(index.checked_sub(1)?)? = whole,
            (None, Some(_)) => *self.there.get_mut(index)? = whole,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use vm_memory::VolatileSlice;

    const SECOND: Duration = Duration::from_secs(1);

    fn header(identification: u32) -> (Header, Fragment) {
        let fragment = Fragment { identification, at: 0, more: true };
        let header = Header {
            source: Ipv4Addr::new(10, 0, 2, 15).into(),
            destination: Ipv4Addr::new(1, 2, 3, 4).into(),
            protocol: IpProtocol::Udp,
            len: 20,
            body: 0,
            hops: 64,
            fragment: Some(fragment),
        };
        (header, fragment)
    }

    /// Adds bytes `from..to` of a datagram whose byte number n is n mod 256.
    fn add(
        fragments: &mut Fragments,
        identification: u32,
        from: usize,
        to: usize,
        more: bool,
    ) -> Option<Vec<u8>> {
        let mut bytes: Vec<u8> = (0..=255).cycle().skip(from).take(to - from).collect();
        let slices = [VolatileSlice::from(bytes.as_mut_slice())];
        let (header, fragment) = header(identification);
        let fragment = Fragment { at: from, more, ..fragment };
        fragments.add(&header, fragment, Bytes::new(&slices), SECOND)
    }

    fn is_right(datagram: &[u8], len: usize) -> bool {
        datagram.iter().copied().eq((0..=255).cycle().take(len))
    }

    #[test]
    fn fragments_make_a_datagram_in_whatever_order_they_come() {
        let pieces = [(0, 1480, true), (1480, 2960, true), (2960, 4440, true), (4440, 5000, false)];
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            let mut fragments = Fragments::default();
            for (count, index) in order.into_iter().enumerate() {
                let (from, to, more) = pieces[index];
                let whole = add(&mut fragments, 7, from, to, more);
                assert_eq!(whole.is_some(), count == 3, "{order:?} {count}");
                assert!(whole.is_none_or(|whole| is_right(&whole, 5000)));
            }
            assert_eq!((fragments.waiting.len(), fragments.take_dropped()), (0, 0));
        }
    }

    #[test]
    fn datagrams_that_come_at_once_are_kept_apart() {
        let mut fragments = Fragments::default();
        for identification in 0..8 {
            assert_eq!(add(&mut fragments, identification, 0, 8, true), None);
        }
        for identification in (0..8).rev() {
            let len = 16 + identification as usize;
            let whole = add(&mut fragments, identification, 8, len, false).unwrap();
            assert!(is_right(&whole, len));
        }
    }

    #[test]
    fn the_largest_datagram_comes_through_and_none_beyond_it() {
        let mut fragments = Fragments::default();
        for from in (0..65_472).step_by(1472) {
            let to = (from + 1472).min(65_472);
            assert_eq!(add(&mut fragments, 1, from, to, true), None);
        }
        assert!(is_right(&add(&mut fragments, 1, 65_472, LARGEST, false).unwrap(), LARGEST));
        assert_eq!(add(&mut fragments, 1, 65_512, LARGEST + 1, false), None);
        assert_eq!(fragments.take_dropped(), 1);
    }

    #[test]
    fn fragments_that_overlap_or_make_no_sense_drop_the_datagram() {
        // N56
        for (from, to, more) in [
            (0, 1480, true),     // the same again
            (1472, 2960, true),  // overlaps the one before
            (3992, 4480, false), // overlaps the one behind
            (0, 8, true),        // within another
            (8, 5000, true),     // around another
            (1480, 1480, true),  // of nothing
            (1480, 1487, true),  // not so many times eight
            (1480, 1488, false), // ends before what is there
        ] {
            let mut fragments = Fragments::default();
            assert_eq!(add(&mut fragments, 7, 0, 1480, true), None);
            assert_eq!(add(&mut fragments, 7, 4000, 4400, true), None);
            assert_eq!(add(&mut fragments, 7, from, to, more), None, "{from} {to} {more}");
            assert_eq!((fragments.take_dropped(), fragments.waiting.len()), (1, 0), "{from} {to}");
        }
        let mut fragments = Fragments::default();
        assert_eq!(add(&mut fragments, 7, 1480, 2000, false), None);
        assert_eq!(add(&mut fragments, 7, 2000, 2008, true), None, "behind the end");
        assert_eq!(fragments.take_dropped(), 1);
        assert_eq!(add(&mut fragments, 7, 1480, 2000, false), None);
        assert_eq!(add(&mut fragments, 7, 2480, 3000, false), None, "a second end");
        assert_eq!(fragments.take_dropped(), 1);
    }

    #[test]
    fn neither_datagrams_nor_their_pieces_nor_their_time_are_without_bounds() {
        // N56
        let mut fragments = Fragments::default();
        for identification in 0..100 {
            assert_eq!(add(&mut fragments, identification, 0, 8, true), None);
        }
        assert_eq!((fragments.waiting.len(), fragments.take_dropped()), (MOST, 84));
        assert_eq!(fragments.deadline(), Some(6 * SECOND));
        fragments.expire(5 * SECOND);
        assert_eq!(fragments.waiting.len(), MOST);
        fragments.expire(6 * SECOND);
        assert_eq!((fragments.waiting.len(), fragments.take_dropped()), (0, 16));
        assert_eq!(fragments.deadline(), None);
        for piece in 0..PIECES {
            assert_eq!(add(&mut fragments, 1, piece * 16, piece * 16 + 8, true), None);
        }
        assert_eq!(add(&mut fragments, 1, PIECES * 16, PIECES * 16 + 8, true), None);
        assert_eq!((fragments.waiting.len(), fragments.take_dropped()), (0, 1));
    }
}
