//! Pings of the guest's: echo requests (RFC 792) by the sockets that a system lets anybody have for
//! them. Linux lets those groups have them that `net.ipv4.ping_group_range` names, and no others.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::counters::Cause;
use super::flows::{Flows, Patience};
use super::icmp::{self, Lost, Reason};
use super::list::List;
use super::out::Out;
use super::packet::Owner;
use super::policy::Policy;
use super::udp::{BURST, out_of_descriptors, reason};
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
    watcher: Option<Arc<Watcher>>,
    flows: Flows<Key, Datagrams>,
    ready: List,
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
        let flows = Flows::new(MOST, IDLE, IDLE);
        Self { policy, watcher: None, flows, ready: List::new(MOST), said: false }
    }

    pub(super) fn watch(&mut self, watcher: Arc<Watcher>) {
        self.watcher = Some(watcher);
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
        let number = match self.flows.find(&key) {
            Some(number) => number,
            None => self.open(key, now)?,
        };
        self.flows.touch_again(number, now);
        let Some((key, socket)) = self.flows.get(number) else { return Err(Cause::Unsent) };
        let to = SocketAddr::new(host, 0);
        // The first error may be an earlier one's.
        let sent = socket.send(echo.message, to).or_else(|_| {
            failures(self.policy, key, socket, scratch, out);
            socket.send(echo.message, to)
        });
        match sent {
            Ok(true) => Ok(()),
            Ok(false) => Err(Cause::Unsent),
            Err(error) => {
                if let Some(reason) = reason(&error) {
                    icmp::error(reason, &lost(key.guest, echo.to, echo.message), out);
                }
                Err(Cause::Unsent)
            }
        }
    }

    fn open(&mut self, key: Key, now: Duration) -> Result<usize, Cause> {
        let Some(watcher) = self.watcher.clone() else { return Err(Cause::Unsent) };
        if self.flows.is_full() {
            self.evict();
        }
        let opened = Datagrams::for_pings(key.host).or_else(|error| {
            match out_of_descriptors(&error) && self.evict() {
                true => Datagrams::for_pings(key.host),
                false => Err(error),
            }
        });
        let socket = opened.map_err(|error| {
            if !self.said {
                self.said = true;
                crate::warning!(
                    "the guest's pings to others than its gateway are dropped: {error}; on Linux, \
                     sysctl net.ipv4.ping_group_range says which groups may send any"
                );
            }
            Cause::Ping
        })?;
        let kept = socket.keep_failures(key.host);
        let number = self.flows.insert(key, socket, Patience::Long, now);
        let watched = match self.flows.get(number) {
            Some((_, socket)) => watcher.watch_reading(socket.as_fd(), Owner::Ping.key(number)),
            None => Ok(()),
        };
        kept.and(watched).map(|()| number).map_err(|_| {
            self.remove(number);
            Cause::Unsent
        })
    }

    fn evict(&mut self) -> bool {
        let oldest = self.flows.oldest();
        oldest.map(|number| self.remove(number)).is_some()
    }

    fn remove(&mut self, number: usize) {
        self.ready.remove(number);
        self.flows.remove(number);
    }

    /// Something has come.
    pub(super) fn ready(&mut self, number: usize) {
        if self.flows.get(number).is_some() {
            self.ready.push(number);
        }
    }

    /// Gives the guest the replies that have come, as far as it has room: a burst. Whether there is more.
    pub(super) fn emit(&mut self, scratch: &mut [u8], out: &mut Out<'_>) -> bool {
        if self.ready.first().is_some()
            && out.has_room()
            && let Some(number) = self.ready.pop()
            && !self.drain(number, scratch, out)
        {
            self.ready.push(number);
        }
        self.ready.first().is_some()
    }

    /// Reads a socket. Whether it is empty.
    fn drain(&mut self, number: usize, scratch: &mut [u8], out: &mut Out<'_>) -> bool {
        let Some((key, socket)) = self.flows.get(number) else { return true };
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
