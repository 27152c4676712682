//! A guest that is a script, the network, and sockets of this host that are the outside world.

mod dns;
mod forwards;
mod frames;
mod icmp;
mod limits;
mod six;
mod tcp;
mod udp;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket,
};

use super::addresses::{GATEWAY_MAC, GUEST, GUEST_MAC};
use super::counters::Cause;
use super::policy::Policy;
use super::{GuestAddress, Options, User};
use crate::io::event_loop::EventLoop;
use crate::net::frame::Offload;
use crate::net::testing::{Mailbox, Sheet};
use crate::net::{Link, Sent};

/// How long a test waits for what must come, and how long it makes sure that nothing does.
const PATIENCE: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_millis(30);

/// All that can be opened.
const OPEN: Policy = Policy { host_loopback: true, link_local: true };

/// The network, with a guest on it.
struct Net {
    user: User,
    lp: EventLoop,
    sheet: Sheet,
    mailbox: Mailbox,
    now: Duration,
}

fn options(policy: Policy) -> Options {
    Options {
        policy,
        forwards: Vec::new(),
        resolvers: Vec::new(),
        mac: GUEST_MAC,
        guest: GuestAddress::default(),
        port_wait: Duration::ZERO,
    }
}

/// A socket of the outside world: this host's loopback, which the guest knows as 10.0.2.2.
fn outside() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, SocketAddr::from(([10, 0, 2, 2], port)))
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

impl Net {
    fn new(options: Options) -> Self {
        let mut user = User::open(options).unwrap();
        let lp = EventLoop::new().unwrap();
        user.watch(lp.watcher().unwrap()).unwrap();
        user.activate(Some(0));
        let mailbox = Mailbox::with_room(1000);
        Self { user, lp, sheet: Sheet::default(), mailbox, now: Duration::from_secs(1) }
    }

    fn open() -> Self {
        Self::new(options(OPEN))
    }

    /// The guest sends a frame.
    fn send(&mut self, frame: &[u8]) {
        self.send_with(Offload::default(), frame);
    }

    fn send_with(&mut self, offload: Offload, frame: &[u8]) {
        let (user, now) = (&mut self.user, self.now);
        let sent = self.sheet.frame(offload, frame, |frame| user.send(frame, now));
        assert_eq!(sent, Sent::Done);
    }

    /// One turn of the I/O loop, and what the guest has got then.
    fn turn(&mut self, timeout: Duration) -> Vec<Vec<u8>> {
        self.lp.turn(Some(timeout)).unwrap();
        for ready in self.lp.ready() {
            self.user.ready(*ready, self.now);
        }
        self.user.receive(&mut self.mailbox, self.now);
        let frames = std::mem::take(&mut self.mailbox.frames);
        frames
            .into_iter()
            .map(|(offload, frame)| {
                assert_eq!(offload, Offload::default(), "the guest has accepted none");
                frame
            })
            .collect()
    }

    /// The next frame for the guest.
    fn next(&mut self) -> Vec<u8> {
        let mut frames = self.some(1);
        frames.pop().unwrap()
    }

    /// The next `count` frames for the guest, no more.
    fn some(&mut self, count: usize) -> Vec<Vec<u8>> {
        let (mut frames, end) = (Vec::new(), Instant::now() + PATIENCE);
        while frames.len() < count {
            assert!(Instant::now() < end, "{} of {count} frames came", frames.len());
            frames.extend(self.turn(QUIET));
        }
        assert_eq!(frames.len(), count);
        frames
    }

    /// Makes sure that nothing comes for the guest.
    fn nothing(&mut self) {
        assert_eq!(self.turn(QUIET), Vec::<Vec<u8>>::new());
    }

    /// A frame that is dropped, for a reason, and without a word.
    fn dropped(&mut self, cause: Cause, frame: &[u8]) {
        let before = self.user.desk.counters.dropped(cause);
        self.send(frame);
        assert_eq!(self.user.desk.counters.dropped(cause), before + 1, "{cause:?}");
    }
}

