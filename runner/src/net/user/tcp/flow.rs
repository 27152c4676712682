//! One connection: a socket of the host's on one side, the guest's TCP on the other (RFC 9293 §3.10).
//!
//! What the guest sends is acknowledged when the socket has taken it or [`Flow::inward`] holds it, and
//! the window says what that can hold: a host that does not read stops the guest. What the host sends is
//! read into [`Flow::outward`] as far as the guest's window goes, and stays there until the guest has
//! acknowledged it: a guest that does not read stops the host.
//!
//! There is no congestion control: nothing lies between the guest and us.

mod input;
mod output;

use std::time::Duration;

use super::segment::{Key, Segment};
use super::seq::Seq;
use crate::io::ring::{BASE, Ring, Room};
use crate::io::socket::Stream;
use crate::net::frame::Bytes;

pub(super) use input::After;
pub(super) use output::{Outcome, Turn};

/// What the guest may send before the host has taken any of it.
pub(super) const INWARD: usize = 256 << 10;
/// By how many bits the windows that we tell are shifted (RFC 7323 §2).
const SCALE: u8 = 4;
/// What a ring for the guest grows to: more than a guest acknowledges at a time would only leave the
/// processor's caches.
const OUTWARD: usize = 1 << 20;

/// How long a connection may take to be made.
const HALF_OPEN: Duration = Duration::from_secs(75);
/// How long what is left unacknowledged is repeated.
const PATIENCE: Duration = Duration::from_secs(120);
/// When it is repeated for the first time; twice as long after each.
const REPEAT: Duration = Duration::from_millis(200);
const REPEAT_MOST: Duration = Duration::from_secs(5);
/// How long the guest's last FIN can be acknowledged once more.
const LINGER: Duration = Duration::from_secs(1);
/// When both ends of a connection that is closed one way are asked whether they are still there.
const ASK: Duration = Duration::from_secs(60);
/// A guest that may come up at any moment is called in ever longer intervals up to this,
const CALL: Duration = Duration::from_millis(100);
const CALL_FIRST: Duration = Duration::from_millis(10);
/// for so long; and then in intervals as long.
const CALL_OFTEN: Duration = Duration::from_secs(1);

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The guest has sent a SYN, and the host's socket is being connected.
    Connecting,
    /// It is, and the guest has our SYN, or will have.
    Answering,
    /// A client has connected, and the guest has our SYN, or will have.
    Calling,
    /// Bytes may flow.
    Open,
    /// All is over, but the guest may not have heard it.
    Lingering,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) key: Key,
    pub(super) state: State,
    /// Gone when nothing is to be had of it any more.
    pub(super) stream: Option<Stream>,
    /// The name server that is tried, by its place in the list.
    pub(super) resolver: Option<usize>,

    /// What comes next from the guest.
    pub(super) received: Seq,
    /// Where the window ends that the guest has been told.
    edge: Seq,
    /// Whether windows are scaled.
    scaled: bool,
    /// Taken from the guest, and not yet by the host.
    pub(super) inward: Ring,
    /// The guest sends no more.
    finished: bool,
    /// The host has been told so.
    shut: bool,

    /// The first that the guest has not acknowledged: `outward` begins there.
    acked: Seq,
    /// What is to be sent next: before `sent` when something is repeated.
    next: Seq,
    /// Behind what has been sent.
    sent: Seq,
    /// How many bytes behind `acked` the guest takes.
    window: usize,
    scale: u8,
    /// Bytes of data in a packet.
    mss: usize,
    pub(super) outward: Ring,
    /// The host sends no more.
    ended: bool,
    /// The guest knows.
    end_acked: bool,
    /// We have said so before the guest did.
    ended_first: bool,
    /// The host's end is gone, without a goodbye.
    broken: bool,

    /// Reading may bring something.
    pub(super) readable: bool,
    /// What the guest is to be sent, room or not.
    pub(super) syn_due: bool,
    pub(super) reset_due: bool,
    pub(super) ack_due: bool,
    ask_due: bool,
    /// A byte is sent although there is no window.
    probe: bool,

    /// Acknowledgements that acknowledged nothing new.
    repeats: u8,
    /// Behind what had been sent when it was last begun anew.
    recover: Option<Seq>,
    /// How often the same has been sent in vain.
    tries: u32,
    /// When it is next sent.
    retry: Option<Duration>,
    /// When it is given up.
    limit: Option<Duration>,
    /// Since when a guest that comes up is called.
    since: Duration,
    /// Which limit it counts against.
    pub(super) counted: Option<State>,
}

