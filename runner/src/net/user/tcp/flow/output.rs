//! What a connection has to say to the guest, as far as the guest has room.

use std::time::Duration;

use super::{
    BASE, CALL, CALL_FIRST, CALL_OFTEN, Flow, LINGER, OUTWARD, REPEAT, REPEAT_MOST, SCALE, State,
    doubled,
};
use crate::io::ring::Room;
use crate::net::user::tcp::segment::{Accepted, LARGEST_DATA, Reply};
use crate::net::user::wire::Path;
use crate::net::{Inbox, Put};

/// What one flow sends before the next one has its turn.
const SHARE: usize = 64 << 10;

/// The most bytes of headers before data: Ethernet, IPv6, TCP.
const HEADERS: usize = crate::net::ETHERNET + 40 + 20;

/// What a flow is given for its turn.
pub(in super::super) struct Turn<'a> {
    pub(in super::super) path: Path,
    pub(in super::super) accepted: Accepted,
    /// The most that a packet can hold, over IPv4 and IPv6.
    pub(in super::super) most: [usize; 2],
    pub(in super::super) inbox: &'a mut dyn Inbox,
    pub(in super::super) room: &'a mut Room,
    pub(in super::super) now: Duration,
}

/// How a turn has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Outcome {
    /// There is nothing more to be said.
    Idle,
    /// There is, but others have their turn first.
    More,
    /// The guest has no room.
    Full,
    /// The connection is over.
    Over,
}

impl Flow {
    /// Says what there is to be said.
    pub(in super::super) fn turn(&mut self, turn: &mut Turn<'_>) -> Outcome {
        let outcome = if self.reset_due {
            let reset = Reply { rst: true, ..self.plain() };
            match self.put(reset, turn) {
                Put::Done => Outcome::Over,
                Put::Full => Outcome::Full,
            }
        } else {
            match self.state {
                State::Connecting => Outcome::Idle,
                State::Answering | State::Calling => self.send_syn(turn),
                State::Open => self.send(turn),
                State::Lingering => self.send_ack(turn),
            }
        };
        match outcome {
            // Nothing is late as long as the guest could not have it.
            Outcome::Full if self.state == State::Open => self.retry = None,
            _ if self.state == State::Open => self.rearm(turn.now),
            _ => {}
        }
        outcome
    }

    /// A segment without anything.
    fn plain<'a>(&self) -> Reply<'a> {
        let shift = if self.scaled { SCALE } else { 0 };
        let window = self.free_window() >> shift;
        Reply {
            seq: self.next,
            ack: Some(self.received),
            window: u16::try_from(window).unwrap_or(u16::MAX),
            ..Reply::default()
        }
    }

    fn put(&self, reply: Reply<'_>, turn: &mut Turn<'_>) -> Put {
        reply.put(&self.key, turn.path, turn.accepted, self.mss.max(1), turn.inbox)
    }

    /// The guest knows now what we have received, and how much more we take.
    fn told(&mut self) {
        (self.ack_due, self.ask_due) = (false, false);
        self.edge = self.received.add(self.free_window());
    }

    fn send_syn(&mut self, turn: &mut Turn<'_>) -> Outcome {
        if !self.syn_due {
            return Outcome::Idle;
        }
        let [four, six] = turn.most;
        let most = if self.key.guest.is_ipv4() { four } else { six };
        let window = self.free_window();
        let syn = Reply {
            syn: true,
            seq: self.acked,
            ack: (self.state == State::Answering).then_some(self.received),
            // Not scaled (RFC 7323 §2.2).
            window: u16::try_from(window).unwrap_or(u16::MAX),
            mss: u16::try_from(most).ok(),
            scale: self.our_scale(),
            ..Reply::default()
        };
        if self.put(syn, turn) == Put::Full {
            return Outcome::Full;
        }
        self.syn_due = false;
        self.next = self.acked.add(1);
        self.sent = self.next;
        self.edge = self.received.add(window.min(u16::MAX.into()));
        self.retry = Some(turn.now.saturating_add(self.interval(turn.now)));
        Outcome::Idle
    }

    /// When a SYN is repeated.
    fn interval(&self, now: Duration) -> Duration {
        let early = now.saturating_sub(self.since) < CALL_OFTEN;
        match (self.state, early) {
            (State::Calling, true) => doubled(CALL_FIRST, self.tries).min(CALL),
            (State::Calling, false) => CALL_OFTEN,
            _ => doubled(REPEAT, self.tries).min(REPEAT_MOST),
        }
    }

    fn send_ack(&mut self, turn: &mut Turn<'_>) -> Outcome {
        if !self.ack_due && !self.ask_due {
            return Outcome::Idle;
        }
        let mut ack = self.plain();
        if self.ask_due {
            // What the guest has already, so that it answers (RFC 9293 §3.8.4).
            ack.seq = self.acked.back(1);
        }
        if self.put(ack, turn) == Put::Full {
            return Outcome::Full;
        }
        self.told();
        Outcome::Idle
    }

