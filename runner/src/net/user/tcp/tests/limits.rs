//! What a guest, or a client, can make us hold and do.

use super::*;

#[test]
fn a_guest_that_is_silent_is_given_up_after_two_minutes() {
    let mut rig = Rig::new(0, Vec::new());
    let (_, mut host) = rig.pair(1000, PLAIN);
    rig.lose = Some(1);
    host.write_all(b"anybody?").unwrap();
    let (begun, frames) = (rig.now, rig.frames);
    rig.until("it is given up", |rig| rig.tcp.flows() == 0);
    let took = (rig.now - begun).as_secs();
    assert!((118..123).contains(&took), "{took}");
    assert!((20..40).contains(&(rig.frames - frames)), "{}", rig.frames - frames);
    let error = rig.host_end(&mut host).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    rig.is_clean();
}

#[test]
fn a_guest_without_room_is_waited_for_and_nothing_wakes_us() {
    let mut rig = Rig::new(0, Vec::new());
    let (end, mut host) = rig.pair(1000, PLAIN);
    rig.rounds(10);
    assert_eq!(rig.tcp.deadline(), None, "an idle connection");
    rig.room = 0;
    host.write_all(&noise(100_000, 1)).unwrap();
    rig.rounds(20);
    assert_eq!(rig.tcp.deadline(), None, "a guest without room");
    rig.pass(Duration::from_secs(200));
    rig.room = 3;
    rig.until("bytes", |rig| rig.ends[end].inbox.len() == 100_000);
    let rst = rig.ends[end].rst();
    rig.send(&rst);
    rig.is_clean();
}