impl Flow {
    fn new(key: Key, state: State, first: Seq, stream: Stream, now: Duration) -> Self {
        Self {
            key,
            state,
            stream: Some(stream),
            resolver: None,
            received: Seq::default(),
            edge: Seq::default(),
            scaled: false,
            inward: Ring::default(),
            finished: false,
            shut: false,
            acked: first,
            next: first,
            sent: first,
            window: 0,
            scale: 0,
            mss: 0,
            outward: Ring::default(),
            ended: false,
            end_acked: false,
            ended_first: false,
            broken: false,
            readable: false,
            syn_due: false,
            reset_due: false,
            ack_due: false,
            ask_due: false,
            probe: false,
            repeats: 0,
            recover: None,
            tries: 0,
            retry: None,
            limit: Some(now.saturating_add(HALF_OPEN)),
            since: now,
            counted: None,
        }
    }

    /// One that the guest has begun with `syn`. `first` is our first sequence number, `mss` the most
    /// that a packet can hold.
    pub(super) fn outbound(
        key: Key,
        syn: &Segment,
        first: Seq,
        mss: usize,
        stream: Stream,
        now: Duration,
    ) -> Self {
        let mut flow = Self::new(key, State::Connecting, first, stream, now);
        flow.learn(syn, mss);
        flow
    }

    /// One that a client has begun.
    pub(super) fn forward(key: Key, first: Seq, stream: Stream, now: Duration) -> Self {
        let mut flow = Self::new(key, State::Calling, first, stream, now);
        flow.syn_due = true;
        flow
    }

    /// The host's socket is connected.
    pub(super) fn connected(&mut self) {
        self.state = State::Answering;
        self.readable = true;
        self.syn_due = true;
    }

    /// The SYN that the guest began with.
    pub(super) fn first_received(&self) -> Seq {
        self.received.back(1)
    }

    /// Tells the guest that it is over, and lets the host's side go.
    pub(super) fn refuse(&mut self) {
        self.stream = None;
        self.reset_due = true;
        (self.retry, self.limit) = (None, None);
    }

    /// Gives up: both sides are told. A host that has all there will be of the guest may still read
    /// it; what it writes is refused.
    pub(super) fn give_up(&mut self) {
        if let Some(stream) = self.stream.take().filter(|_| !self.shut) {
            stream.reset();
        }
        self.refuse();
    }

    /// The guest is gone: what it has sent goes on its way, as far as the host takes it now. Where that
    /// is not all, or the guest had not come to its end, the host is told of a reset: an end would say
    /// that nothing is missing.
    pub(super) fn part(&mut self, room: &mut Room) {
        self.hand_over(room);
        self.pass_end();
        if !self.shut || self.broken {
            self.give_up();
        }
    }

    /// Calls the guest once more, at once, as it seems to be up now.
    pub(super) fn call_again(&mut self, now: Duration) {
        if self.state == State::Calling {
            (self.since, self.tries, self.retry, self.syn_due) = (now, 0, None, true);
        }
    }

    /// Calls the guest once more, at `at`.
    pub(super) fn call_at(&mut self, at: Duration, now: Duration) {
        (self.since, self.tries, self.retry, self.syn_due) = (now, 0, Some(at), false);
    }

    /// When it wants to be called.
    pub(super) fn deadline(&self) -> Option<Duration> {
        match (self.retry, self.limit) {
            (Some(retry), Some(limit)) => Some(retry.min(limit)),
            (retry, limit) => retry.or(limit),
        }
    }

    /// Hands over what has been held for the host, as far as it takes it.
    pub(super) fn hand_over(&mut self, room: &mut Room) {
        let Some(stream) = &self.stream else { return };
        while !self.inward.is_empty() && !self.broken {
            let bytes = self.inward.peek(0, usize::MAX);
            match stream.write(bytes) {
                Ok(0) => break,
                Ok(written) => self.inward.take(written),
                Err(_) => self.broken = true,
            }
        }
        if self.inward.is_empty() || self.broken {
            room.free(&mut self.inward);
        }
        if self.broken {
            self.readable = true;
        }
        self.reopen();
    }

    /// The window that can be told.
    fn free_window(&self) -> usize {
        let whole = if self.scaled { INWARD } else { usize::from(u16::MAX) };
        whole.saturating_sub(self.inward.len())
    }

    /// Has the guest told of a window that is wider by a packet than it knows (RFC 9293 §3.8.6.2.2):
    /// nothing else would tell it.
    fn reopen(&mut self) {
        let told = self.edge.from(self.received).unwrap_or(0);
        let gained = self.free_window().saturating_sub(told);
        if self.state == State::Open && !self.finished && gained >= self.mss {
            self.ack_due = true;
        }
    }

    /// Takes data of the guest's that lies in our memory. Returns how much.
    pub(super) fn take(&mut self, bytes: &[u8], room: &mut Room) -> usize {
        let written = match self.direct() {
            Some(stream) => stream.write([bytes, &[]]),
            None => Ok(0),
        };
        let written = self.note(written, bytes.len());
        let rest = bytes.get(written..).unwrap_or_default();
        self.widen(rest.len(), room);
        written.saturating_add(self.inward.push(rest))
    }

