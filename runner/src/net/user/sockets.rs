//! Sockets of the host's for datagrams of the guest's: one for each key, so many at most, closed when they
//! have been idle for long, or longest of all when another needs the room or the descriptor.

use std::hash::Hash;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::counters::Cause;
use super::flows::{Flows, Patience};
use super::icmp::{self, Lost, Reason};
use super::list::List;
use super::out::Out;
use super::packet::Owner;
use crate::io::event_loop::Watcher;
use crate::io::socket::Datagrams;

/// Sockets by keys `K`.
#[derive(Debug)]
pub(super) struct Sockets<K> {
    /// Which part of the network is told of what comes.
    owner: Owner,
    watcher: Option<Arc<Watcher>>,
    flows: Flows<K, Datagrams>,
    /// Those in which something waits.
    ready: List,
}

impl<K: Copy + Eq + Hash> Sockets<K> {
    /// Room for `most`, which are closed when idle for `short` or `long`.
    pub(super) fn new(owner: Owner, most: usize, short: Duration, long: Duration) -> Self {
        Self { owner, watcher: None, flows: Flows::new(most, short, long), ready: List::new(most) }
    }

    pub(super) fn watch(&mut self, watcher: Arc<Watcher>) {
        self.watcher = Some(watcher);
    }

    /// The number of the socket for `key`, in use from now on. Where there is none, `open` makes one, that
    /// speaks to addresses like `like`.
    pub(super) fn number(
        &mut self,
        key: K,
        like: IpAddr,
        (patience, now): (Patience, Duration),
        open: impl Fn(IpAddr) -> io::Result<Datagrams>,
    ) -> io::Result<usize> {
        if let Some(number) = self.flows.find(&key) {
            self.flows.touch(number, patience, now);
            return Ok(number);
        }
        let watcher = self.watcher.clone().ok_or(io::ErrorKind::NotFound)?;
        if self.flows.is_full() {
            self.evict();
        }
        let socket = open(like).or_else(|error| match out_of_descriptors(&error) {
            true if self.evict() => open(like),
            _ => Err(error),
        })?;
        socket.keep_failures(like)?;
        let number = self.flows.insert(key, socket, patience, now);
        let watched = match self.flows.get(number) {
            Some((_, socket)) => watcher.watch_reading(socket.as_fd(), self.owner.key(number)),
            None => Ok(()),
        };
        if watched.is_err() {
            self.remove(number);
        }
        watched.map(|()| number)
    }

    /// The socket with that number, and its key.
    pub(super) fn get(&mut self, number: usize) -> Option<(K, &mut Datagrams)> {
        self.flows.get(number)
    }

    /// It is in use.
    pub(super) fn touch(&mut self, number: usize, now: Duration) {
        self.flows.touch_again(number, now);
    }

    /// Closes the one that was idle longest. Whether there was one.
    fn evict(&mut self) -> bool {
        let oldest = self.flows.oldest();
        oldest.map(|number| self.remove(number)).is_some()
    }

    fn remove(&mut self, number: usize) {
        self.ready.remove(number);
        self.flows.remove(number);
    }

    /// Something has come for the one with that number, or is left there.
    pub(super) fn ready(&mut self, number: usize) {
        if self.flows.get(number).is_some() {
            self.ready.push(number);
        }
    }

    /// The next one whose turn it is to be read, if there is room for what it has.
    pub(super) fn next(&mut self, out: &mut Out<'_>) -> Option<usize> {
        self.ready.first().filter(|_| out.has_room())?;
        self.ready.pop()
    }

    /// Whether something waits.
    pub(super) fn is_waiting(&self) -> bool {
        self.ready.first().is_some()
    }

    /// Closes those that have been idle for too long.
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

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }
}

/// Sends `bytes` to where `lost` says whose it is, and tells the guest where that cannot be. `failures`
/// reads what has become of earlier ones: the first error may be about those.
pub(super) fn send(
    socket: &Datagrams,
    bytes: &[u8],
    to: std::net::SocketAddr,
    lost: &Lost<'_>,
    out: &mut Out<'_>,
    failures: impl FnOnce(&mut Out<'_>),
) -> Result<(), Cause> {
    let sent = socket.send(bytes, to).or_else(|_| {
        failures(out);
        socket.send(bytes, to)
    });
    match sent {
        Ok(true) => Ok(()),
        Ok(false) => Err(Cause::Unsent),
        Err(error) => {
            if let Some(reason) = reason(&error) {
                icmp::error(reason, lost, out);
            }
            Err(Cause::Unsent)
        }
    }
}

/// What the host's error is in ICMP's words.
fn reason(error: &io::Error) -> Option<Reason> {
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
