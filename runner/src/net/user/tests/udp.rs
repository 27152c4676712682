use super::*;
use crate::net::user::addresses::GATEWAY;

/// Sends from the guest's `port` to `to`, and returns what the outside got and from where.
fn pass(net: &mut Net, outside: &UdpSocket, port: u16, to: SocketAddr, bytes: &[u8]) -> SocketAddr {
    net.send(&udp(guest(port), to, bytes));
    let mut buffer = [0; 2048];
    let (len, from) = outside.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], bytes);
    from
}

#[test]
fn datagrams_go_out_and_answers_come_back_from_whom_they_went_to() {
    let mut net = Net::open();
    let (outside, to) = outside();
    for bytes in [&b"hello"[..], b"", &[7; 1472]] {
        let from = pass(&mut net, &outside, 1000, to, bytes);
        outside.send_to(bytes, from).unwrap();
        assert_eq!(read_udp(&net.next()), (to, guest(1000), bytes.to_vec()));
    }
    assert_eq!(net.user.udp.len(), 1);
    net.nothing();
}

#[test]
fn a_port_of_the_guests_is_one_port_to_everybody_and_anybody_may_answer() {
    let mut net = Net::open();
    let ((first, to_first), (second, to_second)) = (outside(), outside());
    let from = pass(&mut net, &first, 1000, to_first, b"1");
    assert_eq!(pass(&mut net, &second, 1000, to_second, b"2"), from);
    assert_ne!(pass(&mut net, &second, 1001, to_second, b"3"), from);
    let (third, seen) = outside();
    third.send_to(b"unasked", from).unwrap();
    assert_eq!(read_udp(&net.next()), (seen, guest(1000), b"unasked".to_vec()));
}

#[test]
fn an_answer_keeps_its_real_address() {
    // No datagram is sent: this is how to ask for the address that would send it.
    let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
    let address = probe.connect("192.0.2.1:9").and_then(|()| probe.local_addr());
    let Some(address) = address.ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
    else {
        println!("skipped: this machine has no address but loopback");
        return;
    };
    let outside = UdpSocket::bind((address, 0)).unwrap();
    outside.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = outside.local_addr().unwrap();
    let mut net = Net::new(options(Policy::default()));
    let from = pass(&mut net, &outside, 1000, to, b"hello");
    outside.send_to(b"answer", from).unwrap();
    assert_eq!(read_udp(&net.next()), (to, guest(1000), b"answer".to_vec()));
}

#[test]
fn a_large_answer_comes_in_fragments() {
    let mut net = Net::open();
    let (outside, to) = outside();
    let from = pass(&mut net, &outside, 1000, to, b"?");
    let bytes: Vec<u8> = (0..=255).cycle().take(9000).collect();
    outside.send_to(&bytes, from).unwrap();
    let frames = net.some(7);
    let mut whole = Vec::new();
    for frame in &frames {
        assert!(frame.len() <= 1514);
        let packet = Ipv4Packet::new_checked(&frame[14..]).unwrap();
        assert!(packet.verify_checksum() && usize::from(packet.frag_offset()) == whole.len());
        whole.extend_from_slice(packet.payload());
    }
    let datagram = UdpPacket::new_checked(whole.as_slice()).unwrap();
    assert!(datagram.verify_checksum(&GATEWAY.into(), &GUEST.into()));
    assert_eq!(datagram.payload(), bytes);
}

#[test]
fn a_checksum_that_the_guest_has_left_out_is_not_missed() {
    let mut net = Net::open();
    let (outside, to) = outside();
    let mut frame = udp(guest(1000), to, b"hello");
    frame[40] ^= 0xff;
    let elsewhere = Offload { checksum: Some((34, 16)), segment: None };
    net.send_with(elsewhere, &frame);
    assert_eq!(net.user.desk.counters.dropped(Cause::Checksum), 1, "it is another place");
    net.send_with(Offload { checksum: Some((34, 6)), segment: None }, &frame);
    assert_eq!(outside.recv(&mut [0; 16]).unwrap(), 5);
    frame[40..42].fill(0);
    net.send(&frame);
    assert_eq!(outside.recv(&mut [0; 16]).unwrap(), 5, "UDP may do without");
}

