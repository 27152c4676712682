//! How connections come about: the guest's to the host, and clients' to the guest.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;

use super::flow::{Flow, State};
use super::segment::{Key, Segment};
use super::seq::Seq;
use super::{HALF_OPEN, Tcp};
use crate::io::socket::Stream;
use crate::net::user::addresses::GATEWAY;
use crate::net::user::guest::Addresses;
use crate::net::user::packet::Owner;
use crate::net::user::policy::Destination;
use crate::warning;

/// SYNs that the guest is to be told about, at most.
pub(super) const UNREACHABLE: usize = 64;

/// How long to wait before accepting once more, when the system had no descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Why a SYN did not reach its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Why {
    /// There is no way to its network.
    Network,
    /// It does not answer.
    Host,
}

/// A SYN that did not reach its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Unreachable {
    pub(in super::super) why: Why,
    /// The guest's end.
    pub(in super::super) source: SocketAddr,
    pub(in super::super) destination: SocketAddr,
    seq: Seq,
}

impl Unreachable {
    /// The SYN's first bytes, for the guest to recognise.
    pub(in super::super) fn quoted(&self) -> [u8; 8] {
        let [a, b] = self.source.port().to_be_bytes();
        let [c, d] = self.destination.port().to_be_bytes();
        let [e, f, g, h] = self.seq.0.to_be_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

/// How soon a guest that has refused a client is called again, where clients wait for it.
const REFUSED: Duration = Duration::from_millis(20);

/// What is known of the guest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Guest {
    /// Where clients' connections go.
    addresses: Addresses,
    /// It has shown itself, and clients wait for that.
    pub(super) call_again: bool,
    called: Option<Duration>,
}

/// A guest that shows itself all the time is called no more often than this.
const CALLS: Duration = Duration::from_millis(10);

impl Guest {
    /// Where a client is called now that was called at `key`.
    fn moved(&self, Key { guest, peer }: Key) -> Key {
        let Addresses { four, six } = self.addresses;
        let (address, seen) = match (guest.ip(), six) {
            (IpAddr::V4(_), _) => (four.into(), peer.ip()),
            (IpAddr::V6(_), Some(six)) => (six.into(), peer.ip()),
            (IpAddr::V6(_), None) => (four.into(), GATEWAY.into()),
        };
        let guest = SocketAddr::new(address, guest.port());
        Key { guest, peer: SocketAddr::new(seen, peer.port()) }
    }
}

impl Tcp {
    /// The guest has shown itself, and is at these addresses from now on: clients that wait for it need
    /// not wait any longer.
    pub(in super::super) fn guest_spoke(&mut self, addresses: Addresses, now: Duration) {
        self.guest.addresses = addresses;
        self.guest.call_again = true;
        self.call(now);
    }

    /// Calls the guest on behalf of the clients that wait.
    fn call(&mut self, now: Duration) {
        let lately = |at: Duration| now < at.saturating_add(CALLS);
        if self.calling == 0 || self.guest.called.is_some_and(lately) {
            return;
        }
        (self.guest.call_again, self.guest.called) = (false, Some(now));
        for slot in self.table.slots() {
            let Some(flow) = self.table.get(slot) else { continue };
            if flow.state != State::Calling {
                continue;
            }
            flow.call_again(now);
            let key = self.guest.moved(flow.key);
            self.table.rename(slot, key);
            self.queue(slot);
            self.settle(slot);
        }
    }

    /// Begins a connection of the guest's. `false`: the guest is to be told that there is none.
    pub(super) fn begin(&mut self, key: Key, syn: &Segment, now: Duration) -> bool {
        let (to, resolver) = match self.policy.destination(key.peer) {
            Destination::Host(to) => (to, None),
            Destination::Dns => match self.resolvers.first() {
                Some(to) => (*to, Some(0)),
                None => return self.refuse(),
            },
            Destination::Refused(refusal) => {
                warning!("the guest cannot connect to {}: {refusal}", key.peer);
                return self.refuse();
            }
        };
        if self.opening >= HALF_OPEN || !self.make_room() {
            // It will ask again.
            self.drop_one();
            return true;
        }
        let stream = match Stream::connect(to) {
            Ok(stream) => stream,
            Err(error) => {
                let unreachable = self.explain(&key, syn.seq, &error);
                return self.refuse() || unreachable;
            }
        };
        let (first, most) = (self.first(&key, now), self.most_to(key.guest.ip()));
        let mut flow = Flow::outbound(key, syn, first, most, stream, now);
        flow.resolver = resolver;
        let Some(slot) = self.table.insert(flow) else { return self.refuse() };
        self.counters.outbound = self.counters.outbound.saturating_add(1);
        if let Err(error) = self.watch_flow(slot) {
            self.fail(slot, &error);
        }
        self.settle(slot);
        true
    }

