//! Networks that are not the user-mode one, on an accelerator and in software emulation: a guest of
//! ours that answers (`tests/guests/x86_64/kernels/web.S`), and a peer that speaks by hand.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::support::files::{Folder, kernel};
use super::support::host::accelerator;
use super::support::or_skip;
use super::support::program::{Finished, Running, runner, says};

/// Nothing here takes a tenth of it on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 7];
const OUR_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];

fn qemu() -> Result<(), String> {
    if !cfg!(target_arch = "x86_64") {
        return Err("the guest is for x86_64".to_owned());
    }
    let mut command = Command::new("qemu-system-x86_64");
    let found = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.map(|_| ()).map_err(|error| format!("qemu-system-x86_64: {error}"))
}

/// Makes of each function here two tests: one on the accelerator, and one in software emulation.
macro_rules! on_both {
    ($($accelerated:ident, $emulated:ident: $test:ident;)*) => {
        $(
            #[test]
            fn $accelerated() {
                or_skip!(accelerator());
                $test("--accel=kvm");
            }

            #[test]
            fn $emulated() {
                or_skip!(qemu());
                $test("--accel=off");
            }
        )*
    };
}

on_both! {
    a_peer_on_a_stream_socket_hears_the_guest_and_is_heard,
    a_peer_on_a_stream_socket_hears_an_emulated_guest: stream;
    a_peer_that_goes_away_is_one_line_and_the_guest_goes_on,
    a_peer_of_an_emulated_guest_that_goes_away_is_one_line: peer_is_gone;
    a_peer_on_a_datagram_socket_is_greeted_and_answers_to_where_frames_come_from,
    a_peer_on_a_datagram_socket_hears_an_emulated_guest: datagram;
    what_goes_by_is_in_the_capture_and_an_earlier_one_is_replaced,
    what_goes_by_an_emulated_guest_is_in_the_capture: capture;
}

#[cfg(target_os = "linux")] // it has tap devices and bridges
on_both! {
    a_guest_on_a_tap_device_is_on_the_hosts_network,
    an_emulated_guest_on_a_tap_device_is_on_the_hosts_network: tap;
    a_guest_in_a_bridge_is_on_the_hosts_network_and_its_device_is_gone_after_the_run,
    an_emulated_guest_in_a_bridge_is_on_the_hosts_network: bridge;
}

fn web(accel: &str, options: &[&str]) -> Running {
    let mac = "52:54:00:00:00:07";
    let options = [&[accel, "-m", "32", "--timeout=80s", "--mac", mac], options].concat();
    runner(options).arg(kernel("web")).start()
}

/// What is asked of whoever has 10.0.2.15, and the answer; as short frames come, with a filling.
fn question() -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &OUR_MAC, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    frame.extend([&OUR_MAC[..], &[10, 0, 2, 2], &[0; 6], &[10, 0, 2, 15]].concat());
    frame.resize(60, 0);
    frame
}

fn answer() -> Vec<u8> {
    let head = [&OUR_MAC[..], &GUEST_MAC, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]].concat();
    [&head[..], &GUEST_MAC, &[10, 0, 2, 15], &OUR_MAC, &[10, 0, 2, 2]].concat()
}

/// A datagram that ends the guest with `status`.
fn last(status: u8) -> Vec<u8> {
    let mut frame = [&GUEST_MAC[..], &OUR_MAC, &[8, 0]].concat();
    // Its sum is not looked at.
    frame.extend([0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 2, 2, 10, 0, 2, 15]);
    frame.extend([0, 9, 0, 9, 0, 9, 0, 0, status]);
    frame.resize(60, 0);
    frame
}

/// A peer on a stream, which has frames behind their lengths.
struct Peer(UnixStream);

impl Peer {
    fn accept(listener: &UnixListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    fn send(&mut self, frame: &[u8]) {
        let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
        // In two pieces, as a stream may have it.
        self.0.write_all(&length[..3]).unwrap();
        self.0.write_all(&[&length[3..], frame].concat()).unwrap();
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut frame).unwrap();
        frame
    }

    fn receive_until(&mut self, wanted: &[u8]) {
        while self.receive() != wanted {}
    }
}

/// The rest of what runner said beside that it emulates.
fn said(finished: &Finished) -> String {
    let lines = finished.stderr.lines().filter(|line| !line.contains("software emulation"));
    lines.collect::<Vec<_>>().join("\n")
}

fn stream(accel: &str) {
    let folder = Folder::new();
    let path = folder.path().join("peer");
    let listener = UnixListener::bind(&path).unwrap();
    let mut running = web(accel, &[&format!("--net=unix:{}", path.display())]);
    let mut peer = Peer::accept(&listener);
    running.wait_for("listening\n");
    for _ in 0..20 {
        peer.send(&question());
        peer.receive_until(&answer());
    }
    peer.send(&last(42));
    let finished = running.finish();
    assert_eq!((finished.status, said(&finished).as_str()), (Some(42), ""), "{finished}");
}

