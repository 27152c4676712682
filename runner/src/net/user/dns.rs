//! The name server that the guest asks: its questions go to the host's name servers as they are, and so
//! do their answers come back (RFC 1035 §4.1.1 has the few fields that are looked at).
//!
//! Each question has a socket of its own, at a port that the kernel draws and connected to the one
//! server it asks, and an identifier that we draw (RFC 5452 §9): the guest's own choices may be
//! guessed by whoever wants to answer in the server's place.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::counters::Cause;
use super::datagram::{self, Datagram};
use super::flows::{Flows, Patience};
use super::list::List;
use super::out::Out;
use super::packet::Owner;
use super::udp::BURST;
use crate::io::event_loop::Watcher;
use crate::io::socket::Datagrams;

/// Questions that wait for an answer.
pub(super) const MOST: usize = 256;
/// How long before another server is asked, and how long when there is no other: as long as the C
/// library waits (resolv.conf(5), `RES_TIMEOUT`), which then asks again.
const SHORT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(5);

/// Bytes of a header.
const HEADER: usize = 12;
/// Bytes of the longest question. One with all its options is far below it.
const LONGEST: usize = 4096;

/// Of the third byte: an answer, and not a question.
const ANSWER: u8 = 0x80;
/// Of the fourth: recursion is available; the server has failed.
const AVAILABLE: u8 = 0x80;
const FAILED: u8 = 2;

/// Who asks whom, and the identifier of the question.
type Key = (SocketAddr, SocketAddr, u16);

#[derive(Debug)]
struct Question {
    /// With our identifier.
    bytes: Box<[u8]>,
    /// Connected to the server that is asked.
    socket: Datagrams,
    /// Which server was asked first.
    first: usize,
    /// How many after that one.
    asked: usize,
}

/// The questions.
#[derive(Debug)]
pub(super) struct Dns {
    servers: Vec<SocketAddr>,
    /// The server that is asked first: not the one that has not answered last.
    first: usize,
    watcher: Option<Arc<Watcher>>,
    questions: Flows<Key, Question>,
    /// Those whose socket has something to read.
    ready: List,
    /// What identifiers are drawn with.
    random: RandomState,
    drawn: u64,
}

impl Dns {
    pub(super) fn new(servers: Vec<SocketAddr>) -> Self {
        Self {
            servers,
            first: 0,
            watcher: None,
            questions: Flows::new(MOST, SHORT, LONG),
            ready: List::new(MOST),
            random: RandomState::new(),
            drawn: 0,
        }
    }

    pub(super) fn watch(&mut self, watcher: Arc<Watcher>) {
        self.watcher = Some(watcher);
    }

    /// A datagram of the guest's to the name server.
    pub(super) fn ask(
        &mut self,
        datagram: &Datagram<'_>,
        out: &mut Out<'_>,
        now: Duration,
    ) -> Result<(), Cause> {
        let Some(([id_0, id_1, flags, ..], _)) = datagram.bytes.split_first_chunk::<HEADER>()
        else {
            return Err(Cause::Question);
        };
        if flags & ANSWER != 0 || datagram.bytes.len() > LONGEST {
            return Err(Cause::Question);
        }
        let id = u16::from_be_bytes([*id_0, *id_1]);
        let key = (datagram.source, datagram.destination, id);
        if let Some(number) = self.questions.find(&key) {
            if self.is_same(number, datagram.bytes) {
                return self.repeat(number);
            }
            // Its answer is nobody's any more.
            self.remove(number);
        }
        if self.questions.is_full() {
            return Err(Cause::Question);
        }
        let mut bytes: Box<[u8]> = datagram.bytes.into();
        set_id(&mut bytes, self.draw());
        match self.open(self.first, 0) {
            Some((socket, asked)) => {
                let question = Question { bytes, socket, first: self.first, asked };
                let number = self.questions.insert(key, question, Patience::Long, now);
                self.send(number, out, now);
            }
            None => fail(key, &bytes, out),
        }
        Ok(())
    }

    /// Whether that is the question with the number, but for its identifier.
    fn is_same(&mut self, number: usize, bytes: &[u8]) -> bool {
        let question = self.questions.get(number).map(|(_, question)| &*question.bytes);
        question.and_then(|question| question.get(2..)) == bytes.get(2..)
    }

    /// Sends a question that the guest has sent again. It does not wait longer for that.
    fn repeat(&mut self, number: usize) -> Result<(), Cause> {
        let (_, question) = self.questions.get(number).ok_or(Cause::Question)?;
        match question.socket.send_connected(&question.bytes) {
            Ok(true) => Ok(()),
            // An error is found when the socket is read, which it announces.
            Ok(false) | Err(_) => Err(Cause::Unsent),
        }
    }

    /// An identifier that cannot be guessed from others.
    fn draw(&mut self) -> u16 {
        self.drawn = self.drawn.wrapping_add(1);
        let [a, b, ..] = self.random.hash_one(self.drawn).to_ne_bytes();
        u16::from_ne_bytes([a, b])
    }

