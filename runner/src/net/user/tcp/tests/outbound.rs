//! Connections that the guest begins.

use super::*;

#[test]
fn a_connection_carries_bytes_both_ways_and_ends_both_ways() {
    let mut rig = Rig::new(0, Vec::new());
    let (end, mut host) = rig.pair(1000, PLAIN);
    rig.exchange(end, &mut host, b"hello, host", b"hello, guest");
    rig.ends[end].finish();
    rig.host_end(&mut host).unwrap();
    // What comes after the guest has said its last.
    rig.exchange(end, &mut host, b"", &noise(300_000, 5));
    drop(host);
    rig.until("an end", |rig| rig.ends[end].ended);
    rig.is_clean();
}

#[test]
fn many_bytes_come_through_whatever_the_guest_has_accepted_and_whatever_is_lost() {
    for features in [0, 1 << VIRTIO_NET_F_GUEST_CSUM, OFFLOADS] {
        for lose in [None, Some(100), Some(7)] {
            for manner in [PLAIN, Manner { burst: 40_000, unsummed: true, ..PLAIN }] {
                let mut rig = Rig::new(features, Vec::new());
                let (end, mut host) = rig.pair(1000, manner);
                rig.lose = lose;
                rig.exchange(end, &mut host, &noise(700_000, 3), &noise(700_000, 4));
                rig.lose = None;
                drop(host);
                rig.ends[end].finish();
                rig.until("an end", |rig| rig.ends[end].ended);
                assert!(lose.is_some() || rig.ends[end].repeats == 0, "{}", rig.ends[end].repeats);
                rig.is_clean();
            }
        }
    }
}

#[test]
fn a_port_nobody_listens_at_resets_the_guest() {
    let mut rig = Rig::new(0, Vec::new());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let end = rig.dial(1000, gateway(free), PLAIN);
    rig.until("a reset", |rig| rig.ends[end].reset);
    rig.is_clean();
}

#[test]
fn what_the_policy_refuses_is_reset_at_once() {
    let mut rig = Rig::with(Tcp::new(Policy::default(), Vec::new(), Vec::new()), 0);
    let ends =
        [gateway(80), guest(80), "127.0.0.1:80".parse().unwrap(), "10.0.2.3:53".parse().unwrap()]
            .map(|peer| rig.dial(1000, peer, PLAIN));
    for end in ends {
        rig.until("a reset", |rig| rig.ends[end].reset);
    }
    assert_eq!(rig.tcp.counters().refused, 4);
    rig.is_clean();
}

#[test]
fn the_guest_is_answered_when_the_host_is_connected_and_asks_but_once() {
    let mut rig = Rig::new(0, Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = gateway(listener.local_addr().unwrap().port());
    let end = rig.dial(1000, peer, PLAIN);
    let syn = rig.ends[end].syn();
    rig.send(&syn);
    rig.send(&syn);
    assert_eq!(rig.tcp.flows(), 1);
    rig.until("a connection", |rig| rig.ends[end].up);
    rig.rounds(20);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_ok() && listener.accept().is_err(), "one connection");
    let rst = rig.ends[end].rst();
    rig.send(&rst);
    rig.is_clean();
}

