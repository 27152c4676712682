//! What good programs and drivers do.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::rig::*;
use crate::devices::virtio::vsock::WINDOW;
use crate::devices::virtio::vsock::packet::{
    Header, Op, Ports, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND,
};

const PORTS: Ports = Ports { guest: 5000, host: 52 };

fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

fn end(ports: Ports, flags: u32) -> Header {
    Header { flags, ..guest(ports, Op::Shutdown) }
}

#[test]
fn the_guest_is_told_its_address() {
    assert_eq!(Rig::new().config(), CID);
}

#[test]
fn a_program_of_the_hosts_reaches_a_port_of_the_guests_and_bytes_go_both_ways() {
    let mut rig = Rig::new();
    let (mut program, ports) = rig.call(7);
    assert!(ports.host >= 1 << 30);
    program.write_all(b"hello").unwrap();
    let received = rig.received();
    let [(header, bytes)] = received.as_slice() else { panic!("{received:?}") };
    assert_eq!((header.op(), bytes.as_slice()), (Some(Op::Data), &b"hello"[..]));
    assert_eq!((header.source, header.destination), (2, CID));
    assert_eq!((header.buf_alloc, header.fwd_cnt), (WINDOW, 0));
    rig.send(&data(ports, b"world"), b"world");
    assert_eq!(read_all(&program), b"world");
}

#[test]
fn a_greeting_may_come_in_pieces_and_with_bytes_behind_it() {
    let mut rig = Rig::new();
    let mut program = UnixStream::connect(rig.path(None)).unwrap();
    for piece in ["CONN", "ECT 1", "2"] {
        program.write_all(piece.as_bytes()).unwrap();
        assert_eq!(rig.heard(), []);
    }
    program.write_all(b"\nearly").unwrap();
    let received = rig.received();
    let [(request, _)] = received.as_slice() else { panic!("{received:?}") };
    let ports = Ports { guest: 12, host: request.source_port };
    rig.send(&guest(ports, Op::Response), &[]);
    assert_eq!(rig.received().pop().unwrap().1, b"early");
    assert_eq!(line(&mut program), format!("OK {}", ports.host));
}

#[test]
fn a_program_that_says_something_else_is_sent_away() {
    let mut rig = Rig::new();
    for wrong in ["GET / HTTP/1.0\n", "CONNECT\n", "CONNECT 99999999999\n", &"x".repeat(32)] {
        let mut program = UnixStream::connect(rig.path(None)).unwrap();
        program.write_all(wrong.as_bytes()).unwrap();
        assert_eq!(rig.heard(), []);
        assert!(is_closed(&program), "{wrong}");
    }
    let program = UnixStream::connect(rig.path(None)).unwrap();
    rig.turn();
    drop(program);
    rig.turn();
    assert_eq!(rig.connections(), 0);
}

#[test]
fn a_port_where_the_guest_does_not_listen_is_an_end_without_an_ok() {
    let mut rig = Rig::new();
    let mut program = UnixStream::connect(rig.path(None)).unwrap();
    program.write_all(b"CONNECT 9\n").unwrap();
    let (request, _) = rig.received().pop().unwrap();
    let ports = Ports { guest: 9, host: request.source_port };
    rig.send(&guest(ports, Op::Reset), &[]);
    assert_eq!(line(&mut program), "");
    assert_eq!((rig.heard(), rig.connections()), (vec![], 0));
}

#[test]
fn the_guest_reaches_who_listens_behind_its_port_and_nobody_else() {
    let mut rig = Rig::new();
    let listener = rig.listen(52);
    let mut program = rig.dial(&listener, PORTS);
    rig.send(&data(PORTS, b"question"), b"question");
    assert_eq!(read_all(&program), b"question");
    program.write_all(b"answer").unwrap();
    assert_eq!(rig.received().pop().unwrap().1, b"answer");
    for port in [0, 53, u32::MAX] {
        rig.send(&guest(Ports { guest: 1, host: port }, Op::Request), &[]);
        assert_eq!(rig.heard(), [Some(Op::Reset)]);
    }
}

