//! The checks of an IPv6 header (RFC 8200 §3), and of the header of a fragment behind it (§4.5). Other
//! extension headers are not read: what needs them, groups of multicast, reaches nobody.

use smoltcp::wire::{IpProtocol, Ipv6Packet};

use super::counters::Cause;
use super::fragments::Fragment;
use super::packet::Header;

/// Bytes of the header, and of that of a fragment.
pub(super) const HEADER: usize = 40;
const EXTENSION: usize = 8;

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
    let whole = Header {
        source: packet.src_addr().into(),
        destination: packet.dst_addr().into(),
        protocol: packet.next_header(),
        len: HEADER,
        body,
        hops: packet.hop_limit(),
        fragment: None,
    };
    match whole.protocol {
        IpProtocol::Ipv6Frag => fragment(whole, head),
        _ => Ok(whole),
    }
}

/// What the header of a fragment says besides.
fn fragment(whole: Header, head: &[u8]) -> Result<Header, Cause> {
    let extension = head.get(HEADER..).and_then(|behind| behind.first_chunk::<EXTENSION>());
    let (Some([next, _, high, low, identification @ ..]), Some(body)) =
        (extension, whole.body.checked_sub(EXTENSION))
    else {
        return Err(Cause::Header);
    };
    let place = u16::from_be_bytes([*high, *low]);
    let (at, more) = (usize::from(place & !7), place & 1 == 1);
    let identification = u32::from_be_bytes(*identification);
    Ok(Header {
        protocol: IpProtocol::from(*next),
        len: whole.len.saturating_add(EXTENSION),
        body,
        // One that is all there is may say so (RFC 6946).
        fragment: (at > 0 || more).then_some(Fragment { identification, at, more }),
        ..whole
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
    fn a_fragment_says_where_it_belongs_and_one_without_its_header_is_refused() {
        let mut bytes = [&header(24)[..], &[17, 0, 0xff, 0xf9, 0, 1, 0, 2], &[0; 16]].concat();
        bytes[6] = IpProtocol::Ipv6Frag.into();
        let found = parse(&bytes, 64, false).unwrap();
        let wanted = Fragment { identification: 0x1_0002, at: 65_528, more: true };
        assert_eq!((found.protocol, found.fragment), (IpProtocol::Udp, Some(wanted)));
        assert_eq!((found.len, found.body), (48, 16));
        (bytes[42], bytes[43]) = (0, 6);
        assert_eq!(parse(&bytes, 64, false).unwrap().fragment, None, "all of it");
        // N56
        bytes[5] = 7;
        assert_eq!(parse(&bytes, 64, false), Err(Cause::Header));
        assert_eq!(parse(&bytes[..47], 64, false), Err(Cause::Header));
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