    fn refuse(&mut self) -> bool {
        self.counters.refused = self.counters.refused.saturating_add(1);
        false
    }

    fn watch_flow(&mut self, slot: usize) -> io::Result<()> {
        let key = Owner::TcpFlow.key(self.table.number(slot));
        let stream = self.table.get(slot).and_then(|flow| flow.stream.as_ref());
        match (stream, &self.watcher) {
            (Some(stream), Some(watcher)) => watcher.watch(stream.as_fd(), key),
            _ => Ok(()),
        }
    }

    /// Something has happened to the socket with this number.
    pub(in super::super) fn ready(
        &mut self,
        owner: Owner,
        number: usize,
        readable: bool,
        writable: bool,
        now: Duration,
    ) {
        match owner {
            Owner::TcpListener => {
                if let Some(listener) = self.listeners.get_mut(number) {
                    listener.pending = true;
                    self.accept(number, now);
                }
            }
            Owner::TcpFlow => {
                if let Some(slot) = self.table.slot(number) {
                    self.flow_ready(slot, readable, writable);
                    self.queue(slot);
                    self.settle(slot);
                }
            }
            _ => {}
        }
    }

    fn flow_ready(&mut self, slot: usize, readable: bool, writable: bool) {
        let Some(flow) = self.table.get(slot) else { return };
        if flow.state == State::Connecting {
            return self.connecting(slot);
        }
        flow.readable |= readable;
        if writable {
            flow.hand_over(&mut self.room);
        }
        if readable && writable {
            flow.look();
            if flow.state == State::Calling && flow.stream.is_none() {
                // The client did not want to wait.
                self.remove(slot);
            }
        }
    }

    fn connecting(&mut self, slot: usize) {
        let Some(flow) = self.table.get(slot) else { return };
        let Some(stream) = &flow.stream else { return };
        match stream.connected() {
            Ok(false) => {}
            Ok(true) => flow.connected(),
            Err(error) => match self.next_resolver(slot) {
                true => {}
                false => self.fail(slot, &error),
            },
        }
    }

    /// Tries the name server after the one that a flow could not reach. Whether there is one.
    fn next_resolver(&mut self, slot: usize) -> bool {
        let Some(flow) = self.table.get(slot) else { return false };
        let Some(next) = flow.resolver.and_then(|tried| tried.checked_add(1)) else { return false };
        let found = self
            .resolvers
            .iter()
            .enumerate()
            .skip(next)
            .find_map(|(place, to)| Stream::connect(*to).ok().map(|stream| (place, stream)));
        let Some((place, stream)) = found else { return false };
        (flow.resolver, flow.stream) = (Some(place), Some(stream));
        self.watch_flow(slot).is_ok()
    }

    /// A connection of the guest's cannot be made.
    pub(super) fn fail(&mut self, slot: usize, error: &io::Error) {
        let Some(flow) = self.table.get(slot) else { return };
        let (key, seq) = (flow.key, flow.first_received());
        flow.refuse();
        self.refuse();
        if self.explain(&key, seq, error) {
            self.remove(slot);
        } else {
            self.queue(slot);
        }
    }

    /// Whether the guest is told by a message about the SYN, rather than by a reset.
    fn explain(&mut self, key: &Key, seq: Seq, error: &io::Error) -> bool {
        let why = match (Errno::from_io_error(error), error.kind()) {
            (Some(Errno::NETUNREACH | Errno::NETDOWN | Errno::AFNOSUPPORT), _) => Why::Network,
            (Some(Errno::HOSTUNREACH | Errno::HOSTDOWN | Errno::TIMEDOUT), _) => Why::Host,
            (_, io::ErrorKind::TimedOut) => Why::Host,
            (Some(Errno::MFILE | Errno::NFILE), _) => {
                self.say(error);
                return false;
            }
            _ => return false,
        };
        let (source, destination) = (key.guest, key.peer);
        push(&mut self.unreachable, Unreachable { why, source, destination, seq });
        true
    }

