//! stdin on its way to the guest's serial port, as fast as the guest reads. It belongs to the I/O loop: whoever else
//! knows something sets a flag and wakes it.
//!
//! What a pipe or a file has stays there until the guest has room for it. At any time one of three
//! things is waited for: that stdin has bytes, that the guest has read what it was given, or nothing
//! any more, at the end of input.
//!
//! A keyboard is read ahead, up to a bound, for the key that ends the run; and now and then it is
//! another job's.

use std::collections::VecDeque;
use std::io::ErrorKind::PermissionDenied;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::devices::uart::{Drained, Uart};
use crate::io::console::{self, AHEAD, LOOK_AGAIN, Stdin};
use crate::io::event_loop::{Control, EventLoop, Token, Waker};
use crate::io::terminal;

/// The most that is read at once.
const CHUNK: usize = 512;

/// stdin and where it goes.
pub(super) struct Input {
    stdin: Stdin,
    uart: Arc<dyn Uart>,
    /// What waits for stdin. A file is not waited for: it has bytes, or is at its end.
    token: Option<Token>,
    /// stdin has bytes, or is at its end.
    readable: Arc<AtomicBool>,
    /// The guest has read what it was given, or takes input again.
    drained: Arc<AtomicBool>,
    /// Read, and not taken by the UART: it has no room, or the guest went into loopback in between.
    left: VecDeque<u8>,
    phase: Phase,
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Input").field("phase", &self.phase).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The terminal is another job's, or not taken yet.
    Away,
    /// The key that ends the run came.
    Escaped,
    /// There is nothing more to read.
    Ended,
}

impl Input {
    /// A flag, and what raises it from a vCPU's thread when the guest has read its input.
    pub(super) fn drained(waker: Waker) -> (Arc<AtomicBool>, Drained) {
        let drained = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&drained);
        let raise = move || {
            flag.store(true, Ordering::Release);
            waker.wake();
        };
        (drained, Box::new(raise))
    }

    /// The process's stdin for `uart`. Without a stdin there is no input.
    pub(super) fn new(
        uart: Arc<dyn Uart>,
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
        let phase = if stdin.is_keyboard() { Phase::Away } else { Phase::Open };
        // All of it now: in the jail it could not grow, for which the C library calls mremap(2).
        let left = VecDeque::with_capacity(if stdin.is_keyboard() { AHEAD } else { CHUNK });
        Some(Self { stdin, uart, token, readable, drained, left, phase })
    }

    /// Moves on as far as stdin and the guest let it.
    pub(super) fn serve(&mut self, event_loop: &mut EventLoop) {
        if self.phase == Phase::Away && terminal::take() {
            self.phase = Phase::Open;
            self.listen(event_loop);
        } else if self.phase == Phase::Away && terminal::is_gone() {
            self.phase = Phase::Ended;
        }
        if self.drained.swap(false, Ordering::AcqRel) {
            self.offer_what_is_left();
            self.listen(event_loop);
        }
        if self.phase == Phase::Open && self.readable.swap(false, Ordering::AcqRel) {
            self.feed(event_loop);
        }
    }

    /// When to [`Input::serve`] again although nothing happens.
    pub(super) fn look_again(&self) -> Option<Duration> {
        (self.phase == Phase::Away).then_some(LOOK_AGAIN)
    }

    /// Whether the key that ends the run came.
    pub(super) fn escaped(&self) -> bool {
        self.phase == Phase::Escaped
    }

    fn offer_what_is_left(&mut self) {
        let (first, _) = self.left.as_slices();
        let taken = self.uart.receive(first);
        self.left.drain(..taken.min(self.left.len()));
    }

    /// Waits for stdin again.
    fn listen(&mut self, event_loop: &mut EventLoop) {
        match self.token {
            _ if self.phase != Phase::Open => {}
            None => self.readable.store(true, Ordering::Release),
            Some(token) => {
                if let Err(error) = event_loop.resume(token) {
                    self.end(&error);
                }
            }
        }
    }

    fn end(&mut self, error: &std::io::Error) {
        crate::warning!("the guest gets no more input: stdin: {error}");
        self.phase = Phase::Ended;
    }

    /// How much to read: what the guest has room for, or what may wait for it. Without room the
    /// guest says when there is some.
    fn room(&self) -> usize {
        match self.stdin.is_keyboard() {
            true => AHEAD.saturating_sub(self.left.len()),
            false if self.left.is_empty() => self.uart.room(),
            false => 0,
        }
    }

    fn feed(&mut self, event_loop: &mut EventLoop) {
        let mut buffer = [0; CHUNK];
        let room = self.room().min(CHUNK);
        let Some(wanted) = buffer.get_mut(..room).filter(|_| room > 0) else { return };
        match self.stdin.read(wanted) {
            Ok(console::Input::Bytes(read)) => {
                self.left.extend(wanted.get(..read).unwrap_or_default());
                self.offer_what_is_left();
                if self.stdin.is_keyboard() {
                    self.listen(event_loop);
                }
            }
            Ok(console::Input::NotYet) => self.listen(event_loop),
            Ok(console::Input::Away) => self.phase = Phase::Away,
            Ok(console::Input::Escape) => self.phase = Phase::Escaped,
            Ok(console::Input::End) => self.phase = Phase::Ended,
            Err(error) => self.end(&error),
        }
    }
}
