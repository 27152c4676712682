//! One connection: a socket of the host's, and what the guest knows of it.

use std::io;
use std::time::Duration;

use super::credit::{FromGuest, ToGuest};
use super::packet::{Header, Op, Ports, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use crate::io::ring::{BASE, Ring, Room};
use crate::io::socket::local::Local;
use crate::net::frame::Bytes;

/// The longest line that a program of the host's can begin with: `CONNECT 4294967295` and its end, with
/// room for a space too many.
const LINE: usize = 32;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A program of the host's has connected, and not said yet to which port. Since then.
    Greeting(Duration),
    /// It has, and the guest is to be asked.
    Calling,
    /// The guest was asked.
    Asked,
    /// The guest wants it, and there are others before it at the host's socket. Until then.
    Dialling(Duration),
    /// It is there.
    Open,
    /// It is over, and the guest is to be told.
    Over,
    /// The guest is done with it. What it has sent last is on its way.
    Rest,
}

/// What the guest is to be told beside bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    response: bool,
    credit: bool,
    /// It is to be asked how much room it has. Once, until it has some.
    question: bool,
    asked: bool,
}

/// The packet broke a rule, and the connection with it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Odd;

/// A connection.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) ports: Ports,
    pub(super) state: State,
    socket: Option<Local>,
    to_guest: ToGuest,
    from_guest: FromGuest,
    /// What the host's program has not read yet.
    ring: Ring,
    due: Due,
    /// What either end has ended, as SHUTDOWN's hints: what the guest has said, what is so at the host's,
    /// and what the guest was told of that.
    guest_ended: u32,
    host_ended: u32,
    told_ended: u32,
    /// The host's program has been told that nothing more comes.
    ended_writing: bool,
    /// The socket may have something to read.
    readable: bool,
}

impl Flow {
    /// Of which the guest may send `window` bytes before any is read.
    pub(super) fn new(ports: Ports, state: State, socket: Option<Local>, window: u32) -> Self {
        Self {
            ports,
            state,
            socket,
            to_guest: ToGuest::default(),
            from_guest: FromGuest::new(window),
            ring: Ring::default(),
            due: Due { response: state == State::Open, ..Due::default() },
            guest_ended: 0,
            host_ended: 0,
            told_ended: 0,
            ended_writing: false,
            readable: false,
        }
    }

    /// The host's socket has taken the guest's call.
    pub(super) fn answered(&mut self, socket: Local) {
        self.socket = Some(socket);
        self.state = State::Open;
        self.due.response = true;
    }

    /// Bytes that may have to be kept of it.
    pub(super) fn window(&self) -> u32 {
        self.from_guest.window()
    }

    /// Both ends are done with it, and what the guest has to do is to say so.
    pub(super) fn is_spent(&self) -> bool {
        self.state == State::Open && self.socket.is_none()
    }

    /// Bytes that the host's program has not read, and nobody can wait for any more.
    pub(super) fn unread(&self) -> usize {
        self.ring.len()
    }

    /// Whether there is something to give to the guest.
    pub(super) fn wants_turn(&self) -> bool {
        self.due().is_some() || self.reads() > 0
    }

    /// What the guest has to be told first.
    pub(super) fn due(&self) -> Option<Op> {
        let Due { response, credit, question, .. } = self.due;
        match self.state {
            State::Calling => Some(Op::Request),
            State::Over => Some(Op::Reset),
            State::Open if response => Some(Op::Response),
            State::Open if credit => Some(Op::CreditUpdate),
            State::Open if question => Some(Op::CreditRequest),
            // Where both ends of the host's are over, one packet says so: behind what there is to read.
            State::Open if self.host_ended != self.told_ended && self.reads() == 0 => {
                Some(Op::Shutdown)
            }
            _ => None,
        }
    }

    /// Bytes that may be read for the guest now.
    pub(super) fn reads(&self) -> usize {
        let takes = self.guest_ended & SHUTDOWN_RECEIVE == 0;
        let gives = self.readable && self.host_ended & SHUTDOWN_SEND == 0;
        match self.state == State::Open && takes && gives && self.socket.is_some() {
            true => usize::try_from(self.to_guest.left()).unwrap_or(usize::MAX),
            false => 0,
        }
    }

    /// The packet that tells the guest so, which is done with it.
    pub(super) fn say(&mut self, cid: u64, op: Op) -> Header {
        let mut flags = 0;
        match op {
            Op::Request => self.state = State::Asked,
            Op::Response => self.due.response = false,
            Op::CreditRequest => self.due.question = false,
            Op::Shutdown => {
                flags = self.host_ended;
                self.told_ended = flags;
                if flags == SHUTDOWN_BOTH {
                    self.socket = None;
                }
            }
            Op::Reset | Op::Data | Op::CreditUpdate => {}
        }
        self.due.credit = false;
        let (buf_alloc, fwd_cnt) = self.from_guest.now();
        self.from_guest.tell();
        Header { flags, buf_alloc, fwd_cnt, ..Header::to_guest(cid, self.ports, op) }
    }

