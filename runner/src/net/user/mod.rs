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
mod flows;
mod fragments;
mod guest;
mod ipv4;
mod list;
mod open;
mod out;
mod outbox;
mod packet;
pub mod policy;
mod resolvers;
mod wire;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use smoltcp::wire::{EthernetAddress, EthernetFrame, EthernetProtocol};

use crate::io::event_loop::{Ready, Watcher};
use crate::io::socket::Datagrams;
use crate::net::frame::{Frame, LARGEST};
use crate::net::{ETHERNET, Forward, Inbox, Link, Offer, Sent, Transport};
use addresses::{MTU, may_be_guest};
use counters::{Cause, Counters};
use guest::Guest;
pub use open::{Error, GuestAddress, Options};
use out::Out;
use outbox::Outbox;
use packet::COPIED;
pub use resolvers::resolvers;

/// The most bytes of headers that are copied out of a frame.
const HEADERS: usize = ETHERNET + ipv4::LONGEST + COPIED;

/// A network in user space.
#[derive(Debug)]
pub struct User {
    options: Options,
    forwards: Vec<(Forward, Datagrams)>,
    guest: Guest,
    outbox: Outbox,
    counters: Counters,
    identification: u16,
}

impl User {
    /// A network, with every port of the host's that it forwards.
    ///
    /// # Errors
    /// [`Error`]: a port that cannot be had.
    pub fn open(options: Options) -> Result<User, Error> {
        open::check(&options.forwards)?;
        let mut forwards = Vec::new();
        for forward in &options.forwards {
            if forward.transport == Transport::Udp {
                forwards.push((*forward, open::bind_udp(*forward)?));
            }
        }
        let guest = Guest::new(options.guest.get());
        let (outbox, counters) = (Outbox::default(), Counters::default());
        Ok(Self { options, forwards, guest, outbox, counters, identification: 0 })
    }

    /// What is forwarded, and where the host listens: port 0 has become one that was free.
    pub fn forwards(&self) -> Vec<(Forward, SocketAddr)> {
        let real = |(forward, socket): &(Forward, Datagrams)| {
            (*forward, socket.local().unwrap_or(forward.host))
        };
        self.forwards.iter().map(real).collect()
    }

    fn out<'a>(&'a mut self, inbox: Option<&'a mut dyn Inbox>) -> Out<'a> {
        Out {
            outbox: &mut self.outbox,
            inbox,
            counters: &mut self.counters,
            guest: self.options.mac,
            mtu: MTU,
            identification: &mut self.identification,
        }
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), Cause> {
        let len = frame.bytes.len();
        let mut copy = [0; HEADERS];
        let copied = frame.bytes.copy_to(&mut copy);
        let copy = copy.get(..copied).unwrap_or_default();
        let Some((ethernet, head)) = copy.split_at_checked(ETHERNET).filter(|_| len <= LARGEST)
        else {
            return Err(Cause::Size);
        };
        let ethernet = EthernetFrame::new_unchecked(ethernet);
        if ethernet.src_addr() != EthernetAddress(self.options.mac) {
            return Err(Cause::Sender);
        }
        match ethernet.ethertype() {
            EthernetProtocol::Arp => {
                let shown = arp::packet(head, &mut self.out(None))?;
                if may_be_guest(IpAddr::V4(shown)) {
                    self.guest.spoke(IpAddr::V4(shown));
                }
                Ok(())
            }
            _ => Err(Cause::EtherType),
        }
    }
}

impl Link for User {
    fn offer(&self) -> Offer {
        Offer { features: 0, mac: self.options.mac, mtu: MTU }
    }

    fn descriptors(&self) -> u64 {
        0
    }

    fn watch(&mut self, _watcher: Watcher) -> io::Result<()> {
        Ok(())
    }

    fn activate(&mut self, _features: Option<u64>) {
        self.outbox.clear();
        self.guest = Guest::new(self.options.guest.get());
    }

    fn send(&mut self, frame: &Frame<'_>, _now: Duration) -> Sent {
        self.counters.sent.count(frame.bytes.len());
        if let Err(cause) = self.frame(frame) {
            self.counters.drop(cause);
        }
        Sent::Done
    }

    fn receive(&mut self, inbox: &mut dyn Inbox, _now: Duration) {
        self.outbox.deliver(inbox);
    }

    fn ready(&mut self, _ready: Ready, _now: Duration) {}

    fn deadline(&self) -> Option<Duration> {
        None
    }

    fn finish(&mut self) {
        crate::info!("network: {}", self.counters);
    }
}
