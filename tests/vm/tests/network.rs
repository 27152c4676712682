//! The user-mode network, as the host sees it, with a guest of our own that serves on it
//! (`tests/guests/x86_64/kernels/web.S`). What Linux sees of it is in `linux::net`.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use rustix::process::Signal;

use super::support::files::{Folder, kernel};
use super::support::host::accelerator;
use super::support::or_skip;
use super::support::program::{Runner, Running, runner, says};

/// Nothing here takes a tenth of it on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

const PAGE: &str = "HTTP/1.0 200 OK\r\nContent-Length: 24\r\n\r\nHello from a unikernel!\n";

/// The guest with `options`, and the host's ports that runner says it has chosen for it, in order.
fn web(options: &[&str], ports: usize) -> (Running, Vec<SocketAddr>) {
    chosen(runner(["-m", "32", "--timeout=80s"]).args(options).arg(kernel("web")), ports)
}

fn chosen(run: Runner, ports: usize) -> (Running, Vec<SocketAddr>) {
    let mut running = run.start();
    let mut chosen = Vec::new();
    while chosen.len() < ports {
        let line = running.next_line_of_stderr();
        let (_, address) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no port in: {line}"));
        chosen.push(address.parse().unwrap_or_else(|why| panic!("{why}: {line}")));
    }
    (running, chosen)
}

/// What comes back for a request at `port`, up to the end.
fn page(port: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(port)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Ends the guest, which takes a status at its port 9.
fn end(running: Running, port: SocketAddr, status: u8) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&[status], port).unwrap();
    let finished = running.finish();
    assert_eq!(finished.status, Some(status.into()), "{finished}");
    assert_eq!(finished.text(), "listening\n");
}

/// Ports of this host that are free.
fn free_ports<const N: usize>() -> [u16; N] {
    let sockets = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap().port())
}

/// A run of the guest's whose network does everything it can, and what is to be done beside it, on
/// another thread.
#[cfg_attr(not(all(target_os = "linux", target_arch = "x86_64")), allow(dead_code))] // for the jail's tests
pub(crate) fn busy(folder: &Folder) -> (Runner, impl FnOnce() + Send + 'static) {
    let [tcp, udp, last] = free_ports();
    let (listener, socket) = (TcpListener::bind("127.0.0.1:0").unwrap(), host_socket());
    let conn = format!("conn={}", listener.local_addr().unwrap().port());
    let udps = format!("udps={}", socket.local_addr().unwrap().port());
    let run = runner(["-m", "32", "--timeout=80s", "--host-loopback"])
        .args(["-p", &format!("{tcp}:80"), "--udp", &format!("{udp}:7,{last}:9")])
        .arg(format!("--pcap={}", folder.path().join("busy.pcap").display()))
        .args(["--append", &format!("{conn} {udps}")])
        .arg(kernel("web"));
    let beside = move || {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_to_string(&mut String::new()).unwrap();
        let (_, from) = socket.recv_from(&mut [0; 100]).unwrap();
        socket.send_to(b"and back", from).unwrap();
        for _ in 0..10 {
            assert_eq!(page(at(tcp)).unwrap(), PAGE);
        }
        let client = host_socket();
        client.send_to(b"ping", at(udp)).unwrap();
        client.recv(&mut [0; 100]).unwrap();
        client.send_to(&[0], at(last)).unwrap();
    };
    (run, beside)
}

/// The same with a datagram that nobody takes.
#[cfg_attr(not(all(target_os = "linux", target_arch = "x86_64")), allow(dead_code))] // as above
pub(crate) fn unheard() -> (Runner, impl FnOnce() + Send + 'static) {
    let [last] = free_ports();
    let socket = host_socket();
    let closed = socket.local_addr().unwrap().port();
    drop(socket);
    let run = runner(["-m", "32", "--timeout=80s", "--host-loopback"])
        .args(["-p", "0:80", "--udp", &format!("{last}:9")])
        .args(["--append", &format!("udps={closed}")])
        .arg(kernel("web"));
    let beside = move || {
        while UdpSocket::bind(("127.0.0.1", last)).is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Time for what became of it to come back.
        std::thread::sleep(Duration::from_millis(500));
        host_socket().send_to(&[0], ("127.0.0.1", last)).unwrap();
    };
    (run, beside)
}

fn host_socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn a_page_is_served_through_a_port_of_the_hosts_whoever_comes_first() {
    or_skip!(accelerator());
    let (mut running, ports) = web(&["-p", "0:80", "--udp", "0:9"], 2);
    // The port is there before the guest is.
    assert_eq!(page(ports[0]).unwrap(), PAGE);
    running.wait_for("listening\n");
    for _ in 0..20 {
        assert_eq!(page(ports[0]).unwrap(), PAGE);
    }
    let many: Vec<_> = (0..50)
        .map(|_| {
            std::thread::spawn({
                let port = ports[0];
                move || page(port)
            })
        })
        .collect();
    for one in many {
        assert_eq!(one.join().unwrap().unwrap(), PAGE);
    }
    end(running, ports[1], 42);
}

