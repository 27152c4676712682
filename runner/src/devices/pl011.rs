//! A PL011 UART (Arm DDI 0183, chapter 3; revision r1p1, as QEMU's `virt` has it) whose line is the
//! console: what the guest sends goes to stdout at once, what comes on stdin goes to the guest.
//!
//! Two things are as in QEMU, which guests are written against, and not as in the manual: nobody asks
//! whether the UART is enabled, and received bytes interrupt from the first on, whatever level the
//! guest chose.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hv::Width;
use serde::{Deserialize, Serialize};

use super::Level;
use super::state::Refused;
use super::uart::{Console, Drained, Uart};
use crate::machine::bus::Device;

/// Registers (table 3-1).
mod register {
    pub(super) const DR: u64 = 0x000;
    /// Errors of what was received; written, it clears them.
    pub(super) const RSR_ECR: u64 = 0x004;
    pub(super) const FR: u64 = 0x018;
    pub(super) const ILPR: u64 = 0x020;
    pub(super) const IBRD: u64 = 0x024;
    pub(super) const FBRD: u64 = 0x028;
    pub(super) const LCR_H: u64 = 0x02c;
    pub(super) const CR: u64 = 0x030;
    pub(super) const IFLS: u64 = 0x034;
    pub(super) const IMSC: u64 = 0x038;
    pub(super) const RIS: u64 = 0x03c;
    pub(super) const MIS: u64 = 0x040;
    pub(super) const ICR: u64 = 0x044;
    pub(super) const DMACR: u64 = 0x048;
    /// `PeriphID0` to `PCellID3`.
    pub(super) const IDS: u64 = 0xfe0;
}

const IDS: [u8; 8] = [0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1];

/// FR: the other end is ready (CTS, DSR, DCD).
const FR_READY: u32 = 0b111;
/// FR: nothing received is left, no more is taken, all is sent.
const FR_RXFE: u32 = 1 << 4;
const FR_RXFF: u32 = 1 << 6;
const FR_TXFE: u32 = 1 << 7;
/// LCR_H: the FIFOs are on.
const LCR_FEN: u32 = 1 << 4;
/// CR: what is sent is received.
const CR_LBE: u32 = 1 << 7;
/// CR: transmitter and receiver are on.
const CR_TXE: u32 = 1 << 8;
const CR_RXE: u32 = 1 << 9;
/// Interrupts: something was received, and has been there for a while; something was sent; a byte was
/// lost.
const RX: u32 = 1 << 4;
const TX: u32 = 1 << 5;
const RT: u32 = 1 << 6;
const OE: u32 = 1 << 10;
const INTERRUPTS: u32 = 0x7ff;
/// RSR: a byte was lost.
const RSR_OE: u32 = 1 << 3;
/// IFLS after a reset: half full, half empty.
const HALF: u32 = 0x12;

/// Bytes of the receive FIFO.
const FIFO: usize = 16;

/// A guest that reads the flags so often in a row waits for input.
const WAITING: u32 = 16;

/// What is kept of it. All it has been sent is on the console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pl011State {
    /// What the guest has not read.
    pub input: Vec<u8>,
    /// RSR.
    pub errors: u32,
    /// What was written to registers that only keep it, by their offsets.
    pub kept: BTreeMap<u16, u32>,
    /// LCR_H.
    pub line_control: u32,
    /// CR.
    pub control: u32,
    /// IMSC.
    pub mask: u32,
    /// RIS.
    pub raw: u32,
    /// How often in a row the flags were read.
    pub looks: u32,
    /// The guest has waited for input by reading the flags.
    pub polls: bool,
}

struct Registers {
    input: VecDeque<u8>,
    errors: u32,
    /// ILPR, IBRD, FBRD, IFLS, DMACR: what was written to those that only keep it.
    kept: [(u64, u32); 5],
    line_control: u32,
    control: u32,
    mask: u32,
    raw: u32,
    /// How often in a row the flags were read.
    looks: u32,
    /// The guest has waited for input by reading the flags.
    polls: bool,
    /// The interrupt line.
    high: bool,
}

