//! The guest's console on stdout and stdin.

use std::fs::File;
use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::tcgetwinsize;

use super::event::Event;
use super::terminal;
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

impl Stdout {
    /// Whether it takes bytes, without waiting for longer than `patience`.
    fn takes_some(&self, patience: Duration) -> bool {
        let mut wanted = [PollFd::new(&self.file, PollFlags::OUT)];
        let patience = Timespec::try_from(patience).ok();
        poll(&mut wanted, patience.as_ref()).is_ok_and(|ready| ready > 0)
    }

    /// Writes some of `bytes` without waiting. One whose reader is gone takes all, as ever.
    fn write_now(&mut self, bytes: &[u8]) -> Now {
        if self.gone {
            return Now::Taken(bytes.len());
        }
        if !self.takes_some(Duration::ZERO) {
            return Now::Full;
        }
        let chunk = bytes.get(..bytes.len().min(CHUNK)).unwrap_or_default();
        match self.file.write(chunk) {
            Ok(written) => Now::Taken(written),
            Err(error) if error.kind() == WouldBlock => Now::Full,
            Err(error) if error.kind() == Interrupted => Now::Taken(0),
            Err(error) => {
                self.lose(&error);
                Now::Taken(bytes.len())
            }
        }
    }

    fn lose(&mut self, error: &io::Error) {
        self.gone = true;
        warning!("the console's output is lost from here on: stdout: {error}");
    }
}

/// What became of bytes that may not be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    /// So many are on their way.
    Taken(usize),
    /// There is no room.
    Full,
    /// Another thread is writing.
    Busy,
}

/// stdout for several who write to it. Whoever waits has it to himself.
#[derive(Clone, Debug)]
pub struct Shared {
    stdout: Arc<Mutex<Stdout>>,
    /// The same, to be watched.
    watched: Arc<File>,
}

impl Shared {
    /// Shares `stdout`.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn new(stdout: Stdout) -> io::Result<Self> {
        let watched = Arc::new(stdout.file.try_clone()?);
        Ok(Self { stdout: Arc::new(Mutex::new(stdout)), watched })
    }

    /// Writes some of `bytes`, at most 512, without waiting.
    pub fn write_now(&self, bytes: &[u8]) -> Now {
        match self.stdout.try_lock() {
            Ok(mut stdout) => stdout.write_now(bytes),
            Err(TryLockError::Poisoned(stdout)) => stdout.into_inner().write_now(bytes),
            Err(TryLockError::WouldBlock) => Now::Busy,
        }
    }

    /// Waits until it takes bytes, at most as long as `patience`. Returns whether it does.
    pub fn wait(&self, patience: Duration) -> bool {
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner).takes_some(patience)
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.watched.as_fd()
    }
}

/// Columns and rows of the terminal that the console is on, if it is on one.
pub fn window_size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    Some((size.ws_col, size.ws_row))
}

impl Write for Stdout {
    /// Takes all of `bytes`, always: the guest is not told about our stdout.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.gone && !self.stop.requested() {
            match self.hand_over(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) => self.lose(&error),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a read of stdin gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// This many bytes.
    Bytes(usize),
    /// Nothing yet: wait for it.
    NotYet,
    /// The terminal is another job's now: look again after [`LOOK_AGAIN`].
    Away,
    /// The key that ends the run.
    Escape,
    /// Nothing more.
    End,
}

/// How often to look whether the terminal is ours, while it is not: nothing tells.
pub const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What is read of a keyboard ahead of the guest, at the most: the key that ends the run is seen
/// although the guest reads nothing.
pub const AHEAD: usize = 256 << 10;

/// stdin, read as the guest takes it.
#[derive(Debug)]
pub struct Stdin {
    file: File,
    keyboard: bool,
}

impl Stdin {
    /// The process's stdin; nothing when it is closed, or a terminal that is not the guest's
    /// keyboard: what is typed there is for whoever comes next, and a job in the background that
    /// reads it is stopped.
    pub fn new() -> Option<Self> {
        let stdin = io::stdin();
        let keyboard = terminal::is_keyboard();
        if !keyboard && rustix::termios::isatty(&stdin) {
            return None;
        }
        let fd = stdin.as_fd().try_clone_to_owned().ok()?;
        Some(Self { file: File::from(fd), keyboard })
    }

    /// Whether it is a terminal that [`terminal::take`] takes.
    pub fn is_keyboard(&self) -> bool {
        self.keyboard
    }

    /// Reads up to `buffer`'s length of bytes.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Input> {
        if self.keyboard {
            return self.keys(buffer);
        }
        loop {
            match self.file.read(buffer) {
                Ok(0) => return Ok(Input::End),
                Ok(read) => return Ok(Input::Bytes(read)),
                Err(error) if error.kind() == WouldBlock => return Ok(Input::NotYet),
                Err(error) if error.kind() == Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// One read of the keyboard.
    fn keys(&mut self, buffer: &mut [u8]) -> io::Result<Input> {
        if !(terminal::is_taken() && terminal::foreground()) {
            return Ok(Input::Away);
        }
        match terminal::undisturbed(|| self.file.read(buffer)) {
            Ok(0) if terminal::is_gone() => Ok(Input::End),
            Ok(0) => Ok(Input::NotYet),
            Ok(read) if buffer.iter().take(read).any(|byte| *byte == terminal::ESCAPE) => {
                Ok(Input::Escape)
            }
            Ok(read) => Ok(Input::Bytes(read)),
            Err(error) if matches!(error.kind(), Interrupted | WouldBlock) => Ok(Input::NotYet),
            // What a read from the background is told.
            Err(_) if !terminal::foreground() => Ok(Input::Away),
            Err(_) if terminal::is_gone() => Ok(Input::End),
            Err(error) => Err(error),
        }
    }

    /// A second handle, for the event loop to wait on.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

impl AsFd for Stdin {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
