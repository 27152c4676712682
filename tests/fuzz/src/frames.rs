//! The user-mode network: frames of a guest's, most of them good, and a world that answers, on sockets
//! of this host's loopback and no others: wherever a frame wants to go, a fence sends it there.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use runner::io::event_loop::EventLoop;
use runner::net::frame::{Bytes, Family, Frame, HEADER, LARGEST, Offload};
use runner::net::user::addresses::{DNS, DNS_MAC, GATEWAY, GATEWAY_MAC, GUEST, GUEST_MAC};
use runner::net::user::policy::Policy;
use runner::net::user::{GuestAddress, Options, User};
use runner::net::{Forward, Inbox, Link, Put, Sent, Transport};
use vm_memory::VolatileSlice;

use super::input::Input;

/// Actions in one input, at most.
const ACTIONS: usize = 256;

/// Bytes of the largest frame that is not a segment to be cut.
const LARGEST_PLAIN: usize = 1514;

/// Protocols of IP, and types of Ethernet.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ARP: [u8; 2] = [8, 6];
const IPV4: [u8; 2] = [8, 0];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// VIRTIO_NET_F_GUEST_CSUM, GUEST_TSO4 and GUEST_TSO6 (virtio 1.2 §5.1.3).
const GUEST_CSUM: u64 = 1 << 1;
const GUEST_TSO4: u64 = 1 << 7;
const GUEST_TSO6: u64 = 1 << 8;

/// A port of this host's that nobody is at.
const CLOSED: u16 = 1;

/// A list of actions.
pub fn frames(data: &[u8]) {
    let mut input = Input(data);
    let Ok(mut net) = Net::new() else {
        // No descriptors left, or no loopback: nothing to be found here.
        return;
    };
    for _ in 0..ACTIONS {
        if input.is_empty() {
            break;
        }
        net.act(&mut input);
    }
    net.finish();
}

/// The network, its guest, and the world.
struct Net {
    user: User,
    lp: EventLoop,
    now: Duration,
    guest: Guest,
    world: World,
    /// Where the ports are that are forwarded: of UDP's and of TCP's, and by IPv6 where there is any.
    forwarded: Vec<[SocketAddr; 2]>,
}

/// What the guest has accepted and got.
#[derive(Default)]
struct Guest {
    features: u64,
    room: usize,
    /// The last segment of TCP's: from where, to which port, what to acknowledge, from where on.
    heard: Option<(IpAddr, [u16; 2], u32, u32)>,
}

/// The rest of the host.
struct World {
    datagrams: UdpSocket,
    names: UdpSocket,
    listener: TcpListener,
    client: UdpSocket,
    client_6: Option<UdpSocket>,
    streams: Vec<TcpStream>,
}

impl World {
    fn new() -> io::Result<Self> {
        let any = (Ipv4Addr::LOCALHOST, 0);
        let [datagrams, names, client] =
            [UdpSocket::bind(any)?, UdpSocket::bind(any)?, UdpSocket::bind(any)?];
        let listener = TcpListener::bind(any)?;
        for socket in [&datagrams, &names, &client] {
            socket.set_nonblocking(true)?;
        }
        listener.set_nonblocking(true)?;
        let client_6 = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).ok();
        Ok(Self { datagrams, names, listener, client, client_6, streams: Vec::new() })
    }

    /// Ports that the guest may reach at the gateway.
    fn ports(&self) -> io::Result<[u16; 3]> {
        let port = |address: io::Result<SocketAddr>| Ok::<_, io::Error>(address?.port());
        Ok([port(self.datagrams.local_addr())?, port(self.listener.local_addr())?, CLOSED])
    }

    fn act(&mut self, input: &mut Input<'_>, forwarded: &[[SocketAddr; 2]]) {
        let mut buffer = [0; 2048];
        let [udp, tcp] = forwarded[usize::from(input.byte()) % forwarded.len()];
        match input.byte() % 8 {
            // An answer of any size, perhaps in fragments.
            0 => {
                if let Ok((_, from)) = self.datagrams.recv_from(&mut buffer) {
                    let bytes = vec![input.byte(); usize::from(input.half() % 9000)];
                    let _ = self.datagrams.send_to(&bytes, from);
                }
            }
            1 => {
                if let Ok((len, from)) = self.names.recv_from(&mut buffer) {
                    let bytes: [u8; 32] = input.bytes();
                    let flip = input.byte();
                    let answer = [&buffer[..len], &bytes[..usize::from(flip % 33)]].concat();
                    let answer: Vec<_> = answer
                        .into_iter()
                        .enumerate()
                        .map(|(at, byte)| if at == 2 { byte | 0x80 & !flip } else { byte })
                        .collect();
                    let _ = self.names.send_to(&answer, from);
                }
            }
            2 => {
                let client =
                    if udp.is_ipv4() { Some(&self.client) } else { self.client_6.as_ref() };
                let bytes = vec![1; usize::from(input.half() % 3000)];
                client.map(|client| client.send_to(&bytes, udp));
            }
            3 if self.streams.len() < 8 => {
                if let Ok((stream, _)) = self.listener.accept() {
                    self.keep(stream);
                }
            }
            4 if self.streams.len() < 8 => {
                if let Ok(stream) = TcpStream::connect(tcp) {
                    self.keep(stream);
                }
            }
            5 => {
                let len = usize::from(input.half());
                if let Some(stream) = self.streams.last_mut() {
                    let _ = stream.write(&vec![2; len]);
                }
            }
            6 => {
                if let Some(stream) = self.streams.first_mut() {
                    let _ = stream.read(&mut buffer);
                }
                let turn = usize::from(!self.streams.is_empty());
                self.streams.rotate_left(turn);
            }
            _ => {
                if let Some(stream) = self.streams.pop() {
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    if input.one_in(2) {
                        self.streams.insert(0, stream);
                    }
                }
            }
        }
    }

    fn keep(&mut self, stream: TcpStream) {
        if stream.set_nonblocking(true).is_ok() {
            self.streams.push(stream);
        }
    }
}