    fn say(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.said, true) {
            warning!(
                "a connection cannot be made: {error}; a higher limit (ulimit -n) lets the guest \
                 have more of them"
            );
        }
    }

    /// Accepts what has been left waiting.
    pub(super) fn accept_more(&mut self, now: Duration) {
        if self.guest.call_again {
            self.call(now);
        }
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept_at = None;
            self.accept_again = true;
        }
        let slots = !self.table.is_full() || !self.lingering.is_empty();
        let room = self.calling < HALF_OPEN && slots;
        if !self.accept_again || !room || self.accept_at.is_some() {
            return;
        }
        self.accept_again = false;
        for number in 0..self.listeners.len() {
            self.accept(number, now);
        }
    }

    /// Accepts connections for as long as there are some, and room for them.
    fn accept(&mut self, number: usize, now: Duration) {
        while self.listeners.get(number).is_some_and(|listener| listener.pending) {
            if self.calling >= HALF_OPEN || !self.make_room() {
                self.accept_again = true;
                return;
            }
            let Some(listener) = self.listeners.get_mut(number) else { return };
            match listener.acceptor.accept() {
                Ok(Some((stream, from))) => {
                    let port = listener.guest;
                    self.forward(stream, from, port, now);
                }
                Ok(None) => listener.pending = false,
                Err(error) => {
                    self.say(&error);
                    (self.accept_again, self.accept_at) =
                        (true, Some(now.saturating_add(ACCEPT_AGAIN)));
                    return;
                }
            }
        }
    }

    /// A client has connected: calls the guest.
    pub(super) fn forward(&mut self, stream: Stream, from: SocketAddr, port: u16, now: Duration) {
        let (guest, peer) = self.guest.addresses.ends(from.ip());
        let guest = SocketAddr::new(guest, port);
        let Some(key) = self.free_key(guest, SocketAddr::new(peer, from.port()), now) else {
            return stream.reset();
        };
        let first = self.first(&key, now);
        let Some(slot) = self.table.insert(Flow::forward(key, first, stream, now)) else { return };
        self.counters.forwarded = self.counters.forwarded.saturating_add(1);
        if self.watch_flow(slot).is_err() {
            return self.remove(slot);
        }
        self.queue(slot);
        self.settle(slot);
    }

    /// The guest refuses a client by IPv6, where some servers do not listen: calls it by IPv4. Whether
    /// that is so.
    pub(super) fn call_by_ipv4(&mut self, slot: usize, now: Duration) -> bool {
        let Some(flow) = self.table.get(slot) else { return false };
        let Key { guest, peer } = flow.key;
        if flow.state != State::Calling || guest.is_ipv4() {
            return false;
        }
        flow.call_again(now);
        let guest = SocketAddr::new(self.guest.addresses.four.into(), guest.port());
        let key = self.free_key(guest, SocketAddr::new(GATEWAY.into(), peer.port()), now);
        key.map(|key| self.table.rename(slot, key)).is_some()
    }

    /// The guest refuses a client in the time in which what is to listen may not do so yet: calls it again
    /// soon. Whether that is so.
    pub(super) fn call_later(&mut self, slot: usize, now: Duration) -> bool {
        let Some(flow) = self.table.get(slot) else { return false };
        let waits = flow.state == State::Calling && now < self.wait_until;
        if waits {
            flow.call_at(now.saturating_add(REFUSED), now);
        }
        waits
    }

    /// Ends that are no other flow's: the client's own port if it can be.
    fn free_key(&self, guest: SocketAddr, peer: SocketAddr, now: Duration) -> Option<Key> {
        let key = Key { guest, peer };
        let start = self.first(&key, now);
        let others = (0..64).map(|n| {
            let [high, low, ..] = start.add(n).0.to_le_bytes();
            let port = u16::from_le_bytes([high, low]) | 1 << 15;
            Key { peer: SocketAddr::new(peer.ip(), port), ..key }
        });
        std::iter::once(key).chain(others).find(|key| self.table.find(key).is_none())
    }
}

fn push(list: &mut VecDeque<Unreachable>, one: Unreachable) {
    if list.len() < UNREACHABLE {
        list.push_back(one);
    }
}
