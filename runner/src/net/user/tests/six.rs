//! IPv6, for a guest on a host that has it.

use std::net::Ipv6Addr;

use super::*;
use crate::net::user::addresses::{DNS_6, DNS_MAC, GATEWAY, GATEWAY_6, ROUTER_6};
use crate::net::{Forward, Transport};
use smoltcp::wire::{Icmpv6Packet, Ipv6Packet, Ipv6Repr, NdiscRepr, NdiscRouterFlags};

const LINK: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x15);
const GUEST_6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0x15);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

fn six() -> Net {
    let mut net = Net::open();
    net.user.has_ipv6 = true;
    net
}

fn ip6(source: Ipv6Addr, to: Ipv6Addr, protocol: IpProtocol, hops: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    Ipv6Repr {
        src_addr: source,
        dst_addr: to,
        next_header: protocol,
        payload_len: body.len(),
        hop_limit: hops,
    }
    .emit(&mut Ipv6Packet::new_unchecked(&mut packet));
    packet.extend(body);
    frame(EthernetProtocol::Ipv6, &packet)
}

/// A message of ICMPv6's from the guest, its checksum done.
fn icmp6(source: Ipv6Addr, to: Ipv6Addr, hops: u8, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    Icmpv6Packet::new_unchecked(message.as_mut_slice()).fill_checksum(&source, &to);
    ip6(source, to, IpProtocol::Icmpv6, hops, &message)
}

fn solicitation(target: Ipv6Addr) -> Vec<u8> {
    [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &[1, 1], &GUEST_MAC].concat()
}

/// The packet of ICMPv6's for the guest in `frame`: from where, to where, what; all checked.
fn read6(frame: &[u8]) -> (Ipv6Addr, Ipv6Addr, Vec<u8>) {
    let packet = Ipv6Packet::new_checked(&frame[14..]).unwrap();
    let (source, destination) = (packet.src_addr(), packet.dst_addr());
    assert_eq!((packet.next_header(), packet.hop_limit()), (IpProtocol::Icmpv6, 255));
    let message = Icmpv6Packet::new_checked(packet.payload()).unwrap();
    assert!(message.verify_checksum(&source, &destination));
    (source, destination, packet.payload().to_vec())
}

#[test]
fn a_guest_that_looks_for_a_router_finds_one_and_the_network_and_the_name_server() {
    for source in [LINK, Ipv6Addr::UNSPECIFIED] {
        let mut net = six();
        net.send(&icmp6(source, ALL_ROUTERS, 255, &[133, 0, 0, 0, 0, 0, 0, 0]));
        let frame = net.next();
        assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
        let (from, to, message) = read6(&frame);
        assert_eq!((from, to), (ROUTER_6, ALL_NODES));
        let message = Icmpv6Packet::new_unchecked(message.as_slice());
        let NdiscRepr::RouterAdvert { flags, router_lifetime, lladdr, mtu, prefix_info, .. } =
            NdiscRepr::parse(&message).unwrap()
        else {
            panic!("another message")
        };
        assert_eq!((flags, router_lifetime.secs()), (NdiscRouterFlags::empty(), 9000));
        assert_eq!(lladdr.unwrap().as_bytes(), GATEWAY_MAC);
        assert_eq!(mtu, Some(1500));
        let prefix = prefix_info.unwrap();
        assert_eq!(prefix.prefix, Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0));
        assert_eq!(prefix.prefix_len, 64);
        let names = [&[25, 3, 0, 0, 255, 255, 255, 255][..], &DNS_6.octets()].concat();
        assert!(frame.ends_with(&names));
        // It is told again, so that it does not forget.
        assert_eq!(net.user.deadline(), Some(Duration::from_secs(3001)));
        net.now = Duration::from_secs(3001);
        assert_eq!(net.next(), frame);
        net.user.activate(None);
        assert_eq!(net.user.deadline(), None);
    }
}

#[test]
fn our_addresses_are_found_and_nobody_elses() {
    let mut net = six();
    for (target, mac, flags) in
        [(GATEWAY_6, GATEWAY_MAC, 0xe0), (DNS_6, DNS_MAC, 0x60), (ROUTER_6, GATEWAY_MAC, 0xe0)]
    {
        net.send(&icmp6(LINK, ALL_NODES, 255, &solicitation(target)));
        let (from, to, message) = read6(&net.next());
        assert_eq!((from, to, message[4]), (target, LINK, flags));
        assert_eq!(message[8..], [&target.octets()[..], &[2, 1], &mac].concat());
        net.send(&icmp6(Ipv6Addr::UNSPECIFIED, ALL_NODES, 255, &solicitation(target)));
        let (_, to, message) = read6(&net.next());
        assert_eq!((to, message[4]), (ALL_NODES, flags & !0x40), "it has no address yet");
    }
    net.send(&icmp6(Ipv6Addr::UNSPECIFIED, ALL_NODES, 255, &solicitation(GUEST_6)));
    net.send(&icmp6(LINK, ALL_NODES, 255, &solicitation(Ipv6Addr::LOCALHOST)));
    net.nothing();
}

