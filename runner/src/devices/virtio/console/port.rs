//! One port: what the guest writes goes to an [`Output`], what comes in to the guest.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use hv::GuestMemory;

use super::channel::Channel;
use super::{CHUNK, Keyboard, LEAST, MOST, Output, Wrote};
use crate::devices::state::Refused;
use crate::devices::uart::Uart;
use crate::devices::virtio::chain::Broken;
use crate::devices::virtio::state::{DueState, PortState};
use crate::devices::virtio::virtqueues::{Request, Virtqueues};
use crate::io::event_loop::{Ready, Watcher};

/// Keys of what is watched, each port's from its base on.
pub(super) const OUTPUT: usize = 0;
pub(super) const KEYBOARD: usize = 1;
const SOCKET: usize = 3;
/// Keys of a port.
pub(super) const KEYS: usize = 4;

/// A port.
pub(super) struct Port {
    output: Box<dyn Output>,
    pub(super) keyboard: Arc<Keyboard>,
    /// What a port has behind it that is no console.
    pub(super) channel: Option<Channel>,
    /// There may be something to read from that.
    readable: bool,
    /// The output takes no bytes until it is announced.
    pub(super) blocked: bool,
    /// When to try again.
    pub(super) again: Option<Duration>,
    /// How many bytes of the request that is next in turn the output has.
    sent: u64,
    /// The driver has it.
    pub(super) ready: bool,
    /// A program of the guest's has it open.
    pub(super) open: bool,
    /// What the driver is to be told.
    pub(super) due: DueState,
    /// Bytes in all.
    out: u64,
    taken_in: u64,
}

/// For a person.
impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (out, taken_in) = (self.out, self.taken_in);
        if let Some(channel) = &self.channel {
            write!(f, "{}: ", channel.name())?;
        }
        write!(f, "{out} bytes out, {taken_in} bytes in")
    }
}

/// What became of a request's bytes.
enum Flow {
    /// The output has them all.
    Done,
    /// There is more, for another turn.
    More,
}

impl Port {
    /// A console's.
    pub(super) fn console(output: Box<dyn Output>, keyboard: Arc<Keyboard>) -> Self {
        Self::new(output, keyboard, None)
    }