#[test]
fn an_answer_that_is_lost_is_repeated() {
    let mut rig = Rig::new(0, Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let end = rig.dial(1000, gateway(listener.local_addr().unwrap().port()), PLAIN);
    rig.lose = Some(1);
    rig.until("an answer", |rig| rig.frames == 1);
    rig.lose = None;
    let begun = rig.now;
    rig.until("a connection", |rig| rig.ends[end].up);
    assert!((ms(190)..ms(230)).contains(&(rig.now - begun)), "{:?}", rig.now - begun);
    // The guest's own SYN, again, asks for it as well.
    let syn = rig.dial(1001, gateway(listener.local_addr().unwrap().port()), PLAIN);
    rig.lose = Some(1);
    let frames = rig.frames;
    rig.until("an answer", |rig| rig.frames > frames);
    rig.lose = None;
    let again = rig.ends[syn].syn();
    let begun = rig.now;
    rig.send(&again);
    rig.until("a connection", |rig| rig.ends[syn].up);
    assert!(rig.now - begun < ms(50));
    for end in [end, syn] {
        let rst = rig.ends[end].rst();
        rig.send(&rst);
    }
    rig.is_clean();
}

#[test]
fn each_side_may_end_first_and_the_other_goes_on() {
    let mut rig = Rig::new(0, Vec::new());
    // The host ends first: the guest's answer still comes.
    let (end, mut host) = rig.pair(1000, PLAIN);
    host.shutdown(std::net::Shutdown::Write).unwrap();
    rig.until("an end", |rig| rig.ends[end].ended);
    rig.exchange(end, &mut host, &noise(300_000, 1), b"");
    rig.ends[end].finish();
    rig.host_end(&mut host).unwrap();
    rig.until("the last word", |rig| rig.ends[end].fin_acked);
    assert_eq!(rig.tcp.flows(), 1, "it lingers");
    let fin = rig.ends[end].key;
    let (seq, ack) = (rig.ends[end].received, rig.ends[end].received);
    let again = segment(fin, Say { seq, ack: Some(ack), flags: FIN, ..Say::default() }, false);
    rig.send(&again);
    let frames = rig.frames;
    rig.until("a repeated end is acknowledged", |rig| rig.frames > frames);
    rig.is_clean();
    assert!(rig.now < ms(1500));
    // The guest ends first: nothing lingers.
    let (end, mut host) = rig.pair(1001, PLAIN);
    rig.ends[end].finish();
    rig.host_end(&mut host).unwrap();
    let begun = rig.now;
    drop(host);
    rig.is_clean();
    assert!(rig.now - begun < ms(200), "{:?}", rig.now - begun);
    assert!(rig.ends[end].ended);
}

#[test]
fn a_reset_of_the_hosts_reaches_the_guest_behind_what_was_sent_before() {
    let mut rig = Rig::new(0, Vec::new());
    let (end, mut host) = rig.pair(1000, PLAIN);
    // Something unread makes the host's kernel reset.
    rig.ends[end].write(b"never read");
    rig.rounds(20);
    host.write_all(b"last words").unwrap();
    rig.until("the last words", |rig| rig.ends[end].inbox == b"last words");
    drop(host);
    rig.until("a reset", |rig| rig.ends[end].reset);
    rig.is_clean();
}

#[test]
fn a_reset_of_the_guests_reaches_the_host() {
    let mut rig = Rig::new(0, Vec::new());
    let (end, mut host) = rig.pair(1000, PLAIN);
    let rst = rig.ends[end].rst();
    rig.send(&rst);
    let error = rig.host_end(&mut host).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    rig.is_clean();
    // One that is beyond the window is somebody else's.
    let (end, mut host) = rig.pair(1001, PLAIN);
    let seq = rig.ends[end].received;
    let far = segment(rig.ends[end].key, Say { seq, flags: RST, ..Say::default() }, false);
    rig.send(&far);
    rig.exchange(end, &mut host, b"still", b"here");
    let rst = rig.ends[end].rst();
    rig.send(&rst);
    rig.is_clean();
}

#[test]
fn a_reset_ends_a_connection_in_any_state_and_leaves_nothing() {
    let mut rig = Rig::new(0, Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = gateway(listener.local_addr().unwrap().port());
    for rounds in 0..12 {
        let end = rig.dial(1000 + rounds, peer, PLAIN);
        rig.ends[end].write(&noise(5000, 1));
        rig.rounds(rounds.into());
        let (key, received) = (rig.ends[end].key, rig.ends[end].received);
        let mut rst = rig.ends[end].rst();
        if !rig.ends[end].up {
            let seq = Seq(0xffff_f001);
            rst =
                segment(key, Say { seq, ack: Some(received), flags: RST, ..Say::default() }, false);
        }
        rig.ends[end].reset = true;
        rig.send(&rst);
        assert_eq!(rig.tcp.flows(), 0, "after {rounds} rounds");
    }
    rig.is_clean();
}

#[test]
fn a_host_that_does_not_read_stops_the_guest_and_lets_it_go_on() {
    let mut rig = Rig::new(0, Vec::new());
    for manner in [PLAIN, Manner { burst: 60_000, unsummed: true, ..PLAIN }] {
        let (end, mut host) = rig.pair(1000, manner);
        let bytes = noise(12_000_000, 9);
        rig.ends[end].write(&bytes);
        rig.until("a closed window", |rig| rig.ends[end].window < 1460);
        let held = rig.tcp.room.left();
        assert!(MEMORY - held <= flow::INWARD, "{}", MEMORY - held);
        rig.rounds(50);
        let begun = rig.now;
        let start = rig.host_reads(&mut host, 4_000_000);
        assert!(rig.now - begun < ms(50), "it opens again by itself: {:?}", rig.now - begun);
        let rest = rig.host_reads(&mut host, bytes.len() - start.len());
        assert!([start, rest].concat() == bytes);
        assert_eq!(rig.ends[end].repeats, 0);
        let rst = rig.ends[end].rst();
        rig.send(&rst);
        rig.ends.clear();
        rig.is_clean();
    }
}

#[test]
fn a_guest_that_does_not_read_stops_the_host_and_lets_it_go_on() {
    for lose in [None, Some(5)] {
        let mut rig = Rig::new(OFFLOADS, Vec::new());
        let (end, mut host) = rig.pair(1000, Manner { buffer: 50_000, ..PLAIN });
        let bytes = noise(3_000_000, 8);
        let mut sent = 0;
        rig.until("the guest is full", |rig| {
            sent += host.write(&bytes[sent..]).unwrap_or(0);
            rig.ends[end].inbox.len() > 40_000
        });
        assert!(MEMORY - rig.tcp.room.left() <= 128 << 10, "{}", MEMORY - rig.tcp.room.left());
        rig.lose = lose;
        // It asks now and then whether it may go on, and never gives up.
        let frames = rig.frames;
        rig.pass(Duration::from_secs(300));
        let asked = rig.frames - frames;
        assert!((30..200).contains(&asked), "{asked}");
        let mut got = Vec::new();
        rig.until("the rest", |rig| {
            sent += host.write(&bytes[sent..]).unwrap_or(0);
            got.extend(rig.ends[end].read());
            got.len() == bytes.len()
        });
        assert!(got == bytes);
        let rst = rig.ends[end].rst();
        rig.send(&rst);
        rig.is_clean();
    }
}

#[test]
fn a_guest_that_boots_anew_may_use_the_same_ports() {
    let mut rig = Rig::new(0, Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = gateway(listener.local_addr().unwrap().port());
    let first = rig.dial(1000, peer, PLAIN);
    rig.until("a connection", |rig| rig.ends[first].up);
    let (mut before, _) = listener.accept().unwrap();
    before.set_nonblocking(true).unwrap();
    rig.ends.clear();
    let second = rig.dial(1000, peer, PLAIN);
    rig.until("another", |rig| rig.ends[second].up);
    let error = rig.host_end(&mut before).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let (mut after, _) = listener.accept().unwrap();
    after.set_nonblocking(true).unwrap();
    rig.exchange(second, &mut after, b"who are you?", b"the same");
    // The device is reset: the host's side is, too.
    rig.tcp.activate(None, MTU);
    let error = rig.host_end(&mut after).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    rig.is_clean();
}

#[test]
fn ipv6_is_the_same_in_longer() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        println!("skipped: this machine has no IPv6");
        return;
    };
    let forward =
        Forward { transport: Transport::Tcp, host: "[::1]:0".parse().unwrap(), guest: 80 };
    let forward = Listener::bind(forward).unwrap();
    let local = forward.local();
    let mut rig = Rig::new(OFFLOADS, vec![forward]);
    rig.tcp.guest_spoke(with_ipv6(), rig.now);
    let six = IpAddr::V6(with_ipv6().six.unwrap());
    let peer = SocketAddr::new("fec0::2".parse().unwrap(), listener.local_addr().unwrap().port());
    let manner = Manner { mss: 1440, ..PLAIN };
    let end = End::new(Key { guest: SocketAddr::new(six, 1000), peer }, manner, 5);
    let syn = end.syn();
    rig.ends.push(end);
    rig.send(&syn);
    rig.until("a connection", |rig| rig.ends[0].up);
    let mut host = listener.accept().unwrap().0;
    host.set_nonblocking(true).unwrap();
    rig.exchange(0, &mut host, &noise(300_000, 1), &noise(300_000, 2));
    rig.listens = Some((80, manner));
    let mut other = client(local);
    rig.until("a call", |rig| rig.ends.len() == 2);
    assert_eq!(rig.ends[1].key.guest, SocketAddr::new(six, 80));
    assert_eq!(rig.ends[1].key.peer.ip(), peer.ip());
    rig.exchange(1, &mut other, &noise(300_000, 1), &noise(300_000, 2));
    rig.tcp.activate(None, MTU);
    rig.is_clean();
}

#[test]
fn names_are_asked_of_the_first_name_server_that_listens() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let resolvers = vec![free, free, server.local_addr().unwrap()];
    let mut rig = Rig::with(Tcp::new(Policy::default(), resolvers, Vec::new()), 0);
    let end = rig.dial(1000, "10.0.2.3:53".parse().unwrap(), PLAIN);
    rig.until("a connection", |rig| rig.ends[end].up);
    let mut host = server.accept().unwrap().0;
    host.set_nonblocking(true).unwrap();
    rig.exchange(end, &mut host, b"runner?", b"127.0.0.1");
    drop(server);
    let none = rig.dial(1001, "10.0.2.3:53".parse().unwrap(), PLAIN);
    rig.until("a reset", |rig| rig.ends[none].reset);
    rig.tcp.activate(None, MTU);
    rig.is_clean();
}

