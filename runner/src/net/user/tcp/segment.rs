//! Segments (RFC 9293 §3.1), by crate `smoltcp`'s wire layer: those of the guest read, those for it
//! written.

use std::net::SocketAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpAddress, IpProtocol, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use super::seq::Seq;
use crate::net::frame::{Family, Offload};
use crate::net::user::outbox::Outbox;
use crate::net::user::wire::{self, HEAD, Path};
use crate::net::{Inbox, Put};

/// The two ends of a connection, as the guest sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) guest: SocketAddr,
    pub(super) peer: SocketAddr,
}

/// A segment of the guest's, without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) source: u16,
    pub(super) destination: u16,
    pub(super) seq: Seq,
    /// What it acknowledges, if it does.
    pub(super) ack: Option<Seq>,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    /// As it stands there: not scaled.
    pub(super) window: u16,
    /// Options that go with SYN.
    pub(super) mss: Option<u16>,
    pub(super) scale: Option<u8>,
    /// Where its data begins, and how many bytes that is.
    pub(super) header: usize,
    pub(super) len: usize,
}

impl Segment {
    /// Reads a segment of `len` bytes that begins with `head`. `None` when it is none.
    pub(super) fn parse(head: &[u8], len: usize) -> Option<Self> {
        let packet = TcpPacket::new_checked(head).ok()?;
        let header = usize::from(packet.header_len());
        let (source, destination) = (packet.src_port(), packet.dst_port());
        if source == 0 || destination == 0 {
            return None;
        }
        let (mss, scale) = if packet.syn() {
            let options = packet.options_summary().ok()?;
            (options.max_segment_size, options.window_scale)
        } else {
            (None, None)
        };
        Some(Self {
            source,
            destination,
            seq: Seq(packet.seq_number().0.cast_unsigned()),
            ack: packet.ack().then(|| Seq(packet.ack_number().0.cast_unsigned())),
            syn: packet.syn(),
            fin: packet.fin(),
            rst: packet.rst(),
            window: packet.window_len(),
            mss,
            scale,
            header,
            len: len.checked_sub(header)?,
        })
    }

    /// How many sequence numbers it takes.
    pub(super) fn length(&self) -> usize {
        self.len.saturating_add(usize::from(self.syn)).saturating_add(usize::from(self.fin))
    }

    /// What answers a segment that belongs to no connection (RFC 9293 §3.10.7.1).
    pub(super) fn reset<'a>(&self) -> Reply<'a> {
        match self.ack {
            Some(ack) => Reply { seq: ack, rst: true, ..Reply::default() },
            None => Reply { ack: Some(self.seq.add(self.length())), rst: true, ..Reply::default() },
        }
    }
}

/// What the guest has accepted, of what concerns segments for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Accepted {
    /// Checksums that are left to it.
    pub(super) checksum: bool,
    /// Large segments, over IPv4 and IPv6.
    pub(super) four: bool,
    pub(super) six: bool,
}

impl Accepted {
    /// Whether a segment to this address may be large.
    pub(super) fn large(self, guest: SocketAddr) -> bool {
        self.checksum && if guest.is_ipv4() { self.four } else { self.six }
    }
}

/// The most bytes of data in one frame for the guest: an IP packet has at most 65,535, headers
/// included.
pub(super) const LARGEST_DATA: usize = 65_535 - 40 - 20;

/// Bytes of a header with the options that we send.
const HEADER: usize = 28;

/// A segment for the guest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reply<'a> {
    pub(super) seq: Seq,
    pub(super) ack: Option<Seq>,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    pub(super) push: bool,
    pub(super) window: u16,
    /// Options that go with SYN.
    pub(super) mss: Option<u16>,
    pub(super) scale: Option<u8>,
    pub(super) data: [&'a [u8]; 2],
}

/// A frame's headers.
struct Headers {
    front: [u8; HEAD],
    front_len: usize,
    tcp: [u8; HEADER],
    tcp_len: usize,
}

impl Headers {
    fn pieces<'a>(&'a self, [first, second]: [&'a [u8]; 2]) -> [&'a [u8]; 4] {
        let front = self.front.get(..self.front_len).unwrap_or_default();
        [front, self.tcp.get(..self.tcp_len).unwrap_or_default(), first, second]
    }
}

