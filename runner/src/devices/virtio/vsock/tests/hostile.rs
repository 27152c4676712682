//! What no good driver does. Each ends in RST, or in nothing, or in a stop that names its reason.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::rig::*;
use crate::devices::virtio::vsock::packet::{Header, Op, Ports, SHUTDOWN_SEND};
use crate::devices::virtio::vsock::{CONNECTIONS, WINDOW};

const PORTS: Ports = Ports { guest: 5000, host: 52 };

/// After all that, a connection works.
fn works(rig: &mut Rig) {
    assert_eq!(rig.status(), 0xf);
    rig.received();
    let (mut program, ports) = rig.call(4321);
    program.write_all(b"ping").unwrap();
    assert_eq!(rig.received().pop().unwrap().1, b"ping");
    rig.send(&data(ports, b"pong"), b"pong");
    assert_eq!(read_all(&program), b"pong");
}

#[test]
fn packets_for_no_connection_are_answered_by_a_reset_and_a_reset_by_nothing() {
    let mut rig = Rig::new();
    for op in
        [Op::Response, Op::Shutdown, Op::Data, Op::CreditUpdate, Op::CreditRequest, Op::Request]
    {
        rig.send(&guest(PORTS, op), &[]);
        let received = rig.received();
        let [(header, _)] = received.as_slice() else { panic!("{op:?} {received:?}") };
        assert_eq!(header.op(), Some(Op::Reset));
        assert_eq!((header.source_port, header.destination_port), (52, 5000));
    }
    rig.send(&guest(PORTS, Op::Reset), &[]);
    assert_eq!(rig.heard(), []);
    works(&mut rig);
}

#[test]
fn addresses_types_and_operations_that_do_not_exist_lead_nowhere() {
    let mut rig = Rig::new();
    let _listener = rig.listen(52);
    let good = guest(PORTS, Op::Request);
    for destination in [0, 1, 3, CID, 0xffff_ffff, u64::MAX] {
        rig.send(&Header { destination, ..good }, &[]);
        let (header, _) = rig.received().pop().unwrap();
        assert_eq!((header.op(), header.source), (Some(Op::Reset), destination));
    }
    for source in [0, 1, 2, 3, CID | 1 << 32, u64::MAX] {
        rig.send(&Header { source, ..good }, &[]);
        assert_eq!(rig.heard(), [], "another's");
    }
    for kind in [0, 2, 3, u16::MAX] {
        rig.send(&Header { kind, ..good }, &[]);
        let (header, _) = rig.received().pop().unwrap();
        assert_eq!((header.op(), header.kind), (Some(Op::Reset), kind));
    }
    for op in [0, 8, u16::MAX] {
        rig.send(&Header { op, ..good }, &[]);
        assert_eq!(rig.heard(), [Some(Op::Reset)]);
    }
    assert_eq!(rig.connections(), 0);
    works(&mut rig);
}

#[test]
fn a_length_that_is_a_lie_ends_the_connection() {
    let mut rig = Rig::new();
    let listener = rig.listen(52);
    for len in [5, 4096, WINDOW, u32::MAX] {
        let program = rig.dial(&listener, PORTS);
        rig.send(&Header { len, ..data(PORTS, b"four") }, b"four");
        assert_eq!(rig.heard(), [Some(Op::Reset)]);
        assert!(is_closed(&program));
    }
    // Less than there is: the rest is none of ours.
    let program = rig.dial(&listener, PORTS);
    rig.send(&Header { len: 2, ..data(PORTS, b"four") }, b"four");
    assert_eq!(read_all(&program), b"fo");
    works(&mut rig);
}

#[test]
fn a_header_that_is_not_whole_stops_the_device_and_so_does_a_buffer_without_room_for_one() {
    for len in [0, 1, 43] {
        let mut rig = Rig::new();
        rig.put_raw(&vec![0; len]);
        rig.turn();
        assert_eq!(rig.status(), 0x4f, "{len}");
        rig.reset();
        rig.start();
        rig.make_room(SIZE, BUFFER);
        works(&mut rig);
    }
    let mut rig = Rig::without_room();
    rig.make_room(1, 43);
    rig.send(&guest(PORTS, Op::Data), &[]);
    assert_eq!(rig.status(), 0x4f);
}

