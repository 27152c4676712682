//! Headers of frames for the guest: Ethernet, and IPv4 (RFC 791) or IPv6 (RFC 8200) behind it, by
//! crate `smoltcp`'s wire layer.

use std::net::IpAddr;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpProtocol, Ipv4Packet,
    Ipv4Repr, Ipv6Packet, Ipv6Repr,
};

use crate::net::ETHERNET;

/// The most bytes that [`head`] writes: Ethernet and IPv6.
pub(super) const HEAD: usize = ETHERNET + 40;

/// Hops of what must have come through no router to be believed (RFC 4861 §6.1, §7.1).
const NEIGHBOUR: u8 = 255;

/// The two ends of the guest's cable, by their hardware addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// Ours: the gateway's, or the name server's.
    pub(super) ours: [u8; 6],
    /// The guest's, as it has shown.
    pub(super) guest: [u8; 6],
}

/// Writes the headers of a packet from `source` to `destination`, with `len` bytes behind its IP
/// header, and returns how many bytes they have. `None` when the addresses are of two kinds, or the
/// packet would be too long.
pub(super) fn head(
    path: Path,
    source: IpAddr,
    destination: IpAddr,
    protocol: IpProtocol,
    len: usize,
    out: &mut [u8; HEAD],
) -> Option<usize> {
    u16::try_from(len.checked_add(20)?).ok()?;
    let (ethertype, ip_len) = match (source, destination) {
        (IpAddr::V4(_), IpAddr::V4(_)) => (EthernetProtocol::Ipv4, 20),
        (IpAddr::V6(_), IpAddr::V6(_)) => (EthernetProtocol::Ipv6, 40),
        _ => return None,
    };
    let (ethernet, ip) = out.split_at_mut_checked(ETHERNET)?;
    EthernetRepr {
        src_addr: EthernetAddress(path.ours),
        dst_addr: EthernetAddress(path.guest),
        ethertype,
    }
    .emit(&mut EthernetFrame::new_unchecked(ethernet));
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Ipv4Repr {
            src_addr: source,
            dst_addr: destination,
            next_header: protocol,
            payload_len: len,
            hop_limit: 64,
        }
        .emit(&mut Ipv4Packet::new_unchecked(ip), &ChecksumCapabilities::default()),
        (IpAddr::V6(source), IpAddr::V6(destination)) => Ipv6Repr {
            src_addr: source,
            dst_addr: destination,
            next_header: protocol,
            payload_len: len,
            hop_limit: if protocol == IpProtocol::Icmpv6 { NEIGHBOUR } else { 64 },
        }
        .emit(&mut Ipv6Packet::new_unchecked(ip)),
        _ => return None,
    }
    ETHERNET.checked_add(ip_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: Path = Path { ours: [2; 6], guest: [4; 6] };

    fn headers(source: &str, destination: &str, len: usize) -> Option<Vec<u8>> {
        let mut out = [0; HEAD];
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        let written = head(PATH, source, destination, IpProtocol::Udp, len, &mut out)?;
        Some(out[..written].to_vec())
    }

    #[test]
    fn a_packet_has_the_headers_of_its_family() {
        let four = headers("10.0.2.2", "10.0.2.15", 100).unwrap();
        assert_eq!(four.len(), 34);
        assert_eq!(four[..14], [4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2, 8, 0]);
        let packet = Ipv4Packet::new_unchecked(&four[14..]);
        assert!(packet.verify_checksum());
        assert_eq!((packet.total_len(), packet.hop_limit()), (120, 64));
        let six = headers("fec0::2", "fec0::15", 100).unwrap();
        assert_eq!((six.len(), &six[12..14]), (54, &[0x86, 0xdd][..]));
        assert_eq!(Ipv6Packet::new_unchecked(&six[14..]).payload_len(), 100);
    }

    #[test]
    fn addresses_of_two_kinds_and_a_packet_that_is_too_long_have_no_headers() {
        assert_eq!(headers("10.0.2.2", "fec0::15", 1), None);
        assert_eq!(headers("10.0.2.2", "10.0.2.15", 65_516), None);
        assert!(headers("10.0.2.2", "10.0.2.15", 65_515).is_some());
    }
}
