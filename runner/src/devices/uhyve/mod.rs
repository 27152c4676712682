//! The hypercalls of uhyve, by which Hermit's unikernels have a console, files and an end (`uhyve-interface` 0.3,
//! `src/v1` and `src/v2`; uhyve 0.10, `src/hypercall`, for what the interface leaves open).
//!
//! Each has a place, a port on x86_64 and an address on arm64, to which the guest writes where a structure
//! is. Those of version 1 take 32 bits on x86_64 and buffers by their virtual address, which the calling
//! vCPU translates, page by page. Those of version 2 have physical addresses alone, and on x86_64 the
//! structure's is in RDI. Where both know a call it is written once (`structures`).
//!
//! A structure is read once, before anything is done, and answered last. Everything is done on the vCPU's
//! thread but what needs files: each mapped folder has a thread of its own, which alone can open what is in
//! it ([`desk`]), and the vCPU waits for it.
//!
//! A guest that breaks the rules, by a pointer out of its memory or a call of the wrong width, ends the run.

pub mod buffer;
pub mod desk;
pub mod files;
mod structures;

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use hv::Width;

use super::hypercall::{Guest, Violation, copied};
use super::power::ExitCode;
use crate::machine::bus::{Caller, Device};
use crate::machine::stop::{Reason, Stop};
use buffer::Buffer;
use files::Files;
use structures::{Call, Version};

pub use structures::{Place, places};

/// Arguments, and variables, at the most, with the program's name (`MAX_ARGC_ENVC`).
pub const MOST_WORDS: usize = 128;

/// What kernels before 0.11 are told by calls, and younger ones in the device tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// The program's name, and its arguments.
    pub arguments: Vec<String>,
    /// Its environment, as `NAME=value`.
    pub environment: Vec<String>,
}

/// What the calls need of the machine.
pub struct Machine {
    /// The guest's memory.
    pub guest: Guest,
    /// Where its output goes.
    pub console: Box<dyn Write + Send>,
    /// What it is told.
    pub words: Words,
    /// Its files.
    pub files: Files,
    /// What its exit statuses mean.
    pub code: ExitCode,
    /// Ends the run.
    pub stop: Stop,
}