#[test]
fn forged_broken_and_short_messages_are_dropped() {
    // N56
    let mut net = six();
    let good = solicitation(GATEWAY_6);
    net.dropped(Cause::Malformed, &icmp6(LINK, ALL_NODES, 254, &good));
    net.dropped(Cause::Malformed, &icmp6(LINK, ALL_NODES, 255, &good[..23]));
    let mut broken = icmp6(LINK, ALL_NODES, 255, &good);
    *broken.last_mut().unwrap() ^= 1;
    net.dropped(Cause::Checksum, &broken);
    net.dropped(Cause::Malformed, &ip6(LINK, GATEWAY_6, IpProtocol::Icmpv6, 255, &[133; 7]));
    net.dropped(Cause::Broadcast, &icmp6(LINK, ALL_NODES, 1, &[143, 0, 0, 0, 0, 0, 0, 0]));
    let long = with_length(icmp6(LINK, ALL_NODES, 255, &good), 33);
    net.dropped(Cause::Header, &long);
    net.nothing();
}

fn with_length(mut frame: Vec<u8>, len: u16) -> Vec<u8> {
    Ipv6Packet::new_unchecked(&mut frame[14..]).set_payload_len(len);
    frame
}

#[test]
fn extension_headers_spoofed_sources_and_land_packets_are_dropped() {
    // N56
    let mut net = six();
    for next in [0u8, 43, 60, 59, 1, 255] {
        let frame = ip6(GUEST_6, GATEWAY_6, IpProtocol::from(next), 64, &[58, 0, 0, 0, 0, 0, 0, 0]);
        net.dropped(Cause::Protocol, &frame);
    }
    let world = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    for source in [world, GATEWAY_6, ROUTER_6, Ipv6Addr::LOCALHOST, ALL_NODES] {
        let frame = ip6(source, GATEWAY_6, IpProtocol::Udp, 64, &[0; 8]);
        net.dropped(Cause::Spoofed, &frame);
    }
    net.dropped(Cause::Spoofed, &ip6(GUEST_6, GUEST_6, IpProtocol::Tcp, 64, &[0; 20]));
    net.dropped(Cause::Spoofed, &ip6(Ipv6Addr::UNSPECIFIED, DNS_6, IpProtocol::Udp, 64, &[0; 8]));
    net.nothing();
}

#[test]
fn pings_and_datagrams_pass_as_by_ipv4() {
    let mut net = six();
    for to in [GATEWAY_6, DNS_6, ROUTER_6] {
        net.send(&icmp6(GUEST_6, to, 64, &[128, 0, 0, 0, 0x12, 0x34, 0, 1, 7]));
        let (from, back, message) = read6(&net.next());
        assert_eq!((from, back, message[0]), (to, GUEST_6, 129));
        assert_eq!(message[4..], [0x12, 0x34, 0, 1, 7]);
    }
    let Ok(outside) = UdpSocket::bind("[::1]:0") else {
        println!("skipped: this machine has no IPv6");
        return;
    };
    outside.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = SocketAddr::from((GATEWAY_6, outside.local_addr().unwrap().port()));
    let body = datagram(SocketAddr::from((GUEST_6, 1000)), to, b"hello");
    net.send(&ip6(GUEST_6, GATEWAY_6, IpProtocol::Udp, 64, &body));
    let mut buffer = [0; 16];
    let (len, from) = outside.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"hello");
    outside.send_to(&[9; 3000], from).unwrap();
    let mut whole = Vec::new();
    for frame in net.some(3) {
        assert!(frame.len() <= 1514);
        let packet = Ipv6Packet::new_checked(&frame[14..]).unwrap();
        assert_eq!((packet.src_addr(), packet.next_header()), (GATEWAY_6, IpProtocol::Ipv6Frag));
        let (header, body) = packet.payload().split_at(8);
        let place = u16::from_be_bytes([header[2], header[3]]);
        assert_eq!((header[0], usize::from(place & !7)), (17, whole.len()));
        whole.extend_from_slice(body);
        assert_eq!(place & 1 == 1, whole.len() < 3008);
    }
    let datagram = UdpPacket::new_checked(whole.as_slice()).unwrap();
    assert!(datagram.verify_checksum(&GATEWAY_6.into(), &GUEST_6.into()));
    assert_eq!(datagram.payload(), [9; 3000]);
}