#[test]
fn what_cannot_be_reached_is_told_by_the_syn_that_asked_for_it() {
    let cases = [
        (Errno::NETUNREACH, Some(Why::Network)),
        (Errno::HOSTUNREACH, Some(Why::Host)),
        (Errno::TIMEDOUT, Some(Why::Host)),
        (Errno::CONNREFUSED, None),
        (Errno::ADDRNOTAVAIL, None),
    ];
    for (errno, why) in cases {
        let mut rig = Rig::new(0, Vec::new());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = gateway(listener.local_addr().unwrap().port());
        let end = rig.dial(1000, peer, PLAIN);
        let syn = rig.ends[end].syn();
        // As the socket would say it.
        let slot = rig.tcp.table.find(&rig.ends[end].key).unwrap();
        rig.tcp.fail(slot, &errno.into());
        let told = rig.tcp.unreachable();
        assert_eq!(told.map(|told| told.why), why, "{errno:?}");
        if let Some(told) = told {
            assert_eq!((told.source, told.destination), (guest(1000), peer));
            assert_eq!(told.quoted(), syn.bytes[..8]);
        } else {
            rig.until("a reset", |rig| rig.ends[end].reset);
        }
        rig.is_clean();
    }
}

#[test]
fn a_connection_closed_one_way_lasts_as_long_as_both_ends_are_there() {
    let mut rig = Rig::new(0, Vec::new());
    let (end, mut host) = rig.pair(1000, PLAIN);
    host.shutdown(std::net::Shutdown::Write).unwrap();
    rig.until("an end", |rig| rig.ends[end].ended);
    let frames = rig.frames;
    rig.pass(Duration::from_secs(600));
    assert!((9..=10).contains(&(rig.frames - frames)), "asked {} times", rig.frames - frames);
    rig.exchange(end, &mut host, b"late", b"");
    // A guest that has forgotten it says so when it is asked.
    let rst = rig.ends[end].rst();
    rig.send(&rst);
    assert!(rig.host_end(&mut host).is_err());
    rig.is_clean();
    // And one that is silent is given up.
    let (end, host) = rig.pair(1001, PLAIN);
    rig.ends[end].finish();
    rig.until("its end", |rig| rig.ends[end].fin_acked);
    rig.ends.clear();
    rig.pass(Duration::from_secs(190));
    rig.is_clean();
    drop(host);
}

