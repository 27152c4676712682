//! A driver, and a folder of sockets.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use vm_memory::VolatileSlice;

use crate::devices::virtio::served::Served;
use crate::devices::virtio::tests::{self as driver, DESCRIPTORS, NEXT, WRITE, place_of, reg};
use crate::devices::virtio::vsock::packet::{Header, Op, Ports};
use crate::devices::virtio::vsock::{HEADER, HOST, Sockets, Vsock};
use crate::io::event_loop::EventLoop;
use crate::net::frame::Bytes;

pub(super) const CID: u64 = 77;
pub(super) const SIZE: u16 = 256;
/// A buffer of 4 KiB for each descriptor of the receive queue, and one for what is sent.
const RECEIVED: u64 = 0x10_0000;
const SENT: u64 = 0x40_0000;
pub(super) const BUFFER: u32 = 4096;

/// What the guest was sent: a header and the bytes behind it.
pub(super) type Packet = (Header, Vec<u8>);

pub(super) struct Rig {
    pub(super) driver: driver::Rig,
    event_loop: EventLoop,
    folder: tempfile::TempDir,
    /// How many packets were taken out of the receive queue.
    seen: u16,
}

impl Rig {
    /// A device in service, with room for packets.
    pub(super) fn new() -> Self {
        let mut rig = Self::without_room();
        rig.make_room(SIZE, BUFFER);
        rig
    }

    /// One without.
    pub(super) fn without_room() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sockets = Sockets::open(&folder.path().join("v")).unwrap();
        let event_loop = EventLoop::new().unwrap();
        let mut vsock = Vsock::new(CID, sockets);
        vsock.watch(event_loop.watcher().unwrap()).unwrap();
        let driver = driver::Rig::served(Box::new(vsock)).with_queues(3, SIZE);
        let mut rig = Self { driver, event_loop, folder, seen: 0 };
        rig.start();
        rig
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        self.driver.device::<Vsock>().connections()
    }

    pub(super) fn status(&self) -> u64 {
        self.driver.status()
    }

    pub(super) fn config(&self) -> u64 {
        self.driver.read(reg::CONFIG)
    }

    pub(super) fn start(&mut self) {
        self.driver.empty_queues();
        self.driver.start(0);
        self.seen = 0;
        self.turn();
    }

    pub(super) fn reset(&mut self) {
        self.driver.write(reg::STATUS, 0);
        self.turn();
        assert_eq!(self.status(), 0);
    }

    /// Everything that can happen now happens.
    pub(super) fn turn(&mut self) {
        for _ in 0..1000 {
            self.event_loop.turn(Some(Duration::ZERO)).unwrap();
            let ready = self.event_loop.ready().to_vec();
            self.driver.hears(&ready);
            (0..3).for_each(|queue| self.driver.write(reg::QUEUE_NOTIFY, queue));
            self.driver.turn();
            if !self.driver.more() && ready.is_empty() {
                return;
            }
        }
        panic!("it goes on for ever");
    }

    fn descriptor(&self, queue: usize, index: u16, fields: (u64, u32, u16, u16)) {
        self.driver.descriptor_at(DESCRIPTORS + place_of(queue), index, fields);
    }

    /// Room for so many packets of so many bytes.
    pub(super) fn make_room(&mut self, count: u16, len: u32) {
        for _ in 0..count {
            let head = self.driver.offered_of(0) % SIZE;
            let at = RECEIVED + u64::from(head) * u64::from(BUFFER);
            self.descriptor(0, head, (at, len, WRITE, 0));
            self.driver.offer_to(0, head);
        }
    }

    /// What has come since, whose room is free again where `again`.
    pub(super) fn take(&mut self, again: bool) -> Vec<Packet> {
        let mut packets = Vec::new();
        while self.seen != self.driver.used_index() {
            let (head, len) = self.driver.used(self.seen);
            let buffer = RECEIVED + u64::from(head) * u64::from(BUFFER);
            let mut bytes = self.driver.bytes(buffer, len as usize);
            let header = header_of(&mut bytes);
            let rest = bytes.split_off(HEADER);
            assert_eq!(header.len as usize, rest.len());
            packets.push((header, rest));
            self.seen = self.seen.wrapping_add(1);
            if again {
                self.make_room(1, BUFFER);
            }
        }
        packets
    }

    /// Serves, and takes what has come, until nothing more does.
    pub(super) fn received(&mut self) -> Vec<Packet> {
        let mut all = Vec::new();
        loop {
            self.turn();
            let packets = self.take(true);
            if packets.is_empty() {
                return all;
            }
            all.extend(packets);
        }
    }

    /// What has come, by its operations.
    pub(super) fn heard(&mut self) -> Vec<Option<Op>> {
        self.received().iter().map(|(header, _)| header.op()).collect()
    }

    /// Puts a packet into the transmit queue: a header, and bytes, in pieces of their own.
    pub(super) fn put(&mut self, header: &Header, bytes: &[u8]) {
        let head = 2 * (self.driver.offered_of(1) % (SIZE / 2));
        let at = SENT + u64::from(head) * 0x8000;
        self.driver.write_bytes(at, &header.bytes());
        self.driver.write_bytes(at + 0x100, bytes);
        let len = u32::try_from(bytes.len()).unwrap();
        self.descriptor(1, head, (at, 44, NEXT, head + 1));
        self.descriptor(1, head + 1, (at + 0x100, len, 0, 0));
        self.driver.offer_to(1, head);
    }

    /// A chain as it is.
    pub(super) fn put_raw(&mut self, bytes: &[u8]) {
        self.driver.write_bytes(SENT, bytes);
        let len = u32::try_from(bytes.len()).unwrap();
        self.descriptor(1, 0, (SENT, len, 0, 0));
        self.driver.offer_to(1, 0);
    }

    /// How many packets of the guest's the device has not taken.
    pub(super) fn untaken(&self) -> u16 {
        self.driver.offered_of(1).wrapping_sub(self.driver.used_index_of(1))
    }

    pub(super) fn send(&mut self, header: &Header, bytes: &[u8]) {
        self.put(header, bytes);
        self.turn();
    }

    pub(super) fn path(&self, port: Option<u32>) -> PathBuf {
        let name = port.map_or("v".into(), |port| format!("v_{port}"));
        self.folder.path().join(name)
    }

    pub(super) fn listen(&self, port: u32) -> UnixListener {
        UnixListener::bind(self.path(Some(port))).unwrap()
    }

    /// A program of the host's that has a connection with the guest's port.
    pub(super) fn call(&mut self, port: u32) -> (UnixStream, Ports) {
        let mut program = UnixStream::connect(self.path(None)).unwrap();
        writeln!(program, "CONNECT {port}").unwrap();
        let asked = self.received();
        let [(request, _)] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!((request.op(), request.destination_port), (Some(Op::Request), port));
        let ports = Ports { guest: port, host: request.source_port };
        self.send(&guest(ports, Op::Response), &[]);
        assert_eq!(line(&mut program), format!("OK {}", ports.host));
        (program, ports)
    }

    /// A connection of the guest's with a program that listens.
    pub(super) fn dial(&mut self, listener: &UnixListener, ports: Ports) -> UnixStream {
        self.send(&guest(ports, Op::Request), &[]);
        assert_eq!(self.heard(), [Some(Op::Response)]);
        listener.accept().unwrap().0
    }
}