#[test]
fn a_listener_that_is_busy_is_waited_for_and_not_for_ever() {
    let mut rig = Rig::new();
    let listener = rig.listen(52);
    rustix::net::listen(&listener, 0).unwrap();
    let mut busy = Vec::new();
    let mut guest_port = 0;
    let ports = loop {
        let ports = Ports { guest: guest_port, host: 52 };
        rig.send(&guest(ports, Op::Request), &[]);
        if rig.heard().is_empty() {
            break ports;
        }
        busy.push(ports);
        guest_port += 1;
        assert!(guest_port < 1000, "a queue without an end");
    };
    assert!(rig.driver.deadline().is_some_and(|when| when <= Duration::from_millis(10)));
    rig.driver.pass(Duration::from_secs(1));
    assert_eq!(rig.heard(), []);
    let _first = listener.accept().unwrap();
    rig.driver.pass(Duration::from_millis(10));
    assert_eq!(rig.heard(), [Some(Op::Response)]);
    let another = Ports { guest: 1000, ..ports };
    rig.send(&guest(another, Op::Request), &[]);
    assert_eq!(rig.heard(), []);
    rig.driver.pass(Duration::from_secs(2));
    assert_eq!(rig.heard(), [Some(Op::Reset)]);
    assert_eq!(rig.driver.deadline(), None);
    assert_eq!(rig.connections(), busy.len() + 1);
}

#[test]
fn as_much_as_the_guest_has_room_for_is_read_and_the_rest_waits() {
    let mut rig = Rig::new();
    let (mut program, ports) = rig.call(7);
    let bytes = pattern(150_000);
    let all = bytes.clone();
    let writer = std::thread::spawn(move || {
        program.write_all(&all).unwrap();
        program
    });
    let mut got = Vec::new();
    let mut questions = 0;
    while got.len() < bytes.len() {
        for (header, bytes) in rig.received() {
            questions += usize::from(header.op() == Some(Op::CreditRequest));
            got.extend(bytes);
        }
        let room =
            Header { fwd_cnt: u32::try_from(got.len()).unwrap(), ..guest(ports, Op::CreditUpdate) };
        rig.send(&room, &[]);
    }
    assert!(got == bytes && questions > 0);
    drop(writer.join().unwrap());
    assert_eq!(rig.received().pop().unwrap().0.flags, SHUTDOWN_BOTH);
}

#[test]
fn what_a_program_does_not_read_is_kept_up_to_the_window_and_comes_out_as_it_went_in() {
    let mut rig = Rig::new();
    let listener = rig.listen(52);
    let program = rig.dial(&listener, PORTS);
    let piece = pattern(32 << 10);
    let (mut sent, mut passed_on) = (0u32, 0);
    loop {
        for (header, _) in rig.received() {
            passed_on = header.fwd_cnt;
        }
        if sent.wrapping_sub(passed_on) + 32768 > WINDOW {
            break;
        }
        rig.send(&data(PORTS, &piece), &piece);
        sent += 32768;
    }
    assert!(sent >= WINDOW, "{sent}");
    assert_eq!(rig.status(), 0xf);
    let mut got = Vec::new();
    while got.len() < sent as usize {
        got.extend(read_all(&program));
        for (header, _) in rig.received() {
            assert_eq!(header.op(), Some(Op::CreditUpdate));
            passed_on = header.fwd_cnt;
        }
    }
    assert_eq!(got, piece.repeat(got.len() / piece.len()));
    assert!(sent - passed_on < WINDOW / 2, "the guest has been told");
    rig.send(&guest(PORTS, Op::CreditRequest), &[]);
    let (header, _) = rig.received().pop().unwrap();
    assert_eq!((header.op(), header.fwd_cnt), (Some(Op::CreditUpdate), sent));
}

#[test]
fn either_end_may_send_no_more_and_still_receive() {
    let mut rig = Rig::new();
    let listener = rig.listen(52);
    let mut program = rig.dial(&listener, PORTS);
    rig.send(&end(PORTS, SHUTDOWN_SEND), &[]);
    assert!(is_closed(&program));
    program.write_all(b"still").unwrap();
    assert_eq!(rig.received().pop().unwrap().1, b"still");
    drop(program);
    let (header, _) = rig.received().pop().unwrap();
    assert_eq!((header.op(), header.flags), (Some(Op::Shutdown), SHUTDOWN_BOTH));
    rig.send(&guest(PORTS, Op::Reset), &[]);
    assert_eq!(rig.connections(), 0);

    let program = rig.dial(&listener, PORTS);
    program.shutdown(std::net::Shutdown::Write).unwrap();
    let (header, _) = rig.received().pop().unwrap();
    assert_eq!((header.op(), header.flags), (Some(Op::Shutdown), SHUTDOWN_SEND));
    rig.send(&data(PORTS, b"answer"), b"answer");
    assert_eq!(read_all(&program), b"answer");
    rig.send(&end(PORTS, SHUTDOWN_BOTH), &[]);
    assert_eq!(rig.heard(), [Some(Op::Reset)]);
    assert!(is_closed(&program));
}

