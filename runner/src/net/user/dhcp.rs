//! The DHCP server (RFC 2131, RFC 2132), for a network with one guest: its hardware address has one
//! address for as long as the run lasts. Others that ask through it (a bridge of its own) get the next
//! ones. Replies are QEMU's, field for field, where guests could depend on that.

use std::net::{Ipv4Addr, SocketAddr};

use smoltcp::wire::{
    DhcpFlags, DhcpMessageType, DhcpOpCode, DhcpOption, DhcpOptionWriter, DhcpPacket,
};

use super::addresses::{DNS, GATEWAY, MTU, NETMASK};
use super::counters::Cause;
use super::datagram;
use super::out::Out;

/// Where a server listens.
pub(super) const SERVER: u16 = 67;
/// Where a client does.
const CLIENT: u16 = 68;

/// Bytes of a reply: what every client must take (RFC 2131 §2) without IP's and UDP's headers. Some
/// take no shorter one.
const REPLY: usize = 548;
/// What the options begin with (RFC 2131 §3).
const COOKIE: u32 = 0x6382_5363;
/// Ethernet (RFC 1700, "Hardware Type").
const ETHERNET: u8 = 1;

/// Options, by their numbers in RFC 2132.
mod option {
    pub(super) const NETMASK: u8 = 1;
    pub(super) const ROUTER: u8 = 3;
    pub(super) const DNS: u8 = 6;
    pub(super) const MTU: u8 = 26;
    pub(super) const REQUESTED: u8 = 50;
    pub(super) const LEASE: u8 = 51;
    pub(super) const TYPE: u8 = 53;
    pub(super) const SERVER: u8 = 54;
    pub(super) const TEXT: u8 = 56;
}

/// How long an address is good for: a day, in seconds.
const LEASE: u32 = 86_400;

/// How many others than the guest can have an address.
const OTHERS: u8 = 15;

/// The server.
#[derive(Debug)]
pub(super) struct Dhcp {
    /// The guest's hardware address, and its address.
    guest: ([u8; 6], Ipv4Addr),
    /// The others' hardware addresses, in the order in which they have asked.
    others: Vec<[u8; 6]>,
}

/// What a client asks.
#[derive(Clone, Copy, Debug, Default)]
struct Question {
    kind: Option<DhcpMessageType>,
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Offer(Ipv4Addr),
    Grant(Ipv4Addr),
    /// What is to be known beside the address, which the client has (RFC 2131 §4.3.5).
    Inform,
    Refuse,
}

impl Dhcp {
    /// A server that gives `address` to the guest with that hardware address.
    pub(super) fn new(hardware: [u8; 6], address: Ipv4Addr) -> Self {
        Self { guest: (hardware, address), others: Vec::with_capacity(OTHERS.into()) }
    }

    /// Forgets all but the guest.
    pub(super) fn clear(&mut self) {
        self.others.clear();
    }

    /// Serves a message of a client's. Whether the guest has been granted its address.
    pub(super) fn message(&mut self, bytes: &[u8], out: &mut Out<'_>) -> Result<bool, Cause> {
        let packet = DhcpPacket::new_checked(bytes).map_err(|_| Cause::Question)?;
        let hardware = packet.client_hardware_address().0;
        let is_question = packet.opcode() == DhcpOpCode::Request
            && packet.hardware_len() == 6
            && u16::from(packet.hardware_type()) == u16::from(ETHERNET)
            && packet.magic_number() == COOKIE
            && packet.client_hardware_address().is_unicast();
        if !is_question {
            return Err(Cause::Question);
        }
        let question = read(&packet);
        let address = self.lease(hardware).ok_or(Cause::Question)?;
        let current = packet.client_ip();
        let Some(answer) = decide(&question, current, address).map_err(|()| Cause::Question)?
        else {
            return Ok(false);
        };
        reply(&packet, answer, out).ok_or(Cause::Question)?;
        Ok(matches!(answer, Answer::Grant(_)) && hardware == self.guest.0)
    }

    /// The address for a client; `None` when there are none left.
    fn lease(&mut self, hardware: [u8; 6]) -> Option<Ipv4Addr> {
        let (guest, address) = self.guest;
        if hardware == guest {
            return Some(address);
        }
        let known = self.others.iter().position(|other| *other == hardware);
        let index = match known {
            Some(index) => u8::try_from(index).ok()?,
            None if self.others.len() < OTHERS.into() => {
                self.others.push(hardware);
                u8::try_from(self.others.len().saturating_sub(1)).ok()?
            }
            None => return None,
        };
        // Those from 16 on, of which the guest may have one.
        let [a, b, c, _] = address.octets();
        let nth = |last: u8| Ipv4Addr::new(a, b, c, last.saturating_add(16));
        let skips = (0..=index).any(|before| nth(before) == address);
        Some(nth(index.saturating_add(skips.into())))
    }
}

