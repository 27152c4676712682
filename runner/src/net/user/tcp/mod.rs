//! TCP (RFC 9293): each connection of the guest's is one of the host's, and a port that is forwarded
//! makes one of the guest's of each of the host's.
//!
//! A connection is a `flow::Flow`, found by its ends in a `table::Table`. What happens to it, a
//! segment or something at its socket, puts it into a queue; `Tcp::emit` gives each in the queue its
//! turn, for as long as the guest has room. Nothing looks at all flows: one that is idle costs its few
//! hundred bytes and a descriptor.

mod connect;
mod flow;
mod keep;
mod listen;
mod segment;
mod seq;
mod stage;
mod table;
mod timers;

use std::collections::VecDeque;
use std::fmt;
use std::hash::RandomState;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use smoltcp::wire::IpAddress;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
};

use super::addresses::MTU;
use super::outbox::Outbox;
use super::packet::{Owner, Packet};
use super::policy::Policy;
use super::wire::Path;
use crate::io::event_loop::Watcher;
use crate::io::ring::{BASE, Room};
use crate::net::Inbox;
use connect::Guest;
pub(super) use connect::{Unreachable, Why};
use flow::{After, Outcome, State, Turn};
pub(super) use listen::Listener;
use segment::{Accepted, Key, LARGEST_DATA, Segment, Sum};
use stage::Stage;
use table::{FLOWS, Table};
use timers::Timers;

/// Connections of the guest's that are being made, at most; and as many that wait for it.
const HALF_OPEN: usize = 512;

/// The memory of all rings. Whatever happens, each flow can have a small one.
const MEMORY: usize = 256 << 20;
const RESERVED: usize = FLOWS * BASE;

/// Data that is worth a call of its own. Less is copied and gathered.
const LARGE: usize = 8 << 10;

/// The least that a packet may hold: what is sent in smaller ones is not worth the guest's time, or
/// ours.
const LEAST: usize = 64;

/// Bytes of the headers behind an IP packet's beginning, over IPv4 and IPv6.
const HEADERS: [u16; 2] = [20 + 20, 40 + 20];

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    /// Connections that the guest has begun,
    pub(super) outbound: u64,
    /// that clients have,
    pub(super) forwarded: u64,
    /// and that could not be made, or were not allowed.
    pub(super) refused: u64,
    /// Segments that were none, or whose checksum is wrong, or for which there was no room.
    pub(super) dropped: u64,
}

/// All of TCP.
pub(super) struct Tcp {
    policy: Policy,
    resolvers: Vec<SocketAddr>,
    listeners: Vec<Listener>,
    watcher: Option<Arc<Watcher>>,
    guest: Guest,
    /// Until then a client whom the guest refuses waits.
    wait_until: Duration,
    accepted: Accepted,
    /// The most that a packet can hold, over IPv4 and IPv6.
    most: [usize; 2],

    table: Table,
    /// Flows that have something to say.
    queue: VecDeque<usize>,
    /// Flows that linger, the oldest first; some may be gone.
    lingering: VecDeque<usize>,
    timers: Timers,
    room: Room,
    stage: Stage,
    /// Of the table: those that the guest has begun, and those that wait for it.
    opening: usize,
    calling: usize,
    /// A listener has been left with connections, and when it is to be tried again at the latest.
    accept_again: bool,
    accept_at: Option<Duration>,
    /// That there are no descriptors left has been said.
    said: bool,
    unreachable: VecDeque<Unreachable>,
    secret: RandomState,
    counters: Counters,
}

impl fmt::Debug for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (flows, counters) = (self.table.len(), self.counters);
        f.debug_struct("Tcp").field("flows", &flows).field("counters", &counters).finish()
    }
}

impl Tcp {
    /// `listeners` are listening already.
    pub(super) fn new(
        policy: Policy,
        resolvers: Vec<SocketAddr>,
        listeners: Vec<Listener>,
    ) -> Self {
        let mut tcp = Self {
            policy,
            resolvers,
            listeners,
            watcher: None,
            guest: Guest::default(),
            wait_until: Duration::ZERO,
            accepted: Accepted::default(),
            most: [0; 2],
            table: Table::new(),
            queue: VecDeque::with_capacity(FLOWS),
            lingering: VecDeque::with_capacity(FLOWS),
            timers: Timers::new(FLOWS),
            room: Room::new(MEMORY, RESERVED),
            stage: Stage::new(),
            opening: 0,
            calling: 0,
            accept_again: false,
            accept_at: None,
            said: false,
            unreachable: VecDeque::with_capacity(connect::UNREACHABLE),
            secret: RandomState::new(),
            counters: Counters::default(),
        };
        tcp.set_mtu(MTU);
        tcp
    }

