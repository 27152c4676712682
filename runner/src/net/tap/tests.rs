//! Tap devices in network namespaces of our own, each of one test's thread.

use std::net::UdpSocket;
use std::process::{Command, Stdio};

use rustix::thread::UnshareFlags;

use super::*;
use crate::net::frame::{Family, Offload};
use crate::net::testing::{Mailbox, Sheet};
use virtio_bindings::virtio_net::VIRTIO_NET_F_GUEST_CSUM;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const NOW: Duration = Duration::ZERO;
const CHECKSUM: u64 = 1 << VIRTIO_NET_F_GUEST_CSUM;
const SEGMENTS: u64 = CHECKSUM | 1 << VIRTIO_NET_F_GUEST_TSO4;

/// Runs `test` in a network namespace of its own, if this user may make one and there are tap devices
/// and the program ip(8).
fn alone(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        // SAFETY: the namespaces are this thread's alone, which does nothing before and shares no file.
        #[expect(unsafe_code, reason = "unshare(2) may pull what is shared from under other code")]
        let unshared =
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) };
        if let Err(error) = unshared {
            println!("skipped: no network namespace of our own: {error}");
            return;
        }
        if !run("ip link set lo up") {
            println!("skipped: there is no program ip");
            return;
        }
        // So that /sys shows the interfaces of this namespace, and the mounts stay here.
        if !(run("mount --make-rprivate /") && run("mount -t sysfs sysfs /sys")) {
            println!("skipped: no mounts of our own");
            return;
        }
        match sys::open(None, None) {
            Err(error @ (Error::NoDriver | Error::NoAccess)) => println!("skipped: {error}"),
            opened => {
                drop(opened.unwrap());
                test();
            }
        }
    });
    thread.join().unwrap();
}

