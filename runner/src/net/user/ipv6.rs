//! The checks of an IPv6 header (RFC 8200 §3). Extension headers are not read: what needs them, groups
//! of multicast and fragments, reaches nobody.

use std::net::Ipv6Addr;

use smoltcp::wire::{IpProtocol, Ipv6Packet};

use super::counters::Cause;

/// Bytes of the header.
pub(super) const HEADER: usize = 40;

/// What a header says, after its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    pub(super) protocol: IpProtocol,
    /// Bytes behind it. What the frame has beyond is padding.
    pub(super) body: usize,
    pub(super) hops: u8,
}

/// Reads the header of a packet that has `len` bytes in its frame and begins with `head`. Of a TCP
/// segment that is to be cut (`segment`) the length need not be right yet.
pub(super) fn parse(head: &[u8], len: usize, segment: bool) -> Result<Header, Cause> {
    let packet = head.get(..HEADER).filter(|_| len >= HEADER).ok_or(Cause::Header)?;
    let packet = Ipv6Packet::new_unchecked(packet);
    let there = len.saturating_sub(HEADER);
    let body = if segment { there } else { usize::from(packet.payload_len()) };
    if packet.version() != 6 || body > there {
        return Err(Cause::Header);
    }
    Ok(Header {
        source: packet.src_addr(),
        destination: packet.dst_addr(),
        protocol: packet.next_header(),
        body,
        hops: packet.hop_limit(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(body: u16) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut packet = Ipv6Packet::new_unchecked(&mut bytes[..]);
        packet.set_version(6);
        packet.set_payload_len(body);
        packet.set_next_header(IpProtocol::Udp);
        packet.set_hop_limit(64);
        bytes
    }

    #[test]
    fn a_header_says_what_is_behind_it() {
        let found = parse(&header(8), 60, false).unwrap();
        assert_eq!((found.body, found.hops, found.protocol), (8, 64, IpProtocol::Udp));
        assert_eq!(parse(&header(0), 3040, true).unwrap().body, 3000);
    }

    #[test]
    fn a_header_that_lies_or_is_none_is_refused() {
        // N56
        for (bytes, len) in [(&header(9)[..], 48), (&header(0)[..39], 40), (&header(0)[..], 39)] {
            assert_eq!(parse(bytes, len, false), Err(Cause::Header));
        }
        let mut four = header(8);
        four[0] = 0x40;
        assert_eq!(parse(&four, 60, false), Err(Cause::Header));
        assert_eq!(parse(&[], 0, true), Err(Cause::Header));
    }
}
