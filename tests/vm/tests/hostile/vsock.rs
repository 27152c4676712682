//! What no good driver does with a socket device (virtio 1.2 §5.10), and what a good one does with
//! programs on the host.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::driver::register::*;
use super::driver::*;
use super::script::{Bus, Script};
use super::{Folder, Guest, Runner, accelerator, or_skip};

const CID: u64 = 3;
const HOST: u64 = 2;

/// Operations (§5.10.6).
const REQUEST: u16 = 1;
const RESPONSE: u16 = 2;
const RST: u16 = 3;
const SHUTDOWN: u16 = 4;
const RW: u16 = 5;
const CREDIT_UPDATE: u16 = 6;
const CREDIT_REQUEST: u16 = 7;

const HEADER_LEN: u32 = 44;

/// Where the receive and event queues are; the transmit queue is where the disk's is.
const RECEIVE: Queue = Queue {
    size: 8,
    descriptors: RAM + 0x25_0000,
    available: RAM + 0x25_2000,
    used: RAM + 0x25_4000,
};
const EVENT: Queue = Queue {
    size: 8,
    descriptors: RAM + 0x27_0000,
    available: RAM + 0x27_2000,
    used: RAM + 0x27_4000,
};

/// What is received: a buffer of this many bytes for each entry of the queue.
const BUFFER: u64 = RAM + 0x26_0000;
const BUFFER_LEN: u64 = 2048;

/// A packet's header; a good one's, if nothing in it is changed.
#[derive(Clone, Copy)]
struct Packet {
    source: u64,
    destination: u64,
    ports: (u32, u32),
    len: u32,
    kind: u16,
    op: u16,
    flags: u32,
    buf_alloc: u32,
    fwd_cnt: u32,
}

/// From a port of the guest's to one of the host's.
fn packet(op: u16, guest: u32, host: u32) -> Packet {
    Packet {
        source: CID,
        destination: HOST,
        ports: (guest, host),
        len: 0,
        kind: 1,
        op,
        flags: 0,
        buf_alloc: 0x1_0000,
        fwd_cnt: 0,
    }
}

impl Packet {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = self.source.to_le_bytes().to_vec();
        bytes.extend(self.destination.to_le_bytes());
        for word in [self.ports.0, self.ports.1, self.len] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend([self.kind.to_le_bytes(), self.op.to_le_bytes()].concat());
        for word in [self.flags, self.buf_alloc, self.fwd_cnt] {
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }
}

/// Where the nth packet that is received lies.
fn received(nth: u64) -> u64 {
    BUFFER + BUFFER_LEN * (nth % 8)
}