#[test]
fn more_bytes_than_there_is_room_for_end_the_connection() {
    let mut rig = Rig::new();
    let listener = rig.listen(52);
    let program = rig.dial(&listener, PORTS);
    let piece = vec![1; 60 << 10];
    let mut heard = Vec::new();
    for _ in 0..20 {
        rig.send(&data(PORTS, &piece), &piece);
        heard.extend(rig.heard());
    }
    assert!(heard.contains(&Some(Op::Reset)), "{heard:?}");
    assert!(!read_all(&program).is_empty());
    works(&mut rig);
}

#[test]
fn a_lie_about_credit_brings_nothing() {
    let mut rig = Rig::new();
    let (mut program, ports) = rig.call(7);
    for fwd_cnt in [1, 1000, 1 << 31, u32::MAX] {
        rig.send(&Header { fwd_cnt, buf_alloc: 8, ..guest(ports, Op::CreditUpdate) }, &[]);
    }
    program.write_all(&[7; 1000]).unwrap();
    let bytes: usize = rig.received().iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(bytes, 8);
    rig.send(&Header { buf_alloc: 0, fwd_cnt: 8, ..guest(ports, Op::CreditUpdate) }, &[]);
    assert!(rig.received().iter().all(|(_, bytes)| bytes.is_empty()));
    rig.send(&Header { buf_alloc: u32::MAX, fwd_cnt: 8, ..guest(ports, Op::CreditUpdate) }, &[]);
    let bytes: usize = rig.received().iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(bytes, 992);
    works(&mut rig);
}

#[test]
fn packets_at_the_wrong_time_end_the_connection() {
    for (op, flags) in [(Op::Request, 0), (Op::Response, 0)] {
        let mut rig = Rig::new();
        let listener = rig.listen(52);
        let program = rig.dial(&listener, PORTS);
        rig.send(&Header { flags, ..guest(PORTS, op) }, &[]);
        assert_eq!(rig.heard(), [Some(Op::Reset)], "{op:?}");
        assert!(is_closed(&program));
        works(&mut rig);
    }
    // Bytes after the last one.
    let mut rig = Rig::new();
    let listener = rig.listen(52);
    rig.dial(&listener, PORTS);
    rig.put(&Header { flags: SHUTDOWN_SEND, ..guest(PORTS, Op::Shutdown) }, &[]);
    rig.send(&data(PORTS, b"more"), b"more");
    assert!(rig.heard().contains(&Some(Op::Reset)));
    // Bytes before an answer, and an answer before the question.
    for op in [Op::Data, Op::Shutdown, Op::CreditRequest] {
        let mut program = UnixStream::connect(rig.path(None)).unwrap();
        program.write_all(b"CONNECT 9\n").unwrap();
        let (request, _) = rig.received().pop().unwrap();
        rig.send(&guest(Ports { guest: 9, host: request.source_port }, op), &[]);
        assert_eq!(rig.heard(), [Some(Op::Reset)], "{op:?}");
        assert!(is_closed(&program));
    }
    works(&mut rig);
}

#[test]
fn a_flood_of_packets_from_a_guest_without_room_is_taken_up_to_a_bound() {
    let mut rig = Rig::without_room();
    for _ in 0..10 {
        for port in 0..128 {
            rig.put(&guest(Ports { guest: port, host: 9 }, Op::Data), &[]);
        }
        rig.turn();
    }
    // Two full rings of 128 were answered, and wait for room; the rest waits with the guest.
    assert!(rig.untaken() > 0);
    rig.reset();
    rig.start();
    rig.make_room(SIZE, BUFFER);
    works(&mut rig);
}