impl Net {
    fn new() -> io::Result<Self> {
        let world = World::new()?;
        let mut hosts = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        hosts.extend(world.client_6.as_ref().map(|_| SocketAddr::from((Ipv6Addr::LOCALHOST, 0))));
        let both = |host| {
            [Transport::Udp, Transport::Tcp].map(|transport| Forward { transport, host, guest: 80 })
        };
        let options = Options {
            policy: Policy { host_loopback: true, link_local: false },
            forwards: hosts.into_iter().flat_map(both).collect(),
            resolvers: vec![world.names.local_addr()?, (Ipv4Addr::LOCALHOST, CLOSED).into()],
            mac: GUEST_MAC,
            guest: GuestAddress::default(),
            port_wait: Duration::from_millis(100),
        };
        let mut user = User::open(options).map_err(|_| ErrorKind::AddrInUse)?;
        let lp = EventLoop::new()?;
        user.watch(lp.watcher()?)?;
        let forwards = user.forwards();
        let (pairs, _) = forwards.as_chunks::<2>();
        let forwarded = pairs.iter().map(|pair| pair.map(|(_, real)| real)).collect();
        user.activate(Some(0));
        let guest = Guest { room: 64, ..Guest::default() };
        Ok(Self { user, lp, now: Duration::ZERO, guest, world, forwarded })
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0..10 => self.send(input),
            10 | 11 => {
                self.guest.room = usize::from(input.byte());
                self.turn();
            }
            12 => {
                self.now += Duration::from_millis(u64::from(input.half()).pow(2) >> 12);
                self.turn();
            }
            13 | 14 => self.world.act(input, &self.forwarded),
            _ => {
                let features = u64::from(input.half());
                self.guest.features = features & (GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6);
                self.guest.heard = None;
                self.user.activate(None);
                self.user.activate(Some(self.guest.features));
            }
        }
    }

    fn send(&mut self, input: &mut Input<'_>) {
        let mut frame = match input.byte() % 12 {
            0 => arp(input),
            1 => dhcp(input),
            2 | 3 => self.guest.udp(input),
            4..8 => self.guest.tcp(input),
            8 => echo(input),
            9 => fragment(input),
            10 => Guest::ipv6(input),
            _ => {
                let bytes: [u8; 64] = input.bytes();
                bytes[..usize::from(input.byte() % 65)].to_vec()
            }
        };
        for _ in 0..(input.byte() / 64) * (input.byte() / 64) {
            let (at, value) = (usize::from(input.half()), input.byte());
            let len = frame.len().max(1);
            if let Some(byte) = frame.get_mut(at % len) {
                *byte = value;
            }
        }
        frame.truncate(frame.len() - frame.len().min(usize::from(input.byte() / 128)));
        self.fence(&mut frame, input);
        let mut header: [u8; HEADER] = [0; HEADER];
        if input.one_in(4) {
            header = input.bytes();
        }
        let Some(offload) = Offload::parse(&header, frame.len()) else { return };
        let middle = usize::from(input.half()) % (frame.len() + 1);
        let (first, second) = frame.split_at_mut(middle);
        let slices = [VolatileSlice::from(first), VolatileSlice::from(second)];
        let frame = Frame { offload, bytes: Bytes::new(&slices) };
        assert_eq!(self.user.send(&frame, self.now), Sent::Done);
    }

    /// Keeps a frame from leaving this world, and repairs most of what that breaks.
    fn fence(&self, frame: &mut [u8], input: &mut Input<'_>) {
        let repair = !input.one_in(8);
        let Ok(ports) = self.world.ports() else { return };
        let port = ports[usize::from(input.byte()) % ports.len()];
        // Who has been heard is in this world, too.
        let heard = self.guest.heard.map(|(_, [theirs, _], ..)| theirs.to_be_bytes());
        let is_heard = |place: Option<&[u8]>| heard.is_some_and(|heard| place == Some(&heard));
        match frame.get(12..14) {
            Some(kind) if kind == IPV4 && frame.len() >= 34 => {
                let places = [GATEWAY, DNS, GUEST, Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST];
                let destination = &mut frame[30..34];
                if !places.iter().any(|place| place.octets() == *destination) {
                    destination.copy_from_slice(&GATEWAY.octets());
                }
                let at_gateway = *destination == GATEWAY.octets();
                let body = 14 + usize::from(frame[14] & 0xf) * 4;
                let dhcp = frame[23] == UDP && frame.get(body + 2..body + 4) == Some(&[0, 67]);
                if at_gateway && !dhcp && !is_heard(frame.get(body + 2..body + 4)) {
                    // Whatever the protocol: it may be a fragment's first bytes.
                    put(frame, body + 2, &port.to_be_bytes());
                }
                if repair {
                    sum_ipv4(frame, body);
                }
            }
            Some(kind) if kind == IPV6 && frame.len() >= 54 => {
                let mut gateway = [0; 16];
                (gateway[0], gateway[1], gateway[15]) = (0xfe, 0xc0, 2);
                // Neighbours are looked for at other addresses; they have no ports.
                if frame[20] != 58 {
                    put(frame, 38, &gateway);
                    if !is_heard(frame.get(56..58)) {
                        put(frame, 56, &port.to_be_bytes());
                    }
                }
                if repair {
                    sum_ipv6(frame);
                }
            }
            _ => {}
        }
    }

    fn turn(&mut self) {
        self.lp.turn(Some(Duration::ZERO)).expect("waits for nothing");
        for ready in self.lp.ready() {
            self.user.ready(*ready, self.now);
        }
        self.user.receive(&mut self.guest, self.now);
    }

    /// When all is over, nothing is left to be done.
    fn finish(mut self) {
        self.world.streams.clear();
        self.guest.features = 0;
        self.user.activate(None);
        for _ in 0..4 {
            self.now += Duration::from_secs(1000);
            self.guest.room = usize::MAX;
            self.turn();
        }
        assert_eq!(self.user.deadline(), None);
    }
}