/// Every entry of a ring of eight, once.
const EACH: [u16; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

impl Script {
    /// Brings the device into service, without room for packets.
    fn start_sockets(self) -> Self {
        let rings = [AVAILABLE, USED, RECEIVE.available, RECEIVE.used];
        rings
            .into_iter()
            .fold(self, |script, ring| script.store(4, ring, 0))
            .negotiate(VERSION_1)
            .nth_queue(0, RECEIVE)
            .nth_queue(1, QUEUE)
            .nth_queue(2, EVENT)
            .set(STATUS, DRIVER_OK)
            .get(STATUS, 0xf)
    }

    /// Makes room for eight packets, each of so many bytes.
    fn room_for_packets(self, len: u32) -> Self {
        let buffers: Vec<Descriptor> = (0..8).map(|nth| (received(nth), len, WRITE, 0)).collect();
        let heads: Vec<u8> = EACH.iter().flat_map(|head| head.to_le_bytes()).collect();
        self.descriptors(RECEIVE.descriptors, &buffers)
            .copy(RECEIVE.available + 4, &heads)
            .add(RECEIVE.available + 2, 8)
            .set(QUEUE_NOTIFY, 0)
    }

    /// Puts a packet where all that are sent lie.
    fn packet(self, packet: Packet, bytes: &[u8]) -> Self {
        let len = HEADER_LEN + u32::try_from(bytes.len()).unwrap();
        self.copy(DATA, &[&packet.bytes()[..], bytes].concat())
            .chain(&[(DATA, len, 0, 0); 8])
            .place(&EACH)
    }

    /// Sends it once more.
    fn post(self) -> Self {
        self.add(AVAILABLE + 2, 1).set(QUEUE_NOTIFY, 1)
    }

    /// Sends a packet, as the nth since the start, and sees it taken.
    fn sends(self, nth: u16, one: Packet, bytes: &[u8]) -> Self {
        let one = Packet { len: u32::try_from(bytes.len()).unwrap(), ..one };
        self.packet(one, bytes).post().served(nth)
    }

    /// Waits for the nth packet since the start, counted from 0, which is for this.
    fn hears(self, nth: u64, op: u16) -> Self {
        self.wait(2, RECEIVE.used + 2, u64::MAX, nth + 1).expect(2, received(nth) + 30, op.into())
    }

    /// Resets the device, and is told as ever that nobody is at a port.
    fn sockets_recover(self) -> Self {
        self.reset()
            .get(INTERRUPT_STATUS, 0)
            .start_sockets()
            .room_for_packets(2048)
            .sends(1, packet(REQUEST, 77, 99), &[])
            .hears(0, RST)
            .expect(8, received(0) + 16, 77 << 32 | 99)
    }
}

/// A guest with a socket device and no other, and its socket.
fn guest(script: Script) -> (Guest, PathBuf) {
    let guest = Guest::new(script).without_disk();
    // Where tests are run by root, runner becomes nobody.
    guest.folder.mode("", 0o777);
    let path = guest.folder.path().join("v.sock");
    let option = format!("--vsock={}", path.display());
    (guest.option(&option), path)
}

/// On both buses, nothing that runner speaks of; after it the device serves as ever.
fn served(steps: impl Fn(Script) -> Script) {
    for bus in [Bus::Mmio, Bus::Pci] {
        let script = steps(Script::on(bus).start_sockets()).sockets_recover().end(0);
        let (guest, path) = guest(script);
        guest.passes();
        assert!(!path.exists(), "the socket goes with the run");
    }
}

/// On both buses, with what runner has to say.
fn stops(steps: impl Fn(Script) -> Script, fault: &str) {
    for bus in [Bus::Mmio, Bus::Pci] {
        let script = steps(Script::on(bus).start_sockets()).broken().sockets_recover().end(0);
        guest(script).0.stops("vsock0", fault);
    }
}

/// Somebody who listens for a port of the guest's.
fn listener(path: &Path, port: u32) -> UnixListener {
    let path = format!("{}_{port}", path.display());
    let listener = UnixListener::bind(&path).unwrap();
    let all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(path, all).unwrap();
    listener
}

#[test]
fn headers_that_are_not_whole_and_buffers_without_room_for_one_stop_the_device() {
    or_skip!(accelerator());
    let fault = "the chain at descriptor 0: no whole header";
    for len in [0, 1, 43] {
        stops(|s| s.packet(packet(RW, 1, 2), &[]).chain(&[(DATA, len, 0, 0)]).post(), fault);
    }
    stops(|s| s.packet(packet(RW, 1, 2), &[]).chain(&[(DATA, 2048, WRITE, 0)]).post(), fault);
    for len in [0, 43] {
        stops(|s| s.room_for_packets(len).packet(packet(RW, 1, 2), &[]).post(), fault);
    }
    let outside =
        "the chain at descriptor 0: a buffer of 44 bytes at 0x100000000 is not in the guest's RAM";
    stops(|s| s.packet(packet(RW, 1, 2), &[]).chain(&[(1 << 32, 44, 0, 0)]).post(), outside);
}

#[test]
fn what_makes_no_sense_is_answered_by_a_reset_and_another_cid_by_nothing() {
    or_skip!(accelerator());
    let good = packet(REQUEST, 5, 6);
    let odd = [
        packet(RESPONSE, 5, 6),
        packet(SHUTDOWN, 5, 6),
        packet(RW, 5, 6),
        packet(CREDIT_UPDATE, 5, 6),
        packet(CREDIT_REQUEST, 5, 6),
        packet(0, 5, 6),
        packet(8, 5, 6),
        packet(u16::MAX, 5, 6),
        Packet { kind: 0, ..good },
        Packet { kind: 2, ..good },
        Packet { kind: u16::MAX, ..good },
        Packet { destination: 0, ..good },
        Packet { destination: 1, ..good },
        Packet { destination: CID, ..good },
        Packet { destination: u64::MAX, ..good },
        Packet { len: 1, ..packet(RW, 5, 6) },
        Packet { len: u32::MAX, ..packet(RW, 5, 6) },
    ];
    for odd in odd {
        served(|s| {
            s.room_for_packets(2048)
                .packet(odd, &[])
                .post()
                .hears(0, RST)
                .expect(8, received(0) + 16, 5 << 32 | 6)
                .expect(8, received(0), odd.destination)
        });
    }
    for source in [0, 1, HOST, CID | 1 << 32, u64::MAX] {
        served(|s| {
            s.room_for_packets(2048)
                .packet(Packet { source, ..good }, &[])
                .post()
                .served(1)
                .sends(2, good, &[])
                .hears(0, RST)
        });
    }
    // Nobody answers a reset by another.
    served(|s| {
        s.room_for_packets(2048)
            .sends(1, packet(RST, 5, 6), &[])
            .sends(2, good, &[])
            .hears(0, RST)
            .expect(2, RECEIVE.used + 2, 1)
    });
}

#[test]
fn a_flood_without_room_for_answers_is_bounded_and_goes_on_when_there_is_room() {
    or_skip!(accelerator());
    for one in [packet(RW, 1, 2), packet(REQUEST, 1, 2), packet(RST, 1, 2)] {
        served(|s| (1..=250).fold(s.packet(one, &[]), |s, nth| s.post().served(nth)));
    }
    // 256 answers wait; what is behind them is not taken before there is room for one more.
    let full =
        |s: Script| (1..=256).fold(s.packet(packet(RW, 1, 2), &[]), |s, nth| s.post().served(nth));
    served(|s| {
        full(s)
            .post()
            .times(1000, |s| s.set(QUEUE_NOTIFY, 1).set(QUEUE_NOTIFY, 0))
            .expect(2, USED + 2, 256)
            .room_for_packets(44)
            .wait(2, RECEIVE.used + 2, u64::MAX, 8)
            .served(257)
    });
}

#[test]
fn a_device_that_is_reset_a_hundred_times_among_packets_serves_on() {
    or_skip!(accelerator());
    let script = Script::default().times(100, |s| {
        s.start_sockets()
            .room_for_packets(2048)
            .packet(packet(REQUEST, 1, 2), &[])
            .add(AVAILABLE + 2, 8)
            .set(QUEUE_NOTIFY, 1)
            .reset()
    });
    guest(script.sockets_recover().end(0)).0.passes();
}

/// Bytes that a program of the host's sends and gets back.
const PING: &[u8; 4] = b"ping";
const PONG: &[u8; 4] = b"pong";

fn word(bytes: [u8; 4]) -> u64 {
    u32::from_le_bytes(bytes).into()
}

/// A guest that connects to the host's port 52, is connected to at its port 7, and ends.
fn talk(bus: Bus, nth: u64) -> Script {
    const CALLER: u32 = 1 << 30;
    Script::on(bus)
        .nth(nth)
        .start_sockets()
        .room_for_packets(2048)
        .sends(1, packet(REQUEST, 5000, 52), &[])
        .hears(0, RESPONSE)
        .sends(2, packet(RW, 5000, 52), PING)
        .hears(1, RW)
        .expect(4, received(1) + 44, word(*PONG))
        .sends(3, Packet { flags: 2, ..packet(SHUTDOWN, 5000, 52) }, &[])
        .hears(2, REQUEST)
        .expect(8, received(2) + 16, 7 << 32 | u64::from(CALLER))
        .sends(4, packet(RESPONSE, 7, CALLER), &[])
        .hears(3, RW)
        .expect(4, received(3) + 44, word(*PING))
        .sends(5, packet(RW, 7, CALLER), PONG)
        .sends(6, Packet { flags: 2, ..packet(SHUTDOWN, 7, CALLER) }, &[])
        .hears(4, SHUTDOWN)
        .expect(4, received(4) + 32, 3)
        .end(0)
}

/// What the host's programs do meanwhile: one thing at a time, as the guest waits for one. The connection
/// that is returned stays as long as the guest.
fn answer(listener: &UnixListener, path: &Path) -> UnixStream {
    let (mut called, _) = listener.accept().unwrap();
    let mut bytes = [0; 4];
    called.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, PING);
    called.write_all(PONG).unwrap();
    assert_eq!(called.read(&mut bytes).unwrap(), 0);
    let mut caller = UnixStream::connect(path).unwrap();
    caller.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    caller.write_all(b"CONNECT 7\n").unwrap();
    let mut line = [0; 14];
    caller.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"OK 1073741824\n");
    caller.write_all(PING).unwrap();
    let mut rest = Vec::new();
    caller.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, PONG);
    called
}

