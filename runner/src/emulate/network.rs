//! The guest's network in software emulation: the device is QEMU's, the network behind it ours, so that
//! forwards, policy and captures are what they are on an accelerator. Between them is a pair of
//! sockets, on which frames go as by QEMU's `-netdev socket`, and a thread.
//!
//! QEMU offers its guest no checksums and no segmentation on such a network, and neither do we.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use vm_memory::VolatileSlice;

use crate::io::event_loop::EventLoop;
use crate::net::frame::{Bytes, Frame, HEADER, LARGEST, Offload};
use crate::net::framing::{self, LENGTH, Reader};
use crate::net::{Inbox, Link, Offer, Put, Sent};
use crate::plan::NetworkPlan;
use crate::warning;

/// The key of QEMU's socket. Links have those below.
const QEMU: usize = 1 << 40;

/// Frames for QEMU, beyond which there is no room.
const ROOM: usize = 256 << 10;

/// Frames of the guest's at one time.
const BATCH: u32 = 256;

/// A network before QEMU runs.
#[derive(Debug)]
pub(super) struct Cable {
    link: Box<dyn Link>,
    ours: UnixStream,
    /// QEMU's end.
    pub(super) theirs: UnixStream,
    /// What the device is to be.
    pub(super) offer: Offer,
}

impl Cable {
    /// The network of the plan.
    pub(super) fn new(plan: &NetworkPlan) -> io::Result<Self> {
        let link = plan.take_link();
        let link = link.ok_or_else(|| io::Error::other("a machine that could not run had it"))?;
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let offer = link.offer();
        Ok(Self { link, ours, theirs, offer })
    }

    /// Carries frames until QEMU is gone, on a thread. QEMU has its end.
    pub(super) fn connect(self) -> io::Result<Relay> {
        let Self { mut link, ours, theirs, .. } = self;
        drop(theirs);
        let event_loop = EventLoop::new()?;
        event_loop.watcher()?.watch(ours.as_fd(), QEMU)?;
        link.watch(event_loop.watcher()?)?;
        link.activate(Some(0));
        let carry = move || {
            let result = carry(link.as_mut(), Port::new(ours), event_loop);
            link.finish();
            if let Err(error) = result {
                warning!("the guest is without a network: {error}");
            }
        };
        thread::Builder::new().name("network".into()).spawn(carry).map(Relay)
    }
}

/// The thread.
#[derive(Debug)]
pub(super) struct Relay(JoinHandle<()>);

impl Relay {
    /// Waits for its end, when QEMU has ended.
    pub(super) fn finish(self) {
        // It does not panic, and had it done so it would have been said.
        let _ = self.0.join();
    }
}

/// Carries frames both ways until QEMU is gone.
fn carry(link: &mut dyn Link, mut port: Port, mut event_loop: EventLoop) -> io::Result<()> {
    let began = Instant::now();
    loop {
        let now = began.elapsed();
        let more = port.take(link, now)?;
        link.receive(&mut port, now);
        port.flush()?;
        if port.over {
            return Ok(());
        }
        let wait = match more {
            true => Some(Duration::ZERO),
            false => link.deadline().map(|deadline| deadline.saturating_sub(began.elapsed())),
        };
        event_loop.turn(wait)?;
        for ready in event_loop.ready() {
            match ready.key {
                QEMU => port.readable |= ready.readable,
                _ => {
                    link.ready(*ready, began.elapsed());
                    port.blocked = false;
                }
            }
        }
    }
}

/// Our end of the socket to QEMU.
struct Port {
    socket: UnixStream,
    reader: Reader,
    /// There may be something to read.
    readable: bool,
    /// The link has not taken a frame, and has not been ready since.
    blocked: bool,
    /// QEMU has closed its end.
    over: bool,
    /// What QEMU has not taken.
    waiting: Vec<u8>,
    scratch: Vec<u8>,
}

impl Port {
    fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            reader: Reader::default(),
            readable: true,
            blocked: false,
            over: false,
            waiting: Vec::new(),
            scratch: vec![0; HEADER.saturating_add(LARGEST)],
        }
    }

    /// Gives the link what the guest has sent. Returns whether there is more.
    fn take(&mut self, link: &mut dyn Link, now: Duration) -> io::Result<bool> {
        for _ in 0..BATCH {
            if self.blocked {
                return Ok(false);
            }
            match self.reader.frame().map_err(io::Error::other)? {
                Some(frame) => {
                    let slices = [VolatileSlice::from(frame)];
                    let bytes = Bytes::new(&slices);
                    match link.send(&Frame { offload: Offload::default(), bytes }, now) {
                        Sent::Done => self.reader.take(),
                        Sent::Later => self.blocked = true,
                    }
                }
                None if self.readable => match self.reader.fill(&mut self.socket) {
                    Ok(0) => {
                        self.readable = false;
                        self.over = true;
                    }
                    Ok(_) => {}
                    Err(error) => self.suffer(&error)?,
                },
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn suffer(&mut self, error: &io::Error) -> io::Result<()> {
        match error.kind() {
            io::ErrorKind::WouldBlock => self.readable = false,
            io::ErrorKind::Interrupted => {}
            // So ends a QEMU that had not read everything.
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                self.readable = false;
                self.over = true;
            }
            kind => return Err(kind.into()),
        }
        Ok(())
    }

    /// Writes what QEMU takes now.
    fn flush(&mut self) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest @ [_, ..]) = self.waiting.get(done..) {
            match self.socket.write(rest) {
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    let readable = self.readable;
                    self.suffer(&error)?;
                    if self.over {
                        break;
                    }
                    self.readable = readable;
                }
            }
        }
        self.waiting.drain(..done.min(self.waiting.len()));
        Ok(())
    }

    fn push(&mut self, pieces: &[&[u8]]) {
        let len = pieces.iter().map(|piece| piece.len()).sum();
        if let Some(length) = framing::length(len) {
            self.waiting.extend_from_slice(&length);
            self.waiting.extend(pieces.iter().copied().flatten());
        }
    }
}

impl Inbox for Port {
    fn room(&mut self, most: usize) -> usize {
        if self.waiting.len() + LENGTH + LARGEST <= ROOM { most } else { 0 }
    }

    fn put(&mut self, _offload: Offload, pieces: &[&[u8]]) -> Put {
        if self.room(1) == 0 {
            return Put::Full;
        }
        self.push(pieces);
        Put::Done
    }

    fn fill(
        &mut self,
        most: usize,
        with_header: bool,
        read: &mut dyn FnMut(&[VolatileSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Put> {
        if self.room(1) == 0 {
            return Ok(Put::Full);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let skip = if with_header { HEADER } else { 0 };
        let place = scratch.get_mut(..most.saturating_add(skip)).unwrap_or_default();
        let read = read(&[VolatileSlice::from(place)]);
        if let Ok(len) = read
            && let Some(frame) = scratch.get(skip..len)
        {
            self.push(&[frame]);
        }
        self.scratch = scratch;
        read.map(|_| Put::Done)
    }
}

#[cfg(test)]
mod tests;