fn peer_is_gone(accel: &str) {
    let folder = Folder::new();
    let path = folder.path().join("peer");
    let listener = UnixListener::bind(&path).unwrap();
    let options = [&format!("--net=unix:{}", path.display()), "--timeout=3s"];
    let mut running = web(accel, &options);
    let peer = Peer::accept(&listener);
    running.wait_for("listening\n");
    drop(peer);
    let finished = running.finish();
    assert_eq!(finished.status, Some(124), "{finished}");
    let said = said(&finished);
    let (first, second) = said.split_once('\n').unwrap();
    says(first, &["peer is gone", "the guest is without a network"]);
    says(second, &["--timeout"]);
}

fn datagram(accel: &str) {
    let folder = Folder::new();
    let path = folder.path().join("peer");
    let peer = UnixDatagram::bind(&path).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut running = web(accel, &[&format!("--net=unixgram:{},vfkit", path.display())]);
    let mut frame = [0; 2000];
    let (len, from) = peer.recv_from(&mut frame).unwrap();
    assert_eq!(&frame[..len], b"VFKT");
    running.wait_for("listening\n");
    peer.send_to_addr(&question(), &from).unwrap();
    loop {
        let (len, _) = peer.recv_from(&mut frame).unwrap();
        if frame[..len] == answer() {
            break;
        }
    }
    peer.send_to_addr(&last(7), &from).unwrap();
    let finished = running.finish();
    assert_eq!((finished.status, said(&finished).as_str()), (Some(7), ""), "{finished}");
}

fn capture(accel: &str) {
    let folder = Folder::new();
    let (path, capture) = (folder.path().join("peer"), folder.path().join("c.pcap"));
    let listener = UnixListener::bind(&path).unwrap();
    let net = format!("--net=unix:{}", path.display());
    let pcap = format!("--pcap={}", capture.display());
    for _ in 0..2 {
        let mut running = web(accel, &[&net, &pcap]);
        let mut peer = Peer::accept(&listener);
        running.wait_for("listening\n");
        peer.send(&question());
        peer.receive_until(&answer());
        peer.send(&last(0));
        assert_eq!(running.finish().status, Some(0));
        let bytes = fs::read(&capture).unwrap();
        for frame in [question(), answer(), last(0)] {
            let found = bytes.windows(frame.len()).filter(|bytes| *bytes == frame).count();
            assert_eq!(found, 1);
        }
    }
}

#[test]
fn a_capture_replaces_no_other_file() {
    let folder = Folder::new();
    let file = folder.file("letter", "dear reader");
    let pcap = format!("--pcap={}", file.display());
    let options = ["--net=user", pcap.as_str()];
    says(&runner(options).arg(kernel("web")).refused(), &["letter", "no capture"]);
    assert_eq!(fs::read(file).unwrap(), b"dear reader");
}

/// Runs `test` in a network namespace of its thread's own, in which there is ip(8).
#[cfg(target_os = "linux")]
fn alone(test: impl FnOnce() + Send + 'static) {
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    let thread = std::thread::spawn(|| {
        // SAFETY: the namespace is this thread's alone, which has done nothing yet.
        #[expect(unsafe_code, reason = "unshare(2) may pull what is shared from under other code")]
        let unshared = unsafe { unshare_unsafe(UnshareFlags::NEWNET) };
        if let Err(error) = unshared {
            println!("skipped: no network namespace of our own: {error}");
        } else if !std::path::Path::new("/dev/net/tun").exists() {
            println!("skipped: there is no /dev/net/tun");
        } else if !run("ip link set lo up") {
            println!("skipped: there is no program ip");
        } else {
            test();
        }
    });
    thread.join().unwrap();
}

