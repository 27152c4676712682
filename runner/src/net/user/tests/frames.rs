use super::*;
use crate::net::user::addresses::{DNS, DNS_MAC, GATEWAY};

const WORLD: Ipv4Addr = Ipv4Addr::new(1, 2, 3, 4);

#[test]
fn arp_is_answered_for_the_gateway_and_the_name_server_and_nobody_else() {
    let mut net = Net::open();
    for (target, mac) in [(GATEWAY, GATEWAY_MAC), (DNS, DNS_MAC)] {
        for source in [GUEST, Ipv4Addr::UNSPECIFIED] {
            net.send(&arp(source, target));
            let frame = net.next();
            let ethernet = EthernetFrame::new_checked(frame.as_slice()).unwrap();
            assert_eq!(ethernet.dst_addr(), EthernetAddress(GUEST_MAC));
            let reply = ArpRepr::parse(&ArpPacket::new_checked(ethernet.payload()).unwrap());
            let wanted = ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Reply,
                source_hardware_addr: EthernetAddress(mac),
                source_protocol_addr: target,
                target_hardware_addr: EthernetAddress(GUEST_MAC),
                target_protocol_addr: source,
            };
            assert_eq!(reply, Ok(wanted));
        }
    }
    for other in [4, 15, 77, 255] {
        net.send(&arp(GUEST, Ipv4Addr::new(10, 0, 2, other)));
    }
    net.send(&arp(GUEST, WORLD));
    net.nothing();
}

#[test]
fn arp_that_makes_no_sense_or_is_somebody_elses_is_dropped() {
    // N56
    let mut net = Net::open();
    let good = arp(GUEST, GATEWAY);
    for len in 14..good.len() {
        net.dropped(Cause::Arp, &good[..len]);
    }
    for (place, value) in [(15, 2), (16, 9), (18, 255), (19, 255), (18, 0), (22, 0)] {
        let mut frame = good.clone();
        frame[place] = value;
        net.dropped(Cause::Arp, &frame);
    }
    net.nothing();
}

#[test]
fn frames_of_no_size_from_another_sender_or_of_another_protocol_are_dropped() {
    // N53
    let mut net = Net::open();
    let good = udp(guest(1000), at("10.0.2.2:1"), b"x");
    for len in [0, 1, 13] {
        net.dropped(Cause::Size, &good[..len]);
    }
    net.dropped(Cause::Size, &vec![0; 14 + 65_536]);
    let mut other = good.clone();
    other[11] ^= 1;
    net.dropped(Cause::Sender, &other);
    net.dropped(Cause::EtherType, &frame(EthernetProtocol::Unknown(0x8100), &good[14..]));
    net.dropped(Cause::Header, &frame(EthernetProtocol::Ipv4, &[]));
    net.dropped(Cause::Protocol, &ip(GUEST, WORLD, IpProtocol::Igmp, &[0; 8]));
    net.nothing();
}

#[test]
fn a_header_that_lies_is_dropped_wherever_the_frame_ends() {
    // N56
    let mut net = Net::open();
    let good = udp(guest(1000), at("10.0.2.2:1"), b"hello");
    for ihl in 0..16 {
        if ihl != 5 {
            let mut frame = good.clone();
            frame[14] = 0x40 | ihl;
            net.send(&frame);
        }
    }
    for len in 14..good.len() {
        net.dropped(Cause::Header, &good[..len]);
    }
    let longer = with_header(good.clone(), |packet| packet.set_total_len(34));
    net.dropped(Cause::Header, &longer);
    let mut broken = good.clone();
    broken[24] ^= 1;
    net.dropped(Cause::Checksum, &broken);
    let mut broken = good.clone();
    *broken.last_mut().unwrap() ^= 1;
    net.dropped(Cause::Checksum, &broken);
    let shorter = with_header(good, |packet| packet.set_total_len(27));
    net.dropped(Cause::Malformed, &shorter);
    assert_eq!(net.user.udp.len(), 0);
    net.nothing();
}

#[test]
fn spoofed_sources_and_land_packets_are_dropped() {
    // N56
    let mut net = Net::open();
    for source in ["1.2.3.4:5", "10.0.2.2:5", "10.0.2.3:5", "127.0.0.1:5", "255.255.255.255:5"] {
        net.dropped(Cause::Spoofed, &udp(at(source), at("10.0.2.2:9"), b"x"));
    }
    net.dropped(Cause::Spoofed, &udp(guest(7), guest(7), b"x"));
    net.dropped(Cause::Spoofed, &udp(at("0.0.0.0:68"), at("10.0.2.2:9"), b"x"));
    net.dropped(Cause::Spoofed, &ip(GUEST, GUEST, IpProtocol::Tcp, &[0; 20]));
    net.dropped(Cause::Spoofed, &ip(WORLD, GATEWAY, IpProtocol::Icmp, &[8; 8]));
    assert_eq!(net.user.udp.len(), 0);
    net.nothing();
}

