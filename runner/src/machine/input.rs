//! stdin on its way to COM1, as fast as the guest reads. It belongs to the I/O loop: whoever else
//! knows something sets a flag and wakes it.
//!
//! At any time one of three things is waited for: that stdin has bytes, that the guest has read what
//! it was given, or nothing any more, at the end of input.

use std::io::ErrorKind::{PermissionDenied, WouldBlock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::devices::serial::Com1;
use crate::io::console::{Stdin, Stdout};
use crate::io::event_loop::{Control, EventLoop, Token, Waker};

/// What the FIFO of a 16550A can take at the most.
const FIFO: usize = 64;

/// stdin and where it goes.
#[derive(Debug)]
pub(super) struct Input {
    stdin: Stdin,
    com1: Arc<Com1<Stdout>>,
    /// What waits for stdin. A file is not waited for: it has bytes, or is at its end.
    token: Option<Token>,
    /// stdin has bytes, or is at its end.
    readable: Arc<AtomicBool>,
    /// The guest has read what it was given, or takes input again.
    drained: Arc<AtomicBool>,
    /// Read, and not taken by the UART: the guest went into loopback in between.
    left: Vec<u8>,
    ended: bool,
}

impl Input {
    /// A flag, and what raises it from a vCPU's thread when the guest has read its input.
    pub(super) fn drained(waker: Waker) -> (Arc<AtomicBool>, Box<dyn Fn() + Send + Sync>) {
        let drained = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&drained);
        let raise = move || {
            flag.store(true, Ordering::Release);
            waker.wake();
        };
        (drained, Box::new(raise))
    }

    /// The process's stdin for `com1`. Without a stdin there is no input.
    pub(super) fn new(
        com1: Arc<Com1<Stdout>>,
        drained: Arc<AtomicBool>,
        event_loop: &mut EventLoop,
    ) -> Option<Self> {
        let stdin = Stdin::new()?;
        let handle = Arc::new(stdin.handle().ok()?);
        let readable = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&readable);
        let added = event_loop.add(handle, move || {
            flag.store(true, Ordering::Release);
            Control::Pause
        });
        let token = match added {
            Ok(token) => Some(token),
            Err(error) if error.kind() == PermissionDenied => {
                readable.store(true, Ordering::Release);
                None
            }
            Err(error) => {
                crate::warning!("the guest gets no input: {error}");
                return None;
            }
        };
        Some(Self { stdin, com1, token, readable, drained, left: Vec::new(), ended: false })
    }

    /// Moves on as far as stdin and the guest let it.
    pub(super) fn serve(&mut self, event_loop: &mut EventLoop) {
        if self.ended {
            return;
        }
        if self.drained.swap(false, Ordering::AcqRel) {
            self.offer_what_is_left();
            self.listen(event_loop);
        }
        if self.readable.swap(false, Ordering::AcqRel) {
            self.feed(event_loop);
        }
    }

    fn offer_what_is_left(&mut self) {
        let taken = self.com1.receive(&self.left);
        self.left.drain(..taken.min(self.left.len()));
    }

    /// Waits for stdin again.
    fn listen(&mut self, event_loop: &mut EventLoop) {
        match self.token {
            None => self.readable.store(true, Ordering::Release),
            Some(token) => {
                if let Err(error) = event_loop.resume(token) {
                    crate::warning!("the guest gets no more input: {error}");
                    self.ended = true;
                }
            }
        }
    }

    /// Reads what the guest has room for. Without room the guest says when there is some.
    fn feed(&mut self, event_loop: &mut EventLoop) {
        let mut buffer = [0; FIFO];
        let room = self.com1.room().min(FIFO);
        let Some(wanted) = buffer.get_mut(..room).filter(|_| self.left.is_empty() && room > 0)
        else {
            return;
        };
        match self.stdin.read(wanted) {
            Ok(0) => self.ended = true,
            Ok(read) => {
                let bytes = wanted.get(..read).unwrap_or_default();
                let taken = self.com1.receive(bytes);
                self.left.extend(bytes.get(taken..).unwrap_or_default());
            }
            Err(error) if error.kind() == WouldBlock => self.listen(event_loop),
            Err(error) => {
                crate::warning!("the guest gets no more input: stdin: {error}");
                self.ended = true;
            }
        }
    }
}
