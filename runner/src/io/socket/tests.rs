use super::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};

use hv::{GuestMemory, GuestRam};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use crate::io::event_loop::EventLoop;

const SOON: Option<Duration> = Some(Duration::from_secs(5));

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Asks until it has an answer.
fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    loop {
        match ask() {
            Some(answer) => return answer,
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind(any()).unwrap();
    let stream = Stream::connect(listener.local_addr().unwrap()).unwrap();
    until(|| stream.connected().unwrap().then_some(()));
    (stream, listener.accept().unwrap().0)
}

fn memory() -> GuestMemory {
    hv::mem::memory([(0, GuestRam::new(1 << 20).unwrap())]).unwrap()
}

#[test]
fn a_connection_is_announced_when_it_is_there() {
    let mut lp = EventLoop::new().unwrap();
    let listener = TcpListener::bind(any()).unwrap();
    let stream = Stream::connect(listener.local_addr().unwrap()).unwrap();
    lp.watcher().unwrap().watch(stream.as_fd(), 3).unwrap();
    lp.turn(SOON).unwrap();
    assert!(lp.ready().iter().any(|ready| ready.key == 3 && ready.writable));
    assert!(stream.connected().unwrap());
}

#[test]
fn a_port_nobody_listens_at_refuses() {
    let port = TcpListener::bind(any()).unwrap().local_addr().unwrap();
    let error = match Stream::connect(port) {
        Err(error) => error,
        Ok(stream) => until(|| stream.connected().err()),
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn bytes_go_both_ways_and_an_end_is_read_as_0() {
    let (ours, mut theirs) = pair();
    let (mut a, mut b) = ([0; 2], [0; 8]);
    assert_eq!(ours.read([&mut a, &mut b]).unwrap(), None);
    theirs.write_all(b"hello").unwrap();
    assert_eq!(until(|| ours.read([&mut a, &mut b]).unwrap()), 5);
    assert_eq!((&a, &b[..3]), (b"he", &b"llo"[..]));
    assert_eq!(ours.write([b"wor", b"ld"]).unwrap(), 5);
    ours.shut().unwrap();
    let mut text = String::new();
    theirs.read_to_string(&mut text).unwrap();
    assert_eq!(text, "world");
    drop(theirs);
    assert_eq!(until(|| ours.read([&mut a, &mut b]).unwrap()), 0);
}

#[test]
fn guest_memory_in_many_pieces_is_written_in_order() {
    let memory = memory();
    let bytes: Vec<u8> = (0..3000u32).map(|n| (n % 251) as u8).collect();
    memory.write_slice(&bytes, GuestAddress(0x1000)).unwrap();
    let (ours, mut theirs) = pair();
    let pieces = (0..300).map(|n| memory.get_slice(GuestAddress(0x1000 + 10 * n), 10).unwrap());
    assert_eq!(ours.write_guest(pieces).unwrap(), 3000);
    let mut read = vec![0; 3000];
    theirs.read_exact(&mut read).unwrap();
    assert_eq!(read, bytes);
}

#[test]
fn a_write_takes_what_there_is_room_for_and_no_more() {
    let (memory, (ours, theirs)) = (memory(), pair());
    let piece = || std::iter::once(memory.get_slice(GuestAddress(0), 1 << 20).unwrap());
    let mut written = 0;
    // A reader that reads nothing: at some time 0 are taken.
    let none = std::iter::from_fn(|| Some(ours.write_guest(piece()).unwrap()));
    for taken in none.take_while(|taken| *taken > 0) {
        written += taken;
    }
    assert!(written > 0);
    assert_eq!(ours.write([&[1], &[]]).unwrap(), 0);
    drop(theirs);
}

#[test]
fn a_reset_reaches_the_other_end_both_ways() {
    let (ours, mut theirs) = pair();
    ours.reset();
    let error = theirs.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let (ours, theirs) = pair();
    ours.write([b"unread", b""]).unwrap();
    drop(theirs);
    let mut buffer = [0];
    let error = until(|| ours.read([&mut buffer, &mut []]).err());
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let error = until(|| ours.write([b"x", b""]).err());
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn connections_are_accepted_with_their_address() {
    let acceptor = Acceptor::listen(any()).unwrap();
    assert!(acceptor.accept().unwrap().is_none());
    let mut client = TcpStream::connect(acceptor.local().unwrap()).unwrap();
    let (stream, from) = until(|| acceptor.accept().unwrap());
    assert_eq!(from, client.local_addr().unwrap());
    assert!(acceptor.accept().unwrap().is_none());
    stream.probe_every(Duration::from_secs(60)).unwrap();
    client.write_all(b"!").unwrap();
    let mut byte = [0];
    assert_eq!(until(|| stream.read([&mut byte, &mut []]).unwrap()), 1);
    let again = Acceptor::listen(acceptor.local().unwrap()).unwrap_err();
    assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn an_ipv6_port_leaves_the_same_port_of_ipv4_to_others() {
    let Ok(six) = Acceptor::listen("[::1]:0".parse().unwrap()) else {
        println!("skipped: this machine has no IPv6");
        return;
    };
    let port = six.local().unwrap().port();
    Acceptor::listen(SocketAddr::new("0.0.0.0".parse().unwrap(), port)).unwrap();
}

#[test]
fn datagrams_come_with_their_sender() {
    let (ours, theirs) = (Datagrams::bind(any()).unwrap(), UdpSocket::bind(any()).unwrap());
    let to = theirs.local_addr().unwrap();
    assert!(ours.send(b"question", to).unwrap());
    let mut buffer = [0; 16];
    let (len, from) = theirs.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..len], from), (&b"question"[..], ours.local().unwrap()));
    assert!(ours.receive(&mut buffer).unwrap().is_none());
    theirs.send_to(b"answer", from).unwrap();
    let (len, from) = until(|| ours.receive(&mut buffer).unwrap());
    assert_eq!((&buffer[..len], from), (&b"answer"[..], to));
    assert!(ours.send(b"thanks", to).unwrap());
    assert_eq!(theirs.recv(&mut buffer).unwrap(), 6);
}

#[test]
fn a_port_that_is_given_with_the_first_datagram_takes_answers() {
    let theirs = UdpSocket::bind(any()).unwrap();
    let to = theirs.local_addr().unwrap();
    let ours = Datagrams::open(to.ip()).unwrap();
    assert!(ours.send(b"question", to).unwrap());
    let (_, from) = theirs.recv_from(&mut [0; 16]).unwrap();
    theirs.send_to(b"answer", from).unwrap();
    let mut buffer = [0; 16];
    let (len, from) = until(|| ours.receive(&mut buffer).unwrap());
    assert_eq!((&buffer[..len], from), (&b"answer"[..], to));
}

#[test]
fn a_connected_port_hears_from_one_peer_alone() {
    let (theirs, stranger) = (UdpSocket::bind(any()).unwrap(), UdpSocket::bind(any()).unwrap());
    let to = theirs.local_addr().unwrap();
    let ours = Datagrams::open(to.ip()).unwrap();
    ours.connect(to).unwrap();
    assert!(ours.send_connected(b"question").unwrap());
    let (_, from) = theirs.recv_from(&mut [0; 16]).unwrap();
    stranger.send_to(b"spoofed", from).unwrap();
    theirs.send_to(b"answer", from).unwrap();
    let mut buffer = [0; 16];
    let (len, _) = until(|| ours.receive(&mut buffer).unwrap());
    assert_eq!(&buffer[..len], b"answer");
}

#[test]
fn what_became_of_a_datagram_to_a_closed_port_is_kept_with_where_it_went() {
    if cfg!(not(target_os = "linux")) {
        println!("skipped: this system says nothing of sockets that are not connected");
        return;
    }
    let closed = UdpSocket::bind(any()).unwrap().local_addr().unwrap();
    let ours = Datagrams::open(closed.ip()).unwrap();
    ours.keep_failures(closed.ip()).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(ours.failure(&mut buffer).unwrap(), None);
    assert!(ours.send(b"lost", closed).unwrap());
    let failure = until(|| ours.failure(&mut buffer).unwrap());
    assert_eq!(failure, Failure { to: closed, icmp: (3, 3), len: 4 });
    assert_eq!(&buffer[..4], b"lost");
    assert_eq!(ours.failure(&mut buffer).unwrap(), None);
}
