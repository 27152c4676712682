//! A guest's TCP for tests: small, strict about what it is sent, and as slow or as lossy as a test
//! wants it.

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetFrame, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpControl, TcpPacket, TcpRepr,
    TcpSeqNumber,
};
use std::net::SocketAddr;

use super::{Key, Segment, Seq, Sum};
use crate::net::frame::{Family, Offload};

/// What the guest's stack can do, and how it behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) mss: u16,
    pub(super) scale: Option<u8>,
    /// What it takes at most before the test reads.
    pub(super) buffer: usize,
    /// Bytes in a segment it sends.
    pub(super) burst: usize,
    /// It leaves checksums to others.
    pub(super) unsummed: bool,
}

pub(super) const PLAIN: Manner =
    Manner { mss: 1460, scale: Some(4), buffer: 200_000, burst: 1460, unsummed: false };

/// One end of a connection.
#[derive(Debug)]
pub(super) struct End {
    pub(super) key: Key,
    manner: Manner,
    pub(super) up: bool,
    first: Seq,
    acked: Seq,
    next: Seq,
    pub(super) received: Seq,
    /// What it is told it may send, beyond `acked`.
    pub(super) window: usize,
    scale: u8,
    /// What the test has written, from `acked` on.
    out: Vec<u8>,
    fin: bool,
    pub(super) fin_acked: bool,
    /// What has come and the test has not read.
    pub(super) inbox: Vec<u8>,
    pub(super) ended: bool,
    pub(super) reset: bool,
    told: usize,
    /// Segments that came twice or too early.
    pub(super) repeats: usize,
    idle: u32,
}

/// A frame for the guest as its TCP sees it.
pub(super) struct Arrived {
    pub(super) key: Key,
    pub(super) segment: Segment,
    pub(super) data: Vec<u8>,
}

/// Takes a frame apart; whatever is wrong with it fails the test.
pub(super) fn arrived(offload: Offload, frame: &[u8], csum: bool) -> Arrived {
    let ethernet = EthernetFrame::new_checked(frame).unwrap();
    let bytes = ethernet.payload();
    let (from, to, tcp): (IpAddress, IpAddress, &[u8]) = match bytes[0] >> 4 {
        4 => {
            let ip = Ipv4Packet::new_checked(bytes).unwrap();
            assert!(ip.verify_checksum());
            (ip.src_addr().into(), ip.dst_addr().into(), ip.payload())
        }
        _ => {
            let ip = Ipv6Packet::new_checked(bytes).unwrap();
            (ip.src_addr().into(), ip.dst_addr().into(), ip.payload())
        }
    };
    let segment = Segment::parse(tcp, tcp.len()).unwrap();
    let packet = TcpPacket::new_checked(tcp).unwrap();
    match offload.checksum {
        None => assert!(packet.verify_checksum(&from, &to), "checksum"),
        Some((start, 16)) => {
            assert!(csum, "what was not accepted");
            assert_eq!(usize::from(start), frame.len() - tcp.len());
            assert!(packet.verify_partial_checksum(&from, &to));
        }
        Some(other) => panic!("{other:?}"),
    }
    if let Some((family, size)) = offload.segment {
        assert_eq!(family == Family::V4, matches!(from, IpAddress::Ipv4(_)));
        assert!(segment.len > size.into() && offload.checksum.is_some());
    } else {
        assert!(frame.len() <= 1514, "{} bytes", frame.len());
    }
    let guest = SocketAddr::new(to.into(), segment.destination);
    let peer = SocketAddr::new(from.into(), segment.source);
    Arrived { key: Key { guest, peer }, segment, data: tcp[segment.header..].to_vec() }
}

/// A segment as bytes.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) key: Key,
    pub(super) bytes: Vec<u8>,
    pub(super) unsummed: bool,
}

/// What a segment of the guest's says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Say<'a> {
    pub(super) seq: Seq,
    pub(super) ack: Option<Seq>,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) mss: Option<u16>,
    pub(super) scale: Option<u8>,
    pub(super) data: &'a [u8],
}

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;

/// Writes a segment, its checksum included.
pub(super) fn segment(key: Key, say: Say<'_>, unsummed: bool) -> Sent {
    let repr = TcpRepr {
        src_port: key.guest.port(),
        dst_port: key.peer.port(),
        control: TcpControl::None,
        seq_number: TcpSeqNumber(say.seq.0.cast_signed()),
        ack_number: say.ack.map(|ack| TcpSeqNumber(ack.0.cast_signed())),
        window_len: say.window,
        window_scale: say.scale,
        max_seg_size: say.mss,
        sack_permitted: say.mss.is_some(),
        sack_ranges: [None; 3],
        timestamp: None,
        payload: say.data,
    };
    let (from, to) = (key.guest.ip().into(), key.peer.ip().into());
    let mut bytes = vec![0; repr.buffer_len()];
    let mut packet = TcpPacket::new_unchecked(&mut bytes);
    repr.emit(&mut packet, &from, &to, &ChecksumCapabilities::ignored());
    bytes[13] |= say.flags;
    sum(key, &mut bytes);
    if unsummed {
        bytes[16] ^= 0x55;
    }
    Sent { key, bytes, unsummed }
}

/// Sets the checksum of a segment.
pub(super) fn sum(key: Key, bytes: &mut [u8]) {
    if bytes.len() < 18 {
        return;
    }
    bytes[16..18].fill(0);
    let (from, to): (IpAddress, IpAddress) = (key.guest.ip().into(), key.peer.ip().into());
    let pseudo = smoltcp::wire::IpProtocol::Tcp;
    assert_eq!(pseudo, IpProtocol::Tcp);
    let mut sum = Sum::pseudo(&from, &to, bytes.len());
    sum.add(bytes);
    let value = !sum.folded();
    bytes[16..18].copy_from_slice(&value.to_be_bytes());
}

