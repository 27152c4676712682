//! What the guest's segments do to a connection (RFC 9293 §3.10.7).

use std::time::Duration;

use super::{Flow, SCALE, State};
use crate::net::user::tcp::segment::{Reply, Segment};
use crate::net::user::tcp::seq::Seq;

/// What has to be done about a segment.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum After {
    /// Nothing.
    Nothing,
    /// The flow has something to say, perhaps.
    Turn,
    /// Its data is to be taken: so many bytes, behind so many that are known; and whether that is all
    /// there will be.
    Data { skip: usize, len: usize, end: bool },
    /// This is the answer.
    Reply(Reply<'static>),
    /// The guest has reset it.
    Reset,
    /// The guest has forgotten it, and begins another between the same ends.
    Anew,
}

/// The least that a packet may hold: what is sent in smaller ones is not worth the guest's time, or
/// ours.
const LEAST_MSS: usize = 64;

impl Flow {
    /// Takes from a SYN what the guest says about itself.
    pub(super) fn learn(&mut self, syn: &Segment, most: usize) {
        // Without the option: RFC 9293 §3.7.1.
        let usual = if self.key.guest.is_ipv4() { 536 } else { 1220 };
        self.mss = syn.mss.map_or(usual, usize::from).min(most).max(LEAST_MSS);
        self.scaled = syn.scale.is_some();
        self.scale = syn.scale.unwrap_or(0).min(14);
        self.received = syn.seq.add(1);
        self.edge = self.received;
        // A SYN's own window is not scaled (RFC 7323 §2.2).
        self.window = syn.window.into();
    }

    /// The bits by which our windows are shifted, for our SYN to say.
    pub(super) fn our_scale(&self) -> Option<u8> {
        (self.scaled || self.state == State::Calling).then_some(SCALE)
    }

    /// Looks at a segment, whose data is not touched. `most` is the most that a packet can hold.
    pub(in super::super) fn segment(
        &mut self,
        segment: &Segment,
        most: usize,
        now: Duration,
    ) -> After {
        if self.reset_due {
            // It is over for us, and the guest is about to hear it.
            return if begins(segment) { After::Anew } else { After::Nothing };
        }
        match self.state {
            State::Connecting => self.while_connecting(segment),
            State::Calling => self.while_calling(segment, most),
            State::Answering if begins(segment) && segment.seq == self.first_received() => {
                self.syn_due = true;
                After::Turn
            }
            _ if begins(segment) => After::Anew,
            _ if segment.rst => self.reset(segment),
            State::Answering => self.while_answering(segment, now),
            State::Open => self.while_open(segment, now),
            State::Lingering => {
                self.ack_due = segment.length() > 0;
                After::Turn
            }
        }
    }

    fn while_connecting(&self, segment: &Segment) -> After {
        if segment.rst {
            return After::Reset;
        }
        // The same again: the guest need not know that we are still at it.
        let same = segment.seq == self.first_received();
        if begins(segment) && !same { After::Anew } else { After::Nothing }
    }

    fn while_calling(&mut self, segment: &Segment, most: usize) -> After {
        let ours = segment.ack == Some(self.acked.add(1));
        match (segment.rst, segment.syn) {
            (true, _) => {
                if ours {
                    After::Reset
                } else {
                    After::Nothing
                }
            }
            (false, true) if ours => {
                self.learn(segment, most);
                self.acked = self.acked.add(1);
                self.open();
                self.ack_due = true;
                After::Turn
            }
            // Of an earlier connection, or it calls us at the same time, which nobody means to do.
            _ if segment.ack.is_some() => After::Reply(segment.reset()),
            (false, true) => After::Anew,
            (false, false) => After::Nothing,
        }
    }

    fn while_answering(&mut self, segment: &Segment, now: Duration) -> After {
        match segment.ack {
            Some(ack) if ack == self.acked.add(1) => {
                self.acked = ack;
                self.open();
                self.while_open(segment, now)
            }
            Some(_) => After::Reply(segment.reset()),
            None => After::Nothing,
        }
    }

