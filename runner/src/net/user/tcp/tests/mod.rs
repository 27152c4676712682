//! A guest's TCP on one side, sockets on the other.

mod guest;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
};

use super::*;
use crate::io::event_loop::EventLoop;
use crate::net::frame::Offload;
use crate::net::testing::{Mailbox, Sheet};
use crate::net::{Forward, Transport};
use guest::{Arrived, End, FIN, Manner, PLAIN, RST, SYN, Say, Sent, arrived, segment};

const PATH: Path = Path { ours: [2; 6], guest: [4; 6] };
const OFFLOADS: u64 =
    1 << VIRTIO_NET_F_GUEST_CSUM | 1 << VIRTIO_NET_F_GUEST_TSO4 | 1 << VIRTIO_NET_F_GUEST_TSO6;

fn gateway(port: u16) -> SocketAddr {
    SocketAddr::new("10.0.2.2".parse().unwrap(), port)
}

fn guest(port: u16) -> SocketAddr {
    SocketAddr::new("10.0.2.15".parse().unwrap(), port)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A guest with its network, and time that passes when nothing else happens.
struct Rig {
    tcp: Tcp,
    lp: EventLoop,
    outbox: Outbox,
    sheet: Sheet,
    now: Duration,
    features: u64,
    /// The guest's ends.
    ends: Vec<End>,
    /// What has come that is for none of them.
    strays: Vec<Arrived>,
    /// Frames that have come, and how many of them there are to one that is lost.
    frames: usize,
    lose: Option<usize>,
    /// Frames that the guest has room for at a time.
    room: usize,
    /// The guest listens at this port, and answers.
    listens: Option<(u16, Manner)>,
}

impl Rig {
    fn new(features: u64, forwards: Vec<Listener>) -> Self {
        let policy = Policy { host_loopback: true, ..Policy::default() };
        Self::with(Tcp::new(policy, Vec::new(), forwards), features)
    }

    fn with(mut tcp: Tcp, features: u64) -> Self {
        let lp = EventLoop::new().unwrap();
        tcp.watch(Arc::new(lp.watcher().unwrap())).unwrap();
        tcp.activate(Some(features), MTU);
        Self {
            tcp,
            lp,
            outbox: Outbox::default(),
            sheet: Sheet::default(),
            now: Duration::ZERO,
            features,
            ends: Vec::new(),
            strays: Vec::new(),
            frames: 0,
            lose: None,
            room: 64,
            listens: None,
        }
    }

    fn send(&mut self, sent: &Sent) {
        let (tcp, outbox, now) = (&mut self.tcp, &mut self.outbox, self.now);
        self.sheet.frame(Offload::default(), &sent.bytes, |frame| {
            let mut head = [0; super::super::packet::COPIED];
            let len = frame.bytes.copy_to(&mut head);
            let packet = Packet {
                source: sent.key.guest.ip(),
                destination: sent.key.peer.ip(),
                head: &head[..len],
                body: frame.bytes,
                unsummed: sent.unsummed,
            };
            tcp.segment(&packet, outbox, PATH, now);
        });
    }

    fn has(&self, bit: u32) -> bool {
        self.features >> bit & 1 == 1
    }

    /// One round: sockets, then frames for the guest, then what it answers and has to say.
    fn round(&mut self) {
        self.lp.turn(Some(Duration::ZERO)).unwrap();
        let ready: Vec<_> = self.lp.ready().to_vec();
        for ready in &ready {
            let (owner, number) = Owner::of(ready.key).unwrap();
            self.tcp.ready(owner, number, ready.readable, ready.writable, self.now);
        }
        let mut mailbox = Mailbox::with_room(self.room);
        self.outbox.deliver(&mut mailbox);
        self.tcp.emit(PATH, &mut mailbox, self.now);
        let quiet = ready.is_empty() && mailbox.frames.is_empty();
        for (offload, frame) in mailbox.frames {
            self.arrive(offload, &frame);
        }
        let mut sent = Vec::new();
        self.ends.iter_mut().for_each(|end| sent.extend(end.next()));
        sent.iter().for_each(|sent| self.send(sent));
        if quiet && sent.is_empty() {
            self.now += ms(1);
            std::thread::yield_now();
        }
    }

    fn arrive(&mut self, offload: Offload, frame: &[u8]) {
        self.frames += 1;
        if self.lose.is_some_and(|lose| self.frames % lose == 0) {
            return;
        }
        if let Some((family, _)) = offload.segment {
            let bit = match family {
                crate::net::frame::Family::V4 => VIRTIO_NET_F_GUEST_TSO4,
                crate::net::frame::Family::V6 => VIRTIO_NET_F_GUEST_TSO6,
            };
            assert!(self.has(bit), "what was not accepted");
        }
        let came = arrived(offload, frame, self.has(VIRTIO_NET_F_GUEST_CSUM));
        let place = self.ends.iter().position(|end| end.key == came.key && !end.reset);
        let answer = match (place, self.listens) {
            (Some(place), _) => self.ends[place].take(&came.segment, &came.data),
            (None, Some((port, manner))) if came.segment.syn && came.key.guest.port() == port => {
                let mut end = End::new(came.key, manner, 77);
                let answer = end.take(&came.segment, &came.data);
                self.ends.push(end);
                answer
            }
            _ => {
                self.strays.push(came);
                None
            }
        };
        if let Some(answer) = answer {
            self.send(&answer);
        }
    }

    /// Rounds until `done`.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let begun = std::time::Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < Duration::from_secs(20), "in vain: {what}: {:#?}", self.tcp);
            self.round();
        }
    }

    fn rounds(&mut self, count: usize) {
        (0..count).for_each(|_| self.round());
    }

    /// Rounds until so much time is over.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.round();
        }
    }

    /// The guest connects from `port`. Returns its end's place.
    fn dial(&mut self, port: u16, peer: SocketAddr, manner: Manner) -> usize {
        let end = End::new(Key { guest: guest(port), peer }, manner, 0xffff_f000);
        let syn = end.syn();
        self.ends.push(end);
        self.send(&syn);
        self.ends.len() - 1
    }

    /// The same with a listener of the host's; returns its side, too.
    fn pair(&mut self, port: u16, manner: Manner) -> (usize, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = gateway(listener.local_addr().unwrap().port());
        let end = self.dial(port, peer, manner);
        self.until("a connection", |rig| rig.ends[end].up);
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        (end, stream)
    }

    /// What the host's side has to read, within some rounds.
    fn host_reads(&mut self, stream: &mut TcpStream, len: usize) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        self.until("the host reads", |_| {
            match stream.read(&mut buffer) {
                Ok(0) => panic!("an end after {} of {len} bytes", all.len()),
                Ok(read) => all.extend_from_slice(&buffer[..read]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            all.len() >= len
        });
        all
    }

    fn host_end(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        let mut result = None;
        self.until("the host sees an end", |_| {
            match stream.read(&mut [0; 16]) {
                Ok(read) => {
                    assert_eq!(read, 0, "no more bytes");
                    result = Some(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => result = Some(Err(error)),
            }
            result.is_some()
        });
        result.unwrap()
    }

    /// Nothing may be left.
    fn is_clean(&mut self) {
        self.until("all flows to end", |rig| rig.tcp.flows() == 0);
        self.room = 64;
        self.round();
        assert_eq!(self.tcp.room.left(), MEMORY);
        assert_eq!((self.tcp.opening, self.tcp.calling), (0, 0));
        assert_eq!(self.tcp.deadline(), None, "nothing wakes us");
        assert!(self.tcp.queue.is_empty() && self.tcp.stage.bytes().is_none());
    }
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut random = seed | 1;
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        (random >> 33).to_le_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

impl Rig {
    /// Sends `up` to the host and `down` to the guest, at the same time, and compares.
    fn exchange(&mut self, end: usize, host: &mut TcpStream, up: &[u8], down: &[u8]) {
        self.ends[end].write(up);
        let (mut sent, mut went, mut came) = (0, Vec::new(), Vec::new());
        let mut buffer = vec![0; 1 << 16];
        self.until("all bytes both ways", |rig| {
            if sent < down.len() {
                sent += host.write(&down[sent..]).unwrap_or(0);
            }
            if let Ok(read) = host.read(&mut buffer) {
                went.extend_from_slice(&buffer[..read]);
            }
            came.extend(rig.ends[end].read());
            went.len() >= up.len() && came.len() >= down.len()
        });
        assert!(went == up && came == down, "the bytes are other ones");
    }
}

#[test]
fn a_connection_carries_bytes_both_ways_and_ends_both_ways() {
    let mut rig = Rig::new(0, Vec::new());
    let (end, mut host) = rig.pair(1000, PLAIN);
    rig.exchange(end, &mut host, b"hello, host", b"hello, guest");
    rig.ends[end].finish();
    rig.host_end(&mut host).unwrap();
    // What comes after the guest has said its last.
    rig.exchange(end, &mut host, b"", &noise(300_000, 5));
    drop(host);
    rig.until("an end", |rig| rig.ends[end].ended);
    rig.is_clean();
}

#[test]
fn many_bytes_come_through_whatever_the_guest_has_accepted_and_whatever_is_lost() {
    for features in [0, 1 << VIRTIO_NET_F_GUEST_CSUM, OFFLOADS] {
        for lose in [None, Some(100), Some(7)] {
            for manner in [PLAIN, Manner { burst: 40_000, unsummed: true, ..PLAIN }] {
                let mut rig = Rig::new(features, Vec::new());
                let (end, mut host) = rig.pair(1000, manner);
                rig.lose = lose;
                rig.exchange(end, &mut host, &noise(1_500_000, 3), &noise(1_500_000, 4));
                rig.lose = None;
                drop(host);
                rig.ends[end].finish();
                rig.until("an end", |rig| rig.ends[end].ended);
                assert!(lose.is_some() || rig.ends[end].repeats == 0, "{}", rig.ends[end].repeats);
                rig.is_clean();
            }
        }
    }
}

#[test]
fn a_port_nobody_listens_at_resets_the_guest() {
    let mut rig = Rig::new(0, Vec::new());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let end = rig.dial(1000, gateway(free), PLAIN);
    rig.until("a reset", |rig| rig.ends[end].reset);
    rig.is_clean();
}

#[test]
fn what_the_policy_refuses_is_reset_at_once() {
    let mut rig = Rig::with(Tcp::new(Policy::default(), Vec::new(), Vec::new()), 0);
    let ends =
        [gateway(80), guest(80), "127.0.0.1:80".parse().unwrap(), "10.0.2.3:53".parse().unwrap()]
            .map(|peer| rig.dial(1000, peer, PLAIN));
    for end in ends {
        rig.until("a reset", |rig| rig.ends[end].reset);
    }
    assert_eq!(rig.tcp.counters().refused, 4);
    rig.is_clean();
}

#[test]
fn the_guest_is_answered_when_the_host_is_connected_and_asks_but_once() {
    let mut rig = Rig::new(0, Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = gateway(listener.local_addr().unwrap().port());
    let end = rig.dial(1000, peer, PLAIN);
    let syn = rig.ends[end].syn();
    rig.send(&syn);
    rig.send(&syn);
    assert_eq!(rig.tcp.flows(), 1);
    rig.until("a connection", |rig| rig.ends[end].up);
    rig.rounds(20);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_ok() && listener.accept().is_err(), "one connection");
    let rst = rig.ends[end].rst();
    rig.send(&rst);
    rig.is_clean();
}

#[test]
fn an_answer_that_is_lost_is_repeated() {
    let mut rig = Rig::new(0, Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let end = rig.dial(1000, gateway(listener.local_addr().unwrap().port()), PLAIN);
    rig.lose = Some(1);
    rig.until("an answer", |rig| rig.frames == 1);
    rig.lose = None;
    let begun = rig.now;
    rig.until("a connection", |rig| rig.ends[end].up);
    assert!((ms(190)..ms(230)).contains(&(rig.now - begun)), "{:?}", rig.now - begun);
    // The guest's own SYN, again, asks for it as well.
    let syn = rig.dial(1001, gateway(listener.local_addr().unwrap().port()), PLAIN);
    rig.lose = Some(1);
    let frames = rig.frames;
    rig.until("an answer", |rig| rig.frames > frames);
    rig.lose = None;
    let again = rig.ends[syn].syn();
    let begun = rig.now;
    rig.send(&again);
    rig.until("a connection", |rig| rig.ends[syn].up);
    assert!(rig.now - begun < ms(50));
    for end in [end, syn] {
        let rst = rig.ends[end].rst();
        rig.send(&rst);
    }
    rig.is_clean();
}

#[test]
fn each_side_may_end_first_and_the_other_goes_on() {
    let mut rig = Rig::new(0, Vec::new());
    // The host ends first: the guest's answer still comes.
    let (end, mut host) = rig.pair(1000, PLAIN);
    host.shutdown(std::net::Shutdown::Write).unwrap();
    rig.until("an end", |rig| rig.ends[end].ended);
    rig.exchange(end, &mut host, &noise(300_000, 1), b"");
    rig.ends[end].finish();
    rig.host_end(&mut host).unwrap();
    rig.until("the last word", |rig| rig.ends[end].fin_acked);
    assert_eq!(rig.tcp.flows(), 1, "it lingers");
    let fin = rig.ends[end].key;
    let (seq, ack) = (rig.ends[end].received, rig.ends[end].received);
    let again = segment(fin, Say { seq, ack: Some(ack), flags: FIN, ..Say::default() }, false);
    rig.send(&again);
    let frames = rig.frames;
    rig.until("a repeated end is acknowledged", |rig| rig.frames > frames);
    rig.is_clean();
    assert!(rig.now < ms(1500));
    // The guest ends first: nothing lingers.
    let (end, mut host) = rig.pair(1001, PLAIN);
    rig.ends[end].finish();
    rig.host_end(&mut host).unwrap();
    let begun = rig.now;
    drop(host);
    rig.is_clean();
    assert!(rig.now - begun < ms(200), "{:?}", rig.now - begun);
    assert!(rig.ends[end].ended);
}

#[test]
fn a_reset_of_the_hosts_reaches_the_guest_behind_what_was_sent_before() {
    let mut rig = Rig::new(0, Vec::new());
    let (end, mut host) = rig.pair(1000, PLAIN);
    // Something unread makes the host's kernel reset.
    rig.ends[end].write(b"never read");
    rig.rounds(20);
    host.write_all(b"last words").unwrap();
    rig.until("the last words", |rig| rig.ends[end].inbox == b"last words");
    drop(host);
    rig.until("a reset", |rig| rig.ends[end].reset);
    rig.is_clean();
}

#[test]
fn a_reset_of_the_guests_reaches_the_host() {
    let mut rig = Rig::new(0, Vec::new());
    let (end, mut host) = rig.pair(1000, PLAIN);
    let rst = rig.ends[end].rst();
    rig.send(&rst);
    let error = rig.host_end(&mut host).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    rig.is_clean();
    // One that is beyond the window is somebody else's.
    let (end, mut host) = rig.pair(1001, PLAIN);
    let seq = rig.ends[end].received;
    let far = segment(rig.ends[end].key, Say { seq, flags: RST, ..Say::default() }, false);
    rig.send(&far);
    rig.exchange(end, &mut host, b"still", b"here");
    let rst = rig.ends[end].rst();
    rig.send(&rst);
    rig.is_clean();
}

#[test]
fn a_reset_ends_a_connection_in_any_state_and_leaves_nothing() {
    let mut rig = Rig::new(0, Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = gateway(listener.local_addr().unwrap().port());
    for rounds in 0..12 {
        let end = rig.dial(1000 + rounds, peer, PLAIN);
        rig.ends[end].write(&noise(5000, 1));
        rig.rounds(rounds.into());
        let (key, received) = (rig.ends[end].key, rig.ends[end].received);
        let mut rst = rig.ends[end].rst();
        if !rig.ends[end].up {
            let seq = Seq(0xffff_f001);
            rst =
                segment(key, Say { seq, ack: Some(received), flags: RST, ..Say::default() }, false);
        }
        rig.ends[end].reset = true;
        rig.send(&rst);
        assert_eq!(rig.tcp.flows(), 0, "after {rounds} rounds");
    }
    rig.is_clean();
}

#[test]
fn a_host_that_does_not_read_stops_the_guest_and_lets_it_go_on() {
    let mut rig = Rig::new(0, Vec::new());
    for manner in [PLAIN, Manner { burst: 60_000, unsummed: true, ..PLAIN }] {
        let (end, mut host) = rig.pair(1000, manner);
        let bytes = noise(12_000_000, 9);
        rig.ends[end].write(&bytes);
        rig.until("a closed window", |rig| rig.ends[end].window < 1460);
        let held = rig.tcp.room.left();
        assert!(MEMORY - held <= flow::INWARD, "{}", MEMORY - held);
        rig.rounds(50);
        let begun = rig.now;
        let start = rig.host_reads(&mut host, 4_000_000);
        assert!(rig.now - begun < ms(50), "it opens again by itself: {:?}", rig.now - begun);
        let rest = rig.host_reads(&mut host, bytes.len() - start.len());
        assert!([start, rest].concat() == bytes);
        assert_eq!(rig.ends[end].repeats, 0);
        let rst = rig.ends[end].rst();
        rig.send(&rst);
        rig.ends.clear();
        rig.is_clean();
    }
}

#[test]
fn a_guest_that_does_not_read_stops_the_host_and_lets_it_go_on() {
    for lose in [None, Some(5)] {
        let mut rig = Rig::new(OFFLOADS, Vec::new());
        let (end, mut host) = rig.pair(1000, Manner { buffer: 50_000, ..PLAIN });
        let bytes = noise(3_000_000, 8);
        let mut sent = 0;
        rig.until("the guest is full", |rig| {
            sent += host.write(&bytes[sent..]).unwrap_or(0);
            rig.ends[end].inbox.len() > 40_000
        });
        assert!(MEMORY - rig.tcp.room.left() <= 128 << 10, "{}", MEMORY - rig.tcp.room.left());
        rig.lose = lose;
        // It asks now and then whether it may go on, and never gives up.
        let frames = rig.frames;
        rig.pass(Duration::from_secs(300));
        let asked = rig.frames - frames;
        assert!((30..200).contains(&asked), "{asked}");
        let mut got = Vec::new();
        rig.until("the rest", |rig| {
            sent += host.write(&bytes[sent..]).unwrap_or(0);
            got.extend(rig.ends[end].read());
            got.len() == bytes.len()
        });
        assert!(got == bytes);
        let rst = rig.ends[end].rst();
        rig.send(&rst);
        rig.is_clean();
    }
}

#[test]
fn a_guest_that_is_silent_is_given_up_after_two_minutes() {
    let mut rig = Rig::new(0, Vec::new());
    let (_, mut host) = rig.pair(1000, PLAIN);
    rig.lose = Some(1);
    host.write_all(b"anybody?").unwrap();
    let (begun, frames) = (rig.now, rig.frames);
    rig.until("it is given up", |rig| rig.tcp.flows() == 0);
    let took = (rig.now - begun).as_secs();
    assert!((118..123).contains(&took), "{took}");
    assert!((20..40).contains(&(rig.frames - frames)), "{}", rig.frames - frames);
    let error = rig.host_end(&mut host).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    rig.is_clean();
}

#[test]
fn a_guest_without_room_is_waited_for_and_nothing_wakes_us() {
    let mut rig = Rig::new(0, Vec::new());
    let (end, mut host) = rig.pair(1000, PLAIN);
    rig.rounds(10);
    assert_eq!(rig.tcp.deadline(), None, "an idle connection");
    rig.room = 0;
    host.write_all(&noise(100_000, 1)).unwrap();
    rig.rounds(20);
    assert_eq!(rig.tcp.deadline(), None, "a guest without room");
    rig.pass(Duration::from_secs(200));
    rig.room = 3;
    rig.until("bytes", |rig| rig.ends[end].inbox.len() == 100_000);
    let rst = rig.ends[end].rst();
    rig.send(&rst);
    rig.is_clean();
}

#[test]
fn a_guest_that_boots_anew_may_use_the_same_ports() {
    let mut rig = Rig::new(0, Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = gateway(listener.local_addr().unwrap().port());
    let first = rig.dial(1000, peer, PLAIN);
    rig.until("a connection", |rig| rig.ends[first].up);
    let (mut before, _) = listener.accept().unwrap();
    before.set_nonblocking(true).unwrap();
    rig.ends.clear();
    let second = rig.dial(1000, peer, PLAIN);
    rig.until("another", |rig| rig.ends[second].up);
    let error = rig.host_end(&mut before).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let (mut after, _) = listener.accept().unwrap();
    after.set_nonblocking(true).unwrap();
    rig.exchange(second, &mut after, b"who are you?", b"the same");
    // The device is reset: the host's side is, too.
    rig.tcp.activate(None, MTU);
    let error = rig.host_end(&mut after).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    rig.is_clean();
}

/// A port of the host's that leads to the guest's port 80.
fn forwarded() -> (Vec<Listener>, SocketAddr) {
    let host = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(Forward { transport: Transport::Tcp, host, guest: 80 }).unwrap();
    let local = listener.local();
    (vec![listener], local)
}

fn client(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

#[test]
fn a_client_reaches_the_guest_and_seems_to_be_the_gateway() {
    let (listeners, local) = forwarded();
    let mut rig = Rig::new(OFFLOADS, listeners);
    rig.listens = Some((80, PLAIN));
    let mut host = client(local);
    rig.until("a call", |rig| rig.ends.len() == 1);
    let from = host.local_addr().unwrap().port();
    assert_eq!(rig.ends[0].key, Key { guest: guest(80), peer: gateway(from) });
    rig.exchange(0, &mut host, &noise(700_000, 1), &noise(900_000, 2));
    host.shutdown(std::net::Shutdown::Write).unwrap();
    rig.until("an end", |rig| rig.ends[0].ended);
    rig.ends[0].write(b"bye");
    rig.ends[0].finish();
    assert_eq!(rig.host_reads(&mut host, 3), b"bye");
    rig.host_end(&mut host).unwrap();
    rig.is_clean();
}

#[test]
fn a_client_waits_for_a_guest_that_is_not_up_and_is_there_when_it_is() {
    let (listeners, local) = forwarded();
    let mut rig = Rig::new(0, listeners);
    let mut host = client(local);
    host.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    rig.until("a call", |rig| !rig.strays.is_empty());
    rig.pass(Duration::from_secs(1));
    let often = rig.strays.len();
    assert!((10..20).contains(&often), "{often}");
    rig.pass(Duration::from_secs(10));
    let seldom = rig.strays.len() - often;
    assert!((9..12).contains(&seldom), "{seldom}");
    assert!(rig.strays.iter().all(|stray| stray.segment.syn && stray.key.guest == guest(80)));
    rig.listens = Some((80, PLAIN));
    let begun = rig.now;
    rig.tcp.guest_spoke(guest(0).ip(), rig.now);
    rig.until("a question", |rig| rig.ends.iter().any(|end| end.inbox.len() == 18));
    assert!(rig.now - begun < ms(10));
    let rst = rig.ends[0].rst();
    rig.send(&rst);
    assert!(rig.host_end(&mut host).is_err());
    rig.is_clean();
}

#[test]
fn a_guest_at_another_address_is_called_there() {
    let (listeners, local) = forwarded();
    let mut rig = Rig::new(0, listeners);
    let _host = client(local);
    rig.until("a call", |rig| !rig.strays.is_empty());
    rig.tcp.guest_spoke("10.0.2.77".parse().unwrap(), rig.now);
    rig.listens = Some((80, PLAIN));
    rig.until("a connection", |rig| !rig.ends.is_empty());
    assert_eq!(rig.ends[0].key.guest, "10.0.2.77:80".parse().unwrap());
    let _other = client(local);
    rig.tcp.guest_spoke(guest(0).ip(), rig.now);
    rig.until("another", |rig| rig.ends.len() == 2);
    assert_eq!(rig.ends[1].key.guest, guest(80));
}

#[test]
fn a_client_is_reset_when_the_guest_refuses_or_never_comes_up() {
    let (listeners, local) = forwarded();
    let mut rig = Rig::new(0, listeners);
    let mut host = client(local);
    rig.until("a call", |rig| !rig.strays.is_empty());
    let called = rig.strays[0].segment;
    let refusal = Say { ack: Some(called.seq.add(1)), flags: RST, ..Say::default() };
    let key = rig.strays[0].key;
    // One that answers something else is nobody's.
    rig.send(&segment(key, Say { ack: Some(called.seq), ..refusal }, false));
    assert_eq!(rig.tcp.flows(), 1);
    rig.send(&segment(key, refusal, false));
    assert!(rig.host_end(&mut host).is_err());
    rig.is_clean();
    let mut host = client(local);
    rig.rounds(10);
    rig.pass(Duration::from_secs(76));
    assert!(rig.host_end(&mut host).is_err());
    rig.is_clean();
}

#[test]
fn a_client_that_does_not_wait_is_forgotten() {
    let (listeners, local) = forwarded();
    let mut rig = Rig::new(0, listeners);
    let host = client(local);
    rig.until("a call", |rig| !rig.strays.is_empty());
    let host = socket_reset(host);
    rig.until("it is gone", |rig| rig.tcp.flows() == 0);
    rig.is_clean();
    drop(host);
}

/// Closes it by a reset.
fn socket_reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

#[test]
fn what_the_guest_knows_of_an_earlier_connection_is_reset_and_the_call_goes_on() {
    let (listeners, local) = forwarded();
    let mut rig = Rig::new(0, listeners);
    let _host = client(local);
    rig.until("a call", |rig| !rig.strays.is_empty());
    let key = rig.strays.pop().unwrap().key;
    let old = Say { seq: Seq(5), ack: Some(Seq(99)), ..Say::default() };
    rig.send(&segment(key, old, false));
    rig.until("a reset", |rig| rig.strays.iter().any(|stray| stray.segment.rst));
    let reset = rig.strays.iter().find(|stray| stray.segment.rst).unwrap();
    assert_eq!(reset.segment.seq, Seq(99));
    rig.listens = Some((80, PLAIN));
    rig.until("a connection", |rig| rig.ends.iter().any(|end| end.up));
}

#[test]
fn clients_from_the_same_port_have_different_ports_for_the_guest() {
    let mut rig = Rig::new(0, Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut streams = Vec::new();
    for from in
        ["127.0.0.1:5000", "127.0.0.2:5000", "10.0.2.9:5000", "192.0.2.1:5000", "[::1]:5000"]
    {
        let stream = crate::io::socket::Stream::connect(listener.local_addr().unwrap()).unwrap();
        rig.tcp.forward(stream, from.parse().unwrap(), 80, rig.now);
        streams.push(listener.accept().unwrap());
    }
    rig.until("calls", |rig| rig.strays.len() >= 5);
    let mut peers: Vec<_> = rig.strays.iter().take(5).map(|stray| stray.key.peer).collect();
    assert_eq!((peers[0], peers[3]), (gateway(5000), "192.0.2.1:5000".parse().unwrap()));
    assert_eq!(peers.iter().filter(|peer| peer.ip() == gateway(1).ip()).count(), 4);
    peers.sort_unstable();
    peers.dedup();
    assert_eq!(peers.len(), 5);
}

#[test]
fn ipv6_is_the_same_in_longer() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        println!("skipped: this machine has no IPv6");
        return;
    };
    let forward =
        Forward { transport: Transport::Tcp, host: "[::1]:0".parse().unwrap(), guest: 80 };
    let forward = Listener::bind(forward).unwrap();
    let local = forward.local();
    let mut rig = Rig::new(OFFLOADS, vec![forward]);
    let six: IpAddr = "fec0::15".parse().unwrap();
    rig.tcp.guest_spoke(six, rig.now);
    let peer = SocketAddr::new("fec0::2".parse().unwrap(), listener.local_addr().unwrap().port());
    let manner = Manner { mss: 1440, ..PLAIN };
    let end = End::new(Key { guest: SocketAddr::new(six, 1000), peer }, manner, 5);
    let syn = end.syn();
    rig.ends.push(end);
    rig.send(&syn);
    rig.until("a connection", |rig| rig.ends[0].up);
    let mut host = listener.accept().unwrap().0;
    host.set_nonblocking(true).unwrap();
    rig.exchange(0, &mut host, &noise(300_000, 1), &noise(300_000, 2));
    rig.listens = Some((80, manner));
    let mut other = client(local);
    rig.until("a call", |rig| rig.ends.len() == 2);
    assert_eq!(rig.ends[1].key.guest, SocketAddr::new(six, 80));
    assert_eq!(rig.ends[1].key.peer.ip(), peer.ip());
    rig.exchange(1, &mut other, &noise(300_000, 1), &noise(300_000, 2));
    rig.tcp.activate(None, MTU);
    rig.is_clean();
}

#[test]
fn a_flood_of_syns_is_bounded_and_disturbs_nobody() {
    let mut rig = Rig::new(0, Vec::new());
    let (end, mut host) = rig.pair(999, PLAIN);
    // A host that has no room for connections leaves them half open.
    let listener = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(&listener, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let local: SocketAddr = rustix::net::getsockname(&listener).unwrap().try_into().unwrap();
    for port in 0..2000 {
        let key = Key { guest: guest(2000 + port), peer: gateway(local.port()) };
        rig.send(&segment(key, Say { flags: SYN, mss: Some(1460), ..Say::default() }, false));
        assert!(rig.tcp.opening <= HALF_OPEN);
    }
    assert_eq!(rig.tcp.flows(), HALF_OPEN + 1);
    assert!(rig.tcp.counters().dropped >= 2000 - HALF_OPEN as u64);
    rig.exchange(end, &mut host, &noise(100_000, 1), &noise(100_000, 2));
    // Whoever does not answer is given up.
    rig.pass(Duration::from_secs(76));
    rig.rounds(600);
    assert_eq!(rig.tcp.flows(), 1);
    let told = std::iter::from_fn(|| rig.tcp.unreachable()).count();
    assert!((1..=connect::UNREACHABLE).contains(&told), "{told}");
    let rst = rig.ends[end].rst();
    rig.send(&rst);
    rig.is_clean();
}

#[test]
fn five_thousand_connections_in_a_row_leave_nothing() {
    let mut rig = Rig::new(0, Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = gateway(listener.local_addr().unwrap().port());
    for round in 0..5000u16 {
        let end = rig.dial(1000 + round, peer, PLAIN);
        rig.until("a connection", |rig| rig.ends[end].up);
        let (mut host, _) = listener.accept().unwrap();
        host.set_nonblocking(true).unwrap();
        host.write_all(b"!").unwrap();
        drop(host);
        rig.until("a byte and an end", |rig| rig.ends[end].ended);
        rig.ends[end].finish();
        rig.until("the end", |rig| rig.ends[end].fin_acked);
        rig.ends.clear();
    }
    assert!(rig.now < ms(900), "none has lingered for its time: {:?}", rig.now);
    rig.is_clean();
}

#[test]
fn a_thousand_idle_connections_cost_no_memory_and_no_time() {
    let mut rig = Rig::new(OFFLOADS, Vec::new());
    let mut pairs: Vec<_> = (0..300).map(|port| rig.pair(1000 + port, PLAIN)).collect();
    let (last, host) = pairs.last_mut().unwrap();
    rig.exchange(*last, host, b"a question", b"an answer");
    rig.rounds(10);
    assert_eq!(rig.tcp.room.left(), MEMORY);
    assert_eq!(rig.tcp.deadline(), None);
    assert!(rig.tcp.queue.is_empty());
    drop(pairs);
    rig.ends.iter_mut().for_each(End::finish);
    rig.is_clean();
}

#[test]
fn segments_of_every_kind_at_every_state_do_no_harm() {
    // N54
    let (listeners, local) = forwarded();
    let mut rig = Rig::new(0, listeners);
    let mut random = noise(1 << 16, 11).into_iter().cycle();
    let mut next = || u32::from_le_bytes(std::array::from_fn(|_| random.next().unwrap()));
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    echo.set_nonblocking(true).unwrap();
    let peer = gateway(echo.local_addr().unwrap().port());
    let (mut clients, mut accepted) = (Vec::new(), Vec::new());
    let mut last = (Seq(0), Seq(0));
    for round in 0..30_000 {
        if round % 500 == 0 {
            clients.truncate(5);
            clients.push(client(local));
        }
        if let Ok((mut stream, _)) = echo.accept() {
            stream.set_nonblocking(true).unwrap();
            let _ = stream.write(&noise(3000, 1));
            accepted.push(stream);
            accepted.drain(..accepted.len().saturating_sub(4));
        }
        let key = match next() % 4 {
            0 => Key { guest: guest(80), peer: gateway(client_port(&clients)) },
            1 => Key { guest: guest(80), peer: guest(80) },
            _ => Key { guest: guest(1000 + u16::try_from(next() % 3).unwrap()), peer },
        };
        let near = |seq: Seq, by: u32| seq.add(usize::from(by.to_le_bytes()[0])).back(128);
        let data = noise(usize::try_from(next() % 90).unwrap(), 2);
        let say = Say {
            seq: if next() % 3 == 0 { Seq(next()) } else { near(last.0, next()) },
            ack: match next() % 4 {
                0 => None,
                1 => Some(Seq(next())),
                2 => Some(near(last.1, next())),
                _ => Some(last.1),
            },
            flags: next().to_le_bytes()[0] & if next() % 2 == 0 { 0xff } else { SYN | FIN },
            window: u16::try_from(next() & 0xffff).unwrap(),
            mss: (next() % 3 == 0).then_some(u16::try_from(next() & 0xffff).unwrap()),
            scale: (next() % 3 == 0).then_some(next().to_le_bytes()[0]),
            data: &data,
        };
        let mut sent = segment(key, say, false);
        match next() % 5 {
            0 => {
                let place = usize::try_from(next()).unwrap() % sent.bytes.len();
                sent.bytes[place] ^= next().to_le_bytes()[0];
                guest::sum(key, &mut sent.bytes);
            }
            1 => sent.bytes.truncate(usize::try_from(next()).unwrap() % 60),
            2 => sent.unsummed = true,
            _ => {}
        }
        rig.send(&sent);
        rig.strays.clear();
        rig.round();
        if let Some(stray) = rig.strays.last() {
            last = (
                stray.segment.ack.unwrap_or(last.0),
                stray.segment.seq.add(stray.segment.length()),
            );
        }
        if round % 1000 == 0 {
            rig.now += Duration::from_secs(10);
        }
    }
    drop((clients, accepted));
    rig.tcp.activate(None, MTU);
    rig.pass(Duration::from_secs(100));
    rig.is_clean();
}

fn client_port(clients: &[TcpStream]) -> u16 {
    clients.last().unwrap().local_addr().unwrap().port()
}
