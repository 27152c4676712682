//! Connections that clients begin.

use super::*;

#[test]
fn a_client_reaches_the_guest_and_seems_to_be_the_gateway() {
    let (listeners, local) = forwarded();
    let mut rig = Rig::new(OFFLOADS, listeners);
    rig.listens = Some((80, PLAIN));
    let mut host = client(local);
    rig.until("a call", |rig| rig.ends.len() == 1);
    let from = host.local_addr().unwrap().port();
    assert_eq!(rig.ends[0].key, Key { guest: guest(80), peer: gateway(from) });
    rig.exchange(0, &mut host, &noise(700_000, 1), &noise(900_000, 2));
    host.shutdown(std::net::Shutdown::Write).unwrap();
    rig.until("an end", |rig| rig.ends[0].ended);
    rig.ends[0].write(b"bye");
    rig.ends[0].finish();
    assert_eq!(rig.host_reads(&mut host, 3), b"bye");
    rig.host_end(&mut host).unwrap();
    rig.is_clean();
}

#[test]
fn a_client_waits_for_a_guest_that_is_not_up_and_is_there_when_it_is() {
    let (listeners, local) = forwarded();
    let mut rig = Rig::new(0, listeners);
    let mut host = client(local);
    host.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    rig.until("a call", |rig| !rig.strays.is_empty());
    rig.pass(Duration::from_secs(1));
    let often = rig.strays.len();
    assert!((10..20).contains(&often), "{often}");
    rig.pass(Duration::from_secs(10));
    let seldom = rig.strays.len() - often;
    assert!((9..12).contains(&seldom), "{seldom}");
    assert!(rig.strays.iter().all(|stray| stray.segment.syn && stray.key.guest == guest(80)));
    rig.listens = Some((80, PLAIN));
    let begun = rig.now;
    rig.tcp.guest_spoke(Addresses::default(), rig.now);
    rig.until("a question", |rig| rig.ends.iter().any(|end| end.inbox.len() == 18));
    assert!(rig.now - begun < ms(10));
    let rst = rig.ends[0].rst();
    rig.send(&rst);
    assert!(rig.host_end(&mut host).is_err());
    rig.is_clean();
}

#[test]
fn a_guest_at_another_address_is_called_there() {
    let (listeners, local) = forwarded();
    let mut rig = Rig::new(0, listeners);
    let _host = client(local);
    rig.until("a call", |rig| !rig.strays.is_empty());
    let elsewhere = "10.0.2.77".parse().unwrap();
    rig.tcp.guest_spoke(Addresses { four: elsewhere, six: None }, rig.now);
    rig.listens = Some((80, PLAIN));
    rig.until("a connection", |rig| !rig.ends.is_empty());
    assert_eq!(rig.ends[0].key.guest, "10.0.2.77:80".parse().unwrap());
    let _other = client(local);
    rig.tcp.guest_spoke(Addresses::default(), rig.now);
    rig.until("another", |rig| rig.ends.len() == 2);
    assert_eq!(rig.ends[1].key.guest, guest(80));
}

#[test]
fn a_client_is_reset_when_the_guest_refuses_or_never_comes_up() {
    let (listeners, local) = forwarded();
    let mut rig = Rig::new(0, listeners);
    let mut host = client(local);
    rig.until("a call", |rig| !rig.strays.is_empty());
    let called = rig.strays[0].segment;
    let refusal = Say { ack: Some(called.seq.add(1)), flags: RST, ..Say::default() };
    let key = rig.strays[0].key;
    // One that answers something else is nobody's.
    rig.send(&segment(key, Say { ack: Some(called.seq), ..refusal }, false));
    assert_eq!(rig.tcp.flows(), 1);
    rig.send(&segment(key, refusal, false));
    assert!(rig.host_end(&mut host).is_err());
    rig.is_clean();
    let mut host = client(local);
    rig.rounds(10);
    rig.pass(Duration::from_secs(76));
    assert!(rig.host_end(&mut host).is_err());
    rig.is_clean();
}

#[test]
fn a_client_waits_for_a_guest_that_refuses_it_while_it_is_asked_to_and_no_longer() {
    let (listeners, local) = forwarded();
    let mut rig = Rig::new(0, listeners);
    rig.tcp.wait_until = ms(1000);
    let mut host = client(local);
    host.write_all(b"hello").unwrap();
    let refuse = |rig: &mut Rig| {
        rig.until("a call", |rig| !rig.strays.is_empty());
        let Arrived { key, segment: called, .. } = rig.strays.pop().unwrap();
        assert!(called.syn);
        let refusal = Say { ack: Some(called.seq.add(1)), flags: RST, ..Say::default() };
        rig.send(&segment(key, refusal, false));
    };
    for _ in 0..5 {
        let before = rig.now;
        refuse(&mut rig);
        assert_eq!(rig.tcp.flows(), 1);
        rig.until("another call", |rig| !rig.strays.is_empty());
        let gap = rig.now - before;
        assert!((ms(19)..ms(30)).contains(&gap), "{gap:?}");
    }
    rig.strays.clear();
    rig.listens = Some((80, PLAIN));
    rig.until("the guest has it", |rig| rig.ends.iter().any(|end| end.inbox == b"hello"));
    rig.listens = None;
    let rst = rig.ends[0].rst();
    rig.send(&rst);
    assert!(rig.host_end(&mut host).is_err(), "one that was accepted does not wait");

    let mut host = client(local);
    refuse(&mut rig);
    rig.until("the time is over", |rig| rig.now > ms(1000));
    rig.strays.clear();
    refuse(&mut rig);
    assert!(rig.host_end(&mut host).is_err());
    rig.is_clean();
}

