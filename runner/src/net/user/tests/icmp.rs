use super::*;
use crate::net::user::addresses::{DNS, GATEWAY};
use smoltcp::wire::checksum;

/// An echo request.
fn echo(id: u16, bytes: &[u8]) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0];
    message.extend(id.to_be_bytes());
    message.extend([0, 1]);
    message.extend(bytes);
    let sum = !checksum::data(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn ping(to: Ipv4Addr, bytes: &[u8]) -> Vec<u8> {
    ip(GUEST, to, IpProtocol::Icmp, &echo(0x1234, bytes))
}

#[test]
fn the_gateway_and_the_name_server_answer_pings_themselves() {
    let mut net = Net::new(options(Policy::default()));
    for to in [GATEWAY, DNS] {
        for bytes in [&b""[..], b"x", &[9; 1472]] {
            net.send(&ping(to, bytes));
            let (source, destination, protocol, body) = packet(&net.next());
            assert_eq!((source, destination, protocol), (to, GUEST, IpProtocol::Icmp));
            assert_eq!((body[0], &body[4..6]), (0, &[0x12, 0x34][..]));
            assert_eq!(checksum::data(&body), !0);
            assert_eq!(&body[8..], bytes);
        }
    }
}

#[test]
fn what_is_no_echo_request_is_dropped_without_a_word() {
    // N56
    let mut net = Net::open();
    let mut message = echo(1, b"hello");
    message[9] ^= 1;
    net.dropped(Cause::Checksum, &ip(GUEST, GATEWAY, IpProtocol::Icmp, &message));
    for len in 0..8 {
        let short = ip(GUEST, GATEWAY, IpProtocol::Icmp, &echo(1, b"")[..len]);
        net.dropped(Cause::Malformed, &short);
    }
    for kind in [0, 3, 5, 11, 13, 255] {
        let mut message = echo(1, b"");
        message[0] = kind;
        message[2..4].fill(0);
        let sum = !checksum::data(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        net.dropped(Cause::Protocol, &ip(GUEST, GATEWAY, IpProtocol::Icmp, &message));
    }
    net.dropped(Cause::Broadcast, &ping(Ipv4Addr::BROADCAST, b""));
    net.dropped(Cause::Broadcast, &ping(Ipv4Addr::new(224, 0, 0, 1), b""));
    net.nothing();
}

#[test]
fn refused_destinations_of_pings_are_answered() {
    // N57
    let mut net = Net::new(options(Policy::default()));
    for (to, code) in [([127, 0, 0, 1], 1), ([169, 254, 169, 254], 13), ([10, 0, 2, 9], 1)] {
        let request = ping(to.into(), b"x");
        net.dropped(Cause::Refused, &request);
        let (source, _, _, body) = packet(&net.next());
        assert_eq!((source, &body[..2]), (GATEWAY, &[3, code][..]), "{to:?}");
        assert_eq!(body[28..36], request[34..42]);
    }
}

#[test]
fn others_are_pinged_where_the_system_lets_us_and_it_is_counted_where_not() {
    let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
    let address = probe.connect("192.0.2.1:9").and_then(|()| probe.local_addr());
    let Some(SocketAddr::V4(address)) = address.ok().filter(|address| !address.ip().is_loopback())
    else {
        println!("skipped: this machine has no address but loopback");
        return;
    };
    let mut net = Net::new(options(Policy::default()));
    net.send(&ping(*address.ip(), b"hello"));
    if net.user.desk.counters.dropped(Cause::Ping) == 1 {
        println!("skipped: this system lets us send no pings");
        net.nothing();
        return;
    }
    let (source, destination, protocol, body) = packet(&net.next());
    assert_eq!((source, destination, protocol), (*address.ip(), GUEST, IpProtocol::Icmp));
    assert_eq!((body[0], &body[4..6], &body[8..]), (0, &[0x12, 0x34][..], &b"hello"[..]));
    assert_eq!(checksum::data(&body), !0);
    assert!(net.user.deadline().is_some());
    net.now = Duration::from_secs(40);
    net.nothing();
    assert_eq!(net.user.deadline(), None);
}
