//! stdin on its way to the guest in QEMU, in a thread of its own. QEMU's stdin is a pipe, from which
//! it takes what the guest has room for.

use std::collections::VecDeque;
use std::io::{self, PipeWriter, Write};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::io::console::{AHEAD, Input, LOOK_AGAIN, Stdin};
use crate::io::terminal;

/// The most that is read at once, and written: a pipe that is ready takes this much without
/// blocking (POSIX promises 512 bytes).
const CHUNK: usize = 512;

/// Gives the guest what comes on stdin, as fast as it takes it; calls `escape` for the key that ends
/// the run.
pub(super) fn relay_input(stdin: Stdin, input: PipeWriter, escape: impl FnOnce()) {
    let away = stdin.is_keyboard();
    let keys = Relay { stdin, input, ahead: VecDeque::new(), away, ended: false };
    match keys.run() {
        Ok(End::Escape) => escape(),
        Ok(End::Input) => {}
        // QEMU has ended, which others see to.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        Err(error) => crate::warning!("the guest gets no more input: stdin: {error}"),
    }
}

/// Why nothing more is relayed.
enum End {
    /// The key that ends the run.
    Escape,
    /// The end of input.
    Input,
}

struct Relay {
    stdin: Stdin,
    input: PipeWriter,
    /// Read, and not taken by QEMU.
    ahead: VecDeque<u8>,
    /// The terminal is another job's, or not taken yet.
    away: bool,
    /// There is nothing more to read.
    ended: bool,
}

impl Relay {
    fn run(mut self) -> io::Result<End> {
        while !self.ended || !self.ahead.is_empty() {
            if self.away && terminal::take() {
                self.away = false;
            } else if self.away && terminal::is_gone() {
                self.ended = true;
                self.away = false;
            }
            let (readable, writable) = self.wait()?;
            if writable {
                self.give()?;
            }
            if readable && self.read()? {
                return Ok(End::Escape);
            }
        }
        Ok(End::Input)
    }

    /// Waits until stdin has bytes, if there is room for them, or QEMU has, if there are bytes for
    /// it. Returns which.
    fn wait(&self) -> io::Result<(bool, bool)> {
        // A keyboard is read ahead, for the key that ends the run.
        let limit = if self.stdin.is_keyboard() { AHEAD } else { CHUNK };
        let read = !self.ended && !self.away && self.ahead.len() < limit;
        let give = !self.ahead.is_empty();
        let stdin = PollFd::new(&self.stdin, PollFlags::IN);
        let input = PollFd::new(&self.input, PollFlags::OUT);
        let mut both = [stdin, input];
        let wanted = match (read, give) {
            (true, true) => both.as_mut_slice(),
            (true, false) => both.split_at_mut(1).0,
            (false, true) => both.split_at_mut(1).1,
            (false, false) => &mut [],
        };
        let patience = self.away.then_some(LOOK_AGAIN).and_then(|time| time.try_into().ok());
        match poll(wanted, patience.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [readable, writable] = both.map(|fd| !fd.revents().is_empty());
        Ok((readable, writable))
    }

    fn give(&mut self) -> io::Result<()> {
        let (first, _) = self.ahead.as_slices();
        let written = self.input.write(first.get(..first.len().min(CHUNK)).unwrap_or_default())?;
        self.ahead.drain(..written);
        Ok(())
    }

    /// Returns whether the key that ends the run came.
    fn read(&mut self) -> io::Result<bool> {
        let mut buffer = [0; CHUNK];
        match self.stdin.read(&mut buffer)? {
            Input::Bytes(read) => self.ahead.extend(buffer.get(..read).unwrap_or_default()),
            Input::NotYet => {}
            Input::Away => self.away = true,
            Input::Escape => return Ok(true),
            Input::End => self.ended = true,
        }
        Ok(false)
    }
}