/// The UART.
pub struct Pl011<W: Write + Send> {
    registers: Mutex<Registers>,
    console: Console<W>,
    line: Level,
    drained: Drained,
}

impl<W: Write + Send> std::fmt::Debug for Pl011<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pl011")
    }
}

impl<W: Write + Send> Pl011<W> {
    /// A UART that sends to `console`.
    pub fn new(line: Level, console: W, drained: Drained) -> Self {
        let registers = Registers {
            input: VecDeque::with_capacity(FIFO),
            errors: 0,
            kept: [
                (register::ILPR, 0),
                (register::IBRD, 0),
                (register::FBRD, 0),
                (register::IFLS, HALF),
                (register::DMACR, 0),
            ],
            line_control: 0,
            control: CR_TXE | CR_RXE,
            mask: 0,
            raw: 0,
            looks: 0,
            polls: false,
            high: false,
        };
        Self { registers: Mutex::new(registers), console: Console::new(console), line, drained }
    }

    /// What it is while no vCPU runs.
    pub fn describe(&self) -> Pl011State {
        let registers = self.lock();
        let offset = |register: u64| u16::try_from(register).unwrap_or_default();
        Pl011State {
            input: registers.input.iter().copied().collect(),
            errors: registers.errors,
            kept: registers.kept.iter().map(|(at, value)| (offset(*at), *value)).collect(),
            line_control: registers.line_control,
            control: registers.control,
            mask: registers.mask,
            raw: registers.raw,
            looks: registers.looks,
            polls: registers.polls,
        }
    }

    /// Makes it what another one was; its line follows.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn restore(&self, saved: &Pl011State) -> Result<(), Refused> {
        let why = format!("{} bytes, and there is room for {FIFO}", saved.input.len());
        Refused::unless(saved.input.len() <= FIFO, "input", &why)?;
        for (field, value, bits) in [
            ("errors", saved.errors, RSR_OE),
            ("mask", saved.mask, INTERRUPTS),
            ("raw", saved.raw, INTERRUPTS),
        ] {
            let why = format!("{value:#x} has bits other than {bits:#x}");
            Refused::unless(value & !bits == 0, field, &why)?;
        }
        let own = self.describe().kept;
        let why = format!("registers {:?}, and it has {:?}", saved.kept.keys(), own.keys());
        Refused::unless(own.keys().eq(saved.kept.keys()), "kept", &why)?;
        self.access(|registers| {
            registers.input.clear();
            registers.input.extend(&saved.input);
            for (at, value) in &mut registers.kept {
                let saved = u16::try_from(*at).ok().and_then(|at| saved.kept.get(&at));
                *value = saved.copied().unwrap_or(*value);
            }
            (registers.errors, registers.line_control) = (saved.errors, saved.line_control);
            (registers.control, registers.mask) = (saved.control, saved.mask);
            (registers.raw, registers.looks) = (saved.raw, saved.looks);
            registers.polls = saved.polls;
        });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Registers> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `what` to the registers, and tells of what changes by it: the line, and that there is time
    /// for input.
    fn access<T>(&self, what: impl FnOnce(&mut Registers) -> T) -> T {
        let mut registers = self.lock();
        let waited = registers.waits();
        let result = what(&mut registers);
        let high = registers.raw & registers.mask != 0;
        // With the lock held, or a change by another thread could come first.
        if std::mem::replace(&mut registers.high, high) != high {
            (self.line)(high);
        }
        if registers.waits() && !waited {
            (self.drained)();
        }
        result
    }
}

impl Registers {
    /// Whether the guest takes input: it is interrupted by it, or has looked for it. Before, Linux
    /// throws away what it finds.
    fn takes_input(&self) -> bool {
        self.control & (CR_RXE | CR_LBE) == CR_RXE && (self.mask & (RX | RT) != 0 || self.polls)
    }

    /// Whether there is time for input.
    fn waits(&self) -> bool {
        self.takes_input() && self.input.is_empty()
    }