fn run(line: &str) -> bool {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn said(line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A device that an administrator has made.
fn made(name: &str) -> Tap {
    assert!(run(&format!("ip tuntap add {name} mode tap")));
    open(name)
}

fn open(name: &str) -> Tap {
    Tap::open(Some(name), None, MAC).unwrap()
}

/// Waits until `done`: a program that another test's thread starts has our descriptors until it runs.
fn wait(mut done: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(std::time::Instant::now() < until);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Why the device cannot be had, when it has been let go of.
fn error(name: Option<&str>, bridge: Option<&str>) -> String {
    let mut text = String::new();
    wait(|| {
        let error = Tap::open(name, bridge, MAC).map(|tap| tap.name().to_owned()).unwrap_err();
        text = error.to_string();
        !matches!(error, Error::Busy { .. })
    });
    text
}

fn send(tap: &mut Tap, offload: Offload, bytes: &[u8]) -> Sent {
    Sheet::default().frame(offload, bytes, |frame| tap.send(frame, NOW))
}

fn received(tap: &mut Tap) -> Vec<(Offload, Vec<u8>)> {
    let mut inbox = Mailbox::with_room(100);
    tap.ready(Ready { key: 0, readable: true, writable: true, hung_up: false }, NOW);
    tap.receive(&mut inbox, NOW);
    inbox.frames
}

/// The frames of IPv4.
fn ipv4(tap: &mut Tap) -> Vec<(Offload, Vec<u8>)> {
    let mut frames = received(tap);
    frames.retain(|(_, frame)| frame[12..14] == [8, 0]);
    frames
}

/// A host at 10.9.0.1 whose other end, the guest at 10.9.0.2, is known to it.
fn host(tap: &Tap) {
    let name = tap.name();
    assert!(run(&format!("ip address add 10.9.0.1/24 dev {name}")));
    let neighbour = "lladdr 52:54:00:00:00:01 nud permanent";
    assert!(run(&format!("ip neighbour replace 10.9.0.2 dev {name} {neighbour}")));
}

/// A device with that host, and a socket of the host's.
fn with_socket() -> (Tap, UdpSocket) {
    let tap = made("tap0");
    host(&tap);
    let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (tap, socket)
}

/// Headers up to IPv4's, with its checksum, from the guest to the host's hardware address.
fn packet(tap: &Tap, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let address = said(&format!("cat /sys/class/net/{}/address", tap.name()));
    let address = address.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap());
    let mut frame: Vec<u8> = address.chain(MAC).chain([8, 0]).collect();
    let len = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut ip = [[0x45, 0], len, [0; 2], [0; 2], [64, protocol], [0; 2]].concat();
    ip.extend([10, 9, 0, 2, 10, 9, 0, 1]);
    let sum = checksum(&ip).to_be_bytes();
    ip[10..12].copy_from_slice(&sum);
    frame.extend(ip);
    frame.extend(payload);
    frame
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let halves = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let sum: u32 = halves.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap()
}

/// A UDP datagram to the host, whose checksum is left to others.
fn datagram(tap: &Tap, port: u16, data: &[u8]) -> (Offload, Vec<u8>) {
    let len = u16::try_from(8 + data.len()).unwrap();
    let pseudo = [&[10, 9, 0, 2, 10, 9, 0, 1, 0, 17][..], &len.to_be_bytes()].concat();
    let sum = (!checksum(&pseudo)).to_be_bytes();
    let header = [[0x30, 0x39], port.to_be_bytes(), len.to_be_bytes(), sum].concat();
    let offload = Offload { checksum: Some((34, 6)), segment: None };
    (offload, packet(tap, 17, &[&header, data].concat()))
}

#[test]
fn a_device_that_is_made_for_the_run_is_up_and_gone_with_it() {
    alone(|| {
        let tap = Tap::open(None, None, MAC).unwrap();
        assert!(said("ip link show runner0").contains(",UP"));
        let offer = tap.offer();
        assert_eq!((tap.name(), offer.mac, offer.mtu), ("runner0", MAC, 1500));
        assert_eq!(offer.features, sys::OFFLOADS);
        drop(tap);
        wait(|| !run("ip link show runner0"));
        let first = Tap::open(None, None, MAC).unwrap();
        let second = Tap::open(None, None, MAC).unwrap();
        assert_eq!((first.name(), second.name()), ("runner0", "runner1"));
    });
}

#[test]
fn a_persistent_device_keeps_its_mtu_and_stays() {
    alone(|| {
        assert!(run("ip tuntap add kept0 mode tap") && run("ip link set kept0 mtu 9000 up"));
        assert_eq!(open("kept0").offer().mtu, 9000);
        assert!(run("ip link show kept0"));
    });
}

#[test]
fn a_datagram_reaches_the_host_with_its_checksum_left_to_the_kernel_and_the_answer_comes_back() {
    alone(|| {
        let (mut tap, socket) = with_socket();
        tap.activate(Some(CHECKSUM));
        let (offload, frame) = datagram(&tap, socket.local_addr().unwrap().port(), b"question");
        assert_eq!(send(&mut tap, offload, &frame), Sent::Done);
        let mut bytes = [0; 100];
        let (len, from) = socket.recv_from(&mut bytes).unwrap();
        assert_eq!((&bytes[..len], from), (&b"question"[..], "10.9.0.2:12345".parse().unwrap()));
        // Answered with the checksum left to the guest, which has said that it can.
        socket.send_to(b"answer", from).unwrap();
        let frames = ipv4(&mut tap);
        let (offload, frame) = &frames[0];
        assert_eq!((offload.checksum, &frame[42..]), (Some((34, 6)), &b"answer"[..]));
        // And done by the kernel for a guest that cannot.
        tap.activate(Some(0));
        socket.send_to(b"answer", from).unwrap();
        let frames = ipv4(&mut tap);
        let (offload, frame) = &frames[0];
        assert_eq!(*offload, Offload::default());
        let pseudo = [&frame[26..34], &[0, 17][..], &frame[38..40], &frame[34..]].concat();
        assert_eq!(checksum(&pseudo), 0);
        assert_eq!(frame[..6], MAC);
    });
}

#[test]
fn a_guest_that_can_gets_segments_to_be_cut_and_another_gets_them_cut() {
    alone(|| {
        let mut tap = made("tap0");
        host(&tap);
        // The host's own TCP makes large segments, of two packets at least where the answer was slow.
        for (features, largest) in [(SEGMENTS, 2 * 1460), (CHECKSUM, 0), (0, 0)] {
            tap.activate(Some(features));
            let sent = exchange(&mut tap);
            let found = sent.iter().map(|(_, frame)| frame.len()).max().unwrap();
            match largest {
                0 => assert!(found <= 1514, "{features:#x}: {found}"),
                least => {
                    assert!(found > least, "{features:#x}: {found}");
                    assert!(
                        sent.iter().any(|(offload, _)| matches!(
                            offload.segment,
                            Some((Family::V4, 1460))
                        ))
                    );
                }
            }
        }
    });
}

/// Answers a connection of the host's by hand, and returns the frames with data that come of it.
fn exchange(tap: &mut Tap) -> Vec<(Offload, Vec<u8>)> {
    use std::io::Write;
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::NONBLOCK,
        None,
    )
    .unwrap();
    let to: std::net::SocketAddr = "10.9.0.2:80".parse().unwrap();
    let _ = rustix::net::connect(&socket, &to);
    let frames = ipv4(tap);
    let (_, syn) = frames.iter().find(|(_, frame)| frame[23] == 6).unwrap();
    let port = u16::from_be_bytes([syn[34], syn[35]]);
    let sequence = u32::from_be_bytes(syn[38..42].try_into().unwrap());
    // SYN and ACK, a window of 64 KiB, MSS 1460.
    let mut tcp = [&[0, 80][..], &port.to_be_bytes(), &[0; 4]].concat();
    tcp.extend(sequence.wrapping_add(1).to_be_bytes());
    tcp.extend([0x60, 0x12, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 0x05, 0xb4]);
    let pseudo = [&[10, 9, 0, 2, 10, 9, 0, 1, 0, 6, 0, 24][..], &tcp].concat();
    let sum = checksum(&pseudo).to_be_bytes();
    tcp[16..18].copy_from_slice(&sum);
    let frame = packet(tap, 6, &tcp);
    assert_eq!(send(tap, Offload::default(), &frame), Sent::Done);
    let mut stream = std::net::TcpStream::from(socket);
    stream.write_all(&[7; 12_000]).unwrap();
    let mut frames = ipv4(tap);
    frames.retain(|(_, frame)| frame.len() > 100);
    frames
}

#[test]
fn a_large_segment_of_the_guests_reaches_the_host_whole() {
    alone(|| {
        let mut tap = made("tap0");
        host(&tap);
        let listener = std::net::TcpListener::bind("10.9.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let segment = |flags: u8, sequence: u32, acknowledged: u32, data: &[u8]| {
            let mut tcp =
                [&[0x30, 0x39][..], &port.to_be_bytes(), &sequence.to_be_bytes()].concat();
            tcp.extend(acknowledged.to_be_bytes());
            tcp.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            let len = u16::try_from(20 + data.len()).unwrap().to_be_bytes();
            let pseudo = [&[10, 9, 0, 2, 10, 9, 0, 1, 0, 6][..], &len].concat();
            tcp[16..18].copy_from_slice(&(!checksum(&pseudo)).to_be_bytes());
            tcp.extend(data);
            tcp
        };
        let offload = Offload { checksum: Some((34, 16)), segment: None };
        tap.activate(Some(0));
        let frame = packet(&tap, 6, &segment(0x02, 100, 0, b""));
        send(&mut tap, offload, &frame);
        let frames = ipv4(&mut tap);
        let (_, answer) = frames.iter().find(|(_, frame)| frame[47] == 0x12).unwrap();
        let theirs = u32::from_be_bytes(answer[38..42].try_into().unwrap()).wrapping_add(1);
        let data: Vec<u8> = (0..20_000u32).map(|index| index.to_le_bytes()[1]).collect();
        let frame = packet(&tap, 6, &segment(0x18, 101, theirs, &data));
        let segments = Offload { segment: Some((Family::V4, 1460)), ..offload };
        assert_eq!(send(&mut tap, segments, &frame), Sent::Done);
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut found = vec![0; data.len()];
        std::io::Read::read_exact(&mut stream, &mut found).unwrap();
        assert!(found == data);
    });
}

#[test]
fn what_came_before_the_guest_is_not_for_it() {
    alone(|| {
        let (mut tap, socket) = with_socket();
        socket.send_to(b"old", "10.9.0.2:9").unwrap();
        tap.activate(Some(0));
        socket.send_to(b"new", "10.9.0.2:9").unwrap();
        let frames = ipv4(&mut tap);
        assert_eq!(frames.len(), 1);
        assert_eq!(&frames[0].1[42..], b"new");
    });
}

#[test]
fn a_device_that_goes_down_drops_frames_until_it_is_up_and_one_that_is_removed_for_ever() {
    alone(|| {
        let (mut tap, socket) = with_socket();
        let (offload, frame) = datagram(&tap, socket.local_addr().unwrap().port(), b"x");
        let mut bytes = [0; 9];
        assert!(run("ip link set tap0 down"));
        for _ in 0..100 {
            assert_eq!(send(&mut tap, offload, &frame), Sent::Done);
            received(&mut tap);
        }
        assert!(run("ip link set tap0 up"));
        assert_eq!(send(&mut tap, offload, &frame), Sent::Done);
        assert_eq!(socket.recv(&mut bytes).unwrap(), 1);
        assert!(run("ip link delete tap0"));
        for _ in 0..100 {
            assert_eq!(send(&mut tap, offload, &frame), Sent::Done);
            assert!(received(&mut tap).is_empty());
        }
        tap.activate(None);
        tap.finish();
    });
}

#[test]
fn frames_that_make_no_sense_are_dropped_and_those_behind_them_are_not() {
    alone(|| {
        let (mut tap, socket) = with_socket();
        let (offload, frame) = datagram(&tap, socket.local_addr().unwrap().port(), b"x");
        let wrong = Offload { checksum: Some((0xfff0, 0xff)), segment: None };
        let segment = Offload { checksum: Some((34, 16)), segment: Some((Family::V6, 1)) };
        for (offload, len) in [(wrong, 60), (segment, 60), (Offload::default(), 0), (offload, 13)] {
            assert_eq!(send(&mut tap, offload, &frame[..len.min(frame.len())]), Sent::Done);
        }
        assert_eq!(send(&mut tap, offload, &frame), Sent::Done);
        assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 1);
    });
}

