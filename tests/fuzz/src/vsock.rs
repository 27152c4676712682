//! The socket device: registers and rings as any driver may use them, packets as any may send them, and
//! programs of the host's that come and go, on the real transport, device and sockets.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use runner::devices::virtio::served::Served;
use runner::devices::virtio::virtqueues::Virtqueues;
use runner::devices::virtio::vsock::{CONNECTIONS, HEADER, Sockets, Vsock};
use runner::io::event_loop::EventLoop;
use runner::machine::bus::Device;

use super::driver::{self, Behind, STATUS};
use super::input::Input;

const RAM: u64 = 0x8_0000;
const SIZE: u16 = 8;

/// Where the driver has its queues: descriptors, then the rings.
const QUEUES: [u64; 3] = [0x1000, 0x5000, 0x9000];
const PACKETS: u64 = 0x1_0000;
const BUFFERS: u64 = 0x2_0000;

const ACTIONS: usize = 256;
const CID: u64 = 3;
/// Where a program of the host's listens for the guest, and where nobody does.
const HOST_PORT: u32 = 52;
/// The first port of the host's in connections that it begins.
const FIRST: u32 = 1 << 30;

const REQUEST: u16 = 1;
const RESPONSE: u16 = 2;
const RW: u16 = 5;

/// A list of actions.
pub fn vsock(data: &[u8]) {
    let mut input = Input(data);
    let mut driver = Machine::new();
    for _ in 0..ACTIONS {
        if input.is_empty() {
            break;
        }
        driver.act(&mut input);
    }
    driver.check();
}

struct Machine {
    driver: driver::Driver,
    vsock: Vsock,
    queues: Virtqueues,
    event_loop: EventLoop,
    listener: UnixListener,
    /// Ends of connections that the host's programs have.
    programs: Vec<UnixStream>,
    now: Duration,
    folder: tempfile::TempDir,
}

