//! That TCP is where it belongs; what it does is tested beside it.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::net::user::addresses::GATEWAY;
use crate::net::{Forward, Transport};
use smoltcp::wire::{TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

/// A segment without data.
fn segment(
    source: SocketAddr,
    destination: SocketAddr,
    control: TcpControl,
    ack: Option<i32>,
) -> Vec<u8> {
    let repr = TcpRepr {
        src_port: source.port(),
        dst_port: destination.port(),
        control,
        seq_number: TcpSeqNumber(1000 + i32::from(ack.is_some())),
        ack_number: ack.map(TcpSeqNumber),
        window_len: 8000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let mut body = vec![0; repr.buffer_len()];
    let (from, to) = (v4(source), v4(destination));
    let checksums = ChecksumCapabilities::default();
    repr.emit(&mut TcpPacket::new_unchecked(&mut body), &from.into(), &to.into(), &checksums);
    ip(from, to, IpProtocol::Tcp, &body)
}

/// The next segment for the guest: from where, and its body.
fn next(net: &mut Net) -> (SocketAddr, Vec<u8>) {
    let (source, destination, protocol, body) = packet(&net.next());
    assert_eq!((destination, protocol), (GUEST, IpProtocol::Tcp));
    let segment = TcpPacket::new_checked(body.as_slice()).unwrap();
    assert!(segment.verify_checksum(&source.into(), &destination.into()));
    (SocketAddr::from((source, segment.src_port())), body)
}

#[test]
fn a_connection_of_the_guests_reaches_this_host_when_its_loopback_is_open() {
    // N57
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = SocketAddr::from((GATEWAY, listener.local_addr().unwrap().port()));
    let mut net = Net::open();
    net.send(&segment(guest(1000), to, TcpControl::Syn, None));
    let (from, body) = next(&mut net);
    let answer = TcpPacket::new_unchecked(body.as_slice());
    assert!(from == to && answer.syn() && answer.ack() && !answer.rst());
    let ack = answer.seq_number().0.wrapping_add(1);
    net.send(&segment(guest(1000), to, TcpControl::None, Some(ack)));
    listener.accept().unwrap().0.write_all(b"hello").unwrap();
    let (_, body) = next(&mut net);
    assert_eq!(TcpPacket::new_unchecked(body.as_slice()).payload(), b"hello");

    let mut net = Net::new(options(Policy::default()));
    net.send(&segment(guest(1000), to, TcpControl::Syn, None));
    let (_, body) = next(&mut net);
    assert!(TcpPacket::new_unchecked(body.as_slice()).rst());
}

#[test]
fn a_client_of_a_forwarded_port_calls_the_guest_under_the_address_it_has() {
    let forward = Forward { transport: Transport::Tcp, host: at("127.0.0.1:0"), guest: 80 };
    let mut net = Net::new(Options { forwards: vec![forward], ..options(Policy::default()) });
    let [(found, host)] = net.user.forwards()[..] else { panic!("one was forwarded") };
    assert_eq!(found, forward);
    let client = TcpStream::connect(host).unwrap();
    let port = client.local_addr().unwrap().port();
    let (from, body) = next(&mut net);
    let call = TcpPacket::new_unchecked(body.as_slice());
    assert_eq!(from, SocketAddr::from((GATEWAY, port)));
    assert!(call.syn() && !call.ack() && call.dst_port() == 80);
    net.now += Duration::from_millis(20);
    net.send(&arp(Ipv4Addr::new(10, 0, 2, 33), Ipv4Addr::new(10, 0, 2, 99)));
    let frame = net.next();
    let (_, destination, protocol, _) = packet(&frame);
    assert_eq!((destination, protocol), (Ipv4Addr::new(10, 0, 2, 33), IpProtocol::Tcp));
}

#[test]
fn a_guest_that_was_given_an_address_is_called_there_before_it_has_spoken() {
    let forward = Forward { transport: Transport::Tcp, host: at("127.0.0.1:0"), guest: 80 };
    let address = Ipv4Addr::new(10, 0, 2, 99);
    let given = GuestAddress::new(address, None, None).unwrap();
    let mut net =
        Net::new(Options { forwards: vec![forward], guest: given, ..options(Policy::default()) });
    net.nothing();
    let _client = TcpStream::connect(net.user.forwards()[0].1).unwrap();
    let (_, destination, protocol, _) = packet(&net.next());
    assert_eq!((destination, protocol), (address, IpProtocol::Tcp));
}

#[test]
fn a_connection_to_where_there_is_no_way_is_said_to_be_one() {
    // Whatever this machine has: nothing is at an address for documentation (RFC 5737).
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    if probe.connect("192.0.2.1:9").is_ok() {
        println!("skipped: this machine has a way to everywhere");
        return;
    }
    let mut net = Net::open();
    net.send(&segment(guest(1000), at("192.0.2.1:9"), TcpControl::Syn, None));
    let (source, destination, protocol, body) = packet(&net.next());
    assert_eq!((source, destination, protocol), (GATEWAY, GUEST, IpProtocol::Icmp));
    assert_eq!(body[..2], [3, 0]);
    assert_eq!(body[28..32], [1000u16.to_be_bytes(), 9u16.to_be_bytes()].concat());
}
