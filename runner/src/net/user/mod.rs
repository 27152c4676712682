//! A network in user space: the guest has an address of its own on a network of its own, and what it
//! sends comes out of ordinary sockets of this process. QEMU's address plan (QEMU, "Network emulation",
//! user mode), so that images built for it work unchanged.
//!
//! A frame goes from [`User`] to the part that its protocol belongs to. Each part answers by the outbox,
//! which holds a few small frames, or keeps what it has to say until the guest has room. [`policy`]
//! decides for all of them what the guest may reach. Sockets are opened, read and written by
//! [`crate::io::socket`] alone.
//!
//! Where it differs from QEMU's, on purpose:
//! - The host's loopback and link-local addresses are closed until they are opened, 127.0.0.1 by its own
//!   name stays closed, and of the name server only port 53 is there. What is refused is answered: TCP
//!   by a reset, all else by ICMP "prohibited" (what a switch opens) or "host unreachable" (what
//!   nothing does).
//! - A guest speaks from its own hardware address and from addresses of its network, and from no
//!   others.
//! - The device's hardware address has its address by DHCP for good; others get the next ones. INFORM
//!   is answered, a request to another server is not, and a refusal names no address.
//! - An ICMP error comes from the gateway, also about what was sent to this host.
//! - There is IPv6 where the host has a way to the world by it, with the name server in the router's
//!   advertisement (RFC 8106) and no DHCPv6.
//! - There is neither TFTP nor SMB.

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
mod ip;
mod ipv4;
mod ipv6;
mod link;
mod list;
mod ndp;
mod open;
mod out;
mod outbox;
mod packet;
mod ping;
pub mod policy;
mod resolvers;
mod sockets;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;
mod wire;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol};

use crate::net::frame::{Frame, LARGEST};
use crate::net::{ETHERNET, Forward, Transport};
use addresses::{MTU, may_be_guest};
use counters::Cause;
use dhcp::Dhcp;
use dns::Dns;
use forwards::Forwards;
use fragments::Fragments;
use guest::Guest;
use ndp::Ndp;
pub use open::{Error, GuestAddress, Options};
use out::Desk;
use packet::COPIED;
use ping::Ping;
use policy::Policy;
pub use resolvers::resolvers;
use tcp::{Listener, Tcp};
use udp::Udp;

/// The most bytes of headers that are copied out of a frame.
const HEADERS: usize = ETHERNET + ipv4::LONGEST + COPIED;

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
    /// Whether the host has a way to the world by IPv6, and the guest is told so.
    has_ipv6: bool,
    ndp: Ndp,
    dhcp: Dhcp,
    dns: Dns,
    udp: Udp,
    forwards: Forwards,
    ping: Ping,
    tcp: Tcp,
    /// What is forwarded, and where the host listens.
    forwarded: Vec<(Forward, SocketAddr)>,
    /// Its driver has just come.
    is_new: bool,
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
        let Options { policy, forwards, resolvers, mac, guest, port_wait } = options;
        open::check(&forwards)?;
        let (mut ports, mut listeners, mut forwarded) = (Vec::new(), Vec::new(), Vec::new());
        for forward in forwards {
            let local = match forward.transport {
                Transport::Udp => {
                    let port = open::bind(forward, forwards::listen)?;
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
            has_ipv6: open::has_ipv6(),
            ndp: Ndp::default(),
            dhcp: Dhcp::new(mac, address),
            tcp: Tcp::new(policy, resolvers.clone(), listeners).waiting(port_wait),
            dns: Dns::new(resolvers),
            udp: Udp::new(policy),
            forwards: Forwards::new(ports),
            ping: Ping::new(policy),
            forwarded,
            is_new: false,
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
        let (len, cut) = (len.saturating_sub(ETHERNET), frame.offload.segment.is_some());
        if ethernet.src_addr() != EthernetAddress(self.mac) {
            return Err(Cause::Sender);
        }
        match ethernet.ethertype() {
            EthernetProtocol::Arp => {
                let shown = arp::packet(head, &mut self.desk.out())?;
                self.shown(shown.into(), now);
                Ok(())
            }
            EthernetProtocol::Ipv4 => self.ip(&ipv4::parse(head, len, cut)?, head, frame, now),
            EthernetProtocol::Ipv6 if self.has_ipv6 => {
                self.ip(&ipv6::parse(head, len, cut)?, head, frame, now)
            }
            _ => Err(Cause::EtherType),
        }
    }

    /// The guest has shown an address.
    fn shown(&mut self, address: IpAddr, now: Duration) {
        if !may_be_guest(address) || !self.guest.spoke(address) {
            return;
        }
        self.tcp.guest_spoke(self.guest.addresses(), now);
    }
}