#[test]
fn a_bridge_takes_the_device_in_and_a_device_that_is_there_already_stays() {
    alone(|| {
        if !run("ip link add br7 type bridge") {
            println!("skipped: this kernel has no bridges");
            return;
        }
        let tap = Tap::open(None, Some("br7"), MAC).unwrap();
        assert!(said(&format!("ip link show {}", tap.name())).contains("master br7"));
        let named = Tap::open(Some("tap0"), Some("br7"), MAC).unwrap();
        drop(named);
        assert!(run("ip tuntap add kept0 mode tap") && run("ip link set kept0 master br7 up"));
        drop(Tap::open(Some("kept0"), Some("br7"), MAC).unwrap());
        assert!(run("ip link add br8 type bridge"));
        let text = error(Some("kept0"), Some("br8"));
        assert!(text.ends_with("sudo ip link set kept0 master br8"), "{text}");
        let text = error(None, Some("br9"));
        assert!(text.starts_with("there is no bridge br9: sudo ip link add br9"), "{text}");
        let text = error(None, Some("lo"));
        assert!(text.starts_with("lo is no bridge; "), "{text}");
    });
}

#[test]
fn a_device_that_cannot_be_had_is_named_with_the_remedy() {
    alone(|| {
        let _held = made("tap0");
        let busy = Tap::open(Some("tap0"), None, MAC).unwrap_err().to_string();
        assert!(busy.contains("another program uses it"), "{busy}");
        assert!(run("ip tuntap add many0 mode tap multi_queue"));
        assert!(error(Some("many0"), None).contains("without multi_queue"));
        assert!(run("ip tuntap add layer3 mode tun"));
        assert!(error(Some("layer3"), None).contains("is no tap device"));
        assert!(error(Some("lo"), None).contains("is no tap device"));
        let text = error(Some("typo0"), None);
        assert!(text.starts_with("tap device typo0: there is none, or"), "{text}");
        assert!(text.contains("sudo ip tuntap add typo0 mode tap user"), "{text}");
        assert!(!run("ip link show typo0"), "root has not made it either");
    });
}

