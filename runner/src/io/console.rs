//! The guest's console on stdout and stdin.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::machine::stop::Stop;
use crate::warning;

/// stdout as the guest's console. Unbuffered: a byte the guest has sent is visible.
///
/// A reader that is slow makes the guest wait, as it would any program; the stop ends that wait.
/// A reader that is gone loses the rest, said once.
#[derive(Debug)]
pub struct Stdout {
    file: File,
    stop: Stop,
    gone: AtomicBool,
}

impl Stdout {
    /// The process's stdout.
    ///
    /// # Errors
    /// When it is closed.
    pub fn new(stop: Stop) -> io::Result<Self> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self { file, stop, gone: AtomicBool::new(false) })
    }
}

impl Write for Stdout {
    /// Takes all of `bytes`, always: the guest is not told about our stdout.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.gone.load(Ordering::Relaxed) {
            match self.file.write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                // The kick that announces a stop interrupts a write that blocks.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    if self.stop.requested() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.stop.requested() {
                        break;
                    }
                    // Somebody else made our stdout non-blocking; nothing tells us when it is
                    // ready that would not change it for them.
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => {
                    self.gone.store(true, Ordering::Relaxed);
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

    /// Up to `room` bytes, at most 64; nothing at the end of input.
    pub fn read(&mut self, room: usize) -> Vec<u8> {
        let mut buffer = [0; 64];
        let wanted = buffer.get_mut(..room.min(64)).unwrap_or_default();
        match self.0.read(wanted) {
            Ok(read) => wanted.get(..read).unwrap_or_default().to_vec(),
            Err(_) => Vec::new(),
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
