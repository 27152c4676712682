//! What went through, and why what did not go through was dropped.

use std::fmt;

/// Why a frame or a packet was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Shorter than an Ethernet header, or longer than any frame.
    Size,
    /// Its sender's hardware address is not the device's.
    Sender,
    /// Neither ARP nor IP.
    EtherType,
    /// ARP that makes no sense, or is somebody else's.
    Arp,
    /// An IP header that makes no sense.
    Header,
    /// A checksum that is wrong.
    Checksum,
    /// From an address that the guest cannot have, or to the one it is from.
    Spoofed,
    /// To multicast or broadcast, which reaches nobody.
    Broadcast,
    /// An IP protocol that we do not speak.
    Protocol,
    /// Fragments: of TCP, that overlap, too many, or whose rest never came.
    Fragment,
    /// A hop more than it may take.
    Hops,
    /// To where the guest must not go.
    Refused,
    /// UDP or ICMP that makes no sense.
    Malformed,
    /// DHCP or DNS that is no question, or one too many.
    Question,
    /// What the host could not send.
    Unsent,
    /// Datagrams of the outside from where the guest must not hear.
    Unheard,
    /// Pings where the system does not let us.
    Ping,
}

/// All of them, and their words.
const WORDS: [(Cause, &str); 17] = [
    (Cause::Size, "of no size for a frame"),
    (Cause::Sender, "from another hardware address"),
    (Cause::EtherType, "of another protocol than IP"),
    (Cause::Arp, "malformed ARP"),
    (Cause::Header, "malformed IP"),
    (Cause::Checksum, "with a wrong checksum"),
    (Cause::Spoofed, "with a spoofed source"),
    (Cause::Broadcast, "to multicast or broadcast"),
    (Cause::Protocol, "of an unknown protocol"),
    (Cause::Fragment, "fragments"),
    (Cause::Hops, "out of hops"),
    (Cause::Refused, "to refused destinations"),
    (Cause::Malformed, "malformed UDP or ICMP"),
    (Cause::Question, "unanswered questions"),
    (Cause::Unsent, "that the host could not send"),
    (Cause::Unheard, "from refused sources"),
    (Cause::Ping, "pings"),
];

/// A direction's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    frames: u64,
    bytes: u64,
}

impl Traffic {
    /// One more, of `len` bytes.
    pub(super) fn count(&mut self, len: usize) {
        self.frames = self.frames.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
    }
}

/// The counters of a network.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// From the guest.
    pub(super) sent: Traffic,
    /// To the guest.
    pub(super) received: Traffic,
    dropped: [u64; WORDS.len()],
}

impl Counters {
    /// One more was dropped.
    pub(super) fn drop(&mut self, cause: Cause) {
        self.drop_many(cause, 1);
    }

    /// So many more were.
    pub(super) fn drop_many(&mut self, cause: Cause, more: u64) {
        if let Some(count) = self.dropped.get_mut(cause as usize) {
            *count = count.saturating_add(more);
        }
    }

    /// How many were dropped for that.
    #[cfg(test)]
    pub(super) fn dropped(&self, cause: Cause) -> u64 {
        self.dropped[cause as usize]
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, received) = (self.sent, self.received);
        write!(f, "{} frames ({} bytes) from the guest, ", sent.frames, sent.bytes)?;
        write!(f, "{} ({} bytes) to it", received.frames, received.bytes)?;
        let mut before = "; dropped: ";
        for (count, (_, words)) in self.dropped.iter().zip(WORDS) {
            if *count > 0 {
                write!(f, "{before}{count} {words}")?;
                before = ", ";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_words_in_its_place() {
        for (index, (cause, _)) in WORDS.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
        }
    }

    #[test]
    fn one_line_says_what_happened_and_no_more() {
        let mut counters = Counters::default();
        counters.sent.count(60);
        counters.sent.count(40);
        let traffic = "2 frames (100 bytes) from the guest, 0 (0 bytes) to it";
        assert_eq!(counters.to_string(), traffic);
        counters.drop(Cause::Spoofed);
        counters.drop(Cause::Fragment);
        counters.drop(Cause::Fragment);
        let dropped = "dropped: 1 with a spoofed source, 2 fragments";
        assert_eq!(counters.to_string(), format!("{traffic}; {dropped}"));
    }
}