#[test]
fn a_guest_that_receives_no_more_breaks_the_pipe_of_who_writes() {
    let mut rig = Rig::new();
    let listener = rig.listen(52);
    let mut program = rig.dial(&listener, PORTS);
    rig.send(&end(PORTS, SHUTDOWN_RECEIVE), &[]);
    let error = program.write_all(b"x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    rig.send(&data(PORTS, b"last"), b"last");
    assert_eq!(read_all(&program), b"last");
    drop(program);
    let (header, _) = rig.received().pop().unwrap();
    assert_eq!((header.op(), header.flags), (Some(Op::Shutdown), SHUTDOWN_BOTH));
}

#[test]
fn what_the_guest_sent_before_it_closed_is_read_by_who_takes_his_time() {
    let mut rig = Rig::new();
    let listener = rig.listen(52);
    let program = rig.dial(&listener, PORTS);
    let piece = pattern(60 << 10);
    let mut sent = 0;
    while sent < 3 * piece.len() || rig.received().is_empty() && sent < 4 * piece.len() {
        rig.send(&data(PORTS, &piece), &piece);
        sent += piece.len();
    }
    rig.send(&end(PORTS, SHUTDOWN_BOTH), &[]);
    assert!(rig.heard().contains(&Some(Op::Reset)), "the guest need not wait");
    // The same ports are free for another connection meanwhile.
    let second = rig.dial(&listener, PORTS);
    let mut got = Vec::new();
    while got.len() < sent {
        got.extend(read_all(&program));
        rig.turn();
    }
    assert!(got == piece.repeat(sent / piece.len()) && is_closed(&program));
    drop(second);
    rig.turn();
    assert_eq!(rig.connections(), 1);
}

#[test]
fn a_program_that_is_gone_takes_no_more_and_the_guest_may_go_on() {
    let mut rig = Rig::new();
    let listener = rig.listen(52);
    let program = rig.dial(&listener, PORTS);
    drop(program);
    let piece = pattern(60 << 10);
    for _ in 0..20 {
        rig.put(&data(PORTS, &piece), &piece);
        rig.turn();
        assert!(!rig.heard().contains(&Some(Op::Reset)));
    }
    rig.send(&end(PORTS, SHUTDOWN_BOTH), &[]);
    assert_eq!((rig.heard(), rig.connections()), (vec![Some(Op::Reset)], 0));
}

#[test]
fn who_calls_before_the_guest_is_up_waits_for_it_and_a_reset_ends_what_there_was() {
    let mut rig = Rig::new();
    let (program, _) = rig.call(7);
    rig.reset();
    assert!(is_closed(&program));
    assert_eq!(rig.connections(), 0);
    let mut early = UnixStream::connect(rig.path(None)).unwrap();
    early.write_all(b"CONNECT 9\n").unwrap();
    rig.turn();
    for _ in 0..100 {
        rig.start();
        rig.reset();
    }
    rig.start();
    rig.make_room(SIZE, BUFFER);
    let received = rig.received();
    let [(request, _)] = received.as_slice() else { panic!("{received:?}") };
    let ports = Ports { guest: 9, host: request.source_port };
    rig.send(&guest(ports, Op::Response), &[]);
    assert_eq!(line(&mut early), format!("OK {}", ports.host));
}

#[test]
fn a_thousand_connections_one_behind_the_other_leave_nothing() {
    let mut rig = Rig::new();
    let listener = rig.listen(52);
    for round in 0..1000 {
        let ports = Ports { guest: 1024 + round, host: 52 };
        let program = rig.dial(&listener, ports);
        rig.send(&data(ports, b"x"), b"x");
        assert_eq!(read_all(&program), b"x");
        rig.send(&end(ports, SHUTDOWN_BOTH), &[]);
        assert_eq!(rig.heard(), [Some(Op::Reset)]);
        assert!(is_closed(&program));
    }
    assert_eq!(rig.connections(), 0);
}

#[test]
fn the_socket_goes_with_the_device() {
    let rig = Rig::new();
    let path = rig.path(None);
    assert!(path.exists());
    drop(rig.driver);
    assert!(!path.exists());
}
