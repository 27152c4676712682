//! What goes on between the guest and the host: packets on the one side, sockets on the other.
//!
//! Whatever the guest does that makes no sense is answered by RST, which ends the connection if there is
//! one. What has to be answered is bounded: answers that belong to no connection wait for the guest's
//! room in a list of fixed length, and as long as it is full nothing more is taken from the guest.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use super::flow::{Flow, Greeting, Odd, State};
use super::host::Sockets;
use super::inbox::Inbox;
use super::packet::{Header, Op, Ports, STREAM};
use super::table::Table;
use super::{CONNECTIONS, HOST, NARROW, QUEUE_SIZE, WIDE, WINDOW};
use crate::io::event_loop::{Ready, Watcher};
use crate::io::ring::Room;
use crate::net::frame::Bytes;
use crate::{info, warning};

/// Answers that can wait.
const ANSWERS: usize = QUEUE_SIZE as usize;

/// Connections that are accepted in one turn.
const ACCEPTED: usize = 64;

/// How long the guest waits for a socket of the host's where others wait: as long as Linux lets it.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often that is tried, and how many at a time.
const AGAIN: Duration = Duration::from_millis(10);
const TRIED: usize = 32;

/// How long a program of the host's may take to say which port it wants, where others wait for its place.
const GREETING: Duration = Duration::from_secs(1);

/// Key of the listening socket; those of connections, which are their numbers, are below.
pub(super) const LISTENER: usize = 1 << 16;

/// What has been, for a person.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    from_host: u64,
    from_guest: u64,
    /// Calls, of either side, that nobody took.
    refused: u64,
    /// Packets of the guest's that were answered by RST, and those that were dropped.
    odd: u64,
    dropped: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { from_host, from_guest, refused, odd, dropped } = self;
        write!(
            f,
            "{from_host} calls of the host's, {from_guest} of the guest's, {refused} refused; \
             {odd} packets made no sense, {dropped} were not the guest's"
        )
    }
}

/// Both sides.
#[derive(Debug)]
pub(super) struct Exchange {
    cid: u64,
    sockets: Sockets,
    watcher: Option<Watcher>,
    table: Table,
    /// What belongs to no connection.
    answers: VecDeque<Header>,
    /// What is not read at once.
    memory: Room,
    /// Connections in [`State::Dialling`].
    dialling: VecDeque<u16>,
    /// When they are tried again, and connections accepted where the system has no descriptor.
    try_again: Option<Duration>,
    /// There may be connections to accept.
    acceptable: bool,
    pub(super) counts: Counts,
}

impl Exchange {
    pub(super) fn new(cid: u64, sockets: Sockets) -> Self {
        let wide = u32::from(WIDE).saturating_mul(WINDOW);
        let narrow = u32::from(CONNECTIONS.saturating_sub(WIDE)).saturating_mul(NARROW);
        let total = usize::try_from(wide.saturating_add(narrow)).unwrap_or(usize::MAX);
        Self {
            cid,
            sockets,
            watcher: None,
            table: Table::new(),
            answers: VecDeque::with_capacity(ANSWERS),
            memory: Room::new(total, 0),
            dialling: VecDeque::with_capacity(CONNECTIONS.into()),
            try_again: None,
            acceptable: false,
            counts: Counts::default(),
        }
    }

    /// Has the host's sockets watched from now on, which are heard of by [`Exchange::ready`].
    pub(super) fn watch(&mut self, watcher: Watcher) -> io::Result<()> {
        watcher.watch_reading(self.sockets.listener().as_fd(), LISTENER)?;
        self.watcher = Some(watcher);
        Ok(())
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// When something is to be tried again.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.try_again
    }

    /// Whether a packet of the guest's can be answered.
    pub(super) fn can_answer(&self) -> bool {
        self.answers.len() < ANSWERS
    }

    /// Whether there is something for the guest.
    pub(super) fn has_something(&self) -> bool {
        !self.answers.is_empty() || self.table.is_anybody_waiting()
    }

    /// What the host's sockets have had to say: nothing is left out that was not said.
    pub(super) fn ready(&mut self, ready: Ready) {
        match u16::try_from(ready.key) {
            Ok(number) => self.socket_ready(number, ready),
            Err(_) => self.acceptable |= ready.key == LISTENER,
        }
    }

