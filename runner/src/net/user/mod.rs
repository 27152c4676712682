//! A network in user space: the guest has an address of its own on a network of its own, and what it
//! sends comes out of ordinary sockets of this process. QEMU's address plan (QEMU, "Network emulation",
//! user mode), so that images built for it work unchanged.
//!
//! A frame goes from [`User`] to the part that its protocol belongs to. Each part answers by the
//! [`outbox::Outbox`], which holds a few small frames, or keeps what it has to say until the guest has
//! room ([`tcp`]). [`policy`] decides for all of them what the guest may reach. Sockets are opened,
//! read and written by [`crate::io::socket`] alone.

pub mod addresses;
mod arp;
mod counters;
mod datagram;
mod dhcp;
mod dns;
mod flows;
mod forwards;
mod fragments;
mod guest;
mod icmp;
mod ipv4;
mod link;
mod list;
mod open;
mod out;
mod outbox;
mod packet;
mod ping;
pub mod policy;
mod resolvers;
pub mod tcp;
#[cfg(test)]
mod tests;
mod udp;
mod wire;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol, IpProtocol};
use vm_memory::VolatileSlice;

use crate::io::socket::Datagrams;
use crate::net::frame::{Bytes, Frame, LARGEST, Offload};
use crate::net::{ETHERNET, Forward, Transport};
use addresses::{BROADCAST, DNS, GATEWAY, MTU, may_be_guest};
use counters::Cause;
use dhcp::Dhcp;
use dns::Dns;
use forwards::Forwards;
use fragments::Fragments;
use guest::Guest;
use icmp::{Lost, Reason};
pub use open::{Error, GuestAddress, Options};
use out::{Desk, Out};
use packet::{COPIED, Packet};
use ping::{Echo, Ping};
use policy::{Destination, Policy, Refusal};
pub use resolvers::resolvers;
use tcp::{Listener, Tcp, Why};
use udp::Udp;

/// The most bytes of headers that are copied out of a frame.
const HEADERS: usize = ETHERNET + ipv4::LONGEST + COPIED;

/// Bytes of a SYN without options.
const SYN: usize = 20;

/// Room for one datagram of any size, and as much behind it.
const SCRATCH: usize = 2 * 65_536;

/// A network in user space.
#[derive(Debug)]
pub struct User {
    policy: Policy,
    /// The guest's address, hardware and IP.
    mac: [u8; 6],
    address: Ipv4Addr,
    guest: Guest,
    desk: Desk,
    scratch: Scratch,
    fragments: Fragments,
    dhcp: Dhcp,
    dns: Dns,
    udp: Udp,
    forwards: Forwards,
    ping: Ping,
    tcp: Tcp,
    /// What is forwarded, and where the host listens.
    forwarded: Vec<(Forward, SocketAddr)>,
    /// There is more for the guest than it was given in one turn.
    more: bool,
}

