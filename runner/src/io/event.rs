//! An event that one thread, or KVM, signals and another waits for: an eventfd on Linux, a pipe
//! elsewhere.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::sys;

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
        Ok(Self::of(sys::event()?))
    }

    /// The event that is made of these: to read, and to write where that is another.
    pub(super) fn of((read, write): (OwnedFd, Option<OwnedFd>)) -> Self {
        Self { read, write }
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

    /// Takes the signal back, so that the next one is seen. Returns whether there was one.
    pub fn clear(&self) -> bool {
        let mut bytes = [0; 512];
        let mut signalled = false;
        while let Ok(read @ 1..) = rustix::io::read(&self.read, &mut bytes) {
            signalled = true;
            if read < bytes.len() {
                break;
            }
        }
        signalled
    }
}

impl Event {
    /// Has the next signal seen by whoever has it watched (`EventLoop::watcher`).
    pub fn rearm(&self) {
        if self.write.is_some() {
            // A pipe fills up; a counter does not.
            self.clear();
        }
    }
}

impl AsFd for Event {
    /// The descriptor that becomes readable.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}
