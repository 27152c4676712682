//! The network behind the guest's network device.
//!
//! The device ([`crate::devices::virtio::net`]) knows queues and nothing of networks; a [`Link`] knows
//! networks and nothing of queues. Between them go Ethernet frames: [`Link::send`] takes those of the
//! guest straight out of its memory, and [`Link::receive`] puts those for the guest into its
//! [`Inbox`], as many as there is room for. Everything is called on the I/O loop's thread, nothing
//! waits, and time is what the caller says it is.

#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::panic
)]
#![cfg_attr(
    test,
    allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used)
)]

pub mod dgram;
pub mod frame;
pub mod framing;
mod packets;
pub mod pcap;
pub mod stream;
pub mod tap;
#[cfg(test)]
pub(crate) mod testing;
pub mod user;

#[cfg_attr(target_os = "linux", path = "sys/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "sys/macos.rs")]
mod sys;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use vm_memory::VolatileSlice;

use crate::io::event_loop::{Ready, Watcher};
use frame::{Frame, Offload};

/// Bytes of an Ethernet header: destination, source, type. No link here has VLAN tags.
pub const ETHERNET: usize = 14;

/// What a link can do beyond plain frames, for the device to offer: features by their bits (virtio 1.2
/// §5.1.3), and the largest packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// VIRTIO_NET_F_CSUM, GUEST_CSUM, HOST_TSO4 and 6, GUEST_TSO4 and 6: those the link can serve.
    pub features: u64,
    /// The guest's hardware address.
    pub mac: [u8; 6],
    /// Bytes of the largest IP packet that is not a segment to be cut.
    pub mtu: u16,
}

/// A hardware address that nobody else has, as far as chance goes: of those that belong to no maker of
/// cards, in QEMU's range.
pub fn random_mac() -> [u8; 6] {
    let [a, b, c, ..] = random().to_ne_bytes();
    [0x52, 0x54, 0x00, a, b, c]
}

/// A hardware address as people write it.
pub fn mac_text([a, b, c, d, e, f]: [u8; 6]) -> String {
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

/// A number that cannot be foretold: what hash maps are seeded with.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// What became of a frame of the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way, or has been dropped and counted: the guest's buffer is free.
    Done,
    /// Not now: the same frame is offered again after the link has been [`Link::ready`].
    Later,
}

/// A network.
pub trait Link: fmt::Debug + Send {
    /// What the device offers to the guest on its behalf. The same at any time.
    fn offer(&self) -> Offer;

    /// How many descriptors the link may open while the guest runs. 0: it makes none, and the jail has
    /// no call that could.
    fn descriptors(&self) -> u64;

    /// Called once, before the jail: what is open is watched from now on by `watcher`, which is the
    /// link's, with keys of its choice below 2⁴⁰: those above are the device's own.
    ///
    /// # Errors
    /// What the operating system says.
    fn watch(&mut self, watcher: Watcher) -> io::Result<()>;

    /// The driver is ready and has accepted these features, or (`None`) has let go of the device: what
    /// the link knew of the guest is over, and what the host has with it stays.
    fn activate(&mut self, features: Option<u64>);

    /// A frame of the guest's. `now` is since the run began.
    fn send(&mut self, frame: &Frame<'_>, now: Duration) -> Sent;

    /// Puts what there is for the guest into `inbox`, until it has no more room. Called after every
    /// batch of frames, event and deadline, and when the guest has made room. Called without a driver,
    /// too, when `inbox` has none: this is where a link does what its deadlines are for.
    fn receive(&mut self, inbox: &mut dyn Inbox, now: Duration);

    /// A descriptor that the link has watched ([`crate::io::event_loop::Watcher`]) is ready. Edge-
    /// triggered: what is left is not announced again.
    fn ready(&mut self, ready: Ready, now: Duration);

    /// When the link wants to be called again ([`Link::receive`]) although nothing happens: since the
    /// run began, as `now`.
    fn deadline(&self) -> Option<Duration>;

    /// The run is over, and all that the guest has sent has been offered: brings to its end what must
    /// not be cut off, and cuts off what must not look whole.
    fn finish(&mut self);
}

/// A transport protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP (RFC 9293).
    Tcp,
    /// UDP (RFC 768).
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
        })
    }
}

/// A port of the host's whose connections or datagrams go to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Of which protocol.
    pub transport: Transport,
    /// Where the host listens. Port 0: one that is free, which is then said.
    pub host: SocketAddr,
    /// The guest's port, never 0.
    pub guest: u16,
}

/// What came of a frame for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The guest has it; or it can never have it (a frame that is larger than its buffers), and it is
    /// dropped and counted.
    Done,
    /// There is no room until the guest makes some: then [`Link::receive`] is called.
    Full,
}

/// The guest's room for frames.
pub trait Inbox {
    /// Bytes of the largest frame that there is room for now, or `most`: what is more need not be
    /// looked for. 0 when there is none.
    fn room(&mut self, most: usize) -> usize;

    /// A frame that lies in pieces. `offload` must not ask for what the guest has not accepted; with a
    /// segment to be cut, the first piece is all of its headers.
    fn put(&mut self, offload: Offload, pieces: &[&[u8]]) -> Put;

    /// A frame of at most `most` bytes that `read` brings into the guest's memory by itself, with one
    /// system call. `with_header` says that what it brings begins with a virtio_net_hdr of 12 bytes.
    /// `Put::Full` when there is no room for `most`, and `read` is not called then.
    ///
    /// # Errors
    /// What `read` returns; the room is free as before.
    fn fill(
        &mut self,
        most: usize,
        with_header: bool,
        read: &mut dyn FnMut(&[VolatileSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Put>;
}
