//! What is behind a port that is no console: a stream to a program of the host's, which listens at a
//! socket in the file system when the run begins.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, retry_on_intr, write};

use super::{Output, Wrote};
use crate::io::socket::local::{ACCEPTS_NOBODY, Local};
use crate::log::printable_path;

/// A stream, and the name of the port before it.
#[derive(Clone, Debug)]
pub struct Channel {
    name: String,
    socket: Arc<UnixStream>,
    /// The program has not gone.
    open: Arc<AtomicBool>,
}

impl Channel {
    /// Connects to the program that listens at `path`.
    ///
    /// # Errors
    /// One sentence.
    pub fn connect(name: &str, path: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| {
            let path = printable_path(path);
            let remedy = match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    ": start the program that listens there first"
                }
                _ => "",
            };
            format!("--channel {name}={path}: {error}{remedy}")
        };
        // Not std's, which waits for as long as the program accepts nobody.
        match Local::connect(path).map_err(failed)? {
            Some(socket) => Ok(Self::over(name, OwnedFd::from(socket).into())),
            None => Err(format!("--channel {name}={}: {ACCEPTS_NOBODY}", printable_path(path))),
        }
    }

    /// Over a stream that does not block.
    pub fn over(name: &str, socket: UnixStream) -> Self {
        let open = Arc::new(AtomicBool::new(true));
        Self { name: name.to_owned(), socket: Arc::new(socket), open }
    }

    /// What the guest finds it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Reads what there is. `None`: nothing now, or any more.
    pub(super) fn read(&self, bytes: &mut [u8]) -> Option<usize> {
        match retry_on_intr(|| read(&self.socket, &mut *bytes)) {
            Ok(count @ 1..) => Some(count),
            Err(Errno::AGAIN) => None,
            Ok(_) | Err(_) => {
                self.open.store(false, Ordering::Relaxed);
                None
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Output for Channel {
    /// What nobody reads any more is gone.
    fn write(&mut self, bytes: &[u8]) -> Wrote {
        match retry_on_intr(|| write(&self.socket, bytes)) {
            Ok(count) => Wrote::Taken(count),
            Err(Errno::AGAIN) => Wrote::Full,
            Err(_) => Wrote::Taken(bytes.len()),
        }
    }

    fn wait(&mut self, patience: Duration) -> bool {
        let patience = Timespec::try_from(patience).ok();
        let mut fds = [PollFd::new(&*self.socket, PollFlags::OUT)];
        poll(&mut fds, patience.as_ref()).is_ok_and(|ready| ready > 0)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}