#[test]
fn a_port_that_nobody_is_at_is_said_with_the_datagram_it_was() {
    if cfg!(not(target_os = "linux")) {
        println!("skipped: this system says nothing of sockets that are not connected");
        return;
    }
    let mut net = Net::open();
    let (closed, to) = outside();
    drop(closed);
    for round in 0..3 {
        net.send(&udp(guest(1000), to, b"hello"));
        let (source, destination, protocol, body) = packet(&net.next());
        assert_eq!((source, destination, protocol), (GATEWAY, GUEST, IpProtocol::Icmp));
        assert_eq!(body[..2], [3, 3], "{round}");
        let quoted = Ipv4Packet::new_unchecked(&body[8..]);
        assert!(quoted.verify_checksum());
        assert_eq!((quoted.src_addr(), quoted.dst_addr()), (GUEST, GATEWAY));
        assert_eq!((quoted.total_len(), quoted.next_header()), (33, IpProtocol::Udp));
        assert_eq!(body[28..30], 1000u16.to_be_bytes());
        assert_eq!(body[30..34], [to.port().to_be_bytes(), 13u16.to_be_bytes()].concat());
    }
}

#[test]
fn an_error_of_an_earlier_datagram_does_not_lose_the_next_one() {
    let mut net = Net::open();
    let (closed, to_closed) = outside();
    drop(closed);
    let (outside, to) = outside();
    for _ in 0..20 {
        net.send(&udp(guest(1000), to_closed, b"lost"));
        pass(&mut net, &outside, 1000, to, b"found");
    }
}

#[test]
fn refused_destinations_are_answered_and_open_no_socket() {
    // N57
    let mut net = Net::new(options(Policy::default()));
    for (to, code) in [
        ("10.0.2.2:9", 13),
        ("169.254.169.254:80", 13),
        ("127.0.0.1:9", 1),
        ("127.1.2.3:9", 1),
        ("0.0.0.1:9", 1),
        ("240.0.0.1:9", 1),
        ("10.0.2.4:9", 1),
        ("10.0.2.3:9", 1),
    ] {
        net.dropped(Cause::Refused, &udp(guest(1000), at(to), b"x"));
        let (source, destination, protocol, body) = packet(&net.next());
        assert_eq!((source, destination, protocol), (GATEWAY, GUEST, IpProtocol::Icmp));
        assert_eq!(body[..2], [3, code], "{to}");
        assert_eq!(body[24..28], v4(at(to)).octets());
    }
    for to in ["224.0.0.251:5353", "255.255.255.255:9", "10.0.2.255:137"] {
        net.dropped(Cause::Broadcast, &udp(guest(1000), at(to), b"x"));
    }
    assert_eq!(net.user.udp.len(), 0);
    net.nothing();
}

#[test]
fn what_comes_from_this_host_is_not_heard_while_its_loopback_is_closed() {
    // N57
    let mut net = Net::open();
    let (outside, to) = outside();
    let from = pass(&mut net, &outside, 1000, to, b"hello");
    net.user.udp.close_loopback();
    outside.send_to(b"unheard", from).unwrap();
    net.nothing();
    assert_eq!(net.user.desk.counters.dropped(Cause::Unheard), 1);
}

#[test]
fn ports_are_closed_when_they_have_been_idle() {
    let mut net = Net::open();
    let (outside, to) = outside();
    pass(&mut net, &outside, 1000, to, b"1");
    net.now = Duration::from_secs(100);
    let from = pass(&mut net, &outside, 1001, to, b"2");
    assert_eq!(net.user.deadline(), Some(Duration::from_secs(241)));
    net.now = Duration::from_secs(241);
    outside.send_to(b"still", from).unwrap();
    net.next();
    assert_eq!((net.user.udp.len(), net.user.deadline()), (1, Some(Duration::from_secs(481))));
    net.now = Duration::from_secs(481);
    net.nothing();
    assert_eq!((net.user.udp.len(), net.user.deadline()), (0, None));
}

#[test]
fn a_guest_without_room_gets_everything_when_it_makes_some() {
    let mut net = Net::open();
    let (outside, to) = outside();
    let from = pass(&mut net, &outside, 1000, to, b"?");
    net.mailbox.room = 0;
    for number in 0..50 {
        outside.send_to(&[number], from).unwrap();
    }
    net.nothing();
    assert_eq!(net.user.deadline().map(|at| at > net.now), Some(true), "nothing to do but wait");
    let mut seen = Vec::new();
    while seen.len() < 50 {
        net.mailbox.room = 3;
        let frames = net.turn(QUIET);
        assert!(frames.len() <= 3 && !frames.is_empty());
        seen.extend(frames.iter().flat_map(|frame| read_udp(frame).2));
    }
    assert!(seen.into_iter().eq(0..50));
}
