//! Pings of the guest's: echo requests (RFC 792) by the sockets that a system lets anybody have for
//! them. Linux lets those groups have them that `net.ipv4.ping_group_range` names, and no others.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::counters::Cause;
use super::flows::Patience;
use super::icmp::{self, Lost, Reason};
use super::out::Out;
use super::packet::Owner;
use super::policy::Policy;
use super::sockets::{self, Sockets};
use super::udp::BURST;
use crate::io::event_loop::Watcher;
use crate::io::socket::Datagrams;

/// Programs of the guest's that ping somebody.
pub(super) const MOST: usize = 64;
/// How long such a one may be idle.
const IDLE: Duration = Duration::from_secs(30);

/// Who pings whom, by which identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    guest: IpAddr,
    host: IpAddr,
    id: [u8; 2],
}

/// The sockets.
#[derive(Debug)]
pub(super) struct Ping {
    policy: Policy,
    sockets: Sockets<Key>,
    /// It has been said that there can be no pings.
    said: bool,
}

/// An echo request of the guest's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Echo<'a> {
    pub(super) guest: IpAddr,
    pub(super) to: IpAddr,
    /// Its identifier.
    pub(super) id: [u8; 2],
    /// All of it.
    pub(super) message: &'a [u8],
}

impl Ping {
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy, sockets: Sockets::new(Owner::Ping, MOST, IDLE, IDLE), said: false }
    }

    pub(super) fn watch(&mut self, watcher: Arc<Watcher>) {
        self.sockets.watch(watcher);
    }

    /// Sends an echo request on to `host`, which is where the guest may send it.
    pub(super) fn send(
        &mut self,
        echo: &Echo<'_>,
        host: IpAddr,
        scratch: &mut [u8],
        out: &mut Out<'_>,
        now: Duration,
    ) -> Result<(), Cause> {
        let key = Key { guest: echo.guest, host, id: echo.id };
        let when = (Patience::Long, now);
        let number = self.sockets.number(key, host, when, Datagrams::for_pings);
        let number = number.map_err(|error| {
            if !std::mem::replace(&mut self.said, true) {
                crate::warning!(
                    "the guest's pings to others than its gateway are dropped: {error}; on Linux, \
                     sysctl net.ipv4.ping_group_range says which groups may send any"
                );
            }
            Cause::Ping
        })?;
        let (key, socket) = self.sockets.get(number).ok_or(Cause::Unsent)?;
        let lost = lost(key.guest, echo.to, echo.message);
        sockets::send(socket, echo.message, SocketAddr::new(host, 0), &lost, out, |out| {
            failures(self.policy, key, socket, scratch, out);
        })
    }

    /// Something has come.
    pub(super) fn ready(&mut self, number: usize) {
        self.sockets.ready(number);
    }

    /// Gives the guest the replies that have come, as far as it has room: a burst. Whether there is more.
    pub(super) fn emit(&mut self, scratch: &mut [u8], out: &mut Out<'_>) -> bool {
        if let Some(number) = self.sockets.next(out)
            && !self.drain(number, scratch, out)
        {
            self.sockets.ready(number);
        }
        self.sockets.is_waiting()
    }

    /// Reads a socket. Whether it is empty.
    fn drain(&mut self, number: usize, scratch: &mut [u8], out: &mut Out<'_>) -> bool {
        let Some((key, socket)) = self.sockets.get(number) else { return true };
        for _ in 0..BURST {
            if !out.has_room() {
                return false;
            }
            match socket.receive(scratch) {
                Ok(None) => return true,
                Ok(Some((len, from))) => {
                    let received = scratch.get(..len).unwrap_or_default();
                    let skipped = len.saturating_sub(Datagrams::reply(received, from.ip()).len());
                    let reply = scratch.get_mut(skipped..len).unwrap_or_default();
                    if from.ip() != key.host || !icmp::is_reply(key.host, reply) {
                        out.drop(Cause::Unheard);
                        continue;
                    }
                    identify(reply, key.id);
                    icmp::sum(key.host, key.guest, reply);
                    out.packet(key.host, key.guest, icmp::protocol(key.host), [reply, &[]]);
                }
                Err(_) => failures(self.policy, key, socket, scratch, out),
            }
        }
        false
    }

    /// Closes what has been idle for too long.
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
}

/// Tells the guest about echo requests that did not arrive.
fn failures(policy: Policy, key: Key, socket: &Datagrams, scratch: &mut [u8], out: &mut Out<'_>) {
    for _ in 0..BURST {
        let Ok(Some(failure)) = socket.failure(scratch) else { return };
        if policy.seen_as(failure.to).is_none() {
            continue;
        }
        let message = scratch.get_mut(..failure.len).unwrap_or_default();
        identify(message, key.id);
        let reason = Reason::Said(failure.icmp.0, failure.icmp.1);
        icmp::error(reason, &lost(key.guest, key.host, message), out);
    }
}

fn lost(guest: IpAddr, to: IpAddr, message: &[u8]) -> Lost<'_> {
    Lost {
        source: guest,
        destination: to,
        protocol: icmp::protocol(to),
        head: message,
        len: message.len(),
    }
}

/// Gives a message the guest's identifier, which the system has replaced by its own.
fn identify(message: &mut [u8], id: [u8; 2]) {
    for (byte, value) in message.iter_mut().skip(4).zip(id) {
        *byte = value;
    }
}