#[test]
fn options_of_ip_and_padding_behind_it_are_not_looked_at() {
    let mut net = Net::open();
    let (outside, to) = outside();
    let body = datagram(guest(1000), to, b"hello");
    let mut header = vec![0x46, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    header.extend(GUEST.octets());
    header.extend(GATEWAY.octets());
    header.extend([7, 4, 0xff, 0]);
    header.extend(&body);
    let total = u16::try_from(header.len()).unwrap();
    header.resize(100, 0xee);
    let frame = with_header(frame(EthernetProtocol::Ipv4, &header), |packet| {
        packet.set_total_len(total);
    });
    net.send(&frame);
    let mut buffer = [0; 16];
    assert_eq!(outside.recv(&mut buffer).unwrap(), 5);
    assert_eq!(&buffer[..5], b"hello");
}

#[test]
fn what_takes_too_many_hops_is_answered_but_not_about_errors() {
    let mut net = Net::open();
    for hops in [0, 1] {
        let far = with_header(udp(guest(1000), at("1.2.3.4:9"), b"x"), |packet| {
            packet.set_hop_limit(hops);
        });
        net.dropped(Cause::Hops, &far);
        let (source, destination, protocol, body) = packet(&net.next());
        assert_eq!((source, destination, protocol), (GATEWAY, GUEST, IpProtocol::Icmp));
        assert_eq!(body[..2], [11, 0]);
        assert_eq!(body[28..36], far[34..42], "what is quoted");
    }
    let error = with_header(ip(GUEST, WORLD, IpProtocol::Icmp, &[3; 36]), |packet| {
        packet.set_hop_limit(1);
    });
    net.dropped(Cause::Hops, &error);
    let multicast = with_header(udp(guest(5353), at("224.0.0.251:5353"), b"x"), |packet| {
        packet.set_hop_limit(1);
    });
    net.dropped(Cause::Broadcast, &multicast);
    let rest = with_header(udp(guest(1000), at("1.2.3.4:9"), b"x"), |packet| {
        packet.set_hop_limit(1);
        packet.set_frag_offset(800);
    });
    net.dropped(Cause::Hops, &rest);
    net.nothing();
}

#[test]
fn a_datagram_in_fragments_goes_out_whole() {
    let mut net = Net::open();
    let (outside, to) = outside();
    let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
    let body = datagram(guest(1000), to, &bytes);
    let pieces: Vec<_> = body.chunks(1480).enumerate().collect();
    for (index, piece) in pieces.iter().rev() {
        let fragment = ip(GUEST, GATEWAY, IpProtocol::Udp, piece);
        net.send(&with_header(fragment, |packet| {
            packet.set_ident(7);
            packet.set_dont_frag(false);
            packet.set_frag_offset(u16::try_from(index * 1480).unwrap());
            packet.set_more_frags(index + 1 < pieces.len());
        }));
    }
    let mut buffer = vec![0; 10_000];
    assert_eq!(outside.recv(&mut buffer).unwrap(), 5000);
    assert_eq!(buffer[..5000], bytes);
}

#[test]
fn fragments_of_tcp_and_those_whose_rest_never_comes_are_dropped() {
    // N56
    let mut net = Net::open();
    let fragment = |protocol| {
        with_header(ip(GUEST, GATEWAY, protocol, &[0; 64]), |packet| packet.set_more_frags(true))
    };
    net.dropped(Cause::Fragment, &fragment(IpProtocol::Tcp));
    net.send(&fragment(IpProtocol::Udp));
    assert_eq!(net.user.deadline(), Some(Duration::from_secs(6)));
    net.now = Duration::from_secs(6);
    net.nothing();
    assert_eq!(net.user.desk.counters.dropped(Cause::Fragment), 2);
    assert_eq!(net.user.deadline(), None);
}

#[test]
fn a_guest_with_an_address_of_its_own_needs_no_dhcp() {
    let mut net = Net::open();
    let (outside, to) = outside();
    net.send(&udp(at("10.0.2.77:1000"), to, b"hello"));
    let mut buffer = [0; 16];
    let (len, from) = outside.recv_from(&mut buffer).unwrap();
    outside.send_to(&buffer[..len], from).unwrap();
    let frame = net.next();
    assert_eq!(read_udp(&frame), (to, at("10.0.2.77:1000"), b"hello".to_vec()));
    assert_eq!(net.user.guest.address(), Ipv4Addr::new(10, 0, 2, 77));
}

#[test]
fn dhcp_serves_a_guest_that_has_no_address_yet() {
    let mut net = Net::open();
    let mut message = vec![0; 300];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[28..34].copy_from_slice(&GUEST_MAC);
    message[236..243].copy_from_slice(&[0x63, 0x82, 0x53, 0x63, 53, 1, 3]);
    message[243] = 255;
    for (source, destination) in [
        ("0.0.0.0:68", "255.255.255.255:67"),
        ("10.0.2.15:68", "10.0.2.2:67"),
        ("10.0.2.15:68", "10.0.2.255:67"),
    ] {
        net.send(&udp(at(source), at(destination), &message));
        let frame = net.next();
        assert_eq!((&frame[..6], frame.len()), (&[0xff; 6][..], 14 + 20 + 8 + 548));
        assert_eq!(net.user.guest.address(), GUEST);
    }
}
