//! ICMP (RFC 792): echoes of our own addresses, and errors about packets of the guest's.

use std::net::{IpAddr, Ipv4Addr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv4Repr, checksum};

use super::addresses::GATEWAY;
use super::out::Out;
use super::policy::Refusal;

/// Bytes of a header: type, code, checksum, and four more.
pub(super) const HEADER: usize = 8;

pub(super) const ECHO_REPLY: u8 = 0;
pub(super) const ECHO_REQUEST: u8 = 8;

/// Bytes that an error quotes behind the IP header: as many as RFC 792 asks for.
const QUOTED: usize = 8;

/// Why a packet did not arrive: the type and the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reason(pub(super) u8, pub(super) u8);

impl Reason {
    /// No route to the destination's network.
    pub(super) const NETWORK: Self = Self(3, 0);
    /// The destination itself is not reached.
    pub(super) const HOST: Self = Self(3, 1);
    /// It is forbidden (RFC 1812 §5.2.7.1).
    pub(super) const PROHIBITED: Self = Self(3, 13);
    /// It has taken all the hops that it may.
    pub(super) const HOPS: Self = Self(11, 0);
}

impl From<Refusal> for Reason {
    /// What a switch would open is forbidden; what nothing opens is not there.
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::HostLoopback | Refusal::LinkLocal => Self::PROHIBITED,
            Refusal::Nowhere => Self::HOST,
        }
    }
}

/// A packet of the guest's that did not arrive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: IpProtocol,
    /// Its first bytes behind the IP header.
    pub(super) head: &'a [u8],
    /// How many there were.
    pub(super) len: usize,
}

/// Tells the guest, quoting the packet's beginning, so that the one who sent it is found.
pub(super) fn error(reason: Reason, lost: &Lost<'_>, out: &mut Out<'_>) {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (lost.source, lost.destination) else {
        return;
    };
    let mut message = [0; HEADER + 20 + QUOTED];
    let Some((header, quote)) = message.split_at_mut_checked(HEADER) else { return };
    for (byte, value) in header.iter_mut().zip([reason.0, reason.1]) {
        *byte = value;
    }
    Ipv4Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: lost.protocol,
        payload_len: lost.len,
        hop_limit: 64,
    }
    .emit(&mut Ipv4Packet::new_unchecked(&mut *quote), &ChecksumCapabilities::default());
    for (byte, value) in quote.iter_mut().skip(20).zip(lost.head) {
        *byte = *value;
    }
    sum(&mut message);
    out.packet(IpAddr::V4(GATEWAY), lost.source, IpProtocol::Icmp, [&message, &[]]);
}

/// Answers an echo request to `asked`, one of our own addresses: `message` comes back as a reply.
pub(super) fn echo(guest: Ipv4Addr, asked: Ipv4Addr, message: &mut [u8], out: &mut Out<'_>) {
    if let Some(kind) = message.first_mut() {
        *kind = ECHO_REPLY;
    }
    sum(message);
    out.packet(IpAddr::V4(asked), IpAddr::V4(guest), IpProtocol::Icmp, [message, &[]]);
}

/// Writes the checksum of a message into it.
pub(super) fn sum(message: &mut [u8]) {
    put(message, [0; 2]);
    let sum = !checksum::data(message);
    put(message, sum.to_be_bytes());
}

/// Whether the checksum of a message is right.
pub(super) fn is_whole(message: &[u8]) -> bool {
    checksum::data(message) == !0
}

fn put(message: &mut [u8], sum: [u8; 2]) {
    for (byte, value) in message.iter_mut().skip(2).zip(sum) {
        *byte = value;
    }
}