    fn socket_ready(&mut self, number: u16, ready: Ready) {
        let Some(flow) = self.table.get(number) else { return };
        if ready.readable {
            flow.is_readable();
        }
        match flow.state {
            // Nobody is there to be told.
            State::Greeting(_) | State::Calling if ready.hung_up => return self.drop_flow(number),
            State::Greeting(_) => return self.greet(number),
            State::Asked if ready.hung_up => flow.end(&mut self.memory),
            State::Open if ready.hung_up => flow.lose_reader(&mut self.memory),
            State::Open if ready.writable => flow.flush(&mut self.memory),
            State::Rest => {
                flow.flush(&mut self.memory);
                if ready.hung_up || flow.unread() == 0 {
                    return self.drop_flow(number);
                }
            }
            _ => {}
        }
        self.table.queue(number);
    }

    /// A program of the host's says where it wants to.
    fn greet(&mut self, number: u16) {
        let greeting = self.table.get(number).map(|flow| flow.greeting());
        match greeting {
            Some(Greeting::Port(port)) => {
                let ports = self.table.ports_to(port);
                self.table.name(number, ports);
                if let Some(flow) = self.table.get(number) {
                    flow.state = State::Calling;
                }
                self.counts.from_host = self.counts.from_host.saturating_add(1);
                self.table.queue(number);
            }
            Some(Greeting::Wrong) => self.drop_flow(number),
            Some(Greeting::Later) | None => {}
        }
    }

    fn drop_flow(&mut self, number: u16) {
        if let Some(flow) = self.table.get(number) {
            flow.end(&mut self.memory);
        }
        self.table.remove(number);
    }

    /// Accepts what has come, and tries again what did not work before.
    pub(super) fn attend(&mut self, now: Duration) {
        if self.try_again.is_some_and(|when| when <= now) {
            self.try_again = None;
            self.dial_again(now);
            self.acceptable = true;
        }
        if self.acceptable {
            self.accept(now);
        }
    }

    fn accept(&mut self, now: Duration) {
        for _ in 0..ACCEPTED {
            if !self.table.has_room() && !self.make_room(now) {
                // They wait until somebody leaves, or says for too long not what it wants.
                let since = self.greets_longest().map(|(since, _)| since.saturating_add(GREETING));
                self.try_again = self.try_again.into_iter().chain(since).min();
                return;
            }
            match self.sockets.listener().accept() {
                Ok(Some(socket)) => {
                    let (state, window) = (State::Greeting(now), self.window());
                    self.add(Flow::new(Ports::default(), state, Some(socket), window));
                }
                Ok(None) => {
                    self.acceptable = false;
                    return;
                }
                Err(error) => {
                    warning!("vsock: take a connection of the host's: {error}");
                    self.acceptable = false;
                    self.try_later(now);
                    return;
                }
            }
        }
    }

    fn try_later(&mut self, now: Duration) {
        self.try_again.get_or_insert(now.saturating_add(AGAIN));
    }

    /// A guest that is told of an end need not say that it has heard, and a program of the host's need not
    /// say where it wants to. Their places are free when they are needed. Whether there was one.
    fn make_room(&mut self, now: Duration) -> bool {
        let mut numbers = self.table.numbers();
        let spent = numbers.find(|number| self.table.get(*number).is_some_and(|f| f.is_spent()));
        let late = |(since, _): &(Duration, _)| now.saturating_sub(*since) >= GREETING;
        let longest = || self.greets_longest().filter(late).map(|(_, number)| number);
        let Some(number) = spent.or_else(longest) else { return false };
        self.drop_flow(number);
        true
    }

    /// Who has not said for the longest time which port it wants, and since when.
    fn greets_longest(&mut self) -> Option<(Duration, u16)> {
        let numbers = self.table.numbers();
        let greets = |number| match self.table.get(number)?.state {
            State::Greeting(since) => Some((since, number)),
            _ => None,
        };
        numbers.filter_map(greets).min()
    }

    /// Bytes that the guest may send on one more connection before any is read.
    fn window(&mut self) -> u32 {
        let numbers = self.table.numbers();
        let is_wide = |number: &u16| self.table.get(*number).is_some_and(|f| f.window() == WINDOW);
        match numbers.filter(is_wide).count() < WIDE.into() {
            true => WINDOW,
            false => NARROW,
        }
    }