impl Reply<'_> {
    /// Gives it to the guest, cut by the guest itself into pieces of `mss` bytes when it is larger.
    pub(super) fn put(
        &self,
        key: &Key,
        path: Path,
        accepted: Accepted,
        mss: usize,
        inbox: &mut dyn Inbox,
    ) -> Put {
        let partial = accepted.checksum;
        let Some(headers) = self.headers(key, path, partial) else { return Put::Done };
        let family = if key.guest.is_ipv4() { Family::V4 } else { Family::V6 };
        let large = self.len() > mss;
        let size = u16::try_from(mss).ok().filter(|size| large && *size > 0);
        let start = u16::try_from(headers.front_len).unwrap_or_default();
        let offload = Offload {
            checksum: partial.then_some((start, CHECKSUM)),
            segment: size.map(|size| (family, size)),
        };
        inbox.put(offload, &headers.pieces(self.data))
    }

    /// Has it wait for the guest, if there is room.
    pub(super) fn push_to(&self, key: &Key, path: Path, outbox: &mut Outbox) {
        if let Some(headers) = self.headers(key, path, false) {
            outbox.push(&headers.pieces(self.data));
        }
    }

    fn len(&self) -> usize {
        self.data.iter().fold(0usize, |sum, piece| sum.saturating_add(piece.len()))
    }

    /// Writes the headers. With `partial` the checksum is the pseudo-header's alone (virtio 1.2
    /// §5.1.6.2).
    fn headers(&self, key: &Key, path: Path, partial: bool) -> Option<Headers> {
        let (source, destination) = (key.peer.ip().into(), key.guest.ip().into());
        let control = match (self.syn, self.fin, self.rst, self.push) {
            (true, ..) => TcpControl::Syn,
            (_, true, ..) => TcpControl::Fin,
            (_, _, true, _) => TcpControl::Rst,
            (_, _, _, true) => TcpControl::Psh,
            _ => TcpControl::None,
        };
        let wire = |seq: Seq| TcpSeqNumber(seq.0.cast_signed());
        let tcp = TcpRepr {
            src_port: key.peer.port(),
            dst_port: key.guest.port(),
            control,
            seq_number: wire(self.seq),
            ack_number: self.ack.map(wire),
            window_len: self.window,
            window_scale: self.scale,
            max_seg_size: self.mss,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let tcp_len = tcp.header_len();
        let len = tcp_len.checked_add(self.len())?;
        let mut headers = Headers { front: [0; HEAD], front_len: 0, tcp: [0; HEADER], tcp_len };
        headers.front_len = wire::head(
            path,
            key.peer.ip(),
            key.guest.ip(),
            IpProtocol::Tcp,
            len,
            &mut headers.front,
        )?;
        let bytes = headers.tcp.get_mut(..tcp_len)?;
        let mut packet = TcpPacket::new_unchecked(&mut *bytes);
        tcp.emit(&mut packet, &source, &destination, &ChecksumCapabilities::ignored());
        let mut sum = Sum::pseudo(&source, &destination, len);
        if !partial {
            sum.add(bytes);
            self.data.iter().for_each(|piece| sum.add(piece));
        }
        let sum = if partial { sum.folded() } else { !sum.folded() };
        TcpPacket::new_unchecked(bytes).set_checksum(sum);
        Some(headers)
    }
}

/// Where the checksum is in a header.
const CHECKSUM: u16 = 16;

/// The Internet checksum (RFC 1071) over bytes in pieces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sum {
    sum: u64,
    odd: bool,
}

impl Sum {
    /// Begun with the pseudo-header of a segment of `len` bytes. Both addresses are of one kind.
    pub(super) fn pseudo(source: &IpAddress, destination: &IpAddress, len: usize) -> Self {
        let mut sum = Self { sum: 0, odd: false };
        for address in [source, destination] {
            match address {
                IpAddress::Ipv4(address) => sum.add(&address.octets()),
                IpAddress::Ipv6(address) => sum.add(&address.octets()),
            }
        }
        let len = u32::try_from(len).unwrap_or_default().to_be_bytes();
        sum.add(&len);
        sum.add(&[0, IpProtocol::Tcp.into()]);
        sum
    }

