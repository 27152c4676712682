//! ICMP (RFC 792) and ICMPv6 (RFC 4443): echoes of our own addresses, and errors about packets of the
//! guest's.

use std::net::IpAddr;

use smoltcp::wire::{IpProtocol, checksum};

use super::addresses::{GATEWAY, GATEWAY_6};
use super::out::Out;
use super::policy::Refusal;
use super::wire::{HEAD, head};
use crate::net::ETHERNET;

/// Bytes of a header: type, code, checksum, and four more.
pub(super) const HEADER: usize = 8;

/// Bytes that an error quotes behind the IP header: as many as RFC 792 asks for.
const QUOTED: usize = 8;

/// Types of echo requests, and of replies to them: of ICMP's, and of ICMPv6's.
const REQUEST: u8 = 8;
const REQUEST_6: u8 = 128;
const REPLY: u8 = 0;
const REPLY_6: u8 = 129;

/// Why a packet did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// There is no route to the destination's network.
    Network,
    /// The destination itself is not reached.
    Host,
    /// It is forbidden (RFC 1812 §5.2.7.1).
    Prohibited,
    /// It has taken all the hops that it may.
    Hops,
    /// Somebody else has said so, with this type and code of the same ICMP.
    Said(u8, u8),
}

impl Reason {
    /// The type and the code, of ICMP and of ICMPv6.
    fn codes(self, is_ipv4: bool) -> [u8; 2] {
        let (four, six) = match self {
            Self::Network => ([3, 0], [1, 0]),
            Self::Host => ([3, 1], [1, 3]),
            Self::Prohibited => ([3, 13], [1, 1]),
            Self::Hops => ([11, 0], [3, 0]),
            Self::Said(kind, code) => ([kind, code], [kind, code]),
        };
        if is_ipv4 { four } else { six }
    }
}

impl From<Refusal> for Reason {
    /// What a switch would open is forbidden; what nothing opens is not there.
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::HostLoopback | Refusal::LinkLocal => Self::Prohibited,
            Refusal::Nowhere => Self::Host,
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
    // Whoever it came from has no address to be told at.
    if lost.source.is_unspecified() {
        return;
    }
    let is_ipv4 = lost.source.is_ipv4();
    let mut frame = [0; HEAD];
    let path = out.desk.path(lost.destination);
    let Some(end) = head(path, lost.source, lost.destination, lost.protocol, lost.len, &mut frame)
    else {
        return;
    };
    let quoted = frame.get(ETHERNET..end).unwrap_or_default();
    let header = reason.codes(is_ipv4).into_iter().chain([0; HEADER.saturating_sub(2)]);
    let bytes = header.chain(quoted.iter().chain(lost.head.iter().take(QUOTED)).copied());
    let mut message = [0; HEADER + 40 + QUOTED];
    let mut len = 0usize;
    for (place, byte) in message.iter_mut().zip(bytes) {
        *place = byte;
        len = len.saturating_add(1);
    }
    let message = message.get_mut(..len).unwrap_or_default();
    let gateway = if is_ipv4 { IpAddr::V4(GATEWAY) } else { IpAddr::V6(GATEWAY_6) };
    sum(gateway, lost.source, message);
    out.packet(gateway, lost.source, protocol(gateway), [message, &[]]);
}

/// Answers an echo request to `asked`, one of our own addresses: `message` comes back as a reply.
pub(super) fn echo(guest: IpAddr, asked: IpAddr, message: &mut [u8], out: &mut Out<'_>) {
    if let Some(kind) = message.first_mut() {
        *kind = if guest.is_ipv4() { REPLY } else { REPLY_6 };
    }
    sum(asked, guest, message);
    out.packet(asked, guest, protocol(guest), [message, &[]]);
}

/// ICMP, for addresses like this.
pub(super) fn protocol(like: IpAddr) -> IpProtocol {
    if like.is_ipv4() { IpProtocol::Icmp } else { IpProtocol::Icmpv6 }
}

/// The identifier of an echo request to an address like `to`. `None`: it is another message.
pub(super) fn request(to: IpAddr, message: &[u8]) -> Option<[u8; 2]> {
    let wanted = if to.is_ipv4() { REQUEST } else { REQUEST_6 };
    let [kind, code, _, _, id_0, id_1, ..] = message.first_chunk::<HEADER>()?;
    ([*kind, *code] == [wanted, 0]).then_some([*id_0, *id_1])
}

/// Whether it is a reply to one, from an address like `from`.
pub(super) fn is_reply(from: IpAddr, message: &[u8]) -> bool {
    let wanted = if from.is_ipv4() { REPLY } else { REPLY_6 };
    message.len() >= HEADER && message.first() == Some(&wanted)
}

/// Writes the checksum of a message into it.
pub(super) fn sum(source: IpAddr, destination: IpAddr, message: &mut [u8]) {
    put(message, [0; 2]);
    let sum = !total(source, destination, message);
    put(message, sum.to_be_bytes());
}

/// Whether the checksum of a message is right.
pub(super) fn is_whole(source: IpAddr, destination: IpAddr, message: &[u8]) -> bool {
    total(source, destination, message) == !0
}

/// The sum over a message, and over its pseudo-header if it is ICMPv6 (RFC 4443 §2.3).
fn total(source: IpAddr, destination: IpAddr, message: &[u8]) -> u16 {
    let pseudo = match (source, destination) {
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
            checksum::pseudo_header_v6(&source, &destination, IpProtocol::Icmpv6, len)
        }
        _ => 0,
    };
    checksum::combine(&[pseudo, checksum::data(message)])
}

fn put(message: &mut [u8], sum: [u8; 2]) {
    for (byte, value) in message.iter_mut().skip(2).zip(sum) {
        *byte = value;
    }
}
