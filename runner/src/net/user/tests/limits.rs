use super::*;
use crate::net::user::addresses::GATEWAY;

/// Lets this process have `most` descriptors, or as many as it may.
fn limit(most: Option<u64>) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Where it may have no more, sockets are closed all the sooner.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: most.or(maximum), maximum });
}

#[test]
fn a_guest_that_sends_from_every_port_has_so_many_sockets_and_no_more() {
    // N56
    // This process runs other tests, too.
    limit(None);
    let mut net = Net::open();
    let (outside, to) = outside();
    let mut buffer = [0; 16];
    for port in 1000..5000u16 {
        net.send(&udp(guest(port), to, &port.to_be_bytes()));
        assert_eq!(outside.recv(&mut buffer).unwrap(), 2);
    }
    assert!(net.user.udp.len() <= super::super::udp::MOST);
    let (len, from) = {
        net.send(&udp(guest(4999), to, b"last"));
        outside.recv_from(&mut buffer).unwrap()
    };
    outside.send_to(&buffer[..len], from).unwrap();
    assert_eq!(read_udp(&net.next()), (to, guest(4999), b"last".to_vec()));
    net.user.activate(None);
    assert_eq!((net.user.udp.len(), net.user.deadline()), (0, None));
}

#[test]
#[ignore = "it has few descriptors: started by the test below"]
fn sends_from_more_ports_than_it_has_descriptors() {
    limit(Some(40));
    let mut net = Net::open();
    let (outside, to) = outside();
    for port in 1000..1200u16 {
        net.send(&udp(guest(port), to, &port.to_be_bytes()));
        let mut buffer = [0; 16];
        let (len, from) = outside.recv_from(&mut buffer).unwrap();
        outside.send_to(&buffer[..len], from).unwrap();
        assert_eq!(read_udp(&net.next()).1, guest(port));
    }
    assert!(net.user.udp.len() < 40);
    println!("all went out");
}

#[test]
fn without_descriptors_the_port_that_was_idle_longest_is_closed() {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .arg("net::user::tests::limits::sends_from_more_ports_than_it_has_descriptors")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("all went out"), "{said}");
}

#[test]
fn a_guest_that_makes_no_room_costs_neither_memory_nor_wake_ups() {
    // N54
    let mut net = Net::open();
    net.mailbox.room = 0;
    for _ in 0..10_000 {
        net.send(&arp(GUEST, GATEWAY));
        net.send(&udp(guest(1), at("127.0.0.1:9"), b"x"));
    }
    assert_eq!(net.user.deadline(), None);
    net.mailbox.room = usize::MAX;
    let frames = net.turn(QUIET);
    assert!(frames.len() > 100 && frames.len() < 10_000, "{}", frames.len());
    net.send(&arp(GUEST, GATEWAY));
    net.next();
}

#[test]
fn when_nothing_happens_nothing_is_due() {
    let mut net = Net::open();
    assert_eq!(net.user.deadline(), None);
    net.send(&arp(GUEST, GATEWAY));
    net.next();
    assert_eq!(net.user.deadline(), None);
}

/// Numbers as a linear congruential generator draws them.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

#[test]
fn whatever_the_guest_sends_is_answered_by_little_and_leaves_nothing() {
    // N56
    let mut net = Net::new(options(Policy::default()));
    let mut random = Random(1);
    let whole = [
        arp(GUEST, GATEWAY),
        udp(guest(1000), at("10.0.2.3:53"), &[0; 40]),
        udp(at("0.0.0.0:68"), at("255.255.255.255:67"), &[1; 300]),
        udp(guest(1000), at("10.0.2.2:9"), b"hello"),
        ip(GUEST, GATEWAY, IpProtocol::Icmp, &[8; 64]),
        ip(GUEST, Ipv4Addr::new(127, 0, 0, 1), IpProtocol::Tcp, &[2; 20]),
        with_header(ip(GUEST, GATEWAY, IpProtocol::Udp, &[3; 800]), |packet| {
            packet.set_more_frags(true);
        }),
    ];
    for round in 0..200_000u64 {
        let mut frame = whole[usize::try_from(random.next()).unwrap() % whole.len()].clone();
        for _ in 0..random.next() % 4 {
            // Behind the sender's address: before it, nothing else is looked at.
            let place = 12 + usize::try_from(random.next()).unwrap() % (frame.len() - 12);
            frame[place] = random.byte();
        }
        frame.truncate(frame.len() - usize::try_from(random.next() % 3).unwrap());
        if frame.len() >= 34 && frame[12..14] == [8, 0] {
            // The outside is not to hear of it.
            frame[30] = [10, 127, 255, 224][usize::from(random.byte() % 4)];
            frame[31..33].copy_from_slice(if random.byte() < 200 { &[0, 2] } else { &[2, 0] });
            if frame[14] == 0x45 && random.byte() < 200 {
                Ipv4Packet::new_unchecked(&mut frame[14..]).fill_checksum();
            }
        }
        net.send(&frame);
        net.now += Duration::from_millis(random.next() % 20);
        if round % 64 == 0 {
            net.mailbox.room = 128;
            net.user.receive(&mut net.mailbox, net.now);
            // A datagram may come back as a whole, in fragments.
            assert!(net.mailbox.frames.len() <= 128);
            net.mailbox.frames.clear();
        }
    }
    net.now += Duration::from_secs(1000);
    net.mailbox.room = usize::MAX;
    net.user.receive(&mut net.mailbox, net.now);
    assert_eq!(net.user.deadline(), None);
    assert_eq!((net.user.udp.len(), net.user.dns.len()), (0, 0));
}