#[test]
fn what_the_guest_has_sent_is_the_hosts_even_if_the_guest_has_forgotten_it() {
    let mut rig = Rig::new(0, Vec::new());
    let bytes = noise(16_000_000, 2);
    // What the host's kernel takes, and more.
    for (port, more) in [(1000, false), (1001, true)] {
        let (end, mut host) = rig.pair(port, PLAIN);
        let mut sent = 0;
        rig.until("as much as is wanted", |rig| {
            rig.ends[end].write(&bytes[sent..][..50_000]);
            sent += 50_000;
            rig.rounds(50);
            !more || rig.tcp.room.left() < MEMORY
        });
        rig.ends[end].finish();
        rig.until("all is acknowledged", |rig| rig.ends[end].fin_acked);
        let frames = rig.frames;
        rig.pass(Duration::from_secs(if more { 300 } else { 50 }));
        assert_eq!(rig.frames, frames, "nobody is asked so soon");
        if !more {
            let rst = rig.ends[end].rst();
            rig.send(&rst);
            assert_eq!(rig.tcp.flows(), 0);
        }
        assert!(rig.host_reads(&mut host, sent) == bytes[..sent]);
        rig.host_end(&mut host).unwrap();
        drop(host);
        rig.until("its end", |rig| !more || rig.ends[end].ended);
        rig.is_clean();
    }
}