    /// Clients whom the guest refuses wait until this time.
    pub(super) fn waiting(self, wait_until: Duration) -> Self {
        Self { wait_until, ..self }
    }

    /// How many descriptors there may be besides the listeners.
    pub(super) const fn descriptors() -> u64 {
        FLOWS as u64
    }

    /// Has everything watched by `watcher`.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn watch(&mut self, watcher: Arc<Watcher>) -> io::Result<()> {
        for (number, listener) in self.listeners.iter().enumerate() {
            watcher.watch(listener.acceptor.as_fd(), Owner::TcpListener.key(number))?;
        }
        self.watcher = Some(watcher);
        Ok(())
    }

    /// The guest's driver is ready, with these features, and packets have at most `mtu` bytes; or it
    /// has let go of the device, and whatever the guest had is over.
    pub(super) fn activate(&mut self, features: Option<u64>, mtu: u16) {
        let Some(features) = features else { return self.forget_guest() };
        let has = |bit: u32| features.checked_shr(bit).unwrap_or(0) & 1 == 1;
        self.accepted = Accepted {
            checksum: has(VIRTIO_NET_F_GUEST_CSUM),
            four: has(VIRTIO_NET_F_GUEST_TSO4),
            six: has(VIRTIO_NET_F_GUEST_TSO6),
        };
        self.set_mtu(mtu);
        self.guest.call_again = true;
    }

    fn set_mtu(&mut self, mtu: u16) {
        let most = |headers| usize::from(mtu.saturating_sub(headers)).clamp(LEAST, LARGEST_DATA);
        self.most = HEADERS.map(most);
    }

    /// All flows that the guest knows of end. Clients that wait for it go on waiting.
    fn forget_guest(&mut self) {
        self.stage.clear();
        self.accepted = Accepted::default();
        self.guest = Guest::default();
        for slot in self.table.slots() {
            if self.table.get(slot).is_some_and(|flow| flow.state != State::Calling) {
                self.give_up(slot);
            }
        }
        self.lingering.clear();
        self.unreachable.clear();
    }

    /// The guest is gone: every connection ends, those well that the guest has ended.
    pub(super) fn finish(&mut self) {
        self.flush();
        for slot in self.table.slots() {
            if let Some(flow) = self.table.get(slot) {
                flow.part(&mut self.room);
            }
        }
    }

    /// What has happened so far.
    pub(super) fn counters(&self) -> Counters {
        self.counters
    }

    /// Flows that there are.
    pub(super) fn flows(&self) -> usize {
        self.table.len()
    }

    /// A SYN that could not reach its destination, and that the guest is to be told about.
    pub(super) fn unreachable(&mut self) -> Option<Unreachable> {
        self.unreachable.pop_front()
    }

    /// When to call [`Tcp::emit`] although nothing happens.
    pub(super) fn deadline(&self) -> Option<Duration> {
        match (self.timers.first(), self.accept_at) {
            (Some(first), Some(accept)) => Some(first.min(accept)),
            (first, accept) => first.or(accept),
        }
    }

    /// A TCP segment of the guest's.
    pub(super) fn segment(
        &mut self,
        packet: &Packet<'_>,
        outbox: &mut Outbox,
        path: Path,
        now: Duration,
    ) {
        let Some(segment) = Segment::parse(packet.head, packet.body.len()) else {
            return self.drop_one();
        };
        let key = Key {
            guest: SocketAddr::new(packet.source, segment.source),
            peer: SocketAddr::new(packet.destination, segment.destination),
        };
        let slot = self.table.find(&key);
        let copied = segment.len > 0 && (segment.len < LARGE || !packet.unsummed);
        if copied {
            if !self.stage.takes(slot, segment.len) {
                self.flush();
            }
            self.stage.copy(packet.body.skip(segment.header));
        }
        if !packet.unsummed && !self.is_whole(packet, &segment) {
            return self.drop_one();
        }
        let Some(slot) = slot else {
            return self.unknown(key, &segment, outbox, path, now);
        };
        let most = self.most_to(key.guest.ip());
        let Some(flow) = self.table.get(slot) else { return };
        match flow.segment(&segment, most, now) {
            After::Nothing => {}
            After::Turn => self.queue(slot),
            After::Data { skip, len, end } => {
                self.data(slot, packet, &segment, copied, (skip, len, end));
                self.queue(slot);
            }
            After::Reply(reply) => reply.push_to(&key, path, outbox),
            After::Reset if self.call_by_ipv4(slot, now) => self.queue(slot),
            After::Reset if self.call_later(slot, now) => {}
            After::Reset => self.give_up(slot),
            After::Anew => {
                self.give_up(slot);
                self.unknown(key, &segment, outbox, path, now);
            }
        }
        self.settle(slot);
    }

    fn drop_one(&mut self) {
        self.counters.dropped = self.counters.dropped.saturating_add(1);
    }

    /// Whether the checksum is right. It is that of a copy, which is also what is written: the guest
    /// may change its memory at any time.
    fn is_whole(&self, packet: &Packet<'_>, segment: &Segment) -> bool {
        let (from, to): (IpAddress, IpAddress) = (packet.source.into(), packet.destination.into());
        let mut sum = Sum::pseudo(&from, &to, packet.body.len());
        sum.add(packet.head.get(..segment.header).unwrap_or_default());
        if segment.len > 0 {
            sum.add(self.stage.copied());
        }
        sum.folded() == u16::MAX
    }

    /// A segment that belongs to no flow.
    fn unknown(
        &mut self,
        key: Key,
        segment: &Segment,
        outbox: &mut Outbox,
        path: Path,
        now: Duration,
    ) {
        if segment.rst {
            return;
        }
        let begins = segment.syn && segment.ack.is_none() && !segment.fin;
        if !begins || !self.begin(key, segment, now) {
            segment.reset().push_to(&key, path, outbox);
        }
    }

    /// Takes the data of a segment: `skip` bytes are known, `len` are new, and they are the last if
    /// `end`.
    fn data(
        &mut self,
        slot: usize,
        packet: &Packet<'_>,
        segment: &Segment,
        copied: bool,
        (skip, len, end): (usize, usize, bool),
    ) {
        if !copied && self.stage.has(slot) {
            self.flush();
        }
        let Some(flow) = self.table.get(slot) else { return };
        let taken = if len == 0 {
            0
        } else if !copied {
            let bytes = packet.body.skip(segment.header).skip(skip).take(len);
            flow.take_guest(bytes, &mut self.room)
        } else if flow.inward.is_empty() {
            self.stage.accept(slot, skip, len);
            len
        } else {
            let bytes = self.stage.copied().get(skip..).unwrap_or_default();
            flow.take(bytes.get(..len).unwrap_or_default(), &mut self.room)
        };
        flow.accept(taken, end && taken == len);
    }

    /// Writes what has been gathered.
    fn flush(&mut self) {
        if let Some((slot, bytes)) = self.stage.bytes()
            && let Some(flow) = self.table.get(slot)
        {
            let taken = flow.take(bytes, &mut self.room);
            let lost = bytes.len().saturating_sub(taken);
            if lost > 0 {
                flow.take_back(lost);
            }
            self.queue(slot);
        }
        self.stage.clear();
    }

    /// Gives the guest what there is for it. `false`: it has no more room, and there is more.
    pub(super) fn emit(&mut self, path: Path, inbox: &mut dyn Inbox, now: Duration) -> bool {
        self.flush();
        self.expire(now);
        loop {
            // Flows that have ended may have made room for others.
            self.accept_more(now);
            if self.queue.is_empty() {
                return true;
            }
            if !self.turns(path, inbox, now) {
                return false;
            }
        }
    }

    /// Gives each flow that waits its turn, until the guest has no more room.
    fn turns(&mut self, path: Path, inbox: &mut dyn Inbox, now: Duration) -> bool {
        while let Some(slot) = self.queue.pop_front() {
            self.table.queued(slot, false);
            let Some(flow) = self.table.get(slot) else { continue };
            let mut turn = Turn {
                path,
                accepted: self.accepted,
                most: self.most,
                inbox: &mut *inbox,
                room: &mut self.room,
                now,
            };
            let before = flow.state;
            let outcome = flow.turn(&mut turn);
            let lingers = flow.state == State::Lingering && before != State::Lingering;
            if lingers {
                self.linger(slot);
            }
            match outcome {
                Outcome::Idle => {}
                Outcome::More => self.queue(slot),
                Outcome::Full => {
                    self.table.queued(slot, true);
                    self.queue.push_front(slot);
                }
                Outcome::Over => self.remove(slot),
            }
            self.settle(slot);
            if outcome == Outcome::Full {
                return false;
            }
        }
        true
    }

    /// Calls the flows whose time has come.
    fn expire(&mut self, now: Duration) {
        while let Some(slot) = self.timers.due(now) {
            let Some(flow) = self.table.get(slot) else { continue };
            if flow.state == State::Connecting {
                self.fail(slot, &io::ErrorKind::TimedOut.into());
            } else if flow.expire(now) {
                self.remove(slot);
            } else {
                self.queue(slot);
            }
            self.settle(slot);
        }
    }

    /// Has a flow take its turn.
    fn queue(&mut self, slot: usize) {
        if self.table.queued(slot, true) {
            self.queue.push_back(slot);
        }
    }
}

#[cfg(test)]
mod tests;
