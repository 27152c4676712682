//! The datagrams of UDP (RFC 768): their header, checked and written.

use std::net::SocketAddr;

use smoltcp::wire::{IpAddress, IpProtocol, checksum};

use super::counters::Cause;
use super::out::Out;

/// Bytes of a header: two ports, the length, the checksum.
pub(super) const HEADER: usize = 8;

/// A datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Datagram<'a> {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    /// What it carries.
    pub(super) bytes: &'a [u8],
    /// All of it.
    pub(super) whole: &'a [u8],
}

/// Reads what came by IP from and to these addresses, whose ports are not read yet. `unsummed` says
/// that the checksum is not there.
pub(super) fn parse(
    source: std::net::IpAddr,
    destination: std::net::IpAddr,
    body: &[u8],
    unsummed: bool,
) -> Result<Datagram<'_>, Cause> {
    let Some(([from_0, from_1, to_0, to_1, len_0, len_1, sum_0, sum_1], _)) =
        body.split_first_chunk::<HEADER>()
    else {
        return Err(Cause::Malformed);
    };
    let half = |high: &u8, low: &u8| u16::from_be_bytes([*high, *low]);
    let len = half(len_0, len_1);
    let whole = body.get(..usize::from(len)).ok_or(Cause::Malformed)?;
    let bytes = whole.get(HEADER..).ok_or(Cause::Malformed)?;
    let (from, to, sum) = (half(from_0, from_1), half(to_0, to_1), half(sum_0, sum_1));
    if from == 0 || to == 0 {
        return Err(Cause::Malformed);
    }
    // IPv4 may do without a checksum, IPv6 not (RFC 8200 §8.1).
    let unsummed = unsummed || sum == 0 && source.is_ipv4();
    if !unsummed && total(source.into(), destination.into(), len, [whole, &[]]) != !0 {
        return Err(Cause::Checksum);
    }
    Ok(Datagram {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
        bytes,
        whole,
    })
}

/// Sends the guest a datagram.
pub(super) fn deliver(from: SocketAddr, to: SocketAddr, bytes: &[u8], out: &mut Out<'_>) {
    let Ok(len) = u16::try_from(bytes.len().saturating_add(HEADER)) else {
        return out.drop(Cause::Size);
    };
    let mut header = [0; HEADER];
    let mut write = |sum: u16| {
        let fields = [from.port(), to.port(), len, sum].into_iter().flat_map(u16::to_be_bytes);
        for (byte, value) in header.iter_mut().zip(fields) {
            *byte = value;
        }
        header
    };
    let sum = !total(from.ip().into(), to.ip().into(), len, [&write(0), bytes]);
    // 0 says that there is none.
    let header = write(if sum == 0 { !0 } else { sum });
    out.packet(from.ip(), to.ip(), IpProtocol::Udp, [&header, bytes]);
}

/// The sum over the pseudo-header and two pieces, the first of which has an even length if there is a
/// second.
fn total(source: IpAddress, destination: IpAddress, len: u16, pieces: [&[u8]; 2]) -> u16 {
    let pseudo = match (source, destination) {
        (IpAddress::Ipv4(source), IpAddress::Ipv4(destination)) => {
            checksum::pseudo_header_v4(&source, &destination, IpProtocol::Udp, len.into())
        }
        (IpAddress::Ipv6(source), IpAddress::Ipv6(destination)) => {
            checksum::pseudo_header_v6(&source, &destination, IpProtocol::Udp, len.into())
        }
        // No packet has one address of each kind.
        _ => return 0,
    };
    let [first, second] = pieces.map(checksum::data);
    checksum::combine(&[pseudo, first, second])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::Mailbox;
    use crate::net::user::out::Desk;
    use smoltcp::wire::{Ipv4Packet, Ipv6Packet};

    /// A datagram as the guest gets it, from the IP header on.
    fn delivered(from: &str, to: &str, bytes: &[u8]) -> Vec<u8> {
        let (mut desk, mut mailbox) = (Desk::new([4; 6], 1500), Mailbox::with_room(1));
        deliver(from.parse().unwrap(), to.parse().unwrap(), bytes, &mut desk.out_to(&mut mailbox));
        mailbox.bytes()[0][14..].to_vec()
    }

    #[test]
    fn a_datagram_is_read_as_it_was_written() {
        for bytes in [&b""[..], b"x", b"hello"] {
            let packet = delivered("1.2.3.4:53", "10.0.2.15:1000", bytes);
            let packet = Ipv4Packet::new_checked(packet).unwrap();
            let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
            let body = packet.into_inner()[20..].to_vec();
            let found = parse(source, destination, &body, false).unwrap();
            assert_eq!(found.source, "1.2.3.4:53".parse().unwrap());
            assert_eq!(found.destination, "10.0.2.15:1000".parse().unwrap());
            assert_eq!((found.bytes, found.whole), (bytes, body.as_slice()));
            let mut broken = body.clone();
            broken[1] ^= 1;
            assert_eq!(parse(source, destination, &broken, false), Err(Cause::Checksum));
            assert!(parse(source, destination, &broken, true).is_ok());
            broken[6..8].fill(0);
            assert!(parse(source, destination, &broken, false).is_ok(), "there is none");
        }
        let packet = delivered("[fec0::2]:53", "[fec0::15]:1000", b"six");
        let packet = Ipv6Packet::new_checked(packet).unwrap();
        let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
        let mut body = packet.into_inner()[40..].to_vec();
        assert_eq!(parse(source, destination, &body, false).unwrap().bytes, b"six");
        body[6..8].fill(0);
        assert_eq!(parse(source, destination, &body, false), Err(Cause::Checksum));
    }

    #[test]
    fn a_header_that_lies_about_its_length_and_port_0_are_refused() {
        // N56
        let (source, destination) = ("10.0.2.15".parse().unwrap(), "1.2.3.4".parse().unwrap());
        let of =
            |body: &[u8]| parse(source, destination, body, true).map(|found| found.bytes.len());
        let header = |from, to, len: u8| [0, from, 0, to, 0, len, 0, 0, 9, 9];
        assert_eq!(of(&header(1, 2, 10)), Ok(2));
        assert_eq!(of(&header(1, 2, 8)), Ok(0), "the rest is padding");
        for body in
            [header(1, 2, 7), header(1, 2, 0), header(1, 2, 11), header(0, 2, 10), header(1, 0, 10)]
        {
            assert_eq!(of(&body), Err(Cause::Malformed), "{body:?}");
        }
        assert_eq!(of(&[0; 7]), Err(Cause::Malformed));
    }
}