    /// Adds a connection, whose socket is watched from now on. Whether it could be.
    fn add(&mut self, flow: Flow) -> bool {
        let Some(number) = self.table.add(flow) else { return false };
        if self.watch_flow(number).is_err() {
            self.drop_flow(number);
            return false;
        }
        self.table.queue(number);
        true
    }

    fn watch_flow(&mut self, number: u16) -> io::Result<()> {
        let socket = self.table.get(number).and_then(|flow| flow.socket());
        match self.watcher.as_ref().zip(socket) {
            Some((watcher, socket)) => watcher.watch(socket.as_fd(), number.into()),
            None => Ok(()),
        }
    }

    /// A packet of the guest's, with so many bytes behind its header.
    pub(super) fn packet(&mut self, header: &Header, bytes: Bytes<'_>, now: Duration) {
        if header.source != self.cid {
            self.counts.dropped = self.counts.dropped.saturating_add(1);
            return;
        }
        let len = usize::try_from(header.len).unwrap_or(usize::MAX);
        let number = self.table.find(header.ports()).filter(|_| header.destination == HOST);
        let known = header.destination == HOST && header.kind == STREAM && len <= bytes.len();
        match header.op() {
            // Nobody answers one by another.
            Some(Op::Reset) => {
                if let Some(number) = number {
                    self.guest_resets(number);
                }
            }
            Some(op) if known => match number {
                Some(number) => self.of_flow(number, op, header, bytes.take(len)),
                None if op == Op::Request => self.dial(header, now),
                None => self.odd(None, header),
            },
            _ => self.odd(number, header),
        }
    }

    /// What makes no sense: ends the connection, or is answered.
    fn odd(&mut self, number: Option<u16>, header: &Header) {
        self.counts.odd = self.counts.odd.saturating_add(1);
        match number.and_then(|number| self.table.get(number).map(|flow| (number, flow))) {
            Some((number, flow)) => {
                flow.end(&mut self.memory);
                self.table.queue(number);
            }
            None => self.answer(header),
        }
    }

    /// Says that there is no such connection. The caller has asked whether there is room.
    fn answer(&mut self, header: &Header) {
        if self.can_answer() {
            self.answers.push_back(header.reset());
        }
    }

    fn of_flow(&mut self, number: u16, op: Op, header: &Header, bytes: Bytes<'_>) {
        let Some(flow) = self.table.get(number) else { return };
        if flow.state == State::Over {
            return;
        }
        flow.hear(header);
        let open = flow.state == State::Open;
        let fine = match op {
            Op::Response => flow.accepted(),
            Op::Data => flow.data(bytes, &mut self.memory),
            Op::CreditUpdate if open => Ok(()),
            Op::CreditRequest if open => {
                flow.ask();
                Ok(())
            }
            Op::Shutdown if open => {
                if flow.guest_ends(header.flags) {
                    // This is what it waits for (§5.10.6.6).
                    self.answer(header);
                    return self.guest_leaves(number);
                }
                Ok(())
            }
            _ => Err(Odd),
        };
        match fine {
            Ok(()) => self.table.queue(number),
            Err(Odd) => self.odd(Some(number), header),
        }
    }

    /// The guest is done with a connection, whose last bytes may still have to be read.
    fn guest_leaves(&mut self, number: u16) {
        let rest = self.table.get(number).is_some_and(|flow| flow.leave(&mut self.memory));
        match rest {
            true => self.table.forget(number),
            false => self.table.remove(number),
        }
    }

    /// The guest ends a connection at once, or does not take one.
    fn guest_resets(&mut self, number: u16) {
        let Some(flow) = self.table.get(number) else { return };
        let (asked, has_sent_all) = (flow.state == State::Asked, flow.has_sent_all());
        self.counts.refused = self.counts.refused.saturating_add(asked.into());
        match has_sent_all {
            true => self.guest_leaves(number),
            false => self.drop_flow(number),
        }
    }