/// An Ethernet frame of the guest's to the gateway.
fn frame(kind: EthernetProtocol, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 14];
    EthernetRepr {
        src_addr: EthernetAddress(GUEST_MAC),
        dst_addr: EthernetAddress(GATEWAY_MAC),
        ethertype: kind,
    }
    .emit(&mut EthernetFrame::new_unchecked(frame.as_mut_slice()));
    frame.extend(payload);
    frame
}

/// An IPv4 packet of the guest's in its frame.
fn ip(source: Ipv4Addr, destination: Ipv4Addr, protocol: IpProtocol, body: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 20];
    Ipv4Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: protocol,
        payload_len: body.len(),
        hop_limit: 64,
    }
    .emit(&mut Ipv4Packet::new_unchecked(&mut header), &ChecksumCapabilities::default());
    header.extend(body);
    frame(EthernetProtocol::Ipv4, &header)
}

/// Changes the IPv4 header of a frame, and makes its checksum right again.
fn with_header(mut frame: Vec<u8>, change: impl FnOnce(&mut Ipv4Packet<&mut [u8]>)) -> Vec<u8> {
    let mut packet = Ipv4Packet::new_unchecked(&mut frame[14..]);
    change(&mut packet);
    packet.fill_checksum();
    frame
}

/// The body of a datagram, header and checksum included.
fn datagram(source: SocketAddr, destination: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 8 + bytes.len()];
    let mut packet = UdpPacket::new_unchecked(body.as_mut_slice());
    packet.set_src_port(source.port());
    packet.set_dst_port(destination.port());
    packet.set_len(u16::try_from(8 + bytes.len()).unwrap());
    packet.payload_mut().copy_from_slice(bytes);
    packet.fill_checksum(&source.ip().into(), &destination.ip().into());
    body
}

fn v4(address: SocketAddr) -> Ipv4Addr {
    match address {
        SocketAddr::V4(address) => *address.ip(),
        SocketAddr::V6(_) => panic!("{address}"),
    }
}

/// A frame of the guest's with a datagram.
fn udp(source: SocketAddr, destination: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let body = datagram(source, destination, bytes);
    ip(v4(source), v4(destination), IpProtocol::Udp, &body)
}

/// The guest's end of a datagram.
fn guest(port: u16) -> SocketAddr {
    SocketAddr::from((GUEST, port))
}

/// What the packet for the guest in `frame` carries: from where, to where, which protocol, all checked.
fn packet(frame: &[u8]) -> (Ipv4Addr, Ipv4Addr, IpProtocol, Vec<u8>) {
    let ethernet = EthernetFrame::new_checked(frame).unwrap();
    assert_eq!(ethernet.dst_addr(), EthernetAddress(GUEST_MAC));
    let packet = Ipv4Packet::new_checked(ethernet.payload()).unwrap();
    assert!(packet.verify_checksum() && packet.hop_limit() == 64);
    assert_eq!(usize::from(packet.total_len()), ethernet.payload().len());
    (packet.src_addr(), packet.dst_addr(), packet.next_header(), packet.payload().to_vec())
}

/// The datagram for the guest in `frame`, all checked: from where, to where, what.
fn read_udp(frame: &[u8]) -> (SocketAddr, SocketAddr, Vec<u8>) {
    let (source, destination, protocol, body) = packet(frame);
    assert_eq!(protocol, IpProtocol::Udp);
    let datagram = UdpPacket::new_checked(body.as_slice()).unwrap();
    assert!(datagram.verify_checksum(&source.into(), &destination.into()));
    assert_ne!(datagram.checksum(), 0);
    (
        SocketAddr::from((source, datagram.src_port())),
        SocketAddr::from((destination, datagram.dst_port())),
        datagram.payload().to_vec(),
    )
}

/// An ARP request of the guest's.
fn arp(source: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut body = [0; 28];
    ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(GUEST_MAC),
        source_protocol_addr: source,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: target,
    }
    .emit(&mut ArpPacket::new_unchecked(&mut body[..]));
    frame(EthernetProtocol::Arp, &body)
}