    /// The handshake is done; `acked` is behind our SYN.
    fn open(&mut self) {
        self.state = State::Open;
        (self.next, self.sent) = (self.acked, self.acked);
        (self.syn_due, self.readable) = (false, true);
        (self.tries, self.retry, self.limit) = (0, None, None);
    }

    fn reset(&mut self, segment: &Segment) -> After {
        let within = segment.seq.from(self.received);
        let window = self.edge.from(self.received).unwrap_or(0);
        match within {
            Some(distance) if distance <= window => After::Reset,
            _ => {
                self.ack_due = true;
                After::Turn
            }
        }
    }

    fn while_open(&mut self, segment: &Segment, now: Duration) -> After {
        let Some(ack) = segment.ack else { return After::Nothing };
        if segment.syn {
            // Our acknowledgement of its SYN is lost.
            self.ack_due = true;
            return After::Turn;
        }
        if ack.is_after(self.sent) {
            self.ack_due = true;
            return After::Turn;
        }
        self.acknowledged(segment, ack, now);
        self.data(segment)
    }

    /// `ack` is not beyond what has been sent.
    fn acknowledged(&mut self, segment: &Segment, ack: Seq, now: Duration) {
        let Some(count) = ack.from(self.acked) else { return };
        let window = usize::from(segment.window) << self.scale;
        if count > 0 {
            self.end_acked |= count > self.outward.len();
            self.outward.take(count);
            self.acked = ack;
            if ack.is_after(self.next) {
                self.next = ack;
            }
            self.repeats = 0;
            self.recover = self.recover.filter(|recover| recover.is_after(ack));
            self.progress();
        } else if window == 0 || !self.is_pending() {
            // It answers, and that is all that was asked of it.
            self.limit = None;
            if !self.is_pending() {
                self.progress();
            }
        } else if segment.len == 0 && !segment.fin && window == self.window {
            self.repeated();
        }
        if self.window == 0 && window > 0 {
            // What was sent to ask for this has not been taken.
            self.next = self.acked;
            self.progress();
        }
        self.window = window;
        self.rearm(now);
    }

    fn progress(&mut self) {
        (self.tries, self.retry, self.limit) = (0, None, None);
    }

    /// The third acknowledgement that repeats another says that something is missing (RFC 5681 §3.2),
    /// once for all that was on its way then.
    fn repeated(&mut self) {
        self.repeats = self.repeats.saturating_add(1);
        if self.repeats == 3 && self.acked != self.sent && self.recover.is_none() {
            self.begin_anew();
            self.probe = false;
        }
    }

    /// What there is in a segment that is new.
    fn data(&mut self, segment: &Segment) -> After {
        let Some(known) = self.received.from(segment.seq) else {
            // Something before it is missing.
            self.ack_due = true;
            return After::Turn;
        };
        let fresh = segment.len.saturating_sub(known);
        if known > 0 || self.finished && segment.length() > 0 {
            self.ack_due = true;
        }
        if self.finished || known > segment.len {
            return After::Turn;
        }
        let window = self.edge.from(self.received).unwrap_or(0);
        let len = fresh.min(window);
        if len < fresh {
            self.ack_due = true;
        }
        match (len, segment.fin && len == fresh) {
            (0, false) => After::Turn,
            (len, end) => After::Data { skip: known, len, end },
        }
    }

    /// `len` bytes have been taken, and that was all there will be if `end`.
    pub(in super::super) fn accept(&mut self, len: usize, end: bool) {
        self.received = self.received.add(len);
        self.ack_due = true;
        if end {
            self.received = self.received.add(1);
            self.finished = true;
            self.ended_first = self.end_acked || self.flight() > self.outward.len();
        }
    }

    /// The last `len` bytes could not be kept after all. The guest, which has not heard of them yet,
    /// sends them once more.
    pub(in super::super) fn take_back(&mut self, len: usize) {
        let end = usize::from(std::mem::take(&mut self.finished));
        self.received = self.received.back(len.saturating_add(end));
    }
}

/// Whether the guest begins a connection with it.
fn begins(segment: &Segment) -> bool {
    segment.syn && segment.ack.is_none() && !segment.rst && !segment.fin
}
