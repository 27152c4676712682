//! The guest's console on stdout and stdin.

use std::fs::File;
use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::event::Event;
use crate::machine::stop::Stop;
use crate::warning;

/// The most that one write hands over: a pipe that is ready takes this much without blocking
/// (POSIX promises 512 bytes).
const CHUNK: usize = 512;

/// stdout as the guest's console. Unbuffered: a byte the guest has sent is visible.
///
/// A reader that is slow makes the guest wait, as it would any program. It waits in poll(2), where
/// the stop ends it, and never in the write. A reader that is gone loses the rest, said once.
#[derive(Debug)]
pub struct Stdout {
    file: File,
    stop: Stop,
    /// Readable once the run is over.
    stopped: Arc<Event>,
    gone: bool,
}

impl Stdout {
    /// The process's stdout. `stopped` is signalled, and never cleared, when `stop` is requested.
    ///
    /// # Errors
    /// When it is closed.
    pub fn new(stop: Stop, stopped: Arc<Event>) -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self { file, stop, stopped, gone: false })
    }

    /// Waits until stdout takes bytes or the run is over; whether it takes some.
    fn ready(&self) -> io::Result<bool> {
        let mut wanted =
            [PollFd::new(&self.file, PollFlags::OUT), PollFd::new(&self.stopped, PollFlags::IN)];
        match poll(&mut wanted, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Errors, too: the write tells which.
        let [stdout, _] = &wanted;
        Ok(!stdout.revents().is_empty())
    }

    /// Hands over some of `bytes`; returns how many.
    fn hand_over(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.ready()? {
            return Ok(0);
        }
        let chunk = bytes.get(..bytes.len().min(CHUNK)).unwrap_or_default();
        match self.file.write(chunk) {
            Err(error) if matches!(error.kind(), Interrupted | WouldBlock) => Ok(0),
            result => result,
        }
    }
}

impl Write for Stdout {
    /// Takes all of `bytes`, always: the guest is not told about our stdout.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.gone && !self.stop.requested() {
            match self.hand_over(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) => {
                    self.gone = true;
                    warning!("the console's output is lost from here on: stdout: {error}");
                }
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// stdin, read as the guest takes it.
#[derive(Debug)]
pub struct Stdin(File);

impl Stdin {
    /// The process's stdin; nothing when it is closed, or a terminal that belongs to another
    /// job's foreground (reading it would stop this process).
    pub fn new() -> Option<Self> {
        let stdin = io::stdin();
        let fd = stdin.as_fd();
        if rustix::termios::isatty(fd) {
            let foreground = rustix::termios::tcgetpgrp(fd).ok();
            if foreground != Some(rustix::process::getpgrp()) {
                return None;
            }
        }
        fd.try_clone_to_owned().ok().map(|fd| Self(File::from(fd)))
    }

    /// Up to `buffer`'s length of bytes; 0 is the end of input.
    ///
    /// # Errors
    /// `WouldBlock` when there are none yet; otherwise what the operating system says.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == Interrupted => {}
                result => return result,
            }
        }
    }

    /// A second handle, for the event loop to wait on.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn handle(&self) -> io::Result<File> {
        self.0.try_clone()
    }
}