#[test]
fn answers_that_waited_for_room_are_given_and_what_waited_behind_them_is_taken() {
    let mut rig = Rig::without_room();
    let mut put = 0;
    while rig.untaken() == 0 {
        for port in 0..100 {
            rig.put(&guest(Ports { guest: port, host: 9 }, Op::Data), &[]);
        }
        put += 100;
        rig.turn();
    }
    let mut got = 0;
    while got < put {
        rig.make_room(16, 44);
        rig.turn();
        let packets = rig.take(false);
        assert!(!packets.is_empty(), "{got} of {put}");
        got += packets.len();
    }
    assert_eq!((got, rig.untaken()), (put, 0));
}

#[test]
fn a_flood_of_connections_ends_where_it_has_to_and_the_spent_make_room() {
    let mut rig = Rig::new();
    let listener = rig.listen(52);
    let (mut programs, mut kept) = (Vec::new(), 0);
    for port in 0..u32::from(CONNECTIONS) - 1 {
        rig.send(&guest(Ports { guest: port, host: 52 }, Op::Request), &[]);
        let (response, _) = rig.received().pop().unwrap();
        assert_eq!(response.op(), Some(Op::Response));
        kept += response.buf_alloc;
        programs.push(listener.accept().unwrap().0);
    }
    assert!(kept < 32 << 20, "{kept} bytes that nobody reads would be kept");
    // The last place is a program's that does not say what it wants, and keeps it for a second, or
    // until somebody needs it.
    let call = |rig: &Rig, greeting: &[u8]| {
        let mut program = UnixStream::connect(rig.path(None)).unwrap();
        program.write_all(greeting).unwrap();
        program
    };
    let silent = call(&rig, b"CONNECT ");
    rig.turn();
    rig.driver.pass(Duration::from_millis(999));
    let calling = call(&rig, b"CONNECT 8\n");
    assert_eq!(rig.heard(), []);
    assert_eq!(rig.driver.deadline(), Some(Duration::from_secs(1)));
    assert!(!is_closed(&silent));
    rig.driver.pass(Duration::from_millis(1));
    // It is accepted now, and read when it is heard of.
    rig.turn();
    assert_eq!(rig.heard(), [Some(Op::Request)]);
    assert!(is_closed(&silent) && !is_closed(&calling));
    rig.send(&guest(Ports { guest: 5000, host: 52 }, Op::Request), &[]);
    assert_eq!(rig.heard(), [Some(Op::Reset)]);
    // Who calls now waits until somebody leaves; a guest that does not confirm ends keeps nothing.
    let waiting = call(&rig, b"CONNECT 9\n");
    assert_eq!(rig.heard(), []);
    programs.pop();
    assert_eq!(rig.heard(), [Some(Op::Shutdown), Some(Op::Request)]);
    rig.reset();
    rig.start();
    rig.make_room(SIZE, BUFFER);
    drop((programs, calling, waiting));
    works(&mut rig);
}

#[test]
fn a_storm_of_resets_costs_nothing_and_leaves_nothing() {
    let mut rig = Rig::without_room();
    let listener = rig.listen(52);
    for round in 0..200 {
        for port in 0..50 {
            let ports = Ports { guest: port, host: 52 };
            rig.put(&guest(ports, Op::Request), &[]);
            rig.put(&guest(ports, Op::Reset), &[]);
        }
        rig.turn();
        assert_eq!((rig.untaken(), rig.connections()), (0, 0), "{round}");
        listener.set_nonblocking(true).unwrap();
        while listener.accept().is_ok() {}
    }
    rig.make_room(SIZE, BUFFER);
    works(&mut rig);
}

#[test]
fn buffers_without_room_for_a_byte_carry_credit_and_hold_up_nobody() {
    let mut rig = Rig::without_room();
    rig.make_room(2, 44);
    let listener = rig.listen(52);
    rig.send(&guest(PORTS, Op::Request), &[]);
    let mut program = listener.accept().unwrap().0;
    program.write_all(b"bytes").unwrap();
    rig.turn();
    let ops: Vec<_> = rig.take(false).iter().map(|(header, _)| header.op()).collect();
    assert_eq!(ops, [Some(Op::Response), Some(Op::CreditUpdate)]);
    rig.make_room(3, 46);
    rig.turn();
    let bytes: Vec<_> = rig.take(false).into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(bytes, [b"by".to_vec(), b"te".to_vec(), b"s".to_vec()]);
}