    /// One before a program of the host's.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub(super) fn channel(channel: Channel) -> io::Result<Self> {
        let keyboard = Arc::new(Keyboard::new(Box::new(|| ()))?);
        let mut port = Self::new(Box::new(channel.clone()), keyboard, Some(channel));
        port.readable = true;
        Ok(port)
    }

    fn new(output: Box<dyn Output>, keyboard: Arc<Keyboard>, channel: Option<Channel>) -> Self {
        Self {
            output,
            keyboard,
            channel,
            readable: false,
            blocked: false,
            again: None,
            sent: 0,
            ready: false,
            open: false,
            due: DueState::default(),
            out: 0,
            taken_in: 0,
        }
    }

    /// Has its descriptors watched, with keys from `base` on.
    pub(super) fn watch(&self, watcher: &Watcher, base: usize) -> io::Result<()> {
        if let Some(channel) = &self.channel {
            return watcher.watch(channel.as_fd(), base.saturating_add(SOCKET));
        }
        if let Some(fd) = self.output.fd() {
            match watcher.watch_writing(fd, base.saturating_add(OUTPUT)) {
                // A file is never full.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                result => result?,
            }
        }
        watcher.watch_reading(self.keyboard.arrived.as_fd(), base.saturating_add(KEYBOARD))
    }

    /// One of them is ready, by its key less the base.
    pub(super) fn ready(&mut self, ready: Ready) {
        match ready.key {
            OUTPUT => self.blocked = false,
            KEYBOARD => self.keyboard.arrived.rearm(),
            SOCKET => {
                self.readable |= ready.readable || ready.hung_up;
                self.blocked &= !(ready.writable || ready.hung_up);
            }
            _ => {}
        }
    }

    /// The driver knows nothing of it any more.
    pub(super) fn reset(&mut self) {
        (self.sent, self.ready, self.open) = (0, false, false);
        self.due = DueState::default();
    }

    pub(super) fn describe(&self) -> PortState {
        PortState {
            sent: self.sent,
            input: self.keyboard.waiting().iter().copied().collect(),
            ready: self.ready,
            open: self.open,
            due: self.due,
        }
    }

    /// More than a request has is as good as all of it.
    pub(super) fn restore(&mut self, saved: &PortState) -> Result<(), Refused> {
        let (len, room) = (saved.input.len(), self.keyboard.room());
        Refused::unless(
            len <= room,
            "input",
            &format!("{len} bytes, and there is room for {room}"),
        )?;
        self.keyboard.receive(&saved.input);
        (self.sent, self.ready, self.open) = (saved.sent, saved.ready, saved.open);
        self.due = saved.due;
        Ok(())
    }

    /// Whether somebody of the host's has it open.
    pub(super) fn host_open(&self) -> bool {
        self.channel.as_ref().is_none_or(Channel::is_open)
    }

    /// Reads what its program has sent, as far as there is room.
    fn fill(&mut self) {
        let Some(channel) = &self.channel else { return };
        let was_open = channel.is_open();
        let mut bytes = [0; CHUNK];
        while self.readable && self.keyboard.room() > 0 {
            let room = self.keyboard.room().min(CHUNK);
            match channel.read(bytes.get_mut(..room).unwrap_or_default()) {
                Some(count) => {
                    self.keyboard.waiting().extend(bytes.get(..count).unwrap_or_default());
                }
                None => self.readable = false,
            }
        }
        // It is over, which the guest hears behind the last byte.
        self.due.open |= was_open && !channel.is_open() && self.ready;
    }

    /// Gives the guest its input by `queue`, as far as it has room. Returns whether there is more.
    pub(super) fn receive(
        &mut self,
        queues: &mut Virtqueues,
        memory: &GuestMemory,
        queue: usize,
    ) -> bool {
        self.fill();
        let mut waiting = self.keyboard.waiting();
        let before = waiting.len();
        while !waiting.is_empty() {
            let Some(Request { head, chain }) = queues.take(memory, queue) else { break };
            if chain.writable.is_empty() {
                queues.refuse(head, Broken::NoAnswer);
                break;
            }
            let written = chain.writable.copy_from(waiting.make_contiguous());
            waiting.drain(..written.min(before));
            let written = u32::try_from(written).unwrap_or_default();
            queues.give_back(memory, queue, head, written);
        }
        let (after, taken) = (waiting.len(), before.saturating_sub(waiting.len()));
        drop(waiting);
        self.taken_in = self.taken_in.saturating_add(taken as u64);
        if after == 0 && taken > 0 {
            (self.keyboard.drained)();
        }
        self.readable && after == 0
    }

    /// Sends at most `left` bytes of a request, which it counts down, from where it was left.
    fn send(&mut self, request: &mut Request<'_>, left: &mut usize) -> Flow {
        let buffers = &mut request.chain.readable;
        buffers.take(self.sent);
        let mut bytes = [0; CHUNK];
        while *left > 0 {
            let len = buffers.copy_to(&mut bytes);
            if len == 0 {
                self.sent = 0;
                return Flow::Done;
            }
            match self.output.write(bytes.get(..len).unwrap_or_default()) {
                Wrote::Taken(taken) => {
                    let taken = taken.min(len) as u64;
                    buffers.take(taken);
                    self.sent = self.sent.saturating_add(taken);
                    self.out = self.out.saturating_add(taken);
                    *left = left.saturating_sub(CHUNK);
                }
                Wrote::Full => {
                    self.blocked = true;
                    return Flow::More;
                }
                Wrote::Busy => {
                    self.again = Some(Duration::ZERO);
                    return Flow::More;
                }
            }
        }
        Flow::More
    }

    /// Sends what the guest has written to `queue`, up to a bound. Returns whether there is more that could
    /// go now.
    pub(super) fn transmit(
        &mut self,
        queues: &mut Virtqueues,
        memory: &GuestMemory,
        queue: usize,
    ) -> bool {
        let mut left = MOST;
        while left > 0 && !self.blocked && self.again.is_none() {
            let Some(mut request) = queues.take(memory, queue) else { return false };
            match self.send(&mut request, &mut left) {
                Flow::Done => queues.give_back(memory, queue, request.head, 0),
                Flow::More => queues.put_back(queue, request.head),
            }
            left = left.saturating_sub(LEAST);
        }
        !self.blocked && self.again.is_none() && queues.is_waiting(queue)
    }

    /// Waits until its output takes bytes; see [`Output::wait`].
    pub(super) fn wait(&mut self, patience: Duration) -> bool {
        self.output.wait(patience)
    }
}