/// The hypercalls.
pub struct Hypercalls {
    guest: Guest,
    console: Mutex<Box<dyn Write + Send>>,
    words: Words,
    files: Files,
    code: ExitCode,
    stop: Stop,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("guest", &self.guest).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Hypercalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hypercalls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Hypercalls {
    /// The calls of a machine.
    #[must_use]
    pub fn new(machine: Machine) -> Self {
        let Machine { guest, console, words, files, code, stop } = machine;
        Self { guest, console: Mutex::new(console), words, files, code, stop }
    }

    /// The run is over: whoever waits for a file comes back.
    pub fn wake(&self) {
        self.files.close();
    }

    /// Carries out what the guest wrote to `place`.
    fn carry_out(&self, place: Place, value: u64, caller: &dyn Caller) -> Result<(), Violation> {
        let Place { call, version, .. } = place;
        match call {
            Call::Exit => self.exit(version, value),
            Call::WriteByte => {
                let [byte, ..] = value.to_le_bytes();
                self.say(&[byte]);
                Ok(())
            }
            Call::WriteBuffer => {
                let text = structures::serial(version, &self.guest, value)?;
                self.print(Buffer::physical(place.name(), text.at, text.len), caller)
            }
            Call::CommandSize => self.command_size(value),
            Call::CommandValue => self.command_value(value),
            Call::Write => self.write(version, value, caller),
            _ => self.files.carry_out(place, &self.guest, value, caller),
        }
    }

    /// The status that a guest gives has 32 bits, with a sign.
    fn exit(&self, version: Version, value: u64) -> Result<(), Violation> {
        let raw = match version {
            Version::V1 => structures::exit(&self.guest, value)?,
            Version::V2 => value & Width::W4.mask(),
        };
        if let Some(status) = self.code.status(raw) {
            self.stop.request(Reason::Exit { raw, status });
        }
        Ok(())
    }

    fn say(&self, bytes: &[u8]) {
        let mut console = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        // The guest is not told about our stdout.
        let _ = console.write_all(bytes);
    }

    fn print(&self, buffer: Buffer, caller: &dyn Caller) -> Result<(), Violation> {
        for piece in buffer.pieces() {
            let piece = piece?;
            let (gpa, len) = (piece.physical(caller)?, piece.len);
            for slice in self.guest.readable(piece.call, gpa, len)? {
                copied(&slice, &self.stop, |bytes| self.say(bytes));
            }
            if self.stop.requested() {
                break;
            }
        }
        Ok(())
    }

    /// A write to the console is one to descriptor 1 or 2.
    fn write(&self, version: Version, at: u64, caller: &dyn Caller) -> Result<(), Violation> {
        let transfer = structures::transfer(version, "write", &self.guest, at)?;
        let written = match transfer.fd {
            1 | 2 => {
                self.print(transfer.buffer, caller)?;
                transfer.buffer.len.cast_signed()
            }
            _ => self.files.write(&transfer, &self.guest, caller, &self.stop)?,
        };
        structures::answer_write(version, &self.guest, at, written)
    }

    fn command_size(&self, at: u64) -> Result<(), Violation> {
        let mut answer = Vec::new();
        for words in [&self.words.arguments, &self.words.environment] {
            let count = words.len().min(MOST_WORDS);
            let lens = words.iter().take(MOST_WORDS).map(|word| word.len().saturating_add(1));
            let numbers = std::iter::once(count).chain(lens);
            let numbers = numbers.map(|number| u32::try_from(number).unwrap_or(u32::MAX));
            let numbers: Vec<u32> = numbers.collect();
            answer.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            let left = MOST_WORDS.saturating_sub(count).saturating_mul(4);
            answer.resize(answer.len().saturating_add(left), 0);
        }
        self.guest.answer("command size", at, &answer)
    }

    fn command_value(&self, at: u64) -> Result<(), Violation> {
        const CALL: &str = "command value";
        let tables: [u64; 2] = self.guest.words(CALL, at)?;
        for (table, words) in tables.iter().zip([&self.words.arguments, &self.words.environment]) {
            for (index, word) in (0..).zip(words.iter().take(MOST_WORDS)) {
                let place = 8_u64.saturating_mul(index).saturating_add(*table);
                let [to] = self.guest.words(CALL, place)?;
                let mut text = word.clone().into_bytes();
                text.push(0);
                self.guest.answer(CALL, to, &text)?;
            }
        }
        Ok(())
    }
}

/// Where one hypercall is made.
#[derive(Debug)]
pub struct Door {
    place: Place,
    /// What a write to it is as wide as: on x86_64 a byte goes to the console as one.
    width: Width,
    calls: Arc<Hypercalls>,
}

impl Door {
    /// The door of `place`, to which guests write `width`.
    #[must_use]
    pub fn new(place: Place, width: Width, calls: Arc<Hypercalls>) -> Self {
        Self { place, width, calls }
    }

    /// What a write is that is no call.
    fn stray(&self, behind: u64) -> Violation {
        Violation::Width { bits: self.width.mask().count_ones(), behind, place: "its place" }
    }
}

impl Device for Door {
    fn read(&self, _offset: u64, width: Width) -> u64 {
        width.mask()
    }

    fn write(&self, offset: u64, _width: Width, _value: u64) {
        // Nobody is there who could be asked for the structure.
        self.calls.stop.request(self.stray(offset).into());
    }

    fn write_by(&self, offset: u64, width: Width, value: u64, caller: &dyn Caller) {
        let is_byte = self.place.call == Call::WriteByte;
        let pointer = match self.place.version {
            Version::V1 => None,
            Version::V2 => caller.argument(),
        };
        let done = match offset == 0 && (width == self.width || is_byte) {
            true => self.calls.carry_out(self.place, pointer.unwrap_or(value), caller),
            false => Err(self.stray(offset)),
        };
        if let Err(violation) = done {
            self.calls.stop.request(violation.into());
        }
    }
}

#[cfg(test)]
mod tests;