    /// A socket to the server that is asked when `asked` have been asked from `first` on, and how many
    /// that makes. Those that there is no way to are left out.
    fn open(&self, first: usize, asked: usize) -> Option<(Datagrams, usize)> {
        (asked..self.servers.len()).find_map(|asked| {
            let address = *self.servers.get(self.server(first, asked)?)?;
            let socket = Datagrams::open(address.ip()).ok()?;
            socket.connect(address).ok()?;
            Some((socket, asked))
        })
    }

    /// The number of the server that is asked after `asked` others, from `first` on.
    fn server(&self, first: usize, asked: usize) -> Option<usize> {
        first.checked_add(asked)?.checked_rem(self.servers.len())
    }

    /// Sends a question to the server that it is connected to, or to the next one, or answers it.
    fn send(&mut self, number: usize, out: &mut Out<'_>, now: Duration) {
        while let Some(Err(_)) = self.try_send(number, now) {
            if !self.turn(number, out) {
                return;
            }
        }
    }

    fn try_send(&mut self, number: usize, now: Duration) -> Option<io::Result<bool>> {
        let watcher = self.watcher.as_ref()?;
        let (_, question) = self.questions.get(number)?;
        let key = Owner::Dns.key(number);
        let sent = watcher
            .watch_reading(question.socket.as_fd(), key)
            .and_then(|()| question.socket.send_connected(&question.bytes));
        let is_last = question.asked.saturating_add(1) >= self.servers.len();
        let patience = if is_last { Patience::Long } else { Patience::Short };
        self.questions.touch(number, patience, now);
        Some(sent)
    }

    /// Turns to the next server, with nothing sent yet, or answers a question that no server answers.
    /// Whether there is another one.
    fn turn(&mut self, number: usize, out: &mut Out<'_>) -> bool {
        let Some((_, question)) = self.questions.get(number) else { return false };
        let (first, asked) = (question.first, question.asked);
        if self.server(first, asked) == Some(self.first) {
            self.first = self.server(self.first, 1).unwrap_or_default();
        }
        self.ready.remove(number);
        let another = self.open(first, asked.saturating_add(1));
        let Some((key, question)) = self.questions.get(number) else { return false };
        match another {
            Some((socket, asked)) => {
                (question.socket, question.asked) = (socket, asked);
                true
            }
            None => {
                fail(key, &question.bytes, out);
                self.remove(number);
                false
            }
        }
    }

    /// Something has come for a question.
    pub(super) fn ready(&mut self, number: usize) {
        if self.questions.get(number).is_some() {
            self.ready.push(number);
        }
    }

    /// Gives the guest the answers that have come, as far as it has room: a burst. Whether there is more.
    pub(super) fn emit(&mut self, scratch: &mut [u8], out: &mut Out<'_>, now: Duration) -> bool {
        for _ in 0..BURST {
            if self.ready.first().is_none() || !out.has_room() {
                break;
            }
            if let Some(number) = self.ready.pop() {
                self.read(number, scratch, out, now);
            }
        }
        self.ready.first().is_some()
    }

    fn read(&mut self, number: usize, scratch: &mut [u8], out: &mut Out<'_>, now: Duration) {
        for _ in 0..BURST {
            let Some((key, question)) = self.questions.get(number) else { return };
            match question.socket.receive(scratch) {
                Ok(None) => return,
                Ok(Some((len, _))) => {
                    let answer = scratch.get_mut(..len).unwrap_or_default();
                    if answers(answer, &question.bytes) {
                        let (guest, asked, id) = key;
                        set_id(answer, id);
                        datagram::deliver(asked, guest, answer, out);
                        return self.remove(number);
                    }
                    out.drop(Cause::Unheard);
                }
                // Nobody is there.
                Err(_) => {
                    if self.turn(number, out) {
                        self.send(number, out, now);
                    }
                    return;
                }
            }
        }
        self.ready.push(number);
    }

    /// Asks the next server where one has not answered in time.
    pub(super) fn expire(&mut self, out: &mut Out<'_>, now: Duration) {
        while let Some(number) = self.questions.expired(now) {
            if self.turn(number, out) {
                self.send(number, out, now);
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.questions.deadline()
    }

    /// Forgets all questions.
    pub(super) fn clear(&mut self) {
        self.questions.clear();
        self.ready.clear();
    }

    /// How many questions wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.questions.len()
    }

    fn remove(&mut self, number: usize) {
        self.ready.remove(number);
        self.questions.remove(number);
    }
}

/// Whether that is an answer to `question`, whose identifier is ours: nobody else could know it.
fn answers(answer: &[u8], question: &[u8]) -> bool {
    let is_answer = answer.get(2).is_some_and(|flags| flags & ANSWER != 0);
    is_answer && answer.len() >= HEADER && answer.get(..2) == question.get(..2)
}

/// Tells the guest that its question cannot be answered now (SERVFAIL).
fn fail((guest, asked, id): Key, question: &[u8], out: &mut Out<'_>) {
    let mut answer = question.to_vec();
    set_id(&mut answer, id);
    if let [_, _, flags, code, ..] = answer.as_mut_slice() {
        *flags |= ANSWER;
        *code = AVAILABLE | FAILED;
    }
    datagram::deliver(asked, guest, &answer, out);
}

fn set_id(message: &mut [u8], id: u16) {
    for (byte, value) in message.iter_mut().zip(id.to_be_bytes()) {
        *byte = value;
    }
}