#[test]
fn a_datagram_goes_to_the_guest_and_comes_back() {
    or_skip!(accelerator());
    let (mut running, ports) = web(&["--udp", "0:7,0:9"], 2);
    running.wait_for("listening\n");
    let sockets: Vec<_> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for (number, socket) in sockets.iter().enumerate() {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let text = format!("datagram {number}");
        socket.send_to(text.as_bytes(), ports[0]).unwrap();
        let mut bytes = [0; 100];
        let (len, from) = socket.recv_from(&mut bytes).unwrap();
        assert_eq!((&bytes[..len], from), (text.as_bytes(), ports[0]));
    }
    end(running, ports[1], 7);
}

#[test]
fn a_guest_reaches_the_hosts_own_ports_only_when_they_are_open_to_it() {
    or_skip!(accelerator());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("conn={}", listener.local_addr().unwrap().port());
    let (running, ports) = web(&["--host-loopback", "--udp=0:9", "--append", &port], 1);
    let (mut stream, from) = listener.accept().unwrap();
    assert!(from.ip().is_loopback());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, PAGE);
    drop(stream);
    end(running, ports[0], 0);

    listener.set_nonblocking(true).unwrap();
    let (mut running, ports) = web(&["--udp=0:9", "--append", &port], 1);
    running.wait_for("listening\n");
    says(&running.next_line_of_stderr(), &["10.0.2.2", "--host-loopback"]);
    let nobody = listener.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(nobody, Err(ErrorKind::WouldBlock));
    end(running, ports[0], 0);
}

#[test]
fn a_guest_sends_a_datagram_and_gets_the_answer() {
    or_skip!(accelerator());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = format!("udps={}", socket.local_addr().unwrap().port());
    let (running, ports) = web(&["--host-loopback", "--udp=0:9", "--append", &port], 1);
    let mut bytes = [0; 100];
    let (len, from) = socket.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..len], b"hello");
    socket.send_to(b"and back", from).unwrap();
    // The guest gives back what it gets.
    let (len, again) = socket.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..len], again), (&b"and back"[..], from));
    end(running, ports[0], 3);
}

#[test]
fn what_a_guest_has_sent_when_it_ends_arrives() {
    or_skip!(accelerator());
    for _ in 0..10 {
        let (running, ports) = web(&["-p", "0:9"], 1);
        assert_eq!(page(ports[0]).unwrap(), PAGE);
        assert_eq!(running.finish().status, Some(0));
    }
}

#[test]
fn a_connection_that_is_cut_by_the_end_of_a_run_is_reset_and_does_not_look_complete() {
    or_skip!(accelerator());
    let (mut running, ports) = web(&["-p", "0:80"], 1);
    running.wait_for("listening\n");
    // One that the guest has, and others that it may have.
    assert_eq!(page(ports[0]).unwrap(), PAGE);
    let mut streams = [(); 5].map(|()| TcpStream::connect(ports[0]).unwrap());
    std::thread::sleep(Duration::from_millis(300));
    running.signal(Signal::TERM);
    for stream in &mut streams {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let read = stream.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(read, Err(ErrorKind::ConnectionReset));
    }
    assert_eq!(running.finish().status, Some(143));
}

#[test]
fn a_port_that_is_taken_is_named_with_who_has_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let refusal = runner(["-p", &port.to_string()]).arg(kernel("web")).refused();
    says(&refusal, &[&format!("127.0.0.1:{port}"), &std::process::id().to_string()]);
}

#[test]
fn a_low_limit_on_files_is_raised_for_a_network_or_said() {
    or_skip!(accelerator());
    let list = vec!["0:80"; 100].join(",");
    let run = |limit: &str| {
        let script = format!("ulimit {limit}; exec \"$0\" \"$@\"");
        runner(["-m", "32", "--timeout=80s", "-p", &list, "--udp=0:9"])
            .arg(kernel("web"))
            .by(["sh", "-c", &script])
    };
    let (running, ports) = chosen(run("-S -n 64"), 101);
    assert_eq!(page(ports[99]).unwrap(), PAGE);
    end(running, ports[100], 1);
    says(&run("-n 64").refused(), &["forward TCP 127.0.0.1:0", "(ulimit -n)"]);
}

#[test]
fn ports_are_free_again_when_runner_was_killed() {
    or_skip!(accelerator());
    let (mut running, ports) = web(&["-p", "0:80"], 1);
    running.wait_for("listening\n");
    assert_eq!(page(ports[0]).unwrap(), PAGE);
    let mut stream = TcpStream::connect(ports[0]).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    running.signal(Signal::KILL);
    assert_eq!(running.finish().status, None);
    // An end or a reset, and no silence.
    let read = stream.read(&mut [0]).map_err(|error| error.kind());
    assert!(matches!(read, Ok(0) | Err(ErrorKind::ConnectionReset)), "{read:?}");
    let (mut running, _) = web(&["-p", &format!("{}:80", ports[0].port())], 0);
    running.wait_for("listening\n");
    assert_eq!(page(ports[0]).unwrap(), PAGE);
}

#[test]
fn what_goes_by_can_be_read_from_a_file() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let file = folder.path().join("frames.pcap");
    let option = format!("--pcap={}", file.display());
    let (mut running, ports) = web(&["-p", "0:80", "--udp", "0:9", &option], 2);
    running.wait_for("listening\n");
    assert_eq!(page(ports[0]).unwrap(), PAGE);
    end(running, ports[1], 0);
    let bytes = std::fs::read(file).unwrap();
    let page = bytes.windows(PAGE.len()).filter(|bytes| *bytes == PAGE.as_bytes()).count();
    assert_eq!(page, 1, "the page goes by once");
}
