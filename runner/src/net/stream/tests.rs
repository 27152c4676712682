use std::io::Read;
use std::os::unix::net::UnixListener;

use super::*;
use crate::io::event_loop::EventLoop;
use crate::net::testing::{Mailbox, Sheet};

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const NOW: Duration = Duration::ZERO;

fn pair() -> (Stream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    (Stream::new(ours, "peer", MAC).unwrap(), theirs)
}

fn send(link: &mut Stream, bytes: &[u8]) -> Sent {
    Sheet::default().frame(Offload::default(), bytes, |frame| link.send(frame, NOW))
}

/// A frame behind its length.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length[..], bytes].concat()
}

/// Everything there is to read.
fn drain(peer: &mut UnixStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut bytes = [0; 0x10000];
    while let Ok(read @ 1..) = peer.read(&mut bytes) {
        all.extend_from_slice(&bytes[..read]);
    }
    all
}

/// What the guest gets now.
fn received(link: &mut Stream, inbox: &mut Mailbox) -> Vec<Vec<u8>> {
    link.ready(Ready { key: 0, readable: true, writable: true, hung_up: false }, NOW);
    link.receive(inbox, NOW);
    std::mem::take(&mut inbox.frames).into_iter().map(|(_, frame)| frame).collect()
}

#[test]
fn a_frame_of_the_guests_goes_behind_its_length() {
    let (mut link, mut peer) = pair();
    assert_eq!(link.offer(), Offer { features: 0, mac: MAC, mtu: 1500 });
    assert_eq!(send(&mut link, &[1; 60]), Sent::Done);
    assert_eq!(send(&mut link, &[2; 1514]), Sent::Done);
    assert_eq!(drain(&mut peer), [framed(&[1; 60]), framed(&[2; 1514])].concat());
}

#[test]
fn frames_arrive_whole_however_they_are_cut_on_the_way() {
    let all = [framed(&[1; 60]), framed(&[2; 14]), framed(&[3; 1514])].concat();
    for cut in 1..all.len() {
        let (mut link, mut peer) = pair();
        let mut inbox = Mailbox::with_room(9);
        let (first, second) = all.split_at(cut);
        peer.write_all(first).unwrap();
        let mut frames = received(&mut link, &mut inbox);
        peer.write_all(second).unwrap();
        frames.extend(received(&mut link, &mut inbox));
        assert_eq!(frames, [vec![1; 60], vec![2; 14], vec![3; 1514]], "cut at {cut}");
    }
}

#[test]
fn a_guest_without_room_gets_its_frames_later_and_all_of_them() {
    let (mut link, mut peer) = pair();
    for number in 0..20 {
        peer.write_all(&framed(&[number; 100])).unwrap();
    }
    let mut inbox = Mailbox::with_room(0);
    assert_eq!(received(&mut link, &mut inbox), [[0; 0]; 0]);
    let mut frames = Vec::new();
    for _ in 0..7 {
        inbox.room = 3;
        frames.extend(received(&mut link, &mut inbox));
    }
    assert_eq!(frames, (0..20).map(|number| vec![number; 100]).collect::<Vec<_>>());
}

#[test]
fn the_rest_of_a_frame_follows_when_there_is_room_and_no_second_one_is_taken_before() {
    let (mut link, mut peer) = pair();
    let mut lp = EventLoop::new().unwrap();
    link.watch(lp.watcher().unwrap()).unwrap();
    let mut wanted = Vec::new();
    let mut number = 0u8;
    for _ in 0..3 {
        loop {
            let frame = vec![number; 1514];
            match send(&mut link, &frame) {
                Sent::Done => wanted.extend(framed(&frame)),
                Sent::Later => break,
            }
            number = number.wrapping_add(1);
            assert!(link.rest.len() <= LENGTH + 1514);
        }
        let mut found = Vec::new();
        while found.len() < wanted.len() {
            found.extend(drain(&mut peer));
            lp.turn(Some(Duration::from_millis(10))).unwrap();
            for ready in lp.ready().to_vec() {
                link.ready(ready, NOW);
            }
        }
        assert!(found == wanted, "{} of {} bytes", found.len(), wanted.len());
        wanted.clear();
    }
}

