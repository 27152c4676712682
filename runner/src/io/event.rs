//! An event that one thread, or KVM, signals and another waits for: an eventfd on Linux, a pipe
//! elsewhere.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A doorbell's other end. Signals before the first [`Event::clear`] merge.
#[derive(Debug)]
pub struct Event {
    read: OwnedFd,
    /// Where signals go when it is not the same descriptor.
    write: Option<OwnedFd>,
}

impl Event {
    /// An event that is not signalled.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn new() -> io::Result<Self> {
        sys::new()
    }

    /// The descriptor that signals it when 8 bytes are written: what a doorbell is given.
    pub fn signal_fd(&self) -> BorrowedFd<'_> {
        self.write.as_ref().unwrap_or(&self.read).as_fd()
    }

    /// Signals it.
    pub fn signal(&self) {
        // Full means signalled already.
        let _ = rustix::io::write(self.signal_fd(), &1u64.to_ne_bytes());
    }

    /// Takes the signal back, so that the next one is seen.
    pub fn clear(&self) {
        let mut bytes = [0; 512];
        while rustix::io::read(&self.read, &mut bytes).is_ok_and(|read| read == bytes.len()) {}
    }
}

impl AsFd for Event {
    /// The descriptor that becomes readable.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

#[cfg(target_os = "linux")] // the one system with eventfd, which KVM's doorbells need
mod sys {
    use super::{Event, io};
    use rustix::event::{EventfdFlags, eventfd};

    pub(super) fn new() -> io::Result<Event> {
        let read = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Event { read, write: None })
    }
}

#[cfg(not(target_os = "linux"))] // see above
mod sys {
    use super::{Event, io};
    use rustix::fs::{OFlags, fcntl_setfl};
    use rustix::io::{FdFlags, fcntl_setfd};
    use rustix::pipe::pipe;

    pub(super) fn new() -> io::Result<Event> {
        let (read, write) = pipe()?;
        for end in [&read, &write] {
            fcntl_setfd(end, FdFlags::CLOEXEC)?;
            fcntl_setfl(end, OFlags::NONBLOCK)?;
        }
        Ok(Event { read, write: Some(write) })
    }
}