    /// Where bytes for the guest are read from, and the header that they have.
    pub(super) fn reader(&self, cid: u64) -> Option<(&Local, Header)> {
        let (buf_alloc, fwd_cnt) = self.from_guest.now();
        let header = Header::to_guest(cid, self.ports, Op::Data);
        Some((self.socket()?, Header { buf_alloc, fwd_cnt, ..header }))
    }

    /// The host's end.
    pub(super) fn socket(&self) -> Option<&Local> {
        self.socket.as_ref()
    }

    /// What came of reading for the guest.
    pub(super) fn has_read(&mut self, read: &io::Result<Option<usize>>, memory: &mut Room) {
        match read {
            Ok(None) => self.readable = false,
            Ok(Some(0)) => {
                self.readable = false;
                self.host_ended |= SHUTDOWN_SEND;
            }
            Ok(Some(count)) => {
                self.to_guest.spend(u32::try_from(*count).unwrap_or(u32::MAX));
                self.from_guest.tell();
                self.due.credit = false;
                self.ask_for_room();
            }
            Err(_) => {
                self.host_ended |= SHUTDOWN_SEND;
                self.lose_reader(memory);
            }
        }
    }

    /// A guest without room is asked for some, once.
    fn ask_for_room(&mut self) {
        let stuck = self.readable && self.to_guest.left() == 0;
        self.due.question |= stuck && !self.due.asked && self.host_ended & SHUTDOWN_SEND == 0;
        self.due.asked = stuck;
    }

    /// Every packet of the guest's says how much room it has.
    pub(super) fn hear(&mut self, header: &Header) {
        self.to_guest.hear(header.buf_alloc, header.fwd_cnt);
        if self.state == State::Open {
            self.ask_for_room();
        }
    }

    /// The guest asks how much room there is.
    pub(super) fn ask(&mut self) {
        self.due.credit = true;
    }

    /// The guest has accepted: the host's program is told, and has all to itself.
    pub(super) fn accepted(&mut self) -> Result<(), Odd> {
        let Some(socket) = self.socket.as_ref().filter(|_| self.state == State::Asked) else {
            return Err(Odd);
        };
        let line = format!("OK {}\n", self.ports.host);
        // A socket that nobody has written to has room for a line.
        match socket.write([line.as_bytes(), &[]]) {
            Ok(count) if count == line.len() => self.state = State::Open,
            _ => self.state = State::Over,
        }
        Ok(())
    }

    /// Bytes of the guest's.
    ///
    /// # Errors
    /// More than it may send, or at the wrong time.
    pub(super) fn data(&mut self, bytes: Bytes<'_>, memory: &mut Room) -> Result<(), Odd> {
        let len = u32::try_from(bytes.len()).map_err(|_| Odd)?;
        let open = self.state == State::Open && self.guest_ended & SHUTDOWN_SEND == 0;
        if !open || !self.from_guest.take(len) {
            return Err(Odd);
        }
        let written = match &self.socket {
            Some(_) if self.host_ended & SHUTDOWN_RECEIVE != 0 => bytes.len(),
            Some(_) if !self.ring.is_empty() => 0,
            Some(socket) => match socket.write_guest(bytes.pieces()) {
                Ok(written) => written,
                Err(_) => {
                    self.lose_reader(memory);
                    bytes.len()
                }
            },
            // What nobody reads is lost, and makes room.
            None => bytes.len(),
        };
        self.pass_on(written);
        self.keep(bytes.skip(written), memory)
    }

    /// Keeps what the host's program does not take now.
    fn keep(&mut self, bytes: Bytes<'_>, memory: &mut Room) -> Result<(), Odd> {
        if bytes.is_empty() {
            return Ok(());
        }
        let needed = self.ring.len().saturating_add(bytes.len());
        let mut capacity = self.ring.capacity().max(BASE);
        while capacity < needed {
            capacity = capacity.saturating_mul(2);
        }
        // There is memory for what the guest was told that it may send.
        let most = usize::try_from(self.window()).unwrap_or(usize::MAX);
        let there = capacity <= most
            && memory.begin(&mut self.ring)
            && (capacity == self.ring.capacity() || memory.grow(&mut self.ring, capacity));
        match there && self.ring.push_guest(bytes) == bytes.len() {
            true => Ok(()),
            false => Err(Odd),
        }
    }

    fn pass_on(&mut self, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.due.credit |= self.from_guest.pass_on(count);
    }