    /// Goes on with `bytes`, 64 KiB at most.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        // In the machine's byte order, eight at a time (RFC 1071 §2). 32-bit halves cannot overflow
        // a sum of 64 bits here.
        let (chunks, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        let add = |sum: u64, chunk: &[u8; 8]| {
            let value = u64::from_ne_bytes(*chunk);
            sum.wrapping_add(value & 0xffff_ffff).wrapping_add(value >> 32)
        };
        let sum = add(chunks.iter().fold(0, add), &last);
        let folded = u16::from_be(fold(sum));
        let folded = if self.odd { folded.swap_bytes() } else { folded };
        self.sum = self.sum.wrapping_add(folded.into());
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// The sum, not yet complemented. All ones over bytes that hold their checksum.
    pub(super) fn folded(self) -> u16 {
        fold(self.sum)
    }
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16).wrapping_add(sum & 0xffff);
    }
    u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::Mailbox;
    use smoltcp::wire::{EthernetFrame, Ipv4Packet, Ipv6Packet};

    const PATH: Path = Path { ours: [2; 6], guest: [4; 6] };

    fn key(guest: &str, peer: &str) -> Key {
        Key { guest: guest.parse().unwrap(), peer: peer.parse().unwrap() }
    }

    fn put(key: &Key, accepted: Accepted, reply: Reply<'_>) -> (Offload, Vec<u8>) {
        let mut inbox = Mailbox::with_room(1);
        assert_eq!(reply.put(key, PATH, accepted, 1460, &mut inbox), Put::Done);
        inbox.frames.remove(0)
    }

    #[test]
    fn the_sum_does_not_depend_on_where_the_bytes_are_cut() {
        let bytes: Vec<u8> = (0..3001u32).map(|n| (n * 7 % 256) as u8).collect();
        let of = |pieces: &[&[u8]]| {
            let mut sum = Sum { sum: 0, odd: false };
            pieces.iter().for_each(|piece| sum.add(piece));
            sum.folded()
        };
        let whole = of(&[&bytes]);
        let words = bytes
            .chunks(2)
            .map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |low| (*low).into()));
        let plain =
            words.fold(
                0,
                |sum: u64, word| if sum + word > 0xffff { sum + word - 0xffff } else { sum + word },
            );
        assert_eq!(u64::from(whole), plain);
        for cut in [0, 1, 2, 3, 7, 8, 9, 1000, 1001, 3000, 3001] {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(of(&[a, b]), whole, "{cut}");
            assert_eq!(of(&[&[], a, b]), whole, "{cut}");
        }
    }

    #[test]
    fn a_segment_is_whole_when_the_guest_has_accepted_nothing() {
        let reply = Reply {
            seq: Seq(7),
            ack: Some(Seq(9)),
            push: true,
            window: 1000,
            data: [b"hel", b"lo"],
            ..Reply::default()
        };
        let (offload, frame) = put(&key("10.0.2.15:1", "1.2.3.4:80"), Accepted::default(), reply);
        assert_eq!(offload, Offload::default());
        let ip = Ipv4Packet::new_checked(EthernetFrame::new_checked(&frame).unwrap().payload());
        let ip = ip.unwrap();
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        assert!(tcp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
        assert_eq!((tcp.src_port(), tcp.dst_port(), tcp.payload()), (80, 1, &b"hello"[..]));
        let segment = Segment::parse(ip.payload(), ip.payload().len()).unwrap();
        assert_eq!((segment.seq, segment.ack, segment.window), (Seq(7), Some(Seq(9)), 1000));
        assert_eq!((segment.header, segment.len), (20, 5));
        assert!(!segment.syn && !segment.fin && !segment.rst);
    }

    #[test]
    fn what_the_guest_has_accepted_is_left_to_it_and_no_more() {
        let data = vec![1; 4000];
        let reply = Reply { data: [&data, &[]], ..Reply::default() };
        let accepted = Accepted { checksum: true, four: true, six: false };
        let (offload, frame) = put(&key("10.0.2.15:1", "1.2.3.4:80"), accepted, reply);
        assert_eq!(offload.checksum, Some((34, 16)));
        assert_eq!(offload.segment, Some((Family::V4, 1460)));
        let ip = Ipv4Packet::new_checked(&frame[14..]).unwrap();
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        assert!(tcp.verify_partial_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
        let key = key("[fec0::15]:1", "[2001:db8::1]:80");
        assert!(accepted.large("10.0.2.15:1".parse().unwrap()) && !accepted.large(key.guest));
        let short = Reply { data: [b"hi", b""], ..Reply::default() };
        let (offload, frame) = put(&key, accepted, short);
        assert_eq!((offload.checksum, offload.segment), (Some((54, 16)), None));
        let ip = Ipv6Packet::new_checked(&frame[14..]).unwrap();
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        assert!(tcp.verify_partial_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
        let six = put(&key, Accepted::default(), Reply { data: [b"odd", b""], ..Reply::default() });
        let ip = Ipv6Packet::new_checked(&six.1[14..]).unwrap();
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        assert!(tcp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
    }

    #[test]
    fn what_is_no_segment_is_none() {
        // N54
        let mut bytes = [0; 24];
        (bytes[1], bytes[3], bytes[12]) = (1, 1, 6 << 4);
        assert_eq!(Segment::parse(&bytes, 24).unwrap().header, 24);
        for (place, value) in [(1, 0), (3, 0), (12, 4 << 4), (12, 0), (12, 7 << 4), (12, 0xf0)] {
            let mut bytes = bytes;
            bytes[place] = value;
            assert_eq!(Segment::parse(&bytes, 24), None, "{place} {value}");
        }
        assert_eq!(Segment::parse(&bytes[..19], 19), None);
        // Options of a SYN, cut off or of no length.
        bytes[13] = 2;
        for options in [[2, 4, 5, 0xb4], [1, 3, 3, 14], [0, 9, 9, 9]] {
            bytes[20..].copy_from_slice(&options);
            assert!(Segment::parse(&bytes, 24).is_some(), "{options:?}");
        }
        for options in [[2, 5, 5, 0xb4], [2, 0, 0, 0], [1, 1, 3, 3], [2, 1, 1, 1], [3, 4, 1, 1]] {
            bytes[20..].copy_from_slice(&options);
            assert_eq!(Segment::parse(&bytes, 24), None, "{options:?}");
        }
    }
}
