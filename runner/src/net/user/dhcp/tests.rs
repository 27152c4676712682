use super::*;
use crate::net::testing::Mailbox;
use crate::net::user::addresses::{GUEST, GUEST_MAC};
use crate::net::user::out::Desk;
use smoltcp::wire::EthernetAddress;
use smoltcp::wire::{DhcpRepr, EthernetFrame, Ipv4Packet, UdpPacket};

/// A client's message with those options, as smoltcp's client would lay it out.
fn question(hardware: [u8; 6], current: Ipv4Addr, options: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 300];
    let mut packet = DhcpPacket::new_unchecked(bytes.as_mut_slice());
    packet.set_opcode(DhcpOpCode::Request);
    packet.set_hardware_type(smoltcp::wire::ArpHardware::Ethernet);
    packet.set_hardware_len(6);
    packet.set_transaction_id(0x1234_5678);
    packet.set_client_ip(current);
    packet.set_client_hardware_address(EthernetAddress(hardware));
    packet.set_magic_number(COOKIE);
    let mut writer = packet.options_mut();
    for (kind, data) in options {
        writer.emit(DhcpOption { kind: *kind, data }).unwrap();
    }
    writer.end().unwrap();
    bytes
}

/// What the server says, and whether it has granted the guest its address.
fn ask_with(dhcp: &mut Dhcp, mtu: u16, bytes: &[u8]) -> (Result<bool, Cause>, Option<Vec<u8>>) {
    let mut desk = Desk::new(GUEST_MAC, mtu);
    let result = dhcp.message(bytes, &mut desk.out());
    let mut mailbox = Mailbox::with_room(2);
    assert!(desk.outbox.deliver(&mut mailbox));
    (result, mailbox.bytes().first().map(|frame| frame.to_vec()))
}

fn ask(dhcp: &mut Dhcp, bytes: &[u8]) -> (Result<bool, Cause>, Option<Vec<u8>>) {
    ask_with(dhcp, MTU, bytes)
}

fn server() -> Dhcp {
    Dhcp::new(GUEST_MAC, GUEST)
}

/// The body of a reply, all headers checked.
fn body(frame: &[u8]) -> Vec<u8> {
    let frame = EthernetFrame::new_checked(frame).unwrap();
    assert!(frame.dst_addr().is_broadcast());
    let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
    assert!(packet.verify_checksum());
    let (source, destination) = (packet.src_addr(), packet.dst_addr());
    assert_eq!((source, destination), (GATEWAY, Ipv4Addr::BROADCAST));
    let datagram = UdpPacket::new_checked(packet.payload()).unwrap();
    assert!(datagram.verify_checksum(&source.into(), &destination.into()));
    assert_eq!((datagram.src_port(), datagram.dst_port()), (67, 68));
    datagram.payload().to_vec()
}

const NOWHERE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const DISCOVER: (u8, &[u8]) = (53, &[1]);
const REQUEST: (u8, &[u8]) = (53, &[3]);

#[test]
fn a_discover_is_answered_as_qemu_answers_it_byte_for_byte() {
    let (granted, frame) = ask(&mut server(), &question(GUEST_MAC, NOWHERE, &[DISCOVER]));
    assert_eq!(granted, Ok(false));
    let body = body(&frame.unwrap());
    assert_eq!(body.len(), 548);
    let mut wanted = vec![2, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0, 0, 0, 0, 0];
    wanted.extend([10, 0, 2, 15, 10, 0, 2, 2, 0, 0, 0, 0]);
    wanted.extend(GUEST_MAC);
    wanted.resize(236, 0);
    wanted.extend([0x63, 0x82, 0x53, 0x63]);
    wanted.extend([53, 1, 2, 54, 4, 10, 0, 2, 2, 1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 2, 2]);
    wanted.extend([6, 4, 10, 0, 2, 3, 51, 4, 0, 1, 0x51, 0x80, 255]);
    wanted.resize(548, 0);
    assert_eq!(body, wanted);
}

#[test]
fn a_client_gets_its_address_and_everything_it_needs_beside() {
    for options in [
        &[REQUEST, (50, &[10, 0, 2, 15])][..],
        &[REQUEST, (50, &[10, 0, 2, 15]), (54, &[10, 0, 2, 2])],
        &[REQUEST],
        &[],
    ] {
        let (granted, frame) = ask(&mut server(), &question(GUEST_MAC, NOWHERE, options));
        assert_eq!(granted, Ok(true), "{options:?}");
        let body = body(&frame.unwrap());
        let packet = DhcpPacket::new_checked(body.as_slice()).unwrap();
        let reply = DhcpRepr::parse(&packet).unwrap();
        assert_eq!(reply.message_type, DhcpMessageType::Ack);
        assert_eq!((reply.transaction_id, reply.your_ip), (0x1234_5678, GUEST));
        assert_eq!(reply.server_identifier, Some(GATEWAY));
        assert_eq!((reply.router, reply.subnet_mask), (Some(GATEWAY), Some(NETMASK)));
        assert_eq!(reply.dns_servers.unwrap().as_slice(), [DNS]);
        assert_eq!(reply.lease_duration, Some(86_400));
    }
}

#[test]
fn a_lease_is_renewed_under_the_address_the_client_has() {
    let (granted, frame) = ask(&mut server(), &question(GUEST_MAC, GUEST, &[REQUEST]));
    assert_eq!(granted, Ok(true));
    let body = body(&frame.unwrap());
    let packet = DhcpPacket::new_checked(body.as_slice()).unwrap();
    assert_eq!((packet.client_ip(), packet.your_ip()), (GUEST, GUEST));
}

