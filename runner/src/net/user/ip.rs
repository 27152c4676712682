//! IP packets of the guest's: checked, put together if they came in fragments, and handed to the part
//! that their protocol belongs to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use smoltcp::wire::IpProtocol;
use vm_memory::VolatileSlice;

use super::addresses::{BROADCAST, DNS, DNS_6, GATEWAY, GATEWAY_6, ROUTER_6, may_be_guest};
use super::counters::Cause;
use super::icmp::{self, Lost, Reason};
use super::out::Out;
use super::packet::{COPIED, Header, Packet};
use super::ping::Echo;
use super::policy::{Destination, Refusal};
use super::tcp::{Tcp, Why};
use super::{User, datagram, dhcp, udp};
use crate::net::ETHERNET;
use crate::net::frame::{Bytes, Frame, Offload};

/// Bytes of a SYN without options.
const SYN: usize = 20;

impl User {
    /// A packet that begins with `head`, in whose front is `header`.
    pub(super) fn ip(
        &mut self,
        header: &Header,
        head: &[u8],
        frame: &Frame<'_>,
        now: Duration,
    ) -> Result<(), Cause> {
        let Header { source, destination, protocol, hops, .. } = *header;
        // A client of DHCP's has no address yet, and a guest that makes itself one asks whether another
        // has it (RFC 4862 §5.4).
        let nameless = if source.is_ipv4() { IpProtocol::Udp } else { IpProtocol::Icmpv6 };
        let is_nobody = source.is_unspecified() && protocol == nameless;
        if source == destination || !is_nobody && !may_be_guest(source) {
            return Err(Cause::Spoofed);
        }
        self.shown(source, now);
        let body = frame.bytes.skip(ETHERNET).skip(header.len).take(header.body);
        let head = head.get(header.len..).unwrap_or_default();
        let packet = Packet {
            source,
            destination,
            head: head.get(..head.len().min(body.len())).unwrap_or_default(),
            body,
            unsummed: is_unsummed(protocol, header.len, frame.offload),
        };
        if hops <= 1 && goes_on(destination) {
            // Of a datagram in fragments the first one is worth a word.
            if header.fragment.is_none_or(|fragment| fragment.at == 0) {
                self.lost(Reason::Hops, &packet, protocol);
            }
            return Err(Cause::Hops);
        }
        let Some(fragment) = header.fragment else {
            return self.packet(&packet, protocol, hops, now);
        };
        if protocol != IpProtocol::Udp && protocol != icmp::protocol(source) {
            return Err(Cause::Fragment);
        }
        let Some(mut whole) = self.fragments.add(header, fragment, body, now) else {
            return Ok(());
        };
        let slices = [VolatileSlice::from(whole.as_mut_slice())];
        let body = Bytes::new(&slices);
        let mut head = [0; COPIED];
        let copied = body.copy_to(&mut head);
        let head = head.get(..copied).unwrap_or_default();
        let packet = Packet { head, body, unsummed: false, ..packet };
        self.packet(&packet, protocol, hops, now)
    }

    /// A packet, all of it.
    fn packet(
        &mut self,
        packet: &Packet<'_>,
        protocol: IpProtocol,
        hops: u8,
        now: Duration,
    ) -> Result<(), Cause> {
        match protocol {
            IpProtocol::Tcp => self.segment(packet, now),
            IpProtocol::Udp => self.datagram(packet, now),
            _ if protocol == icmp::protocol(packet.source) => self.icmp(packet, hops, now),
            _ => Err(Cause::Protocol),
        }
    }

    fn segment(&mut self, packet: &Packet<'_>, now: Duration) -> Result<(), Cause> {
        if reaches_all(packet.destination) {
            return Err(Cause::Broadcast);
        }
        let path = self.desk.path(packet.destination);
        self.tcp.segment(packet, &mut self.desk.outbox, path, now);
        unreachable(&mut self.tcp, &mut self.desk.out());
        Ok(())
    }

    fn datagram(&mut self, packet: &Packet<'_>, now: Duration) -> Result<(), Cause> {
        let copied = packet.body.copy_to(&mut self.scratch.0);
        let (body, scratch) = self.scratch.0.split_at_mut_checked(copied).unwrap_or_default();
        let datagram = datagram::parse(packet.source, packet.destination, body, packet.unsummed)?;
        let (source, destination) = (datagram.source, datagram.destination);
        let is_all = reaches_all(destination.ip());
        let mut out = self.desk.out();
        if destination.port() == dhcp::SERVER && (is_all || destination.ip() == IpAddr::V4(GATEWAY))
        {
            let granted = self.dhcp.message(datagram.bytes, &mut out)?;
            if granted {
                // Whoever waits for the guest may try again: it has just got its address.
                self.tcp.guest_spoke(self.guest.addresses(), now);
            }
            return Ok(());
        }
        if source.ip().is_unspecified() {
            return Err(Cause::Spoofed);
        }
        if is_all {
            return Err(Cause::Broadcast);
        }
        if let Some(sent) = self.forwards.answer(&datagram, now) {
            return sent;
        }
        match self.policy.destination(destination) {
            Destination::Dns => self.dns.ask(&datagram, &mut out, now),
            Destination::Host(host) => self.udp.send(&datagram, host, scratch, &mut out, now),
            Destination::Refused(refusal) => {
                refused("UDP", destination, refusal);
                icmp::error(refusal.into(), &udp::lost(&datagram), &mut out);
                Err(Cause::Refused)
            }
        }
    }

