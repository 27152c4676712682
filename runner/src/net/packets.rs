//! What a tap device and a datagram socket have in common: a descriptor that keeps frames apart, one
//! system call each.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;

use super::frame::{Frame, HEADER, LARGEST};
use super::{Inbox, Put, Sent};
use crate::io::event_loop::{Ready, Watcher};
use crate::io::frames;
use crate::{info, warning};

/// Frames for the guest at one time: whoever floods us must not keep others waiting.
const BATCH: u32 = 256;

/// Whether the other side can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    /// It cannot, and that has been said. It may come back.
    Down,
    /// It never comes back.
    Gone,
}

/// A descriptor that keeps frames apart.
#[derive(Debug)]
pub(super) struct Packets {
    /// What it is called in what is said about it.
    name: String,
    fd: OwnedFd,
    watcher: Option<Watcher>,
    /// Each frame has a virtio_net_hdr before it.
    headers: bool,
    state: State,
    /// There may be something to read.
    readable: bool,
    /// There was more to read than one batch.
    more: bool,
    /// For a frame in too many pieces, or one that nobody gets.
    scratch: Vec<u8>,
    sent: u64,
    received: u64,
    dropped: u64,
}

/// What an error means for what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Not now.
    Later,
    /// Not this frame.
    Drop,
    /// Not until somebody has the other side back.
    Down,
    /// Nothing more.
    Gone,
}

impl Verdict {
    fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => return Self::Later,
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => return Self::Drop,
            _ => {}
        }
        match Errno::from_io_error(error) {
            Some(Errno::NOBUFS | Errno::NOMEM | Errno::MSGSIZE | Errno::INVAL) => Self::Drop,
            Some(Errno::IO | Errno::NETDOWN) => Self::Down,
            _ => Self::Gone,
        }
    }
}

impl Packets {
    /// `fd` must not wait.
    pub(super) fn new(fd: OwnedFd, name: String, headers: bool) -> Self {
        Self {
            name,
            fd,
            watcher: None,
            headers,
            state: State::Up,
            readable: true,
            more: false,
            scratch: vec![0; HEADER.saturating_add(LARGEST)],
            sent: 0,
            received: 0,
            dropped: 0,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether that has been found out, and said.
    pub(super) fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn watch(&mut self, watcher: Watcher) -> io::Result<()> {
        watcher.watch(self.fd.as_fd(), 0)?;
        self.watcher = Some(watcher);
        Ok(())
    }

    /// Throws away what came before there was a guest to take it.
    pub(super) fn discard(&mut self) {
        for _ in 0..BATCH.saturating_mul(16) {
            match rustix::io::read(&self.fd, self.scratch.as_mut_slice()) {
                Ok(1..) | Err(Errno::INTR) => {}
                Ok(0) | Err(_) => break,
            }
        }
        self.readable = true;
    }

    pub(super) fn send(&mut self, frame: &Frame<'_>) -> Sent {
        if self.state == State::Gone {
            self.drop_one();
            return Sent::Done;
        }
        let header = match self.headers {
            true => frame.offload.header(headers_of(frame), 0),
            false => [0; HEADER],
        };
        let head = if self.headers { header.as_slice() } else { &[] };
        let mut written = frames::write(self.fd.as_fd(), head, frame.bytes.pieces());
        if matches!(&written, Err(error) if error.kind() == io::ErrorKind::InvalidInput) {
            written = self.write_copied(head, frame);
        }
        match written {
            Ok(_) => {
                self.sent = self.sent.saturating_add(1);
                self.state = State::Up;
                Sent::Done
            }
            Err(error) => match Verdict::of(&error) {
                Verdict::Later => Sent::Later,
                verdict => {
                    self.drop_one();
                    self.suffer(verdict, &error);
                    Sent::Done
                }
            },
        }
    }

    fn write_copied(&mut self, head: &[u8], frame: &Frame<'_>) -> io::Result<usize> {
        let too_large = || io::Error::from(Errno::MSGSIZE);
        let (before, rest) = self.scratch.split_at_mut_checked(head.len()).ok_or_else(too_large)?;
        before.copy_from_slice(head);
        let len = frame.bytes.copy_to(rest);
        if len < frame.bytes.len() {
            return Err(too_large());
        }
        let bytes = self.scratch.get(..head.len().saturating_add(len)).unwrap_or_default();
        Ok(rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, bytes))?)
    }

    /// Frames of at most `most` bytes, the header not counted.
    pub(super) fn receive(&mut self, inbox: &mut dyn Inbox, most: usize) {
        self.more = false;
        if !self.readable || self.state == State::Gone {
            return;
        }
        let (fd, headers) = (self.fd.as_fd(), self.headers);
        let whole = if headers { most.saturating_add(HEADER) } else { most };
        for _ in 0..BATCH {
            let put = inbox.fill(most, headers, &mut |buffers| frames::read(fd, whole, buffers));
            match put {
                Ok(Put::Done) => self.received = self.received.saturating_add(1),
                Ok(Put::Full) => return,
                Err(error) => match Verdict::of(&error) {
                    Verdict::Later => {
                        self.readable = false;
                        return;
                    }
                    Verdict::Drop => self.dropped = self.dropped.saturating_add(1),
                    verdict => {
                        self.readable = false;
                        self.suffer(verdict, &error);
                        return;
                    }
                },
            }
        }
        self.more = true;
    }

    pub(super) fn ready(&mut self, ready: Ready) {
        self.readable |= ready.readable;
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.more.then_some(Duration::ZERO)
    }

    pub(super) fn finish(&mut self) {
        let Self { name, sent, received, dropped, .. } = self;
        info!("network: {name}: {sent} frames sent, {received} received, {dropped} dropped");
    }

    fn drop_one(&mut self) {
        self.dropped = self.dropped.saturating_add(1);
    }

    /// Says once what has become of the other side.
    fn suffer(&mut self, verdict: Verdict, error: &io::Error) {
        let name = &self.name;
        match verdict {
            Verdict::Later | Verdict::Drop => {}
            Verdict::Down => {
                if self.state == State::Up {
                    warning!(
                        "network: {name} is down ({error}): frames are dropped until it is up"
                    );
                }
                self.state = State::Down;
            }
            Verdict::Gone => {
                warning!("network: {name} is gone ({error}): the guest is without a network");
                self.state = State::Gone;
                if let Some(watcher) = &self.watcher {
                    watcher.forget(self.fd.as_fd());
                }
            }
        }
    }
}

/// Bytes of the frame's headers, for a segment to be cut: up to where the checksum's range has the
/// least TCP header behind it. A hint, as the kernel looks for itself.
fn headers_of(frame: &Frame<'_>) -> u16 {
    let len = u16::try_from(frame.bytes.len()).unwrap_or(u16::MAX);
    frame.offload.checksum.map_or(0, |(start, _)| start.saturating_add(20).min(len))
}