#[test]
fn an_ordinary_user_has_the_devices_that_are_theirs_and_is_told_how_to_make_one() {
    alone(|| {
        let user = 12_345;
        assert!(run(&format!("ip tuntap add mine0 mode tap user {user}")));
        assert!(run(&format!("ip tuntap add down0 mode tap user {user}")));
        assert!(run("ip tuntap add other0 mode tap user 54321"));
        assert!(run("ip link set mine0 up"));
        let bridges = run("ip link add br7 type bridge");
        // As distributions have it; the mounts are this thread's.
        assert!(run("mount -t tmpfs tmpfs /mnt") && run("mknod -m 666 /mnt/tun c 10 200"));
        assert!(run("mount --bind /mnt/tun /dev/net/tun"));
        // The thread's own, by the system call, as the C library's would be the whole process's.
        let id = rustix::thread::Uid::from_raw(user);
        rustix::thread::set_thread_res_uid(id, id, id).unwrap();
        assert_eq!(open("mine0").name(), "mine0");
        let text = error(Some("down0"), None);
        assert_eq!(text, "tap device down0 is down: sudo ip link set down0 up");
        for name in ["other0", "none0"] {
            let text = error(Some(name), None);
            assert!(text.contains(&format!("sudo ip tuntap add {name} mode tap user")), "{text}");
        }
        if bridges {
            let text = error(None, Some("br7"));
            assert!(text.contains("sudo ip link set tap0 master br7 up"), "{text}");
            let text = error(Some("mine0"), Some("br7"));
            assert!(
                text.ends_with("is not in bridge br7: sudo ip link set mine0 master br7"),
                "{text}"
            );
        }
    });
}