#[test]
fn an_address_that_is_not_the_clients_is_refused_in_words() {
    let foreign: (u8, &[u8]) = (50, &[192, 168, 1, 7]);
    let hers = question(GUEST_MAC, NOWHERE, &[REQUEST, foreign]);
    let his = question([2; 6], NOWHERE, &[REQUEST, (50, &[10, 0, 2, 15])]);
    for bytes in [hers, his, question(GUEST_MAC, Ipv4Addr::new(10, 0, 2, 77), &[REQUEST])] {
        let (granted, frame) = ask(&mut server(), &bytes);
        assert_eq!(granted, Ok(false));
        let body = body(&frame.unwrap());
        let packet = DhcpPacket::new_checked(body.as_slice()).unwrap();
        assert_eq!((packet.your_ip(), packet.server_ip()), (NOWHERE, NOWHERE));
        let options: Vec<_> = packet.options().map(|option| (option.kind, option.data)).collect();
        let text = b"requested address not available";
        assert_eq!(options, [(53, &[6][..]), (54, &[10, 0, 2, 2]), (56, text)]);
    }
}

#[test]
fn a_client_that_only_asks_is_told_all_but_an_address() {
    let (granted, frame) = ask(&mut server(), &question(GUEST_MAC, GUEST, &[(53, &[8])]));
    assert_eq!(granted, Ok(false));
    let body = body(&frame.unwrap());
    let packet = DhcpPacket::new_checked(body.as_slice()).unwrap();
    assert_eq!((packet.your_ip(), packet.client_ip()), (NOWHERE, GUEST));
    let kinds: Vec<_> = packet.options().map(|option| option.kind).collect();
    assert_eq!(kinds, [53, 54, 1, 3, 6]);
}

#[test]
fn another_largest_packet_is_said_and_the_usual_one_is_not() {
    let bytes = question(GUEST_MAC, NOWHERE, &[DISCOVER]);
    let body = body(&ask_with(&mut server(), 9000, &bytes).1.unwrap());
    let packet = DhcpPacket::new_checked(body.as_slice()).unwrap();
    assert!(packet.options().any(|option| (option.kind, option.data) == (26, &[0x23, 0x28])));
}

#[test]
fn what_is_for_another_server_or_gives_an_address_back_gets_no_answer() {
    for options in
        [&[REQUEST, (54, &[10, 0, 2, 1])][..], &[(53, &[7])], &[(53, &[4]), (50, &[10, 0, 2, 15])]]
    {
        let (granted, frame) = ask(&mut server(), &question(GUEST_MAC, NOWHERE, options));
        assert_eq!((granted, frame), (Ok(false), None), "{options:?}");
    }
}

#[test]
fn others_get_the_next_addresses_for_as_long_as_there_are_any() {
    for (guest, first, last) in [(15, 16, 30), (20, 16, 31), (16, 17, 31), (200, 16, 30)] {
        let mut dhcp = Dhcp::new(GUEST_MAC, Ipv4Addr::new(10, 0, 2, guest));
        let mut given = Vec::new();
        for round in 0..2 {
            for other in 0..15 {
                let bytes = question([2, 0, 0, 0, 0, other], NOWHERE, &[DISCOVER]);
                let body = body(&ask(&mut dhcp, &bytes).1.unwrap());
                let address = DhcpPacket::new_checked(body.as_slice()).unwrap().your_ip();
                match round {
                    0 => given.push(address),
                    _ => assert_eq!(given[usize::from(other)], address),
                }
            }
        }
        let mut unique = given.clone();
        unique.sort();
        unique.dedup();
        assert_eq!((unique.len(), given[0].octets()[3], given[14].octets()[3]), (15, first, last));
        assert!(!given.contains(&Ipv4Addr::new(10, 0, 2, guest)));
        let bytes = question([2, 0, 0, 0, 0, 99], NOWHERE, &[DISCOVER]);
        assert_eq!(ask(&mut dhcp, &bytes), (Err(Cause::Question), None));
        dhcp.clear();
        assert!(ask(&mut dhcp, &bytes).1.is_some());
    }
}

#[test]
fn what_is_no_question_is_dropped() {
    // N56
    let good = question(GUEST_MAC, NOWHERE, &[DISCOVER]);
    for (at, value) in [(0, 2), (1, 6), (2, 16), (236, 0), (28, 1), (242, 5)] {
        let mut bytes = good.clone();
        bytes[at] = value;
        assert_eq!(ask(&mut server(), &bytes), (Err(Cause::Question), None), "{at}");
    }
    for len in 0..240 {
        assert_eq!(ask(&mut server(), &good[..len]), (Err(Cause::Question), None), "{len}");
    }
}

#[test]
fn options_whose_length_lies_are_read_as_far_as_they_go() {
    // N56
    for tail in [&[50u8][..], &[50, 4, 10], &[50, 255, 1], &[50, 0], &[53, 2, 1, 1], &[0; 40]] {
        let mut bytes = question(GUEST_MAC, NOWHERE, &[]);
        bytes.truncate(240);
        bytes.extend([53, 1, 1]);
        bytes.extend(tail);
        let (granted, frame) = ask(&mut server(), &bytes);
        assert_eq!((granted, frame.is_some()), (Ok(false), true), "{tail:?}");
    }
}