    fn icmp(&mut self, packet: &Packet<'_>, hops: u8, now: Duration) -> Result<(), Cause> {
        let Packet { source: guest, destination: to, .. } = *packet;
        let copied = packet.body.copy_to(&mut self.scratch.0);
        let (message, scratch) = self.scratch.0.split_at_mut_checked(copied).unwrap_or_default();
        if message.len() < icmp::HEADER {
            return Err(Cause::Malformed);
        }
        if !icmp::is_whole(guest, to, message) {
            return Err(Cause::Checksum);
        }
        let mut out = self.desk.out();
        if let IpAddr::V6(source) = guest
            && self.ndp.message(source, hops, message, &mut out, now)?
        {
            return Ok(());
        }
        if reaches_all(to) {
            return Err(Cause::Broadcast);
        }
        // Its errors and its replies are nobody's here.
        let id = icmp::request(to, message).ok_or(Cause::Protocol)?;
        if is_ours(to) {
            icmp::echo(guest, to, message, &mut out);
            return Ok(());
        }
        match self.policy.destination(SocketAddr::new(to, 0)) {
            Destination::Host(host) => {
                let echo = Echo { guest, to, id, message };
                self.ping.send(&echo, host.ip(), scratch, &mut out, now)
            }
            Destination::Refused(refusal) => {
                refused("pings", to, refusal);
                self.lost(refusal.into(), packet, icmp::protocol(to));
                Err(Cause::Refused)
            }
            Destination::Dns => Err(Cause::Protocol),
        }
    }

    /// Tells the guest that a packet of its does not arrive.
    fn lost(&mut self, reason: Reason, packet: &Packet<'_>, protocol: IpProtocol) {
        let Packet { source, destination, head, body, .. } = *packet;
        // Errors about errors would go back and forth (RFC 1122 §3.2.2).
        if protocol == icmp::protocol(source) && icmp::request(destination, head).is_none() {
            return;
        }
        let lost = Lost { source, destination, protocol, head, len: body.len() };
        icmp::error(reason, &lost, &mut self.desk.out());
    }
}

/// Tells the guest which of its connections could not be made because there is no way.
pub(super) fn unreachable(tcp: &mut Tcp, out: &mut Out<'_>) {
    while let Some(syn) = tcp.unreachable() {
        let reason = match syn.why {
            Why::Network => Reason::Network,
            Why::Host => Reason::Host,
        };
        let lost = Lost {
            source: syn.source.ip(),
            destination: syn.destination.ip(),
            protocol: IpProtocol::Tcp,
            head: &syn.quoted(),
            len: SYN,
        };
        icmp::error(reason, &lost, out);
    }
}

/// Whether the guest has left the checksum of the transport, which begins behind an IP header of `len`
/// bytes, to others.
fn is_unsummed(protocol: IpProtocol, len: usize, offload: Offload) -> bool {
    let place = match protocol {
        IpProtocol::Tcp => 16,
        IpProtocol::Udp => 6,
        _ => return false,
    };
    let start = u16::try_from(len.saturating_add(ETHERNET));
    start.is_ok_and(|start| offload.checksum == Some((start, place)))
}

/// Whether what is sent there is for us.
fn is_ours(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => [GATEWAY, DNS].contains(&address),
        IpAddr::V6(address) => [GATEWAY_6, DNS_6, ROUTER_6].contains(&address),
    }
}

/// Whether what is sent there goes through the gateway, and takes a hop there.
fn goes_on(address: IpAddr) -> bool {
    !is_ours(address) && !reaches_all(address)
}

/// Whether what is sent there goes to all, or to many.
fn reaches_all(address: IpAddr) -> bool {
    let is_broadcast = [IpAddr::V4(BROADCAST), IpAddr::V4(Ipv4Addr::BROADCAST)].contains(&address);
    is_broadcast || address.is_multicast()
}

/// Says that the guest may not go where it wants.
fn refused(protocol: &str, destination: impl std::fmt::Display, refusal: Refusal) {
    // What nobody can open is no news: guests look for all kinds of neighbours.
    if refusal != Refusal::Nowhere {
        crate::warning!("the guest's {protocol} to {destination} is refused: {refusal}");
    }
}
