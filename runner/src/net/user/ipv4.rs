//! The checks of an IPv4 header (RFC 791 §3.1, RFC 1122 §3.2.1).

use smoltcp::wire::Ipv4Packet;

use super::counters::Cause;
use super::fragments::Fragment;
use super::packet::Header;

/// The most bytes of a header, with all its options.
pub(super) const LONGEST: usize = 60;

/// Reads the header of a packet that has `len` bytes in its frame and begins with `head`. Of a TCP
/// segment that is to be cut (`segment`) neither the length nor the checksum need be right yet: each
/// packet gets its own.
pub(super) fn parse(head: &[u8], len: usize, segment: bool) -> Result<Header, Cause> {
    let head = head.get(..head.len().min(len)).unwrap_or_default();
    let first = head.first().copied().unwrap_or_default();
    let header = usize::from(first & 0xf).saturating_mul(4);
    if first >> 4 != 4 || header < 20 || head.len() < header {
        return Err(Cause::Header);
    }
    let packet = Ipv4Packet::new_unchecked(head);
    let whole = if segment { len } else { usize::from(packet.total_len()) };
    if whole < header || whole > len {
        return Err(Cause::Header);
    }
    if !segment && !packet.verify_checksum() {
        return Err(Cause::Checksum);
    }
    let (at, more) = (usize::from(packet.frag_offset()), packet.more_frags());
    let identification = packet.ident().into();
    Ok(Header {
        source: packet.src_addr().into(),
        destination: packet.dst_addr().into(),
        protocol: packet.next_header(),
        len: header,
        body: whole.saturating_sub(header),
        hops: packet.hop_limit(),
        fragment: (at > 0 || more).then_some(Fragment { identification, at, more }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::wire::IpProtocol;
    use std::net::Ipv4Addr;

    /// A header with `ihl` words that says it has `total` bytes, with a good checksum.
    fn header(ihl: u8, total: u16) -> Vec<u8> {
        let mut bytes = vec![0; usize::from(ihl).max(5) * 4];
        bytes[0] = 0x40 | ihl;
        let mut packet = Ipv4Packet::new_unchecked(bytes.as_mut_slice());
        packet.set_total_len(total);
        packet.set_hop_limit(64);
        packet.set_next_header(IpProtocol::Udp);
        packet.set_src_addr(Ipv4Addr::new(10, 0, 2, 15));
        packet.set_dst_addr(Ipv4Addr::new(1, 2, 3, 4));
        if ihl >= 5 {
            packet.fill_checksum();
        }
        bytes
    }

    #[test]
    fn a_header_says_what_is_behind_it_with_or_without_options() {
        for ihl in [5u8, 6, 15] {
            let len = usize::from(ihl) * 4;
            let found = parse(&header(ihl, u16::from(ihl) * 4 + 8), len + 30, false).unwrap();
            assert_eq!((found.len, found.body, found.hops), (len, 8, 64));
            assert_eq!((found.protocol, found.fragment), (IpProtocol::Udp, None));
        }
    }

    #[test]
    fn a_header_that_lies_about_a_length_is_refused() {
        // N56
        for ihl in 0..5 {
            assert_eq!(parse(&header(ihl, 28), 28, false), Err(Cause::Header), "{ihl}");
        }
        for total in [0, 19, 29, 0xffff] {
            assert_eq!(parse(&header(5, total), 28, false), Err(Cause::Header), "{total}");
        }
        assert_eq!(parse(&header(15, 68)[..40], 68, false), Err(Cause::Header));
        assert_eq!(parse(&header(5, 28), 19, false), Err(Cause::Header));
        assert_eq!(parse(&[], 0, false), Err(Cause::Header));
        let mut six = header(5, 28);
        six[0] = 0x65;
        assert_eq!(parse(&six, 28, false), Err(Cause::Header));
    }

    #[test]
    fn a_wrong_checksum_is_refused_but_for_a_segment_to_be_cut() {
        // N56
        let mut bytes = header(5, 28);
        bytes[10] ^= 1;
        assert_eq!(parse(&bytes, 60, false), Err(Cause::Checksum));
        assert_eq!(parse(&bytes, 3000, true).unwrap().body, 2980);
    }

    #[test]
    fn a_fragment_says_where_it_belongs() {
        let mut bytes = header(5, 28);
        let mut packet = Ipv4Packet::new_unchecked(bytes.as_mut_slice());
        packet.set_ident(7);
        packet.set_frag_offset(65_528);
        packet.fill_checksum();
        let wanted = Fragment { identification: 7, at: 65_528, more: false };
        assert_eq!(parse(&bytes, 28, false).unwrap().fragment, Some(wanted));
    }
}