    /// Bytes that may be received until some are read.
    fn depth(&self) -> usize {
        if self.line_control & LCR_FEN == 0 { 1 } else { FIFO }
    }

    fn room(&self) -> usize {
        self.depth().saturating_sub(self.input.len())
    }

    /// Takes as many of `bytes` as there is room for.
    fn receive(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.iter().take(self.room());
        let before = self.input.len();
        self.input.extend(taken);
        let taken = self.input.len().saturating_sub(before);
        if taken > 0 {
            self.raw |= RX | RT;
        }
        taken
    }

    fn read(&mut self, at: u64) -> u32 {
        self.looks = if at == register::FR { self.looks.saturating_add(1) } else { 0 };
        self.polls |= self.looks >= WAITING;
        match at {
            register::DR => self.next(),
            register::RSR_ECR => self.errors,
            register::FR => self.flags(),
            register::LCR_H => self.line_control,
            register::CR => self.control,
            register::IMSC => self.mask,
            register::RIS => self.raw,
            register::MIS => self.raw & self.mask,
            register::IDS.. => {
                let index = usize::try_from((at & 0x1f) >> 2).unwrap_or_default();
                IDS.get(index).copied().unwrap_or_default().into()
            }
            _ => self.kept.iter().find(|(which, _)| *which == at).map_or(0, |(_, value)| *value),
        }
    }

    /// The next byte that was received.
    fn next(&mut self) -> u32 {
        let byte = self.input.pop_front().unwrap_or_default();
        if self.input.is_empty() {
            self.raw &= !(RX | RT);
        }
        byte.into()
    }

    fn flags(&self) -> u32 {
        let empty = if self.input.is_empty() { FR_RXFE } else { 0 };
        let full = if self.room() == 0 { FR_RXFF } else { 0 };
        FR_READY | FR_TXFE | empty | full
    }

    /// Returns a byte that the guest sends.
    fn write(&mut self, at: u64, value: u32) -> Option<u8> {
        self.looks = 0;
        match at {
            register::DR => {
                let [byte, ..] = value.to_le_bytes();
                return self.send(byte);
            }
            register::RSR_ECR => self.errors = 0,
            register::LCR_H => self.line_control = value,
            register::CR => self.control = value,
            register::IMSC => {
                self.mask = value & INTERRUPTS;
                // From now on the mask says whether it wants input.
                self.polls &= self.mask & (RX | RT) == 0;
            }
            register::ICR => self.raw &= !value,
            _ => {
                if let Some((_, kept)) = self.kept.iter_mut().find(|(which, _)| *which == at) {
                    *kept = value;
                }
            }
        }
        None
    }

    /// A byte is gone at once.
    fn send(&mut self, byte: u8) -> Option<u8> {
        self.raw |= TX;
        if self.control & CR_LBE == 0 {
            return Some(byte);
        }
        if self.receive(&[byte]) == 0 {
            self.raw |= OE;
            self.errors |= RSR_OE;
        }
        None
    }
}

impl<W: Write + Send> Uart for Pl011<W> {
    fn room(&self) -> usize {
        let registers = self.lock();
        if registers.takes_input() { registers.room() } else { 0 }
    }

    fn receive(&self, input: &[u8]) -> usize {
        self.access(|registers| if registers.takes_input() { registers.receive(input) } else { 0 })
    }
}

impl<W: Write + Send> Device for Pl011<W> {
    fn read(&self, offset: u64, _width: Width) -> u64 {
        match offset % 4 {
            0 => self.access(|registers| registers.read(offset)).into(),
            _ => 0,
        }
    }

    fn write(&self, offset: u64, _width: Width, value: u64) {
        let [b0, b1, b2, b3, ..] = value.to_le_bytes();
        let value = u32::from_le_bytes([b0, b1, b2, b3]);
        if offset.is_multiple_of(4)
            && let Some(byte) = self.access(|registers| registers.write(offset, value))
        {
            self.console.send(&[byte]);
        }
    }
}

#[cfg(test)]
#[path = "pl011_tests.rs"]
mod tests;
