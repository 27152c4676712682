//! A stream socket in the file system, each frame behind its length in four bytes, the highest first:
//! QEMU's `-netdev stream`, passt, socket_vmnet.
//!
//! What comes is read in large pieces and handed on frame by frame. What the other side does not take
//! at once is kept: the rest of one frame, and no more.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;

use super::frame::{Frame, LARGEST, Offload};
use super::framing::{self, LENGTH, Reader};
use super::{ETHERNET, Inbox, Link, Offer, Put, Sent};
use crate::io::event_loop::{Ready, Watcher};
use crate::io::frames;
use crate::io::socket::local::{ACCEPTS_NOBODY, LONGEST, Local};
use crate::log::printable_path;
use crate::{info, warning};

/// Room in the socket for frames under way, where the system grants it.
const ROOM: usize = 1 << 20;

/// Reads at one time: whoever floods us must not keep others waiting.
const BATCH: u32 = 16;

/// Bytes of the largest IP packet: nobody here agrees on another.
const MTU: u16 = 1500;

/// A stream socket.
#[derive(Debug)]
pub struct Stream {
    name: String,
    /// None when the other side is gone.
    socket: Option<UnixStream>,
    watcher: Option<Watcher>,
    mac: [u8; 6],
    readable: bool,
    /// There was more to read than one batch.
    more: bool,
    reader: Reader,
    /// The rest of a frame that has been sent in part.
    rest: Vec<u8>,
    sent: u64,
    received: u64,
    dropped: u64,
}

/// Refuses a path that no socket can have.
pub(super) fn fits(path: &Path) -> Result<(), String> {
    let length = path.as_os_str().len();
    if length <= LONGEST {
        return Ok(());
    }
    Err(format!(
        "{}: {length} bytes, and a socket's path has at most {LONGEST}: give it from nearer (cd to its \
         folder, and name the file alone), or put the socket elsewhere",
        printable_path(path)
    ))
}

/// Why the socket at `path` cannot be reached.
pub(super) fn unreachable(path: &Path, error: &io::Error) -> String {
    let name = printable_path(path);
    let is_another = || path.metadata().is_ok_and(|metadata| !metadata.file_type().is_socket());
    let why = match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED | Errno::NOTSOCK) if is_another() => {
            "it is no socket: name the one that the program serves"
        }
        Some(Errno::NOENT) => "there is no such socket: start the program that serves it first",
        Some(Errno::CONNREFUSED | Errno::NOTSOCK) => {
            "nobody listens there: start the program that serves it first"
        }
        Some(Errno::PROTOTYPE) => {
            "it is a socket of the other kind: --net=unix:PATH is for streams, --net=unixgram:PATH \
             for datagrams"
        }
        Some(Errno::ACCESS | Errno::PERM) => "this user may not: chmod it, or the folder it is in",
        _ => return format!("{name}: {error}"),
    };
    format!("{name}: {why}")
}

impl Stream {
    /// Connects to the socket at `path`. The guest has the address `mac`.
    ///
    /// # Errors
    /// One sentence.
    pub fn open(path: &Path, mac: [u8; 6]) -> Result<Self, String> {
        fits(path)?;
        let name = printable_path(path);
        // Not std's, which waits for as long as the program accepts nobody.
        let socket = Local::connect(path).map_err(|error| unreachable(path, &error))?;
        let socket = socket.ok_or_else(|| format!("{name}: {ACCEPTS_NOBODY}"))?;
        Self::new(OwnedFd::from(socket).into(), &name, mac)
            .map_err(|error| format!("{name}: {error}"))
    }

