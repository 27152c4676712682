//! A datagram socket in the file system, a frame in each datagram: QEMU's `-netdev dgram`, and the
//! `unixgram` of gvproxy and vmnet-helper, which want to be greeted as by Apple's vfkit.
//!
//! The other side answers to the address that frames come from, so ours has one, too.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt;
use tempfile::TempPath;

use super::frame::Frame;
use super::packets::Packets;
use super::stream::{fits, unreachable};
use super::{ETHERNET, Inbox, Link, Offer, Sent, sys};
use crate::io::event_loop::{Ready, Watcher};
use crate::log::printable_path;

/// What vfkit's peers expect first (gvproxy, `AcceptVfkit`).
const GREETING: &[u8] = b"VFKT";

/// Room in the socket for frames under way, where the system grants it: a burst of what a TCP window
/// has. Its own choice is as little as 8 KiB on macOS.
const ROOM: usize = 4 << 20;

/// Bytes of the largest IP packet: nobody here agrees on another.
const MTU: u16 = 1500;

/// A datagram socket.
#[derive(Debug)]
pub struct Datagram {
    packets: Packets,
    mac: [u8; 6],
    /// Our address, where it is a file that goes with the run.
    own: Option<TempPath>,
}

impl Datagram {
    /// Reaches the socket at `path`, from `own` or from a name of our choice. The guest has the address
    /// `mac`.
    ///
    /// # Errors
    /// One sentence.
    pub fn open(
        path: &Path,
        own: Option<&Path>,
        vfkit: bool,
        mac: [u8; 6],
    ) -> Result<Self, String> {
        fits(path)?;
        let name = printable_path(path);
        let failed = |error: io::Error| format!("{name}: {error}");
        let (socket, own) = match own {
            Some(own) => (bind(own)?, None),
            None => sys::own_socket().map_err(failed)?,
        };
        socket.connect(path).map_err(|error| unreachable(path, &error))?;
        if vfkit {
            socket.send(GREETING).map_err(failed)?;
        }
        Self::new(socket, own, &name, mac).map_err(failed)
    }

    fn new(
        socket: UnixDatagram,
        own: Option<TempPath>,
        name: &str,
        mac: [u8; 6],
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // As much as the system grants.
        let _ = sockopt::set_socket_send_buffer_size(&socket, ROOM);
        let _ = sockopt::set_socket_recv_buffer_size(&socket, ROOM);
        Ok(Self { packets: Packets::new(socket.into(), name.to_owned(), false), mac, own })
    }
}

/// A socket at `path`, where one may be left over from a run that could not remove it, in its jail.
fn bind(path: &Path) -> Result<UnixDatagram, String> {
    fits(path)?;
    let name = printable_path(path);
    let is_socket = path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket {
        let nobody = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
        match nobody {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(|error| format!("{name}: {error}"))?;
            }
            _ => return Err(format!("{name}: another program's socket: choose another name")),
        }
    }
    UnixDatagram::bind(path).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => format!("{name}: there is a file: choose another name"),
        _ => format!("{name}: no socket can be made there: {error}"),
    })
}

impl Link for Datagram {
    fn offer(&self) -> Offer {
        Offer { features: 0, mac: self.mac, mtu: MTU }
    }

    fn descriptors(&self) -> u64 {
        0
    }

    fn watch(&mut self, watcher: Watcher) -> io::Result<()> {
        self.packets.watch(watcher)
    }

    fn activate(&mut self, _features: Option<u64>) {
        self.packets.discard();
    }

    fn send(&mut self, frame: &Frame<'_>, _now: Duration) -> Sent {
        self.packets.send(frame)
    }

    fn receive(&mut self, inbox: &mut dyn Inbox, _now: Duration) {
        self.packets.receive(inbox, ETHERNET.saturating_add(MTU.into()));
    }

    fn ready(&mut self, ready: Ready, _now: Duration) {
        self.packets.ready(ready);
    }

