//! A guest's TCP on one side, sockets on the other.

mod forwards;
mod guest;
mod limits;
mod outbound;

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};

use rustix::io::Errno;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
};

use super::seq::Seq;
use super::*;
use crate::io::event_loop::EventLoop;
use crate::net::frame::Offload;
use crate::net::testing::{Mailbox, Sheet};
use crate::net::user::guest::Addresses;
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

/// Those of a guest that has IPv6, too.
fn with_ipv6() -> Addresses {
    Addresses { six: Some("fec0::15".parse().unwrap()), ..Addresses::default() }
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
    random: u64,
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
            random: 1,
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
        // Not every so-and-so-many: what is repeated might be hit each time.
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        let random = usize::try_from(self.random >> 33).unwrap();
        if self.lose.is_some_and(|lose| random.is_multiple_of(lose)) {
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

/// Closes it by a reset.
fn socket_reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}