/// Where a datagram lies while it is looked at: copied once, and believed.
struct Scratch(Box<[u8]>);

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl User {
    /// A network, with every port of the host's that it forwards.
    ///
    /// # Errors
    /// [`Error`]: a port that cannot be had.
    pub fn open(options: Options) -> Result<User, Error> {
        let Options { policy, forwards, resolvers, mac, guest } = options;
        open::check(&forwards)?;
        let (mut ports, mut listeners, mut forwarded) = (Vec::new(), Vec::new(), Vec::new());
        for forward in forwards {
            let local = match forward.transport {
                Transport::Udp => {
                    let port = open::bind(forward, |forward| Datagrams::bind(forward.host))?;
                    let local = port.local();
                    ports.push((forward, port));
                    local
                }
                Transport::Tcp => {
                    let listener = open::bind(forward, Listener::bind)?;
                    let local = listener.local();
                    listeners.push(listener);
                    Ok(local)
                }
            };
            forwarded.push((forward, local.unwrap_or(forward.host)));
        }
        let address = guest.get();
        Ok(Self {
            policy,
            mac,
            address,
            guest: Guest::new(address),
            desk: Desk::new(mac, MTU),
            scratch: Scratch(vec![0; SCRATCH].into()),
            fragments: Fragments::default(),
            dhcp: Dhcp::new(mac, address),
            tcp: Tcp::new(policy, resolvers.clone(), listeners),
            dns: Dns::new(resolvers),
            udp: Udp::new(policy),
            forwards: Forwards::new(ports),
            ping: Ping::new(policy),
            forwarded,
            more: false,
        })
    }

    /// What is forwarded, and where the host listens: port 0 has become one that was free.
    pub fn forwards(&self) -> Vec<(Forward, SocketAddr)> {
        self.forwarded.clone()
    }

    fn frame(&mut self, frame: &Frame<'_>, now: Duration) -> Result<(), Cause> {
        let len = frame.bytes.len();
        let mut copy = [0; HEADERS];
        let copied = frame.bytes.copy_to(&mut copy);
        let copy = copy.get(..copied).unwrap_or_default();
        let Some((ethernet, head)) = copy.split_at_checked(ETHERNET).filter(|_| len <= LARGEST)
        else {
            return Err(Cause::Size);
        };
        let ethernet = EthernetFrame::new_unchecked(ethernet);
        if ethernet.src_addr() != EthernetAddress(self.mac) {
            return Err(Cause::Sender);
        }
        match ethernet.ethertype() {
            EthernetProtocol::Arp => {
                let shown = arp::packet(head, &mut self.desk.out())?;
                self.shown(shown.into(), now);
                Ok(())
            }
            EthernetProtocol::Ipv4 => self.ipv4(head, frame, now),
            _ => Err(Cause::EtherType),
        }
    }

    /// The guest has shown an address.
    fn shown(&mut self, address: IpAddr, now: Duration) {
        if may_be_guest(address) && self.guest.spoke(address) {
            self.tcp.guest_spoke(self.guest.address().into(), now);
        }
    }

    /// A packet that begins with `head`.
    fn ipv4(&mut self, head: &[u8], frame: &Frame<'_>, now: Duration) -> Result<(), Cause> {
        let bytes = frame.bytes.skip(ETHERNET);
        let header = ipv4::parse(head, bytes.len(), frame.offload.segment.is_some())?;
        let (source, destination) = (header.source, header.destination);
        // A client of DHCP's has no address yet.
        let is_nobody = source.is_unspecified() && header.protocol == IpProtocol::Udp;
        if source == destination || !is_nobody && !may_be_guest(source.into()) {
            return Err(Cause::Spoofed);
        }
        self.shown(source.into(), now);
        let body = bytes.skip(header.len).take(header.body);
        let head = head.get(header.len..).unwrap_or_default();
        let packet = Packet {
            source: source.into(),
            destination: destination.into(),
            head: head.get(..head.len().min(body.len())).unwrap_or_default(),
            body,
            unsummed: is_unsummed(&header, frame.offload),
            offload: frame.offload,
        };
        if header.hops <= 1
            && ![GATEWAY, DNS].contains(&destination)
            && !reaches_all(destination.into())
        {
            // Of a datagram in fragments the first one is worth a word.
            if header.fragment.is_none_or(|fragment| fragment.at == 0) {
                self.lost(Reason::HOPS, &packet, header.protocol);
            }
            return Err(Cause::Hops);
        }
        let Some(fragment) = header.fragment else {
            return self.packet(&packet, header.protocol, now);
        };
        if ![IpProtocol::Udp, IpProtocol::Icmp].contains(&header.protocol) {
            return Err(Cause::Fragment);
        }
        let Some(mut whole) = self.fragments.add(&header, fragment, body, now) else {
            return Ok(());
        };
        let slices = [VolatileSlice::from(&mut *whole)];
        let body = Bytes::new(&slices);
        let mut head = [0; COPIED];
        let copied = body.copy_to(&mut head);
        let head = head.get(..copied).unwrap_or_default();
        let (unsummed, offload) = (false, Offload::default());
        self.packet(&Packet { head, body, unsummed, offload, ..packet }, header.protocol, now)
    }

    /// A packet, all of it.
    fn packet(
        &mut self,
        packet: &Packet<'_>,
        protocol: IpProtocol,
        now: Duration,
    ) -> Result<(), Cause> {
        match protocol {
            IpProtocol::Tcp => {
                self.segment(packet, now);
                Ok(())
            }
            IpProtocol::Udp => self.datagram(packet, now),
            IpProtocol::Icmp => self.icmp(packet, now),
            _ => Err(Cause::Protocol),
        }
    }

    fn segment(&mut self, packet: &Packet<'_>, now: Duration) {
        let path = self.desk.path(packet.destination);
        self.tcp.segment(packet, &mut self.desk.outbox, path, now);
        unreachable(&mut self.tcp, &mut self.desk.out());
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
                self.tcp.guest_spoke(self.guest.address().into(), now);
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

    fn icmp(&mut self, packet: &Packet<'_>, now: Duration) -> Result<(), Cause> {
        let (IpAddr::V4(guest), IpAddr::V4(to)) = (packet.source, packet.destination) else {
            return Err(Cause::Protocol);
        };
        if reaches_all(to.into()) {
            return Err(Cause::Broadcast);
        }
        let copied = packet.body.copy_to(&mut self.scratch.0);
        let (message, scratch) = self.scratch.0.split_at_mut_checked(copied).unwrap_or_default();
        let Some(&[kind, code, _, _, id_0, id_1, ..]) = message.first_chunk::<{ icmp::HEADER }>()
        else {
            return Err(Cause::Malformed);
        };
        if !icmp::is_whole(message) {
            return Err(Cause::Checksum);
        }
        // Its errors and its replies are nobody's here.
        if (kind, code) != (icmp::ECHO_REQUEST, 0) {
            return Err(Cause::Protocol);
        }
        let mut out = self.desk.out();
        if [GATEWAY, DNS].contains(&to) {
            icmp::echo(guest, to, message, &mut out);
            return Ok(());
        }
        match self.policy.destination(SocketAddr::new(to.into(), 0)) {
            Destination::Host(host) => {
                let echo = Echo { guest, to, id: [id_0, id_1], message };
                self.ping.send(&echo, host.ip(), scratch, &mut out, now)
            }
            Destination::Refused(refusal) => {
                refused("ICMP", to, refusal);
                self.lost(refusal.into(), packet, IpProtocol::Icmp);
                Err(Cause::Refused)
            }
            Destination::Dns => Err(Cause::Protocol),
        }
    }

    /// Tells the guest that a packet of its does not arrive.
    fn lost(&mut self, reason: Reason, packet: &Packet<'_>, protocol: IpProtocol) {
        let Packet { source, destination, head, body, .. } = *packet;
        // Errors about errors would go back and forth (RFC 1122 §3.2.2).
        if protocol == IpProtocol::Icmp && head.first() != Some(&icmp::ECHO_REQUEST) {
            return;
        }
        let lost = Lost { source, destination, protocol, head, len: body.len() };
        icmp::error(reason, &lost, &mut self.desk.out());
    }
}

/// Tells the guest which of its connections could not be made because there is no way.
fn unreachable(tcp: &mut Tcp, out: &mut Out<'_>) {
    while let Some(syn) = tcp.unreachable() {
        let reason = match syn.why {
            Why::Network => Reason::NETWORK,
            Why::Host => Reason::HOST,
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

/// Whether the guest has left the checksum of the transport to others.
fn is_unsummed(header: &ipv4::Header, offload: Offload) -> bool {
    let place = match header.protocol {
        IpProtocol::Tcp => 16,
        IpProtocol::Udp => 6,
        _ => return false,
    };
    let start = u16::try_from(header.len.saturating_add(ETHERNET));
    start.is_ok_and(|start| offload.checksum == Some((start, place)))
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