#[cfg(target_os = "linux")]
fn run(line: &str) -> bool {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A page by TCP.
fn page(to: SocketAddr) -> String {
    let mut page = String::new();
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    stream.read_to_string(&mut page).unwrap();
    page
}

/// A child that is killed with the test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// QEMU without a machine, as a hub between its own user-mode network and `netdev`: what is sent to the
/// first port goes to the guest's port 7, to the second to its port 9.
fn hub(netdev: &str, ports: [SocketAddr; 2]) -> Killed {
    let [seven, nine] =
        ports.map(|port| format!("hostfwd=udp:127.0.0.1:{}-10.0.2.15", port.port()));
    let user = format!("user,id=u,{seven}:7,{nine}:9");
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-M", "none", "-display", "none", "-nodefaults"]);
    for netdev in [&user, netdev, "hubport,id=a,hubid=0,netdev=u", "hubport,id=b,hubid=0,netdev=n"]
    {
        command.args(["-netdev", netdev]);
    }
    Killed(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

/// What QEMU says it has, a guest of ours uses.
fn with_qemus(netdev: &str, net: &str, socket: &std::path::Path) {
    let free = || UdpSocket::bind("127.0.0.1:0").unwrap();
    let ports = [free(), free()].map(|socket| socket.local_addr().unwrap());
    let _qemu = hub(netdev, ports);
    let until = Instant::now() + PATIENCE;
    while !socket.exists() {
        assert!(Instant::now() < until, "QEMU makes no socket");
        std::thread::sleep(Duration::from_millis(5));
    }
    // Bound, and not yet listening.
    std::thread::sleep(Duration::from_millis(200));
    let mut running = web("--accel=kvm", &[net]);
    running.wait_for("listening\n");
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut bytes = [0; 2000];
    for text in [&[b'a'; 10][..], &[b'b'; 1400]] {
        loop {
            client.send_to(text, ports[0]).unwrap();
            match client.recv(&mut bytes) {
                Ok(len) if &bytes[..len] == text => break,
                _ => assert!(Instant::now() < until, "no answer"),
            }
        }
    }
    client.send_to(&[5], ports[1]).unwrap();
    let finished = running.finish();
    assert_eq!((finished.status, finished.stderr.as_str()), (Some(5), ""), "{finished}");
}

#[test]
fn qemus_stream_and_dgram_understand_the_guest() {
    or_skip!(accelerator());
    or_skip!(qemu());
    let folder = Folder::new();
    let socket = |name: &str| folder.path().join(name);
    let path = |name: &str| socket(name).display().to_string();
    let stream = format!("stream,id=n,server=on,addr.type=unix,addr.path={}", path("s"));
    with_qemus(&stream, &format!("--net=unix:{}", path("s")), &socket("s"));
    let dgram = format!(
        "dgram,id=n,local.type=unix,local.path={},remote.type=unix,remote.path={}",
        path("d"),
        path("own")
    );
    let net = format!("--net=unixgram:{},own={}", path("d"), path("own"));
    with_qemus(&dgram, &net, &socket("d"));
}

#[test]
fn an_emulated_guest_serves_through_ports_of_the_hosts() {
    or_skip!(qemu());
    let mut running = web("--accel=off", &["-p", "0:80", "--udp", "0:9"]);
    let mut chosen: Vec<SocketAddr> = Vec::new();
    while chosen.len() < 2 {
        let line = running.next_line_of_stderr();
        let address = line.rsplit_once(' ').and_then(|(_, last)| last.parse::<SocketAddr>().ok());
        chosen.extend(address.filter(|_| line.contains("of the guest's: at")));
    }
    for _ in 0..5 {
        assert!(page(chosen[0]).ends_with("Hello from a unikernel!\n"));
    }
    let pages: Vec<_> = (0..20)
        .map(|_| {
            std::thread::spawn({
                let to = chosen[0];
                move || page(to)
            })
        })
        .collect();
    for page in pages {
        assert!(page.join().unwrap().ends_with("Hello from a unikernel!\n"));
    }
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[9], chosen[1]).unwrap();
    let finished = running.finish();
    assert_eq!((finished.status, said(&finished).as_str()), (Some(9), ""), "{finished}");
}

/// Talks to the guest over the host's own network, and ends it.
#[cfg(target_os = "linux")]
fn talk(mut running: Running) {
    let socket = UdpSocket::bind("10.0.2.2:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    running.wait_for("listening\n");
    let mut bytes = [0; 2000];
    let until = Instant::now() + PATIENCE;
    for text in [&[b'a'; 10][..], &[b'b'; 1472]] {
        // The first may be lost while the host asks where the guest is.
        loop {
            socket.send_to(text, "10.0.2.15:7").unwrap();
            match socket.recv_from(&mut bytes) {
                Ok((len, from)) if &bytes[..len] == text => {
                    assert_eq!(from, "10.0.2.15:7".parse().unwrap());
                    break;
                }
                _ => assert!(Instant::now() < until, "no answer"),
            }
        }
    }
    let page = page("10.0.2.15:80".parse().unwrap());
    assert!(page.ends_with("Hello from a unikernel!\n"), "{page}");
    socket.send_to(&[42], "10.0.2.15:9").unwrap();
    let finished = running.finish();
    assert_eq!((finished.status, said(&finished).as_str()), (Some(42), ""), "{finished}");
}

#[cfg(target_os = "linux")]
fn tap(accel: &'static str) {
    alone(move || {
        assert!(run("ip tuntap add t0 mode tap") && run("ip address add 10.0.2.2/24 dev t0"));
        assert!(run("ip link set t0 up"));
        talk(web(accel, &["-t", "t0"]));
    });
}

#[cfg(target_os = "linux")]
fn bridge(accel: &'static str) {
    alone(move || {
        if !run("ip link add br7 type bridge") {
            println!("skipped: this kernel has no bridges");
            return;
        }
        assert!(run("ip address add 10.0.2.2/24 dev br7") && run("ip link set br7 up"));
        talk(web(accel, &["--bridgename", "br7"]));
        let left = Command::new("ip").args(["-o", "link", "show", "master", "br7"]).output();
        assert_eq!(left.unwrap().stdout, b"");
    });
}

#[test]
#[cfg(target_os = "linux")] // elsewhere it is refused for another reason
fn a_bridge_that_is_not_there_is_refused_with_how_to_make_it() {
    let refusal = runner(["--net=bridge:nobridge9"]).arg(kernel("web")).refused();
    says(&refusal, &["--net=bridge:nobridge9: ", "sudo ip link add nobridge9 type bridge"]);
}