impl Inbox for Guest {
    fn room(&mut self, most: usize) -> usize {
        if self.room > 0 { most } else { 0 }
    }

    fn put(&mut self, offload: Offload, pieces: &[&[u8]]) -> Put {
        if self.room == 0 {
            return Put::Full;
        }
        self.room -= 1;
        self.check(offload, &pieces.concat());
        Put::Done
    }

    fn fill(
        &mut self,
        _most: usize,
        _with_header: bool,
        _read: &mut dyn FnMut(&[VolatileSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Put> {
        unreachable!("no frames come ready from anywhere")
    }
}

impl Guest {
    /// What every frame for the guest is like.
    fn check(&mut self, offload: Offload, frame: &[u8]) {
        assert!(frame.len() >= 34 && frame.len() <= LARGEST, "{} bytes", frame.len());
        assert!([&GUEST_MAC[..], &[0xff; 6], &[0x33, 0x33, 0, 0, 0, 1]].contains(&&frame[..6]));
        assert!([GATEWAY_MAC, DNS_MAC].iter().any(|mac| mac == &frame[6..12]));
        let wanted = match offload.segment {
            None => 0,
            Some((Family::V4, _)) => GUEST_TSO4,
            Some((Family::V6, _)) => GUEST_TSO6,
        } | if offload.checksum.is_some() { GUEST_CSUM } else { 0 };
        assert_eq!(wanted & !self.features, 0, "the guest has not accepted {offload:?}");
        assert!(offload.segment.is_some() || frame.len() <= LARGEST_PLAIN, "{} bytes", frame.len());
        if frame[12..14] == IPV4 {
            assert_eq!(sum(&frame[14..34]), 0xffff, "the checksum of the header");
            let total = u16::from_be_bytes([frame[16], frame[17]]);
            assert_eq!(usize::from(total), frame.len() - 14);
            assert_ne!(frame[26..30], GUEST.octets());
            if frame[23] == TCP {
                let from = Ipv4Addr::new(frame[26], frame[27], frame[28], frame[29]);
                self.hear(from.into(), &frame[34..]);
            }
        }
        if frame[12..14] == IPV6 {
            let len = u16::from_be_bytes([frame[18], frame[19]]);
            assert_eq!(usize::from(len), frame.len() - 54);
            if frame[20] == TCP {
                let from: [u8; 16] = frame[22..38].try_into().expect("16 bytes");
                self.hear(Ipv6Addr::from(from).into(), &frame[54..]);
            }
        }
    }

    /// Notes what an answer to a segment would be.
    fn hear(&mut self, from: IpAddr, segment: &[u8]) {
        let half = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
        let word = |at| u32::from(half(at)) << 16 | u32::from(half(at + 2));
        let header = usize::from(segment[12] >> 4) * 4;
        let ends = u32::from(segment[13] & 1) + u32::from(segment[13] >> 1 & 1);
        let len = u32::try_from(segment.len() - header).unwrap_or(0) + ends;
        self.heard = Some((from, [half(0), half(2)], word(4).wrapping_add(len), word(8)));
    }

    fn udp(&self, input: &mut Input<'_>) -> Vec<u8> {
        let to = if input.one_in(4) { DNS } else { GATEWAY };
        let ports = [u16::from(input.byte()) | 1 << 10, if to == DNS { 53 } else { 9 }];
        // The guest's answers to clients come from the port that is forwarded.
        let source = if input.one_in(4) { 80 } else { ports[0] };
        let bytes: [u8; 40] = input.bytes();
        let len = usize::from(input.byte());
        let bytes = bytes.iter().copied().cycle().take(len * (len / 16));
        let bytes: Vec<_> = bytes.take(1472).collect();
        ip(UDP, to, &datagram([source, ports[1]], &bytes))
    }

    fn tcp(&self, input: &mut Input<'_>) -> Vec<u8> {
        let (to, [theirs, ours], ack, seq) = match self.heard {
            Some(heard) if !input.one_in(4) => heard,
            _ => (
                GATEWAY.into(),
                [CLOSED, u16::from(input.byte()) | 1 << 10],
                input.word(),
                input.word(),
            ),
        };
        // Mostly what is due, and else a bit off.
        let off = |input: &mut Input<'_>| match input.byte() {
            0..192 => 0,
            _ => u32::from(input.half()).wrapping_sub(1 << 14),
        };
        let (seq, ack) = (seq.wrapping_add(off(input)), ack.wrapping_add(off(input)));
        let flags = match input.byte() {
            byte @ 0..64 => byte,
            64..96 => 0x02,
            96..104 => 0x04,
            104..112 => 0x11,
            _ => 0x10,
        };
        let mut segment = [ours, theirs].into_iter().flat_map(u16::to_be_bytes).collect::<Vec<_>>();
        segment.extend([seq, ack].into_iter().flat_map(u32::to_be_bytes));
        let options: [u8; 8] = input.bytes();
        let words = if input.one_in(4) { 2 } else { 0 };
        segment.extend([(5 + words) << 4, flags]);
        segment.extend(input.half().to_be_bytes());
        segment.extend([0; 4]);
        segment.extend(&options[..usize::from(words) * 4]);
        segment.extend(vec![3; usize::from(input.byte() / 2) * usize::from(input.byte() / 16)]);
        match to {
            IpAddr::V4(to) => ip(TCP, to, &segment),
            IpAddr::V6(to) => {
                let len = u16::try_from(segment.len()).unwrap_or(u16::MAX).to_be_bytes();
                let source = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 15).octets();
                let header = [0x60, 0, 0, 0, len[0], len[1], TCP, 64];
                frame(IPV6, &[&header[..], &source, &to.octets(), &segment].concat())
            }
        }
    }

    fn ipv6(input: &mut Input<'_>) -> Vec<u8> {
        let next = [58, 58, TCP, UDP, 0, 44][usize::from(input.byte() % 6)];
        let body: [u8; 48] = input.bytes();
        let body = &body[..usize::from(input.byte() % 49)];
        let mut packet = vec![0x60, 0, 0, 0, 0, u8::try_from(body.len()).unwrap_or(0), next, 255];
        let mut source = [0; 16];
        (source[0], source[1], source[15]) = (0xfe, if input.one_in(2) { 0xc0 } else { 0x80 }, 15);
        packet.extend(if input.one_in(8) { [0; 16] } else { source });
        let mut destination = [0; 16];
        destination[..2].copy_from_slice(if input.one_in(2) { &[0xff, 2] } else { &[0xfe, 0xc0] });
        destination[15] = input.byte() % 4;
        packet.extend(destination);
        packet.extend(body);
        frame(IPV6, &packet)
    }
}

fn frame(kind: [u8; 2], payload: &[u8]) -> Vec<u8> {
    [&GATEWAY_MAC[..], &GUEST_MAC, &kind, payload].concat()
}

/// An IPv4 packet of the guest's; the checksums come later.
fn ip(protocol: u8, to: Ipv4Addr, body: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + body.len()).unwrap_or(u16::MAX).to_be_bytes();
    let header = [0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, protocol, 0, 0];
    let packet = [&header[..], &GUEST.octets(), &to.octets(), body].concat();
    frame(IPV4, &packet)
}