#[test]
fn a_length_beyond_every_frame_ends_it_and_nothing_is_kept_for_it() {
    for length in [u32::MAX, 0x8000_0000, 65_550] {
        let (mut link, mut peer) = pair();
        let mut inbox = Mailbox::with_room(9);
        peer.write_all(&framed(&[1; 60])).unwrap();
        peer.write_all(&length.to_be_bytes()).unwrap();
        peer.write_all(&[7; 5000]).unwrap();
        assert_eq!(received(&mut link, &mut inbox), [vec![1; 60]]);
        assert!(link.socket.is_none());
        assert_eq!(received(&mut link, &mut inbox), [[0; 0]; 0]);
        assert_eq!(send(&mut link, &[1; 60]), Sent::Done);
    }
}

#[test]
fn the_largest_frame_arrives_and_what_is_no_frame_does_not() {
    let (mut link, mut peer) = pair();
    let largest = framed(&vec![9; LARGEST]);
    let writer = std::thread::spawn(move || {
        peer.set_nonblocking(false).unwrap();
        for bytes in [&framed(b""), &framed(&[1; 13]), &largest, &framed(&[2; 14])] {
            peer.write_all(bytes).unwrap();
        }
        peer
    });
    let mut inbox = Mailbox::with_room(9);
    let mut frames = Vec::new();
    while frames.len() < 2 {
        frames.extend(received(&mut link, &mut inbox));
    }
    assert!(frames == [vec![9; LARGEST], vec![2; 14]]);
    assert_eq!(link.dropped, 2);
    drop(writer.join().unwrap());
}

#[test]
fn a_peer_that_is_gone_leaves_the_guest_with_a_network_where_nobody_is() {
    for first in [true, false] {
        let (mut link, mut peer) = pair();
        let mut inbox = Mailbox::with_room(9);
        peer.write_all(&framed(&[1; 60])).unwrap();
        peer.write_all(&[0, 0]).unwrap();
        drop(peer);
        if first {
            assert_eq!(send(&mut link, &[1; 60]), Sent::Done);
        }
        // What it said before is still for the guest, where it has not been lost with it.
        let frames = received(&mut link, &mut inbox);
        assert!(first || frames == [vec![1; 60]], "{frames:?}");
        assert!(link.socket.is_none());
        assert_eq!(send(&mut link, &[1; 60]), Sent::Done);
        assert_eq!((link.deadline(), received(&mut link, &mut inbox).len()), (None, 0));
        link.finish();
    }
}

#[test]
fn a_flood_is_taken_in_turns() {
    let (mut link, mut peer) = pair();
    let bytes = framed(&[1; 60]).repeat(100_000);
    let writer = std::thread::spawn(move || {
        peer.set_nonblocking(false).unwrap();
        // Until we have seen enough.
        let _ = peer.write_all(&bytes);
    });
    let mut inbox = Mailbox::with_room(usize::MAX);
    for _ in 0..5 {
        let frames = received(&mut link, &mut inbox);
        assert!(frames.len() <= (128 << 10) * 16 / 64, "{}", frames.len());
    }
    drop(link);
    writer.join().unwrap();
}

#[test]
fn a_socket_that_cannot_be_reached_is_named_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let _datagram = std::os::unix::net::UnixDatagram::bind(path("datagram")).unwrap();
    drop(UnixListener::bind(path("left")).unwrap());
    let error = |name: &str| Stream::open(&path(name), MAC).unwrap_err();
    assert!(error("none").contains("there is no such socket: start the program"));
    assert!(error("datagram").contains("--net=unixgram:PATH"));
    assert!(error("left").contains("nobody listens there"));
    std::fs::write(path("file"), "").unwrap();
    assert!(error("file").contains("it is no socket: name the one"));
    let long = error(&"x".repeat(200));
    assert!(long.contains("bytes, and a socket's path has at most 10"), "{long}");
    let listener = UnixListener::bind(path("stream")).unwrap();
    let mut link = Stream::open(&path("stream"), MAC).unwrap();
    send(&mut link, &[1; 60]);
    let (mut peer, _) = listener.accept().unwrap();
    peer.set_nonblocking(true).unwrap();
    assert_eq!(drain(&mut peer), framed(&[1; 60]));
}

#[test]
fn a_program_that_accepts_nobody_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("switch");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 1).unwrap();
    let mut waiting = Vec::new();
    let refusal = loop {
        match Stream::open(&path, [2; 6]) {
            Ok(link) => waiting.push(link),
            Err(refusal) => break refusal,
        }
        assert!(waiting.len() < 100);
    };
    assert!(!waiting.is_empty() && refusal.contains("switch: "), "{refusal}");
    // macOS says the same of one that is gone.
    assert!(refusal.contains("accepts nobody") || cfg!(target_os = "macos"), "{refusal}");
}