    fn deadline(&self) -> Option<Duration> {
        self.packets.deadline()
    }

    fn finish(&mut self) {
        self.packets.finish();
        self.own = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::event_loop::EventLoop;
    use crate::net::frame::Offload;
    use crate::net::testing::{Mailbox, Sheet};
    use std::os::unix::net::SocketAddr;
    use std::path::PathBuf;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
    const NOW: Duration = Duration::ZERO;

    struct Peer {
        folder: tempfile::TempDir,
        socket: UnixDatagram,
    }

    impl Peer {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let socket = UnixDatagram::bind(folder.path().join("peer")).unwrap();
            socket.set_nonblocking(true).unwrap();
            Self { folder, socket }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn receive(&self) -> (Vec<u8>, SocketAddr) {
            let mut bytes = vec![0; 0x10000];
            let (len, from) = self.socket.recv_from(&mut bytes).unwrap();
            bytes.truncate(len);
            (bytes, from)
        }
    }

    fn send(link: &mut Datagram, bytes: &[u8]) -> Sent {
        Sheet::default().frame(Offload::default(), bytes, |frame| link.send(frame, NOW))
    }

    #[test]
    fn frames_go_both_ways_one_in_each_datagram() {
        let peer = Peer::new();
        let mut link = Datagram::open(&peer.path("peer"), None, false, MAC).unwrap();
        assert_eq!(link.offer(), Offer { features: 0, mac: MAC, mtu: 1500 });
        assert_eq!(send(&mut link, &[1; 60]), Sent::Done);
        let (bytes, from) = peer.receive();
        assert_eq!(bytes, [1; 60]);
        for len in [60, 1514] {
            peer.socket.send_to_addr(&vec![2; len], &from).unwrap();
        }
        let mut inbox = Mailbox::with_room(9);
        link.receive(&mut inbox, NOW);
        assert_eq!(inbox.bytes(), [&[2; 60][..], &[2; 1514]]);
    }

    #[test]
    fn vfkits_peers_are_greeted_first_and_others_are_not() {
        let peer = Peer::new();
        let mut link = Datagram::open(&peer.path("peer"), None, true, MAC).unwrap();
        send(&mut link, &[1; 60]);
        assert_eq!(peer.receive().0, b"VFKT");
        assert_eq!(peer.receive().0, [1; 60]);
    }

    #[test]
    fn a_frame_that_is_too_large_is_lost_and_those_behind_it_are_not() {
        let peer = Peer::new();
        let mut link = Datagram::open(&peer.path("peer"), None, false, MAC).unwrap();
        send(&mut link, &[1; 60]);
        let (_, from) = peer.receive();
        for len in [1515, 9000, 0, 42] {
            peer.socket.send_to_addr(&vec![3; len], &from).unwrap();
        }
        let mut inbox = Mailbox::with_room(9);
        link.receive(&mut inbox, NOW);
        assert_eq!(inbox.bytes(), [&[3; 42][..]]);
    }

    #[test]
    fn what_came_before_the_guest_is_not_for_it() {
        let peer = Peer::new();
        let mut link = Datagram::open(&peer.path("peer"), None, true, MAC).unwrap();
        let (_, from) = peer.receive();
        peer.socket.send_to_addr(&[4; 60], &from).unwrap();
        link.activate(Some(0));
        peer.socket.send_to_addr(&[5; 60], &from).unwrap();
        let mut inbox = Mailbox::with_room(9);
        link.receive(&mut inbox, NOW);
        assert_eq!(inbox.bytes(), [&[5; 60][..]]);
    }

    #[test]
    fn a_peer_that_reads_nothing_makes_the_guest_wait_until_it_does() {
        let peer = Peer::new();
        let mut link = Datagram::open(&peer.path("peer"), None, false, MAC).unwrap();
        let mut lp = EventLoop::new().unwrap();
        link.watch(lp.watcher().unwrap()).unwrap();
        let sent = (0..100_000).find(|_| send(&mut link, &[6; 1514]) == Sent::Later);
        let sent = sent.expect("a peer that reads nothing takes no frames without end");
        lp.turn(Some(Duration::from_millis(1))).unwrap();
        for _ in 0..sent {
            peer.receive();
        }
        lp.turn(Some(Duration::from_secs(5))).unwrap();
        assert!(lp.ready().iter().any(|ready| ready.writable), "{:?}", lp.ready());
        assert_eq!(send(&mut link, &[6; 1514]), Sent::Done);
    }

    #[test]
    fn a_peer_that_is_gone_leaves_the_guest_with_a_network_where_nobody_is() {
        let peer = Peer::new();
        let mut link = Datagram::open(&peer.path("peer"), None, false, MAC).unwrap();
        send(&mut link, &[1; 60]);
        drop(peer.socket);
        for _ in 0..1000 {
            assert_eq!(send(&mut link, &[1; 60]), Sent::Done);
            link.receive(&mut Mailbox::with_room(1), NOW);
        }
        assert_eq!(link.deadline(), None);
        link.finish();
    }

    #[test]
    fn a_flood_is_taken_in_turns() {
        let peer = Peer::new();
        let mut link = Datagram::open(&peer.path("peer"), None, true, MAC).unwrap();
        let (_, from) = peer.receive();
        let sender = std::thread::spawn(move || {
            peer.socket.set_nonblocking(false).unwrap();
            for _ in 0..600 {
                peer.socket.send_to_addr(&[7; 60], &from).unwrap();
            }
        });
        let mut inbox = Mailbox::with_room(10_000);
        let mut largest = 0;
        while inbox.frames.len() < 600 {
            let before = inbox.frames.len();
            link.ready(Ready { key: 0, readable: true, writable: false, hung_up: false }, NOW);
            link.receive(&mut inbox, NOW);
            largest = largest.max(inbox.frames.len() - before);
        }
        sender.join().unwrap();
        assert!(largest <= 256, "{largest}");
    }

    #[test]
    fn our_own_name_may_be_given_and_one_that_is_left_over_is_taken_again() {
        let peer = Peer::new();
        let own = peer.path("own");
        for _ in 0..2 {
            let mut link = Datagram::open(&peer.path("peer"), Some(&own), false, MAC).unwrap();
            send(&mut link, &[1; 60]);
            peer.receive();
            peer.socket.send_to(&[2; 60], &own).unwrap();
            let mut inbox = Mailbox::with_room(9);
            link.receive(&mut inbox, NOW);
            assert_eq!(inbox.frames.len(), 1);
            let error = Datagram::open(&peer.path("peer"), Some(&own), false, MAC).unwrap_err();
            assert!(error.ends_with("another program's socket: choose another name"), "{error}");
        }
        let file = peer.path("file");
        std::fs::write(&file, "x").unwrap();
        let error = Datagram::open(&peer.path("peer"), Some(&file), false, MAC).unwrap_err();
        assert!(error.ends_with("there is a file: choose another name"), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), b"x");
    }

    #[test]
    fn a_name_of_our_choice_is_gone_after_the_run() {
        let (_, own) = sys::own_socket().unwrap();
        let path = own.as_ref().map(|path| path.to_path_buf());
        drop(own);
        assert!(path.is_none_or(|path| !path.exists()));
    }

    #[test]
    fn a_socket_that_cannot_be_reached_is_named_with_the_remedy() {
        let peer = Peer::new();
        let _stream = std::os::unix::net::UnixListener::bind(peer.path("stream")).unwrap();
        std::fs::write(peer.path("file"), "").unwrap();
        let error = |name: &str| {
            let error = Datagram::open(&peer.path(name), None, false, MAC).unwrap_err();
            assert!(error.starts_with(peer.path(name).to_str().unwrap()), "{error}");
            error
        };
        assert!(error("none").contains("there is no such socket"));
        assert!(error("stream").contains("--net=unix:PATH"));
        assert!(error("file").contains("it is no socket"));
    }
}