fn read(packet: &DhcpPacket<&[u8]>) -> Question {
    let mut question = Question::default();
    for DhcpOption { kind, data } in packet.options() {
        let address = || <[u8; 4]>::try_from(data).ok().map(Ipv4Addr::from);
        match (kind, data) {
            (option::TYPE, [kind]) => question.kind = Some(DhcpMessageType::from(*kind)),
            (option::REQUESTED, _) => question.requested = address(),
            (option::SERVER, _) => question.server = address(),
            _ => {}
        }
    }
    question
}

/// What to answer a client that has `current`, or 0.0.0.0, and whose lease is `address`. An error for
/// what no client asks.
fn decide(question: &Question, current: Ipv4Addr, address: Ipv4Addr) -> Result<Option<Answer>, ()> {
    // For another server, which is not on this network (RFC 2131 §4.3.2).
    if question.server.is_some_and(|server| server != GATEWAY) {
        return Ok(None);
    }
    let current = (!current.is_unspecified()).then_some(current);
    match question.kind {
        Some(DhcpMessageType::Discover) => Ok(Some(Answer::Offer(address))),
        // A client that says nothing speaks BOOTP (RFC 951), and takes what it is told.
        Some(DhcpMessageType::Request) | None => {
            let wanted = question.requested.or(current).unwrap_or(address);
            Ok(Some(if wanted == address { Answer::Grant(address) } else { Answer::Refuse }))
        }
        Some(DhcpMessageType::Inform) => Ok(Some(Answer::Inform)),
        // A lease is never given to another, so there is nothing to do.
        Some(DhcpMessageType::Release | DhcpMessageType::Decline) => Ok(None),
        Some(_) => Err(()),
    }
}

/// Sends the answer, to everybody: a client without an address hears nothing else.
fn reply(question: &DhcpPacket<&[u8]>, answer: Answer, out: &mut Out<'_>) -> Option<()> {
    let mut bytes = [0; REPLY];
    let mut packet = DhcpPacket::new_unchecked(&mut bytes[..]);
    packet.set_opcode(DhcpOpCode::Reply);
    packet.set_hardware_type(question.hardware_type());
    packet.set_hardware_len(6);
    packet.set_transaction_id(question.transaction_id());
    packet.set_flags(question.flags() & DhcpFlags::BROADCAST);
    packet.set_client_hardware_address(question.client_hardware_address());
    packet.set_magic_number(COOKIE);
    if let Answer::Offer(address) | Answer::Grant(address) = answer {
        packet.set_your_ip(address);
    }
    if answer != Answer::Refuse {
        packet.set_server_ip(GATEWAY);
    }
    if matches!(answer, Answer::Grant(_) | Answer::Inform) {
        packet.set_client_ip(question.client_ip());
    }
    options(&mut packet.options_mut(), answer, out.desk.mtu)?;
    let (from, to) = ((GATEWAY, SERVER), (Ipv4Addr::BROADCAST, CLIENT));
    datagram::deliver(SocketAddr::from(from), SocketAddr::from(to), &bytes, out);
    Some(())
}

/// Writes the options in the order in which QEMU does. Everything fits.
fn options(options: &mut DhcpOptionWriter<'_>, answer: Answer, mtu: u16) -> Option<()> {
    let mut put = |kind, data: &[u8]| options.emit(DhcpOption { kind, data }).ok();
    let kind = match answer {
        Answer::Offer(_) => DhcpMessageType::Offer,
        Answer::Grant(_) | Answer::Inform => DhcpMessageType::Ack,
        Answer::Refuse => DhcpMessageType::Nak,
    };
    put(option::TYPE, &[kind.into()])?;
    put(option::SERVER, &GATEWAY.octets())?;
    if answer == Answer::Refuse {
        put(option::TEXT, b"requested address not available")?;
        return options.end().ok();
    }
    put(option::NETMASK, &NETMASK.octets())?;
    put(option::ROUTER, &GATEWAY.octets())?;
    put(option::DNS, &DNS.octets())?;
    if answer != Answer::Inform {
        put(option::LEASE, &LEASE.to_be_bytes())?;
    }
    if mtu != MTU {
        put(option::MTU, &mtu.to_be_bytes())?;
    }
    options.end().ok()
}

#[cfg(test)]
mod tests;