#[test]
fn a_datagram_by_ipv6_in_fragments_goes_out_whole() {
    let Ok(outside) = UdpSocket::bind("[::1]:0") else {
        println!("skipped: this machine has no IPv6");
        return;
    };
    outside.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut net = six();
    let to = SocketAddr::from((GATEWAY_6, outside.local_addr().unwrap().port()));
    let body = datagram(SocketAddr::from((GUEST_6, 1000)), to, &[7; 5000]);
    let pieces: Vec<_> = body.chunks(1448).enumerate().collect();
    let fragment = |protocol: u8, place: usize, bytes: &[u8]| {
        let more = place + bytes.len() < body.len();
        let [high, low] = u16::try_from(place | usize::from(more)).unwrap().to_be_bytes();
        let packet = [&[protocol, 0, high, low, 9, 8, 7, 6][..], bytes].concat();
        ip6(GUEST_6, GATEWAY_6, IpProtocol::Ipv6Frag, 64, &packet)
    };
    for (index, bytes) in pieces.iter().rev() {
        net.send(&fragment(17, index * 1448, bytes));
    }
    let mut buffer = [0; 6000];
    let (len, _) = outside.recv_from(&mut buffer).unwrap();
    assert_eq!(buffer[..len], [7; 5000]);
    // N56
    net.dropped(Cause::Fragment, &fragment(6, 0, pieces[0].1));
    net.dropped(Cause::Header, &ip6(GUEST_6, GATEWAY_6, IpProtocol::Ipv6Frag, 64, &[17; 7]));
}

#[test]
fn datagrams_of_clients_by_ipv6_come_by_ipv6_and_are_answered() {
    if UdpSocket::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    let forward = Forward { transport: Transport::Udp, host: at("[::]:0"), guest: 80 };
    let mut net = Net::new(Options { forwards: vec![forward], ..options(OPEN) });
    net.user.has_ipv6 = true;
    let host = SocketAddr::from((Ipv6Addr::LOCALHOST, net.user.forwards()[0].1.port()));
    let client = UdpSocket::bind("[::1]:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(host).unwrap();
    let port = client.local_addr().unwrap().port();
    client.send(b"early").unwrap();
    let by_four = SocketAddr::from((GATEWAY, port));
    assert_eq!(read_udp(&net.next()), (by_four, guest(80), b"early".to_vec()));
    // The guest shows that it has IPv6.
    net.send(&icmp6(GUEST_6, GATEWAY_6, 64, &[128, 0, 0, 0, 0x12, 0x34, 0, 1]));
    net.next();
    client.send(b"hello").unwrap();
    let frame = net.next();
    let packet = Ipv6Packet::new_checked(&frame[14..]).unwrap();
    assert_eq!((packet.src_addr(), packet.dst_addr()), (GATEWAY_6, GUEST_6));
    let came = UdpPacket::new_checked(packet.payload()).unwrap();
    assert!(came.verify_checksum(&GATEWAY_6.into(), &GUEST_6.into()));
    assert_eq!((came.src_port(), came.dst_port(), came.payload()), (port, 80, &b"hello"[..]));
    let (from, to) = (SocketAddr::from((GUEST_6, 80)), SocketAddr::from((GATEWAY_6, port)));
    let body = datagram(from, to, b"back");
    net.send(&ip6(GUEST_6, GATEWAY_6, IpProtocol::Udp, 64, &body));
    let mut buffer = [0; 16];
    assert_eq!(client.recv(&mut buffer).unwrap(), 4);
    assert_eq!(&buffer[..4], b"back");
}

#[test]
fn what_cannot_be_reached_is_said_as_by_ipv4() {
    // N57
    let mut net = six();
    net.user.policy = Policy::default();
    for (to, code) in [(GATEWAY_6, 1), (Ipv6Addr::LOCALHOST, 3), (LINK, 1)] {
        let body = datagram(SocketAddr::from((GUEST_6, 1000)), SocketAddr::from((to, 9)), b"x");
        net.dropped(Cause::Refused, &ip6(GUEST_6, to, IpProtocol::Udp, 64, &body));
        let (from, back, message) = read6(&net.next());
        assert_eq!((from, back), (GATEWAY_6, GUEST_6));
        assert_eq!(message[..2], [1, code], "{to}");
        assert_eq!(message[32..48], to.octets());
        assert_eq!(message[48..56], body[..8]);
    }
    let far = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    net.dropped(Cause::Hops, &icmp6(GUEST_6, far, 1, &[128, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(read6(&net.next()).2[..2], [3, 0]);
}

#[test]
fn a_host_without_ipv6_leaves_the_guest_without() {
    let mut net = six();
    net.user.has_ipv6 = false;
    let frame = icmp6(LINK, ALL_ROUTERS, 255, &[133, 0, 0, 0, 0, 0, 0, 0]);
    net.dropped(Cause::EtherType, &frame);
    net.nothing();
}
