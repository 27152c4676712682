//! How flows are kept: counted, called in time, taken out when they are over or another needs the room.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::Duration;

use super::Tcp;
use super::flow::State;
use super::segment::Key;
use super::seq::Seq;
use super::table::FLOWS;

impl Tcp {
    /// Notes a flow's time and what it counts as, after something has happened to it.
    pub(super) fn settle(&mut self, slot: usize) {
        let Some(flow) = self.table.get(slot) else { return self.timers.set(slot, None) };
        let counts = match flow.state {
            State::Connecting | State::Answering => Some(State::Connecting),
            State::Calling => Some(State::Calling),
            State::Open | State::Lingering => None,
        };
        let before = std::mem::replace(&mut flow.counted, counts);
        let at = flow.deadline();
        self.timers.set(slot, at);
        if before != counts {
            self.count(before, counts);
        }
    }

    fn count(&mut self, before: Option<State>, now: Option<State>) {
        let of = |counted, state| usize::from(counted == Some(state));
        for (sum, state) in
            [(&mut self.opening, State::Connecting), (&mut self.calling, State::Calling)]
        {
            *sum = sum.saturating_add(of(now, state)).saturating_sub(of(before, state));
        }
    }

    /// Ends a flow of which the guest need not be told.
    pub(super) fn give_up(&mut self, slot: usize) {
        if let Some(flow) = self.table.get(slot) {
            flow.give_up();
        }
        self.remove(slot);
    }

    /// Takes a flow out, and makes room for connections that wait for some.
    pub(super) fn remove(&mut self, slot: usize) {
        let Some(mut flow) = self.table.remove(slot) else { return };
        self.timers.set(slot, None);
        self.count(flow.counted, None);
        self.room.free(&mut flow.inward);
        self.room.free(&mut flow.outward);
        if self.stage.has(slot) {
            self.stage.clear();
        }
    }

    /// Notes that a flow is only there for the guest's last words, and can go if another needs its
    /// slot.
    pub(super) fn linger(&mut self, slot: usize) {
        if let Some(flow) = self.table.get(slot) {
            self.room.free(&mut flow.inward);
            self.room.free(&mut flow.outward);
        }
        while self.lingering.len() >= FLOWS {
            self.lingering.pop_front();
        }
        self.lingering.push_back(slot);
    }

    /// Makes room in the table. Whether there is some.
    pub(super) fn make_room(&mut self) -> bool {
        while self.table.is_full() {
            let Some(slot) = self.lingering.pop_front() else { return false };
            let state = self.table.get(slot).map(|flow| flow.state);
            if state == Some(State::Lingering) {
                self.remove(slot);
            }
        }
        true
    }

    /// The most data that a packet to this address can hold.
    pub(super) fn most_to(&self, guest: IpAddr) -> usize {
        let [four, six] = self.most;
        if guest.is_ipv4() { four } else { six }
    }

    /// Our first sequence number between these ends (RFC 6528).
    pub(super) fn first(&self, key: &Key, now: Duration) -> Seq {
        let [a, b, c, d, ..] = self.secret.hash_one(key).to_ne_bytes();
        let ticks = usize::try_from(now.as_micros() / 4).unwrap_or_default();
        Seq(u32::from_ne_bytes([a, b, c, d])).add(ticks)
    }
}