#[test]
fn a_flood_of_syns_is_bounded_and_disturbs_nobody() {
    let mut rig = Rig::new(0, Vec::new());
    let (end, mut host) = rig.pair(999, PLAIN);
    // A host that has no room for connections leaves them half open.
    let listener = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    rustix::net::bind(&listener, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let local: SocketAddr = rustix::net::getsockname(&listener).unwrap().try_into().unwrap();
    for port in 0..2000 {
        let key = Key { guest: guest(2000 + port), peer: gateway(local.port()) };
        rig.send(&segment(key, Say { flags: SYN, mss: Some(1460), ..Say::default() }, false));
        assert!(rig.tcp.opening <= HALF_OPEN);
    }
    assert_eq!(rig.tcp.flows(), HALF_OPEN + 1);
    assert!(rig.tcp.counters().dropped >= 2000 - HALF_OPEN as u64);
    rig.exchange(end, &mut host, &noise(100_000, 1), &noise(100_000, 2));
    // Whoever does not answer is given up.
    rig.pass(Duration::from_secs(76));
    rig.rounds(600);
    assert_eq!(rig.tcp.flows(), 1);
    let told = std::iter::from_fn(|| rig.tcp.unreachable()).count();
    assert!((1..=connect::UNREACHABLE).contains(&told), "{told}");
    let rst = rig.ends[end].rst();
    rig.send(&rst);
    rig.is_clean();
}

#[test]
fn five_thousand_connections_in_a_row_leave_nothing() {
    let mut rig = Rig::new(0, Vec::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = gateway(listener.local_addr().unwrap().port());
    for round in 0..5000u16 {
        let end = rig.dial(1000 + round, peer, PLAIN);
        rig.until("a connection", |rig| rig.ends[end].up);
        let (mut host, _) = listener.accept().unwrap();
        host.set_nonblocking(true).unwrap();
        host.write_all(b"!").unwrap();
        drop(host);
        rig.until("a byte and an end", |rig| rig.ends[end].ended);
        rig.ends[end].finish();
        rig.until("the end", |rig| rig.ends[end].fin_acked);
        rig.ends.clear();
    }
    assert!(rig.now < ms(900), "none has lingered for its time: {:?}", rig.now);
    rig.is_clean();
}

#[test]
fn a_thousand_idle_connections_cost_no_memory_and_no_time() {
    let mut rig = Rig::new(OFFLOADS, Vec::new());
    let mut pairs: Vec<_> = (0..300).map(|port| rig.pair(1000 + port, PLAIN)).collect();
    let (last, host) = pairs.last_mut().unwrap();
    rig.exchange(*last, host, b"a question", b"an answer");
    rig.rounds(10);
    assert_eq!(rig.tcp.room.left(), MEMORY);
    assert_eq!(rig.tcp.deadline(), None);
    assert!(rig.tcp.queue.is_empty());
    drop(pairs);
    rig.ends.iter_mut().for_each(End::finish);
    rig.is_clean();
}

#[test]
fn segments_of_every_kind_at_every_state_do_no_harm() {
    // N54
    let (listeners, local) = forwarded();
    let mut rig = Rig::new(0, listeners);
    let mut random = noise(1 << 16, 11).into_iter().cycle();
    let mut next = || u32::from_le_bytes(std::array::from_fn(|_| random.next().unwrap()));
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    echo.set_nonblocking(true).unwrap();
    let peer = gateway(echo.local_addr().unwrap().port());
    let (mut clients, mut accepted) = (Vec::new(), Vec::new());
    let mut last = (Seq(0), Seq(0));
    for round in 0..30_000 {
        if round % 500 == 0 {
            clients.truncate(5);
            clients.push(client(local));
        }
        if let Ok((mut stream, _)) = echo.accept() {
            stream.set_nonblocking(true).unwrap();
            let _ = stream.write(&noise(3000, 1));
            accepted.push(stream);
            accepted.drain(..accepted.len().saturating_sub(4));
        }
        let key = match next() % 4 {
            0 => Key { guest: guest(80), peer: gateway(client_port(&clients)) },
            1 => Key { guest: guest(80), peer: guest(80) },
            _ => Key { guest: guest(1000 + u16::try_from(next() % 3).unwrap()), peer },
        };
        let near = |seq: Seq, by: u32| seq.add(usize::from(by.to_le_bytes()[0])).back(128);
        let data = noise(usize::try_from(next() % 90).unwrap(), 2);
        let say = Say {
            seq: if next() % 3 == 0 { Seq(next()) } else { near(last.0, next()) },
            ack: match next() % 4 {
                0 => None,
                1 => Some(Seq(next())),
                2 => Some(near(last.1, next())),
                _ => Some(last.1),
            },
            flags: next().to_le_bytes()[0] & if next() % 2 == 0 { 0xff } else { SYN | FIN },
            window: u16::try_from(next() & 0xffff).unwrap(),
            mss: (next() % 3 == 0).then_some(u16::try_from(next() & 0xffff).unwrap()),
            scale: (next() % 3 == 0).then_some(next().to_le_bytes()[0]),
            data: &data,
        };
        let mut sent = segment(key, say, false);
        match next() % 5 {
            0 => {
                let place = usize::try_from(next()).unwrap() % sent.bytes.len();
                sent.bytes[place] ^= next().to_le_bytes()[0];
                guest::sum(key, &mut sent.bytes);
            }
            1 => sent.bytes.truncate(usize::try_from(next()).unwrap() % 60),
            2 => sent.unsummed = true,
            _ => {}
        }
        rig.send(&sent);
        rig.strays.clear();
        rig.round();
        if let Some(stray) = rig.strays.last() {
            last = (
                stray.segment.ack.unwrap_or(last.0),
                stray.segment.seq.add(stray.segment.length()),
            );
        }
        if round % 1000 == 0 {
            rig.now += Duration::from_secs(10);
        }
    }
    drop((clients, accepted));
    rig.tcp.activate(None, MTU);
    rig.pass(Duration::from_secs(100));
    rig.is_clean();
}

fn client_port(clients: &[TcpStream]) -> u16 {
    clients.last().unwrap().local_addr().unwrap().port()
}

#[test]
fn flows_take_turns() {
    let mut rig = Rig::new(OFFLOADS, Vec::new());
    let pairs: Vec<_> = (0..4).map(|port| rig.pair(1000 + port, PLAIN)).collect();
    let bytes = noise(400_000, 1);
    for (_, host) in &pairs {
        let mut host = host;
        assert!(host.write(&bytes).unwrap() > 150_000);
    }
    // Room for one frame at a time.
    rig.room = 1;
    let mut lead = 0;
    rig.until("all have something", |rig| {
        let len = |end: &usize| rig.ends[*end].inbox.len();
        let most = pairs.iter().map(|(end, _)| len(end)).max().unwrap();
        let least = pairs.iter().map(|(end, _)| len(end)).min().unwrap();
        lead = lead.max(most - least);
        least > 150_000
    });
    assert!(lead <= 2 * 64 << 10, "{lead}");
}

/// How many descriptors this process has.
fn descriptors() -> usize {
    std::fs::read_dir("/dev/fd").unwrap().count()
}

#[test]
#[ignore = "counts descriptors, and takes them away: started by the test below"]
fn has_no_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = descriptors();
    let all = getrlimit(Resource::Nofile);
    let limit = |current| setrlimit(Resource::Nofile, Rlimit { current, ..all }).unwrap();
    let (listeners, local) = forwarded();
    let mut rig = Rig::new(0, listeners);
    rig.listens = Some((80, PLAIN));
    let echo = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = gateway(echo.local_addr().unwrap().port());
    let clients: Vec<_> = (0..5).map(|_| client(local)).collect();
    limit(Some(3));
    let refused = rig.dial(1000, peer, PLAIN);
    rig.until("a reset", |rig| rig.ends[refused].reset);
    rig.until("a refused accept", |rig| rig.tcp.accept_at.is_some());
    let wakes = (0..1000).filter(|_| {
        let before = rig.now;
        rig.round();
        rig.now == before
    });
    assert!(wakes.count() < 5, "a client that cannot be accepted wakes us once");
    limit(all.current);
    let begun = rig.now;
    rig.until("the clients", |rig| rig.ends.iter().filter(|end| end.up).count() == 5);
    assert!(rig.now - begun <= ms(1100));
    // All at once, and every way to end.
    let mut pairs: Vec<_> = (0..400).map(|port| rig.pair(2000 + port, PLAIN)).collect();
    for (round, (end, host)) in pairs.iter_mut().enumerate() {
        let _ = host.write(b"some bytes");
        match round % 4 {
            0 => rig.ends[*end].finish(),
            1 => socket_reset(host.try_clone().unwrap()),
            2 => {
                let rst = rig.ends[*end].rst();
                rig.send(&rst);
            }
            _ => {}
        }
    }
    rig.rounds(3);
    drop((pairs, clients));
    rig.rounds(3);
    rig.tcp.activate(None, MTU);
    rig.is_clean();
    drop((rig, echo));
    assert_eq!(descriptors(), before);
}

#[test]
fn without_descriptors_connections_are_refused_or_wait_and_in_the_end_none_is_left() {
    let mut test = std::process::Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    let output = test.arg("net::user::tcp::tests::limits::has_no_descriptors").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(errors.matches("a higher limit (ulimit -n)").count(), 1, "{errors}");
}

#[test]
fn a_guest_that_takes_no_frames_cannot_make_the_queue_grow() {
    let mut rig = Rig::new(0, Vec::new());
    rig.room = 0;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = gateway(listener.local_addr().unwrap().port());
    let key = Key { guest: guest(1000), peer };
    for round in 0..3000 {
        let seq = Seq(round);
        rig.send(&segment(key, Say { seq, flags: SYN, ..Say::default() }, false));
        rig.round();
        if round % 100 == 0 {
            while listener.accept().is_err() {}
        }
    }
    assert!(rig.tcp.queue.len() <= rig.tcp.table.slots().len());
    assert!(rig.tcp.table.slots().len() < 4, "{:?}", rig.tcp.table.slots());
}

#[test]
fn eight_streams_at_once_all_come_through() {
    for (features, lose) in [(0, None), (OFFLOADS, None), (OFFLOADS, Some(50))] {
        let mut rig = Rig::new(features, Vec::new());
        let mut pairs: Vec<_> = (0..8).map(|port| rig.pair(1000 + port, PLAIN)).collect();
        rig.lose = lose;
        let (up, down) = (noise(400_000, 3), noise(1_200_000, 4));
        pairs.iter().for_each(|(end, _)| rig.ends[*end].write(&up));
        let mut sent = [0; 8];
        let mut went = vec![Vec::new(); 8];
        let mut came = vec![Vec::new(); 8];
        let mut buffer = vec![0; 1 << 16];
        rig.until("all bytes", |rig| {
            for (stream, (end, host)) in pairs.iter_mut().enumerate() {
                sent[stream] += host.write(&down[sent[stream]..]).unwrap_or(0);
                let read = host.read(&mut buffer).unwrap_or(0);
                went[stream].extend_from_slice(&buffer[..read]);
                came[stream].extend(rig.ends[*end].read());
            }
            (0..8).all(|stream| went[stream] == up && came[stream] == down)
        });
        drop(pairs);
        rig.tcp.activate(None, MTU);
        rig.is_clean();
    }
}