fn datagram([source, destination]: [u16; 2], bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + bytes.len()).unwrap_or(u16::MAX);
    let header = [source, destination, len, 0].into_iter().flat_map(u16::to_be_bytes);
    header.chain(bytes.iter().copied()).collect()
}

fn arp(input: &mut Input<'_>) -> Vec<u8> {
    let header = [0, 1, 8, 0, 6, 4, 0, input.byte() % 3];
    let target = [10, 0, 2, input.byte() % 16];
    let packet = [&header[..], &GUEST_MAC, &GUEST.octets(), &[0; 6], &target].concat();
    frame(ARP, &packet)
}

fn dhcp(input: &mut Input<'_>) -> Vec<u8> {
    let mut message = vec![0; 300];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[28..34].copy_from_slice(&GUEST_MAC);
    message[33] ^= input.byte() / 128;
    message[236..243].copy_from_slice(&[0x63, 0x82, 0x53, 0x63, 53, 1, input.byte() % 9]);
    let options: [u8; 16] = input.bytes();
    message[243..259].copy_from_slice(&options);
    let mut frame = ip(UDP, Ipv4Addr::BROADCAST, &datagram([68, 67], &message));
    if input.one_in(2) {
        frame[26..30].fill(0);
    }
    frame
}

fn echo(input: &mut Input<'_>) -> Vec<u8> {
    let to = [GATEWAY, DNS, Ipv4Addr::LOCALHOST][usize::from(input.byte() % 3)];
    let mut message = vec![8, 0, 0, 0, 0, input.byte(), 0, 1];
    message.resize(8 + usize::from(input.byte()) * 5, 7);
    ip(ICMP, to, &message)
}