/// Guests that mean no harm, with a network and without, and what is to be done beside each. Each lives
/// as long as its folder.
pub(crate) fn with_sockets() -> [(Folder, Runner, impl FnOnce() -> UnixStream + Send + 'static); 2]
{
    ["--net=none", "--net=user"].map(|network| {
        let nth = u64::from(network == "--net=user");
        let (guest, path) = guest(talk(Bus::Mmio, nth));
        let listener = listener(&path, 52);
        let guest = guest.option(network);
        let run = guest.runner();
        (guest.folder, run, move || answer(&listener, &path))
    })
}

#[test]
fn programs_of_both_sides_reach_each_other() {
    or_skip!(accelerator());
    for bus in [Bus::Mmio, Bus::Pci] {
        let (guest, path) = guest(talk(bus, 0));
        let listener = listener(&path, 52);
        let beside = std::thread::spawn(move || answer(&listener, &path));
        guest.passes();
        beside.join().unwrap();
    }
}

#[test]
fn more_bytes_than_there_is_room_for_end_the_connection() {
    or_skip!(accelerator());
    for bus in [Bus::Mmio, Bus::Pci] {
        // A MiB at once, and packets until the window is full, of which nobody reads a byte.
        let big = Packet { len: 1 << 20, ..packet(RW, 5, 52) };
        let script = Script::on(bus)
            .start_sockets()
            .room_for_packets(2048)
            .sends(1, packet(REQUEST, 5, 52), &[])
            .hears(0, RESPONSE)
            .copy(DATA, &big.bytes())
            .chain(&[(DATA, HEADER_LEN, NEXT, 1), (BIG, 1 << 20, 0, 0)])
            .place(&[0, 0, 0, 0, 0, 0, 0, 0])
            .post()
            .hears(1, RST);
        let (guest, path) = guest(script.sockets_recover().end(0));
        let _listener = listener(&path, 52);
        guest.passes();
    }
}

#[test]
fn a_place_that_another_run_has_names_it() {
    or_skip!(accelerator());
    let script = Script::default().start_sockets().wait(2, USED + 2, u64::MAX, 1).end(0);
    let (guest, path) = guest(script);
    let running = guest.runner_for("60s").start();
    while UnixStream::connect(&path).is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let second = super::runner([format!("--vsock={}", path.display())]).arg("hello").refused();
    super::super::support::program::says(
        &second,
        &["v.sock: in use by ", &format!("(pid {})", running.id()), "choose another name"],
    );
    running.signal(rustix::process::Signal::TERM);
    assert_eq!(running.finish().status, Some(143));
    assert!(!path.exists());
}

#[test]
fn a_run_that_cannot_begin_leaves_no_socket() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let path = folder.path().join("v.sock");
    let option = format!("--vsock={}", path.display());
    let refusal = super::runner(["--cpus=60000", &option]).arg("hello").run();
    assert_eq!(refusal.status, Some(125), "{refusal}");
    assert!(!path.exists(), "{refusal}");
}