    /// Gives the host's program what it takes now.
    pub(super) fn flush(&mut self, memory: &mut Room) {
        while !self.ring.is_empty()
            && let Some(socket) = &self.socket
        {
            match socket.write(self.ring.peek(0, usize::MAX)) {
                Ok(0) => return,
                Ok(count) => {
                    self.ring.take(count);
                    self.pass_on(count);
                }
                Err(_) => self.lose_reader(memory),
            }
        }
        memory.free(&mut self.ring);
        self.end_writing();
    }

    /// The guest sends no more, and all it has sent was written.
    fn end_writing(&mut self) {
        let over = self.guest_ended & SHUTDOWN_SEND != 0 && self.ring.is_empty();
        if over
            && !self.ended_writing
            && let Some(socket) = &self.socket
        {
            // Once: it is announced to whoever has the socket watched, which is us.
            socket.end_writing();
            self.ended_writing = true;
        }
    }

    /// The host's program reads no more.
    pub(super) fn lose_reader(&mut self, memory: &mut Room) {
        self.host_ended |= SHUTDOWN_RECEIVE;
        if self.guest_ended & SHUTDOWN_RECEIVE != 0 {
            // Nobody will read on to the end.
            self.host_ended |= SHUTDOWN_SEND;
        }
        let lost = self.ring.len();
        memory.free(&mut self.ring);
        self.pass_on(lost);
    }

    /// The guest receives no more, or sends no more, or both. Whether both.
    pub(super) fn guest_ends(&mut self, hints: u32) -> bool {
        let before = self.guest_ended;
        self.guest_ended |= hints & SHUTDOWN_BOTH;
        let new = self.guest_ended & !before;
        if new & SHUTDOWN_RECEIVE != 0
            && let Some(socket) = &self.socket
        {
            socket.end_reading();
        }
        self.end_writing();
        self.guest_ended == SHUTDOWN_BOTH
    }

    /// Whether the guest has said that it sends no more.
    pub(super) fn has_sent_all(&self) -> bool {
        self.guest_ended & SHUTDOWN_SEND != 0
    }

    /// The guest knows nothing of it any more. Whether something of what it has sent is still on its
    /// way.
    pub(super) fn leave(&mut self, memory: &mut Room) -> bool {
        self.state = State::Rest;
        self.guest_ended = SHUTDOWN_BOTH;
        self.flush(memory);
        self.socket.is_some() && !self.ring.is_empty()
    }

    /// Ends it: the host's program sees an end, and what it has not read is lost.
    pub(super) fn end(&mut self, memory: &mut Room) {
        memory.free(&mut self.ring);
        self.socket = None;
        self.state = State::Over;
    }

    /// The socket may have something to read.
    pub(super) fn is_readable(&mut self) {
        self.readable = true;
        if self.state == State::Open {
            self.ask_for_room();
        }
    }

    /// What a program of the host's wants, when it has said so.
    pub(super) fn greeting(&self) -> Greeting {
        let Some(socket) = &self.socket else { return Greeting::Wrong };
        let mut line = [0; LINE];
        let count = match socket.peek(&mut line) {
            Ok(Some(count)) => count,
            Ok(None) => return Greeting::Later,
            Err(_) => return Greeting::Wrong,
        };
        let line = line.get(..count).unwrap_or_default();
        let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
            return if count == 0 || count == LINE { Greeting::Wrong } else { Greeting::Later };
        };
        let (text, _) = line.split_at_checked(end).unwrap_or_default();
        let mut taken = [0; LINE];
        let taken = taken.get_mut(..end.saturating_add(1)).unwrap_or_default();
        match (port(text), socket.read(taken)) {
            (Some(port), Ok(Some(count))) if count == taken.len() => Greeting::Port(port),
            _ => Greeting::Wrong,
        }
    }
}

/// What a program of the host's has said first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// Which port it wants.
    Port(u32),
    /// Nothing, or not all of it.
    Later,
    /// Something else, or it is gone.
    Wrong,
}

/// The port in `CONNECT <port>`.
fn port(line: &[u8]) -> Option<u32> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let connect = words.next().filter(|word| word.eq_ignore_ascii_case("connect"));
    let port = words.next()?.parse().ok();
    connect.and(port).filter(|_| words.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_connect_and_a_port() {
        assert_eq!(port(b"CONNECT 52"), Some(52));
        assert_eq!(port(b"connect 4294967295\r"), Some(u32::MAX));
        for wrong in
            ["", "CONNECT", "CONNECT x", "CONNECT -1", "CONNECT 4294967296", "CONNECT 1 2", "OK 1"]
        {
            assert_eq!(port(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(port(b"CONNECT \xff"), None);
    }
}