    /// Takes data of the guest's that lies in its memory: written straight from there.
    pub(super) fn take_guest(&mut self, bytes: Bytes<'_>, room: &mut Room) -> usize {
        let written = match self.direct() {
            Some(stream) => stream.write_guest(bytes.pieces()),
            None => Ok(0),
        };
        let written = self.note(written, bytes.len());
        let rest = bytes.skip(written);
        self.widen(rest.len(), room);
        written.saturating_add(self.inward.push_guest(rest))
    }

    /// The socket, when nothing has to go before.
    fn direct(&self) -> Option<&Stream> {
        self.stream.as_ref().filter(|_| self.inward.is_empty() && !self.broken)
    }

    /// How much has been written. All of it is lost when the host's end is gone.
    fn note(&mut self, written: std::io::Result<usize>, len: usize) -> usize {
        match written {
            Ok(_) if self.broken => len,
            Ok(written) => written,
            Err(_) => {
                (self.broken, self.readable) = (true, true);
                len
            }
        }
    }

    /// Makes room for `more` bytes to be held for the host. Where there is none, the guest repeats
    /// them.
    fn widen(&mut self, more: usize, room: &mut Room) {
        if more > self.inward.spare() {
            let needed = self.inward.len().saturating_add(more).min(INWARD);
            room.grow(&mut self.inward, needed.next_power_of_two().max(BASE));
        }
    }

    /// Passes the guest's end on to the host once all before it has been.
    fn pass_end(&mut self) {
        let Some(stream) = &self.stream else { return };
        if self.finished && !self.shut && self.inward.is_empty() {
            self.shut = true;
            if stream.shut().is_err() {
                (self.broken, self.readable) = (true, true);
            }
        }
    }

    /// Looks whether the host's end is gone, where no read would tell: the guest takes nothing.
    pub(super) fn look(&mut self) {
        let stuck = self.window == 0 && self.outward.len() >= BASE;
        let calling = self.state == State::Calling;
        let Some(stream) = self.stream.as_ref().filter(|_| stuck || calling) else { return };
        if stream.error().is_err() {
            self.refuse();
        }
    }

    /// How many of the bytes from `acked` on have been sent, the end included.
    fn flight(&self) -> usize {
        self.next.from(self.acked).unwrap_or(0)
    }

    /// Whether there is something that the guest has not acknowledged or not been sent.
    fn is_pending(&self) -> bool {
        let end = self.ended && !self.end_acked && !self.broken;
        self.acked != self.sent || !self.outward.is_empty() || end
    }

    /// Sets the time at which what is pending is repeated, unless it is set.
    fn rearm(&mut self, now: Duration) {
        // A guest that has forgotten it would say so, and that before the host has all.
        let half = self.shut != self.end_acked && self.shut == self.finished;
        let wait = match (self.is_pending(), half) {
            (false, false) => return self.retry = None,
            (false, true) if self.tries == 0 => ASK,
            _ => doubled(REPEAT, self.tries).min(REPEAT_MOST),
        };
        let at = now.saturating_add(wait);
        self.retry = Some(self.retry.map_or(at, |retry| retry.min(at)));
    }

    /// A time that it wanted to be called at has come. Returns whether it is over, the guest being
    /// told nothing.
    pub(super) fn expire(&mut self, now: Duration) -> bool {
        if self.limit.is_some_and(|limit| limit <= now) {
            self.give_up();
            return matches!(self.state, State::Calling | State::Lingering);
        }
        if self.retry.is_none_or(|retry| retry > now) {
            return false;
        }
        self.retry = None;
        self.tries = self.tries.saturating_add(1);
        match self.state {
            State::Answering | State::Calling => self.syn_due = true,
            State::Open => {
                self.limit.get_or_insert(now.saturating_add(PATIENCE));
                match self.is_pending() {
                    true => self.begin_anew(),
                    false => self.ask(),
                }
            }
            State::Connecting | State::Lingering => {}
        }
        false
    }

    /// Asks both ends whether they are still there.
    fn ask(&mut self) {
        self.ask_due = true;
        if let Some(stream) = &self.stream {
            // Where this fails, the system's own interval stands, which is hours.
            let _ = stream.probe_every(ASK);
        }
    }

    /// Sends what is not acknowledged once more, and a byte of it whatever the window is.
    fn begin_anew(&mut self) {
        self.next = self.acked;
        self.recover = Some(self.sent);
        (self.probe, self.repeats) = (true, 0);
    }
}

/// `interval` doubled `times`.
fn doubled(interval: Duration, times: u32) -> Duration {
    interval.saturating_mul(1u32.checked_shl(times.min(16)).unwrap_or(1))
}