/// One line, without its end.
pub(super) fn line(program: &mut UnixStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while program.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

pub(super) fn header_of(bytes: &mut [u8]) -> Header {
    let slice = [VolatileSlice::from(bytes)];
    Header::read(Bytes::new(&slice)).unwrap()
}

/// A header of the guest's, with room for 64 KiB.
pub(super) fn guest(ports: Ports, op: Op) -> Header {
    let to = Header::to_guest(CID, ports, op);
    Header {
        source: CID,
        destination: HOST,
        source_port: ports.guest,
        destination_port: ports.host,
        buf_alloc: 65536,
        ..to
    }
}

/// Bytes in a packet of the guest's.
pub(super) fn data(ports: Ports, bytes: &[u8]) -> Header {
    Header { len: u32::try_from(bytes.len()).unwrap(), ..guest(ports, Op::Data) }
}

/// All that a program reads without waiting.
pub(super) fn read_all(program: &UnixStream) -> Vec<u8> {
    program.set_nonblocking(true).unwrap();
    let mut all = Vec::new();
    let _ = (&*program).read_to_end(&mut all);
    program.set_nonblocking(false).unwrap();
    all
}

/// Whether the other end of a program's connection is gone.
pub(super) fn is_closed(program: &UnixStream) -> bool {
    program.set_nonblocking(true).unwrap();
    let end = (&*program).read(&mut [0]);
    program.set_nonblocking(false).unwrap();
    let _ = program.as_fd();
    matches!(end, Ok(0)) || end.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset)
}
