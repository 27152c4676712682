//! The hypercalls of Solo5's hvt (`include/hvt_abi.h`): a guest writes the address of a structure to the
//! call's place, and goes on when the call is done. Written once for both architectures; where the places
//! are is the board's ([`crate::machine::map::hvt`]).
//!
//! Everything is done on the vCPU's thread, block I/O too; frames alone are handed to the I/O loop
//! ([`desk`]). A guest that breaks the rules, by a pointer out of its memory, a call that does not exist, or
//! an access to where nothing is, ends the run, as its tender would end it: there is no way to tell it.
//!
//! A structure is read once, before anything is done, and answered last, so that a buffer may lie over it.

mod block;
pub mod desk;
mod guard;

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hv::Width;

pub use block::Block;
use desk::Desk;
pub use guard::Guard;

use super::hypercall::{Guest, Violation, copied};
use super::power::ExitCode;
use crate::machine::bus::Device;
use crate::machine::stop::{Reason, Stop};

/// What a call comes to, for the guest (`solo5.h`, `solo5_result_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Ok,
    /// Not now.
    Again,
    /// The guest asked for what there is not.
    Invalid,
    /// The host could not.
    Failed,
}

impl Answer {
    fn number(self) -> u32 {
        match self {
            Answer::Ok => 0,
            Answer::Again => 1,
            Answer::Invalid => 2,
            Answer::Failed => 3,
        }
    }
}

/// What a guest may leave for whoever looks at it afterwards has so many bytes (`HVT_HALT_COOKIE_MAX`).
const COOKIE: u64 = 512;

/// The hypercalls.
pub struct Hypercalls {
    /// A call's place is its number times two to this.
    shift: u32,
    guest: Guest,
    console: Mutex<Box<dyn Write + Send>>,
    clock: fn() -> Duration,
    /// By handle.
    blocks: Vec<(u64, Block)>,
    desk: Arc<Desk>,
    code: ExitCode,
    stop: Stop,
}

/// What the calls need of the machine.
pub struct Machine {
    /// The guest's memory.
    pub guest: Guest,
    /// Where its output goes.
    pub console: Box<dyn Write + Send>,
    /// The time since 1970.
    pub clock: fn() -> Duration,
    /// Its block storage, by handle.
    pub blocks: Vec<(u64, Block)>,
    /// Where its networks are.
    pub desk: Arc<Desk>,
    /// What its exit statuses mean.
    pub code: ExitCode,
    /// Ends the run.
    pub stop: Stop,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("guest", &self.guest).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Hypercalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hypercalls").field("desk", &self.desk).finish_non_exhaustive()
    }
}

impl Hypercalls {
    /// The calls of a machine, whose places are two to `shift` apart.
    pub fn new(shift: u32, machine: Machine) -> Self {
        let Machine { guest, console, clock, blocks, desk, code, stop } = machine;
        let console = Mutex::new(console);
        Self { shift, guest, console, clock, blocks, desk, code, stop }
    }

    /// The guest is gone: brings what it wrote to its disks, to each of them whatever became of the others.
    ///
    /// # Errors
    /// Names the disks that have not got it all.
    pub fn finish(&self) -> Result<(), String> {
        super::together(self.blocks.iter().map(|(_, block)| block.finish()))
    }

    /// The run is over: whoever waits in a call comes back.
    pub fn wake(&self) {
        self.desk.close();
    }

    fn call(&self, number: u64, at: u64) -> Result<(), Violation> {
        match number {
            1 => self.wall_time(at),
            2 => self.puts(at),
            3 => self.poll(at),
            4 => self.block(at, block::Direction::Write),
            5 => self.block(at, block::Direction::Read),
            6 => self.net_write(at),
            7 => self.net_read(at),
            8 => self.halt(at),
            _ => Err(Violation::Call(number)),
        }
    }

    fn wall_time(&self, at: u64) -> Result<(), Violation> {
        let now = u64::try_from((self.clock)().as_nanos()).unwrap_or(u64::MAX);
        self.guest.answer("walltime", at, &now.to_le_bytes())
    }

    fn puts(&self, at: u64) -> Result<(), Violation> {
        let [data, len] = self.guest.words("puts", at)?;
        let mut console = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        for slice in self.guest.readable("puts", data, len)? {
            // The guest is not told about our stdout.
            copied(&slice, &self.stop, |bytes| drop(console.write_all(bytes)));
            if self.stop.requested() {
                break;
            }
        }
        Ok(())
    }

    fn poll(&self, at: u64) -> Result<(), Violation> {
        let [nanoseconds] = self.guest.words("poll", at)?;
        let ready = self.desk.wait(Duration::from_nanos(nanoseconds));
        let mut answer = [0; 16];
        let (set, rest) = answer.split_at_mut(8);
        set.copy_from_slice(&ready.to_le_bytes());
        if let Some(count) = rest.get_mut(..4) {
            count.copy_from_slice(&ready.count_ones().to_le_bytes());
        }
        // Behind `ret` the structure has 4 bytes of nothing.
        let at = at.saturating_add(8);
        self.guest.answer("poll", at, answer.get(..12).unwrap_or_default())
    }

    fn block(&self, at: u64, direction: block::Direction) -> Result<(), Violation> {
        let call = direction.call();
        let [handle, offset, data, len] = self.guest.words(call, at)?;
        let block = self.blocks.iter().find(|(known, _)| *known == handle);
        let answer = match block {
            Some((_, block)) => block.transfer(
                &self.guest,
                &self.stop,
                direction,
                block::Request { offset, data, len },
            )?,
            None => Answer::Invalid,
        };
        self.guest.answer(call, at.saturating_add(32), &answer.number().to_le_bytes())
    }

    fn net_write(&self, at: u64) -> Result<(), Violation> {
        let [handle, data, len] = self.guest.words("net_write", at)?;
        let slices = self.guest.readable("net_write", data, len)?;
        let answer = self.desk.send(handle, &slices, &self.stop);
        self.guest.answer("net_write", at.saturating_add(24), &answer.number().to_le_bytes())
    }

    fn net_read(&self, at: u64) -> Result<(), Violation> {
        let [handle, data, len] = self.guest.words("net_read", at)?;
        let slices = self.guest.writable("net_read", data, len)?;
        let (answer, read) = self.desk.receive(handle, &slices);
        if answer == Answer::Ok {
            self.guest.answer("net_read", at.saturating_add(16), &(read as u64).to_le_bytes())?;
        }
        self.guest.answer("net_read", at.saturating_add(24), &answer.number().to_le_bytes())
    }

    fn halt(&self, at: u64) -> Result<(), Violation> {
        let [cookie, status] = self.guest.words("halt", at)?;
        if cookie != 0 {
            self.guest.readable("halt", cookie, COOKIE)?;
        }
        let raw = status & Width::W4.mask();
        if let Some(status) = self.code.status(raw) {
            self.stop.request(Reason::Exit { raw, status });
        }
        Ok(())
    }
}

impl Device for Hypercalls {
    fn read(&self, offset: u64, _width: Width) -> u64 {
        self.stop.request(Violation::Read(offset).into());
        0
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        let number = offset.checked_shr(self.shift).unwrap_or_default();
        let exact = number.checked_shl(self.shift) == Some(offset) && width == Width::W4;
        let done = match exact {
            true => self.call(number, value),
            false => {
                Err(Violation::Width { bits: 32, behind: offset, place: "the first one's place" })
            }
        };
        if let Err(violation) = done {
            self.stop.request(violation.into());
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