    fn new(socket: UnixStream, name: &str, mac: [u8; 6]) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // As much as the system grants.
        let _ = sockopt::set_socket_send_buffer_size(&socket, ROOM);
        let _ = sockopt::set_socket_recv_buffer_size(&socket, ROOM);
        Ok(Self {
            name: name.to_owned(),
            socket: Some(socket),
            watcher: None,
            mac,
            readable: true,
            more: false,
            reader: Reader::default(),
            rest: Vec::with_capacity(LENGTH.saturating_add(LARGEST)),
            sent: 0,
            received: 0,
            dropped: 0,
        })
    }

    /// Nobody is there any more.
    fn lose(&mut self, why: &dyn std::fmt::Display) {
        let Some(socket) = self.socket.take() else { return };
        warning!("network: {} is gone ({why}): the guest is without a network", self.name);
        if let Some(watcher) = &self.watcher {
            watcher.forget(socket.as_fd());
        }
        self.rest.clear();
    }

    /// Sends what is left of the last frame. Returns whether nothing is.
    fn flush(&mut self) -> bool {
        let Some(socket) = &mut self.socket else { return true };
        let mut done = 0;
        let result = loop {
            match self.rest.get(done..) {
                None | Some([]) => break Ok(()),
                Some(rest) => match socket.write(rest) {
                    Ok(written) => done = done.saturating_add(written),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                },
            }
        };
        self.rest.drain(..done.min(self.rest.len()));
        match result {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.lose(&error),
            _ => {}
        }
        self.rest.is_empty()
    }

    /// Sends a frame, or the beginning of it, and keeps the rest.
    fn write(&mut self, frame: &Frame<'_>) -> Sent {
        let Some(socket) = &self.socket else {
            self.dropped = self.dropped.saturating_add(1);
            return Sent::Done;
        };
        let Some(length) = framing::length(frame.bytes.len()) else {
            self.dropped = self.dropped.saturating_add(1);
            return Sent::Done;
        };
        let written = match frames::write(socket.as_fd(), &length, frame.bytes.pieces()) {
            Ok(written) => written,
            // In too many pieces: all of it is the rest.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Later,
            Err(error) => {
                self.lose(&error);
                return Sent::Done;
            }
        };
        self.sent = self.sent.saturating_add(1);
        self.keep(&length, frame, written);
        Sent::Done
    }

    /// Keeps what is behind the first `written` bytes of a frame and its length.
    fn keep(&mut self, length: &[u8; LENGTH], frame: &Frame<'_>, written: usize) {
        let whole = LENGTH.saturating_add(frame.bytes.len());
        if written >= whole {
            return;
        }
        self.rest.extend_from_slice(length.get(written..).unwrap_or_default());
        let bytes = frame.bytes.skip(written.saturating_sub(LENGTH));
        let before = self.rest.len();
        self.rest.resize(before.saturating_add(bytes.len()), 0);
        bytes.copy_to(self.rest.get_mut(before..).unwrap_or_default());
        self.flush();
    }

    /// Reads once. Returns whether there may be more.
    fn read(&mut self) -> bool {
        let Some(socket) = &mut self.socket else { return false };
        match self.reader.fill(socket) {
            Ok(0) => self.lose(&"it has closed the connection"),
            Ok(_) => return true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
            Err(error) => self.lose(&error),
        }
        false
    }

    /// Hands on what frames there are. Returns whether all of them could be.
    fn deliver(&mut self, inbox: &mut dyn Inbox) -> bool {
        loop {
            let frame = match self.reader.frame() {
                Ok(Some(frame)) => &*frame,
                Ok(None) => return true,
                Err(too_long) => {
                    self.lose(&too_long);
                    return true;
                }
            };
            if frame.len() < ETHERNET {
                self.dropped = self.dropped.saturating_add(1);
            } else {
                match inbox.put(Offload::default(), &[frame]) {
                    Put::Full => return false,
                    Put::Done => self.received = self.received.saturating_add(1),
                }
            }
            self.reader.take();
        }
    }
}

impl Link for Stream {
    fn offer(&self) -> Offer {
        Offer { features: 0, mac: self.mac, mtu: MTU }
    }

    fn descriptors(&self) -> u64 {
        0
    }

    fn watch(&mut self, watcher: Watcher) -> io::Result<()> {
        if let Some(socket) = &self.socket {
            watcher.watch(socket.as_fd(), 0)?;
        }
        self.watcher = Some(watcher);
        Ok(())
    }

    fn activate(&mut self, _features: Option<u64>) {}

    fn send(&mut self, frame: &Frame<'_>, _now: Duration) -> Sent {
        match self.flush() {
            true => self.write(frame),
            false => Sent::Later,
        }
    }

    fn receive(&mut self, inbox: &mut dyn Inbox, _now: Duration) {
        self.more = false;
        for _ in 0..BATCH {
            if !self.deliver(inbox) || !self.readable || !self.read() {
                return;
            }
        }
        self.more = true;
    }

    fn ready(&mut self, ready: Ready, _now: Duration) {
        self.readable |= ready.readable;
        if ready.writable {
            self.flush();
        }
    }

    fn deadline(&self) -> Option<Duration> {
        self.more.then_some(Duration::ZERO)
    }

    fn finish(&mut self) {
        let Self { name, sent, received, dropped, .. } = self;
        info!("network: {name}: {sent} frames sent, {received} received, {dropped} dropped");
    }
}

#[cfg(test)]
mod tests;
