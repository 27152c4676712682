//! UDP of the guest's: each of its ports that sends has a socket of the host's, which sends to whomever
//! the guest likes and takes answers from anybody (RFC 4787: endpoint-independent mapping and
//! filtering, as QEMU has it). The guest sees who really answered; what comes from this host's loopback
//! comes from the gateway.
//!
//! What the guest has no room for waits in the sockets, as much as the kernel keeps.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use smoltcp::wire::IpProtocol;

use super::counters::Cause;
use super::datagram::{self, Datagram};
use super::flows::{Flows, Patience};
use super::icmp::{self, Lost, Reason};
use super::list::List;
use super::out::Out;
use super::packet::Owner;
use super::policy::Policy;
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
    watcher: Option<Arc<Watcher>>,
    flows: Flows<SocketAddr, Datagrams>,
    /// Those in which something waits.
    ready: List,
}

impl Udp {
    pub(super) fn new(policy: Policy) -> Self {
        let flows = Flows::new(MOST, SHORT, LONG);
        Self { policy, watcher: None, flows, ready: List::new(MOST) }
    }

    pub(super) fn watch(&mut self, watcher: Arc<Watcher>) {
        self.watcher = Some(watcher);
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
        let number = match self.flows.find(&datagram.source) {
            Some(number) => number,
            None => self.open(datagram.source, to, patience, now).map_err(|_| Cause::Unsent)?,
        };
        self.flows.touch(number, patience, now);
        let Some((guest, socket)) = self.flows.get(number) else { return Err(Cause::Unsent) };
        // The first error may be an earlier datagram's.
        let sent = socket.send(datagram.bytes, to).or_else(|_| {
            failures(self.policy, guest, socket, scratch, out);
            socket.send(datagram.bytes, to)
        });
        match sent {
            Ok(true) => Ok(()),
            Ok(false) => Err(Cause::Unsent),
            Err(error) => {
                if let Some(reason) = reason(&error) {
                    icmp::error(reason, &lost(datagram), out);
                }
                Err(Cause::Unsent)
            }
        }
    }

    fn open(
        &mut self,
        guest: SocketAddr,
        to: SocketAddr,
        patience: Patience,
        now: Duration,
    ) -> io::Result<usize> {
        let Some(watcher) = self.watcher.clone() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if self.flows.is_full() {
            self.evict();
        }
        let socket =
            Datagrams::open(to.ip()).or_else(|error| match out_of_descriptors(&error) {
                true if self.evict() => Datagrams::open(to.ip()),
                _ => Err(error),
            })?;
        socket.keep_failures(to.ip())?;
        let number = self.flows.insert(guest, socket, patience, now);
        let watched = match self.flows.get(number) {
            Some((_, socket)) => watcher.watch_reading(socket.as_fd(), Owner::UdpFlow.key(number)),
            None => Ok(()),
        };
        if watched.is_err() {
            self.remove(number);
        }
        watched.map(|()| number)
    }

    /// Closes the port that was idle longest. Whether there was one.
    fn evict(&mut self) -> bool {
        let oldest = self.flows.oldest();
        oldest.map(|number| self.remove(number)).is_some()
    }

    fn remove(&mut self, number: usize) {
        self.ready.remove(number);
        self.flows.remove(number);
    }

    /// Something has come for a port.
    pub(super) fn ready(&mut self, number: usize) {
        if self.flows.get(number).is_some() {
            self.ready.push(number);
        }
    }

    /// Gives the guest what has come, as far as it has room: a burst. Whether there is more.
    pub(super) fn emit(&mut self, scratch: &mut [u8], out: &mut Out<'_>, now: Duration) -> bool {
        if self.ready.first().is_some()
            && out.has_room()
            && let Some(number) = self.ready.pop()
            && !self.drain(number, scratch, out, now)
        {
            self.ready.push(number);
        }
        self.ready.first().is_some()
    }

    /// Reads a socket. Whether it is empty.
    fn drain(
        &mut self,
        number: usize,
        scratch: &mut [u8],
        out: &mut Out<'_>,
        now: Duration,
    ) -> bool {
        self.flows.touch_again(number, now);
        let Some((guest, socket)) = self.flows.get(number) else { return true };
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
        while let Some(number) = self.flows.expired(now) {
            self.remove(number);
        }
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.flows.deadline()
    }

    /// Closes all.
    pub(super) fn clear(&mut self) {
        self.flows.clear();
        self.ready.clear();
    }

    /// Closes the host's loopback.
    #[cfg(test)]
    pub(super) fn close_loopback(&mut self) {
        self.policy.host_loopback = false;
    }

    /// How many ports have a socket.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.flows.len()
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

/// What the host's error is in ICMP's words.
pub(super) fn reason(error: &io::Error) -> Option<Reason> {
    match error.kind() {
        io::ErrorKind::NetworkUnreachable => Some(Reason::Network),
        io::ErrorKind::HostUnreachable => Some(Reason::Host),
        // A broadcast address of the host's networks, or a rule of its firewall.
        io::ErrorKind::PermissionDenied => Some(Reason::Prohibited),
        _ => None,
    }
}

/// Whether the process, or the system, has no descriptors left.
pub(super) fn out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