    fn send(&mut self, turn: &mut Turn<'_>) -> Outcome {
        self.pass_end();
        let mut share = SHARE;
        loop {
            if self.readable && !self.ended {
                if turn.inbox.room(1) == 0 {
                    return Outcome::Full;
                }
                self.fill(turn.room);
            }
            let Some((len, end)) = self.plan(turn.accepted, turn.inbox) else { break };
            let flight = self.flight();
            let data = self.outward.peek(flight, len);
            let all = flight.saturating_add(len) == self.outward.len();
            let reply = Reply { data, fin: end, push: all && len > 0, ..self.plain() };
            if self.put(reply, turn) == Put::Full {
                return Outcome::Full;
            }
            self.told();
            self.next = self.next.add(len.saturating_add(usize::from(end)));
            if self.next.is_after(self.sent) {
                self.sent = self.next;
            }
            self.probe = false;
            share = share.saturating_sub(len);
            if share < SHARE / 2 {
                return Outcome::More;
            }
        }
        if self.send_ack(turn) == Outcome::Full {
            return Outcome::Full;
        }
        if !self.readable {
            turn.room.rest(&mut self.outward);
        }
        self.conclude(turn)
    }

    /// What comes next: so many bytes, and whether the end. A guest may never make room for as much as
    /// a segment to be cut can hold: what there is room for now will do.
    fn plan(&self, accepted: Accepted, inbox: &mut dyn Inbox) -> Option<(usize, bool)> {
        let flight = self.flight();
        let unsent = self.outward.len().saturating_sub(flight);
        let usable = self.window.saturating_sub(flight);
        let whole = |len: usize| len.saturating_sub(len.checked_rem(self.mss).unwrap_or(0));
        // What is repeated may have been too large.
        let large = accepted.large(self.key.guest) && self.tries == 0;
        let mut len = unsent.min(usable).min(if large { LARGEST_DATA } else { self.mss });
        if len > self.mss {
            let room = inbox.room(len.saturating_add(HEADERS)).saturating_sub(HEADERS);
            len = len.min(room).max(self.mss);
        }
        if len < unsent && len >= self.mss {
            len = whole(len);
        } else if len < unsent && flight > 0 {
            // The window will be wider when that is acknowledged (RFC 9293 §3.8.6.2.1).
            len = 0;
        }
        if self.probe && len == 0 {
            len = unsent.min(1);
        }
        let untold = self.ended && !self.broken && !self.end_acked;
        let end = untold && flight <= self.outward.len() && len == unsent;
        (len > 0 || end).then_some((len, end))
    }

    /// Reads what the guest has room for, and a little ahead, so that an end or an error is seen.
    fn fill(&mut self, room: &mut Room) {
        let flight = self.flight();
        let usable = self.window.saturating_sub(flight);
        let wanted = usable.clamp(BASE, SHARE);
        while self.readable && !self.ended {
            let unsent = self.outward.len().saturating_sub(flight);
            if unsent >= wanted || !self.has_spare(unsent < usable, room) {
                return;
            }
            let Some(stream) = &self.stream else { return };
            let most = wanted.saturating_sub(unsent);
            match stream.read(self.outward.spare_mut(most)) {
                Ok(Some(0)) => self.ended = true,
                Ok(Some(count)) => self.outward.filled(count),
                Ok(None) => (self.readable, self.ended) = (false, self.broken),
                Err(_) => (self.broken, self.ended) = (true, true),
            }
        }
    }

    /// Whether there is memory to read into. With `grow` it is the ring that keeps the guest waiting.
    fn has_spare(&mut self, grow: bool, room: &mut Room) -> bool {
        if self.outward.spare() > 0 {
            return true;
        }
        if self.outward.capacity() == 0 {
            return room.begin(&mut self.outward);
        }
        let larger = self.outward.capacity().saturating_mul(2);
        grow && larger <= OUTWARD && room.grow(&mut self.outward, larger)
    }

    /// Whether that was all there will ever be.
    fn conclude(&mut self, turn: &mut Turn<'_>) -> Outcome {
        let unsent = self.outward.len().saturating_sub(self.flight());
        if self.broken && self.ended && unsent == 0 {
            self.refuse();
            return self.turn(turn);
        }
        if !(self.finished && self.shut && self.end_acked) {
            return Outcome::Idle;
        }
        if !self.ended_first {
            return Outcome::Over;
        }
        self.state = State::Lingering;
        self.stream = None;
        (self.retry, self.limit) = (None, Some(turn.now.saturating_add(LINGER)));
        Outcome::Idle
    }
}
