//! UDP of the guest's: each of its ports that sends has a socket of the host's, which sends to whomever
//! the guest likes and takes answers from anybody (RFC 4787: endpoint-independent mapping and
//! filtering, as QEMU has it). The guest sees who really answered; what comes from this host's loopback
//! comes from the gateway.
//!
//! What the guest has no room for waits in the sockets, as much as the kernel keeps.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use smoltcp::wire::IpProtocol;

use super::counters::Cause;
use super::datagram::{self, Datagram};
use super::flows::Patience;
use super::icmp::{self, Lost, Reason};
use super::out::Out;
use super::packet::Owner;
use super::policy::Policy;
use super::sockets::{self, Sockets};
use crate::io::event_loop::Watcher;
use crate::io::socket::Datagrams;

/// Ports of the guest's with a socket each. For another one the one that was idle longest goes.
pub(super) const MOST: usize = 2048;
/// How long a port may be idle, and how long one that asks name servers (RFC 4787 §4.3).
const LONG: Duration = Duration::from_secs(240);
const SHORT: Duration = Duration::from_secs(10);
/// The name servers' port.
const NAMES: u16 = 53;

/// Datagrams read from one socket before it is another one's turn.
pub(super) const BURST: usize = 32;

/// The sockets of the guest's ports.
#[derive(Debug)]
pub(super) struct Udp {
    policy: Policy,
    sockets: Sockets<SocketAddr>,
}

impl Udp {
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy, sockets: Sockets::new(Owner::UdpFlow, MOST, SHORT, LONG) }
    }

    pub(super) fn watch(&mut self, watcher: Arc<Watcher>) {
        self.sockets.watch(watcher);
    }

    /// Sends a datagram of the guest's on to `to`, which it may reach. `scratch` is for what has become
    /// of earlier ones.
    pub(super) fn send(
        &mut self,
        datagram: &Datagram<'_>,
        to: SocketAddr,
        scratch: &mut [u8],
        out: &mut Out<'_>,
        now: Duration,
    ) -> Result<(), Cause> {
        let patience = if to.port() == NAMES { Patience::Short } else { Patience::Long };
        let number =
            self.sockets.number(datagram.source, to.ip(), (patience, now), Datagrams::open);
        let number = number.map_err(|_| Cause::Unsent)?;
        let (guest, socket) = self.sockets.get(number).ok_or(Cause::Unsent)?;
        sockets::send(socket, datagram.bytes, to, &lost(datagram), out, |out| {
            failures(self.policy, guest, socket, scratch, out);
        })
    }

    /// Something has come for a port.
    pub(super) fn ready(&mut self, number: usize) {
        self.sockets.ready(number);
    }

    /// Gives the guest what has come, as far as it has room: a burst. Whether there is more.
    pub(super) fn emit(&mut self, scratch: &mut [u8], out: &mut Out<'_>, now: Duration) -> bool {
        if let Some(number) = self.sockets.next(out)
            && !self.drain(number, scratch, out, now)
        {
            self.sockets.ready(number);
        }
        self.sockets.is_waiting()
    }

    /// Reads a socket. Whether it is empty.
    fn drain(
        &mut self,
        number: usize,
        scratch: &mut [u8],
        out: &mut Out<'_>,
        now: Duration,
    ) -> bool {
        self.sockets.touch(number, now);
        let Some((guest, socket)) = self.sockets.get(number) else { return true };
        for _ in 0..BURST {
            if !out.has_room() {
                return false;
            }
            match socket.receive(scratch) {
                Ok(None) => return true,
                Ok(Some((len, from))) => match self.policy.seen_as(from) {
                    Some(from) => {
                        datagram::deliver(from, guest, scratch.get(..len).unwrap_or_default(), out);
                    }
                    None => out.drop(Cause::Unheard),
                },
                Err(_) => failures(self.policy, guest, socket, scratch, out),
            }
        }
        false
    }

    /// Closes ports that have been idle for too long.
    pub(super) fn expire(&mut self, now: Duration) {
        self.sockets.expire(now);
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.sockets.deadline()
    }

    /// Closes all.
    pub(super) fn clear(&mut self) {
        self.sockets.clear();
    }

    /// Closes the host's loopback.
    #[cfg(test)]
    pub(super) fn close_loopback(&mut self) {
        self.policy.host_loopback = false;
    }

    /// How many ports have a socket.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }
}

/// Tells the guest about datagrams that could not be delivered. There are no more of them in a socket
/// than it has sent, and no more are read at once than waits in a burst.
fn failures(
    policy: Policy,
    guest: SocketAddr,
    socket: &Datagrams,
    scratch: &mut [u8],
    out: &mut Out<'_>,
) {
    for _ in 0..BURST {
        let Ok(Some(failure)) = socket.failure(scratch) else { return };
        // Too large for a link on the way: the kernel cuts the next one.
        let is_size = failure.icmp == if guest.is_ipv4() { (3, 4) } else { (2, 0) };
        let Some(to) = policy.seen_as(failure.to).filter(|_| !is_size) else { continue };
        let len = failure.len.saturating_add(datagram::HEADER);
        let fields = [guest.port(), to.port(), u16::try_from(len).unwrap_or(u16::MAX), 0];
        let mut head = [0; datagram::HEADER];
        for (byte, value) in head.iter_mut().zip(fields.into_iter().flat_map(u16::to_be_bytes)) {
            *byte = value;
        }
        let lost = Lost {
            source: guest.ip(),
            destination: to.ip(),
            protocol: IpProtocol::Udp,
            head: &head,
            len,
        };
        icmp::error(Reason::Said(failure.icmp.0, failure.icmp.1), &lost, out);
    }
}

/// A datagram that goes nowhere.
pub(super) fn lost<'a>(datagram: &Datagram<'a>) -> Lost<'a> {
    Lost {
        source: datagram.source.ip(),
        destination: datagram.destination.ip(),
        protocol: IpProtocol::Udp,
        head: datagram.whole,
        len: datagram.whole.len(),
    }
}