#[test]
fn a_client_that_does_not_wait_is_forgotten() {
    let (listeners, local) = forwarded();
    let mut rig = Rig::new(0, listeners);
    let host = client(local);
    rig.until("a call", |rig| !rig.strays.is_empty());
    socket_reset(host);
    rig.until("it is gone", |rig| rig.tcp.flows() == 0);
    rig.is_clean();
}

#[test]
fn what_the_guest_knows_of_an_earlier_connection_is_reset_and_the_call_goes_on() {
    let (listeners, local) = forwarded();
    let mut rig = Rig::new(0, listeners);
    let _host = client(local);
    rig.until("a call", |rig| !rig.strays.is_empty());
    let key = rig.strays.pop().unwrap().key;
    let old = Say { seq: Seq(5), ack: Some(Seq(99)), ..Say::default() };
    rig.send(&segment(key, old, false));
    rig.until("a reset", |rig| rig.strays.iter().any(|stray| stray.segment.rst));
    let reset = rig.strays.iter().find(|stray| stray.segment.rst).unwrap();
    assert_eq!(reset.segment.seq, Seq(99));
    rig.listens = Some((80, PLAIN));
    rig.until("a connection", |rig| rig.ends.iter().any(|end| end.up));
}

#[test]
fn clients_from_the_same_port_have_different_ports_for_the_guest() {
    let mut rig = Rig::new(0, Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut streams = Vec::new();
    for from in
        ["127.0.0.1:5000", "127.0.0.2:5000", "10.0.2.9:5000", "192.0.2.1:5000", "[::1]:5000"]
    {
        let stream = crate::io::socket::Stream::connect(listener.local_addr().unwrap()).unwrap();
        rig.tcp.forward(stream, from.parse().unwrap(), 80, rig.now);
        streams.push(listener.accept().unwrap());
    }
    rig.until("calls", |rig| rig.strays.len() >= 5);
    let mut peers: Vec<_> = rig.strays.iter().take(5).map(|stray| stray.key.peer).collect();
    assert_eq!((peers[0], peers[3]), (gateway(5000), "192.0.2.1:5000".parse().unwrap()));
    assert_eq!(peers.iter().filter(|peer| peer.ip() == gateway(1).ip()).count(), 4);
    peers.sort_unstable();
    peers.dedup();
    assert_eq!(peers.len(), 5);
}

/// A client by IPv6 that calls a guest which has it.
fn by_ipv6(rig: &mut Rig) -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = crate::io::socket::Stream::connect(listener.local_addr().unwrap()).unwrap();
    rig.tcp.guest_spoke(with_ipv6(), rig.now);
    rig.tcp.forward(stream, "[::1]:5000".parse().unwrap(), 80, rig.now);
    rig.until("a call", |rig| !rig.strays.is_empty());
    let wanted =
        Key { guest: "[fec0::15]:80".parse().unwrap(), peer: "[fec0::2]:5000".parse().unwrap() };
    assert_eq!(rig.strays[0].key, wanted);
    let host = listener.accept().unwrap().0;
    host.set_nonblocking(true).unwrap();
    host
}

#[test]
fn a_client_by_ipv6_reaches_a_server_that_listens_by_ipv4_alone() {
    let mut rig = Rig::new(0, Vec::new());
    let mut host = by_ipv6(&mut rig);
    let Arrived { key, segment: called, .. } = rig.strays.pop().unwrap();
    let refusal = Say { ack: Some(called.seq.add(1)), flags: RST, ..Say::default() };
    rig.listens = Some((80, PLAIN));
    rig.send(&segment(key, refusal, false));
    rig.until("a connection", |rig| rig.ends.iter().any(|end| end.up));
    assert_eq!(rig.ends[0].key, Key { guest: guest(80), peer: gateway(5000) });
    rig.exchange(0, &mut host, &noise(50_000, 1), &noise(50_000, 2));
    rig.tcp.activate(None, MTU);
    rig.is_clean();
    // Where nobody listens by that either it is refused.
    rig.listens = None;
    rig.ends.clear();
    let mut host = by_ipv6(&mut rig);
    for ip in ["fec0::15", "10.0.2.15"] {
        let is_there = |stray: &Arrived| stray.key.guest.ip().to_string() == ip;
        rig.until("a call", |rig| rig.strays.iter().any(is_there));
        let Arrived { key, segment: called, .. } = rig.strays.pop().unwrap();
        let refusal = Say { ack: Some(called.seq.add(1)), flags: RST, ..Say::default() };
        rig.send(&segment(key, refusal, false));
    }
    assert!(rig.host_end(&mut host).is_err());
    rig.is_clean();
}

#[test]
fn a_client_by_ipv6_goes_where_the_guest_is_after_it_was_started_anew() {
    let mut rig = Rig::new(0, Vec::new());
    let _host = by_ipv6(&mut rig);
    let elsewhere = "fec0::77".parse().unwrap();
    for (six, wanted) in [(Some(elsewhere), "[fec0::77]:80"), (None, "10.0.2.15:80")] {
        rig.tcp.activate(None, MTU);
        rig.tcp.activate(Some(0), MTU);
        rig.strays.clear();
        rig.now += ms(20);
        rig.tcp.guest_spoke(Addresses { six, ..Addresses::default() }, rig.now);
        rig.until("a call", |rig| !rig.strays.is_empty());
        assert_eq!(rig.strays[0].key.guest, wanted.parse().unwrap());
    }
    rig.listens = Some((80, PLAIN));
    rig.until("a connection", |rig| rig.ends.iter().any(|end| end.up));
}