fn fragment(input: &mut Input<'_>) -> Vec<u8> {
    let protocol = [UDP, UDP, ICMP, TCP][usize::from(input.byte() % 4)];
    let bytes = vec![input.byte(); usize::from(input.byte() % 16) * 8];
    let mut frame = ip(protocol, GATEWAY, &datagram([1000, 9], &bytes));
    // Few of them, so that they meet.
    frame[19] = input.byte() % 4;
    frame[20] = if input.one_in(2) { 0x20 } else { 0 };
    frame[21] = input.byte() % 64;
    frame
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = frame.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// RFC 1071, before the complement.
fn sum(bytes: &[u8]) -> u16 {
    let halves = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from));
    let mut sum: u32 = halves.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(0)
}

/// Writes the checksums of a frame whose transport begins at `body`.
fn sum_ipv4(frame: &mut [u8], body: usize) {
    put(frame, 24, &[0; 2]);
    if let Some(header) = frame.get(14..body) {
        let sum = !sum(header);
        put(frame, 24, &sum.to_be_bytes());
    }
    let pseudo = [&frame[26..34], &[0, frame[23]]].concat();
    sum_body(frame, frame[23], body, &pseudo);
}

fn sum_ipv6(frame: &mut [u8]) {
    let pseudo = [&frame[22..54], &[0, frame[20]]].concat();
    sum_body(frame, frame[20], 54, &pseudo);
}

fn sum_body(frame: &mut [u8], protocol: u8, body: usize, pseudo: &[u8]) {
    let at = body
        + match protocol {
            TCP => 16,
            UDP => 6,
            ICMP | 58 => 2,
            _ => return,
        };
    put(frame, at, &[0; 2]);
    let Some(bytes) = frame.get(body..) else { return };
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
    let pseudo = if protocol == ICMP { Vec::new() } else { [pseudo, &len].concat() };
    let sum = !sum(&[&pseudo, bytes].concat());
    put(frame, at, &sum.to_be_bytes());
}