    /// The guest wants a connection.
    fn dial(&mut self, header: &Header, now: Duration) {
        let ports = header.ports();
        let room = self.table.has_room() || self.make_room(now);
        if !room || self.dialling.len() >= CONNECTIONS.into() {
            self.counts.refused = self.counts.refused.saturating_add(1);
            return self.answer(header);
        }
        let window = self.window();
        let mut flow = match self.sockets.connect(ports.host) {
            Ok(Some(socket)) => Flow::new(ports, State::Open, Some(socket), window),
            Ok(None) => {
                let until = now.saturating_add(PATIENCE);
                Flow::new(ports, State::Dialling(until), None, window)
            }
            Err(_) => {
                self.counts.refused = self.counts.refused.saturating_add(1);
                return self.answer(header);
            }
        };
        flow.hear(header);
        let waits = flow.state != State::Open;
        if !self.add(flow) {
            return self.answer(header);
        }
        if waits {
            self.dialling.extend(self.table.find(ports));
            self.try_later(now);
        } else {
            self.counts.from_guest = self.counts.from_guest.saturating_add(1);
        }
    }

    /// Tries what did not work before, some of it.
    fn dial_again(&mut self, now: Duration) {
        for _ in 0..self.dialling.len().min(TRIED) {
            let Some(number) = self.dialling.pop_front() else { break };
            let Some(flow) = self.table.get(number) else { continue };
            let State::Dialling(until) = flow.state else { continue };
            match self.sockets.connect(flow.ports.host) {
                Ok(Some(socket)) => {
                    flow.answered(socket);
                    self.counts.from_guest = self.counts.from_guest.saturating_add(1);
                    if self.watch_flow(number).is_err() {
                        self.drop_flow(number);
                    }
                }
                Ok(None) if now < until => self.dialling.push_back(number),
                _ => {
                    flow.end(&mut self.memory);
                    self.counts.refused = self.counts.refused.saturating_add(1);
                }
            }
            self.table.queue(number);
        }
        if !self.dialling.is_empty() {
            self.try_later(now);
        }
    }

    /// Gives the guest one thing, if there is room and something. Whether that was so.
    pub(super) fn give(&mut self, inbox: &mut Inbox<'_, '_>) -> bool {
        if !self.has_something() {
            return false;
        }
        let Some(room) = inbox.next() else { return false };
        if let Some(answer) = self.answers.pop_front() {
            inbox.put(&answer);
            return true;
        }
        let Some(number) = self.table.turn() else { return false };
        let Some(flow) = self.table.get(number) else { return true };
        match flow.due() {
            Some(op) => {
                inbox.put(&flow.say(self.cid, op));
                if op == Op::Reset {
                    self.table.remove(number);
                }
            }
            // A buffer in which there is no room for a byte.
            None if room == 0 => inbox.put(&flow.say(self.cid, Op::CreditUpdate)),
            None => Self::give_bytes(flow, self.cid, &mut self.memory, inbox),
        }
        self.table.queue(number);
        true
    }

    fn give_bytes(flow: &mut Flow, cid: u64, memory: &mut Room, inbox: &mut Inbox<'_, '_>) {
        let most = flow.reads();
        if most > 0
            && let Some((socket, header)) = flow.reader(cid)
        {
            let read = inbox.fill(most, &header, |bytes| socket.read_guest(bytes.pieces()));
            flow.has_read(&read, memory);
        }
    }

    /// The guest has let go of the device: it knows of no connection any more. Those that it has not been
    /// told of wait for it.
    pub(super) fn guest_gone(&mut self) {
        self.answers.clear();
        for number in self.table.numbers() {
            match self.table.get(number).map(|flow| flow.state) {
                None | Some(State::Greeting(_) | State::Calling | State::Rest) => {}
                Some(State::Open) => self.guest_leaves(number),
                Some(State::Asked | State::Dialling(_) | State::Over) => self.drop_flow(number),
            }
        }
    }

    /// The run is over: what programs of the host's have not read, and do not take at once, is lost.
    pub(super) fn finish(&mut self) {
        let mut lost = 0usize;
        for number in self.table.numbers() {
            if let Some(flow) = self.table.get(number) {
                flow.flush(&mut self.memory);
                lost = lost.saturating_add(flow.unread());
            }
        }
        if lost > 0 {
            warning!(
                "vsock: {lost} bytes that the guest sent last are lost: the programs they are for have \
                 not read what came before"
            );
        }
        info!("vsock: {}", self.counts);
    }
}