impl End {
    pub(super) fn new(key: Key, manner: Manner, first: u32) -> Self {
        let first = Seq(first);
        Self {
            key,
            manner,
            up: false,
            first,
            acked: first,
            next: first,
            received: Seq(0),
            window: 0,
            scale: 0,
            out: Vec::new(),
            fin: false,
            fin_acked: false,
            inbox: Vec::new(),
            ended: false,
            reset: false,
            told: 0,
            repeats: 0,
            idle: 0,
        }
    }

    pub(super) fn say(&self, say: Say<'_>) -> Sent {
        segment(self.key, say, self.manner.unsummed)
    }

    fn free(&self) -> usize {
        self.manner.buffer.saturating_sub(self.inbox.len())
    }

    fn window_field(&self) -> u16 {
        let shift = if self.scale > 0 { self.manner.scale.unwrap_or(0) } else { 0 };
        u16::try_from(self.free() >> shift).unwrap_or(u16::MAX)
    }

    pub(super) fn syn(&self) -> Sent {
        self.say(Say {
            seq: self.first,
            ack: self.up.then_some(self.received),
            flags: SYN,
            window: u16::try_from(self.free()).unwrap_or(u16::MAX),
            mss: Some(self.manner.mss),
            scale: self.manner.scale,
            ..Say::default()
        })
    }

    /// What is acknowledged to it, and its place in what it sends.
    pub(super) fn ack(&self) -> Sent {
        self.say(Say {
            seq: self.next,
            ack: Some(self.received),
            window: self.window_field(),
            ..Say::default()
        })
    }

    pub(super) fn rst(&self) -> Sent {
        self.say(Say { seq: self.next, ack: Some(self.received), flags: RST, ..Say::default() })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub(super) fn finish(&mut self) {
        self.fin = true;
    }

    /// What has come so far. It takes more then, and says so.
    pub(super) fn read(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.inbox)
    }

    /// Takes a segment; returns what it answers at once.
    pub(super) fn take(&mut self, segment: &Segment, data: &[u8]) -> Option<Sent> {
        self.idle = 0;
        if segment.rst {
            let right = if self.up { segment.seq == self.received } else { true };
            assert!(right, "a reset must be the next: {segment:?}, not {:?}", self.received);
            self.reset = true;
            return None;
        }
        if segment.syn {
            self.received = segment.seq.add(1);
            self.scale = if self.manner.scale.is_some() { segment.scale.unwrap_or(0) } else { 0 };
            self.window = segment.window.into();
            if segment.ack.is_none() {
                // It is we who are called.
                self.up = true;
                self.next = self.first.add(1);
                self.acked = self.next;
                return Some(self.syn());
            }
            assert_eq!(segment.ack, Some(self.first.add(1)));
            if !self.up {
                self.up = true;
                self.next = self.first.add(1);
                self.acked = self.next;
            }
            return Some(self.ack());
        }
        let ack = segment.ack.expect("every other segment acknowledges");
        let count = ack.from(self.acked).unwrap_or(0);
        assert!(!ack.is_after(self.next), "acknowledges what was not sent");
        self.fin_acked |= self.fin && count > self.out.len();
        self.out.drain(..count.min(self.out.len()));
        let edge = self.acked.add(self.window);
        if count > 0 {
            self.acked = ack;
        }
        self.window = usize::from(segment.window) << self.scale;
        let new = self.acked.add(self.window);
        // But for what its unit rounds off.
        assert!(!edge.back(1 << 4).is_after(new), "the window shrinks");
        let length = segment.length();
        if length == 0 {
            let asks = segment.seq == self.received.back(1);
            return asks.then(|| self.ack());
        }
        if segment.seq != self.received {
            self.repeats += 1;
            return Some(self.ack());
        }
        if data.len() > self.free() {
            // Beyond the window, as a probe may be.
            return Some(self.ack());
        }
        self.inbox.extend_from_slice(data);
        self.received = self.received.add(length);
        self.ended |= segment.fin;
        Some(self.ack())
    }

    /// What it sends on its own accord: data, its end, a wider window; the same again when nothing has
    /// come for long.
    pub(super) fn next(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        if !self.up || self.reset {
            return sent;
        }
        self.idle += 1;
        let pending = !self.out.is_empty() || self.fin && !self.fin_acked;
        let probe = self.idle > 300 && pending;
        if probe {
            (self.next, self.idle) = (self.acked, 0);
        }
        loop {
            let flight = self.next.from(self.acked).unwrap();
            let unsent = self.out.len().saturating_sub(flight);
            let usable = self.window.saturating_sub(flight).max(usize::from(probe));
            let len = unsent.min(usable).min(self.manner.burst);
            let fin = self.fin && !self.fin_acked && len == unsent && flight <= self.out.len();
            if len == 0 && !fin {
                break;
            }
            let data = self.out[flight.min(self.out.len())..][..len].to_vec();
            sent.push(self.say(Say {
                seq: self.next,
                ack: Some(self.received),
                flags: if fin { FIN } else { 0 },
                window: self.window_field(),
                data: &data,
                ..Say::default()
            }));
            self.next = self.next.add(len + usize::from(fin));
            if probe {
                break;
            }
        }
        let free = self.free();
        if sent.is_empty() && free > self.told + 2 * usize::from(self.manner.mss) {
            sent.push(self.ack());
        }
        self.told = free;
        sent
    }
}