impl Input<'_> {
    fn port(&mut self) -> (u32, u32) {
        match self.byte() % 4 {
            0 => (self.word(), self.word()),
            1 => (u32::from(self.byte() % 4), FIRST + u32::from(self.byte() % 4)),
            _ => (u32::from(self.byte() % 4), HOST_PORT),
        }
    }
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let sockets = Sockets::open(&folder.path().join("v")).expect("a socket");
        let listener = UnixListener::bind(folder.path().join(format!("v_{HOST_PORT}")));
        let listener = listener.expect("a socket");
        listener.set_nonblocking(true).expect("a listener");
        let event_loop = EventLoop::new().expect("a loop");
        let mut vsock = Vsock::new(CID, sockets);
        let (driver, Behind { transport, commands, .. }) =
            driver::Driver::new(vsock.identity("vsock0"), driver::memory(RAM), QUEUES.into(), SIZE);
        vsock.watch(event_loop.watcher().expect("a watcher")).expect("watched");
        let queues = Virtqueues::new(transport, commands);
        let (programs, now) = Default::default();
        Self { driver, vsock, queues, event_loop, listener, programs, now, folder }
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let action = input.byte();
        let queue = usize::from(action >> 4) % 3;
        match action % 16 {
            0 => {
                let (offset, width) = (u64::from(input.half() % 0x220), input.width());
                self.driver.mmio.write(offset, width, input.long() & width.mask());
            }
            1 => {
                let (offset, width) = (u64::from(input.half() % 0x220), input.width());
                self.driver.mmio.read(offset, width);
            }
            2 => self.driver.start(1),
            3 => {
                let at =
                    if input.one_in(8) { input.long() } else { BUFFERS + u64::from(input.half()) };
                let len = if input.one_in(8) { input.word() } else { input.half().into() };
                let fields = (at, len, input.half() % 8, input.half() % 9);
                self.driver.descriptor(queue, u64::from(input.byte() % 8), fields);
            }
            4 => self.driver.offer(queue, input.half() % 10),
            5 | 6 => self.packet(input),
            7 => {
                // Room, as good drivers have it.
                let len = 40 + u32::from(input.half() % 4096);
                self.room(len);
            }
            8 => self.driver.set(STATUS, 0),
            9 => self.connect(input),
            10 => self.programs.extend(self.listener.accept().ok().map(|(stream, _)| stream)),
            11 => {
                if let Some(mut program) = self.program(input) {
                    let bytes = vec![input.byte(); usize::from(input.half())];
                    let _ = program.write(&bytes);
                }
            }
            12 => {
                if let Some(mut program) = self.program(input) {
                    let _ = program.read(&mut vec![0; usize::from(input.half())]);
                }
            }
            13 => {
                let number = usize::from(input.byte());
                if let Some(program) = self.programs.get(number) {
                    let how = [std::net::Shutdown::Write, std::net::Shutdown::Read];
                    let _ = program.shutdown(how[usize::from(input.byte() % 2)]);
                    if input.one_in(2) {
                        self.programs.remove(number);
                    }
                }
            }
            14 => self.now += Duration::from_millis(input.byte().into()),
            _ => self.turn(),
        }
        assert!(self.vsock.connections() <= CONNECTIONS.into());
    }

    fn program(&self, input: &mut Input<'_>) -> Option<&UnixStream> {
        let program = self.programs.get(usize::from(input.byte()))?;
        program.set_nonblocking(true).ok()?;
        Some(program)
    }

    fn connect(&mut self, input: &mut Input<'_>) {
        let Ok(mut stream) = UnixStream::connect(self.folder.path().join("v")) else { return };
        let line = match input.byte() % 4 {
            0 => vec![input.byte(); usize::from(input.byte() % 40)],
            _ => format!("CONNECT {}\n", input.byte() % 4).into_bytes(),
        };
        let _ = stream.write(&line);
        self.programs.push(stream);
    }

    /// A packet: mostly one that makes sense somewhere.
    fn packet(&mut self, input: &mut Input<'_>) {
        let odd = input.byte();
        let (guest, host) = input.port();
        let op = if odd & 1 == 0 { u16::from(input.byte() % 8) } else { input.half() };
        let len = u32::from(input.half());
        let said = if odd & 2 == 0 { len } else { input.word() };
        let source = if odd & 0x1c == 0x1c { input.long() } else { CID };
        let destination = if odd & 0xe0 == 0xe0 { input.long() } else { 2 };
        let kind = if odd & 0x30 == 0x30 { input.half() } else { 1 };
        let words = (u32::from(input.byte()), input.word(), input.word());
        self.put(&header(source, destination, (guest, host), said, kind, op, words), len);
    }

    /// Offers a packet: its header, and `len` bytes of whatever is behind it.
    fn put(&mut self, header: &[u8; HEADER], len: u32) {
        let head = self.driver.offered[1] % SIZE;
        let at = PACKETS + u64::from(head) * 0x1000;
        self.driver.write(at, header);
        self.driver.descriptor(1, head.into(), (at, 44 + len % 0x8000, 0, 0));
        self.driver.offer(1, head);
    }

    fn room(&mut self, len: u32) {
        let head = self.driver.offered[0] % SIZE;
        let at = BUFFERS + u64::from(head) * 0x2000;
        self.driver.descriptor(0, head.into(), (at, len, 2, 0));
        self.driver.offer(0, head);
    }

    /// What there is to do is done, and that has an end.
    fn turn(&mut self) {
        for _ in 0..10_000 {
            self.event_loop.turn(Some(Duration::ZERO)).expect("a turn");
            let ready = self.event_loop.ready().to_vec();
            ready.iter().for_each(|ready| self.vsock.ready(*ready));
            if self.queues.obey() {
                self.vsock.reset();
            }
            (0..3).for_each(|queue| self.queues.ring(queue));
            let more = self.vsock.serve(&mut self.queues, &self.driver.memory, self.now);
            self.queues.tell(&self.driver.memory);
            if !more && ready.is_empty() {
                return;
            }
        }
        unreachable!("it goes on for ever");
    }

    /// The header of the nth packet that is received.
    fn received(&self, nth: u64) -> Vec<u8> {
        let mut bytes = vec![0; HEADER + 4];
        let at = BUFFERS + (nth % u64::from(SIZE)) * 0x2000;
        self.driver.read(at, &mut bytes);
        bytes
    }

    /// Whatever was done to it, the device can be reset, and then brings bytes of the guest's to a program
    /// and back.
    fn check(mut self) {
        self.programs.clear();
        self.driver.set(STATUS, 0);
        self.turn();
        assert_eq!(self.driver.get(STATUS), 0, "a reset that does not end");
        while self.listener.accept().is_ok() {}
        self.driver.clear();
        self.driver.start(1);
        self.turn();
        let ports = (77, HOST_PORT);
        self.put(&header(CID, 2, ports, 0, 1, REQUEST, (0, 0x1_0000, 0)), 0);
        self.room(0x1000);
        self.turn();
        assert_eq!(self.received(0)[30..32], RESPONSE.to_le_bytes(), "an answer");
        let (mut program, _) = self.listener.accept().expect("a connection");
        let data = header(CID, 2, ports, 4, 1, RW, (0, 0x1_0000, 0));
        let at = PACKETS + u64::from(self.driver.offered[1] % SIZE) * 0x1000;
        self.driver.write(at + 44, b"ping");
        self.put(&data, 4);
        self.turn();
        let mut bytes = [0; 4];
        program.read_exact(&mut bytes).expect("bytes of the guest's");
        assert_eq!(&bytes, b"ping");
        program.write_all(b"pong").expect("room");
        self.room(0x1000);
        self.turn();
        assert_eq!(self.received(1)[44..], *b"pong");
        assert_eq!(self.driver.get(STATUS), 0xf, "it works");
    }
}

/// A header of a guest's: flags, room and count last.
fn header(
    source: u64,
    destination: u64,
    (guest, host): (u32, u32),
    len: u32,
    kind: u16,
    op: u16,
    (flags, buf_alloc, fwd_cnt): (u32, u32, u32),
) -> [u8; HEADER] {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend([source, destination].into_iter().flat_map(u64::to_le_bytes));
    bytes.extend([guest, host, len].into_iter().flat_map(u32::to_le_bytes));
    bytes.extend([kind, op].into_iter().flat_map(u16::to_le_bytes));
    bytes.extend([flags, buf_alloc, fwd_cnt].into_iter().flat_map(u32::to_le_bytes));
    bytes.try_into().expect("44 bytes")
}
