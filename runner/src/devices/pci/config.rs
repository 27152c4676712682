//! The configuration space of a function with a type 0 header (PCI Local Bus 3.0, 6.1, 6.2, 6.7): what
//! can be read, and which bits of it can be written.
//!
//! What is behind the first 256 bytes, where PCI Express has more capabilities, reads as 0: there are
//! none.

use hv::Width;

use super::merge;

/// Registers by the names of 6.1.
pub const COMMAND: u16 = 0x04;
/// The first BAR.
pub const BAR: u16 = 0x10;

/// The function answers in its BAR.
pub const COMMAND_MEMORY: u32 = 1 << 1;
/// The function may send messages.
pub const COMMAND_BUS_MASTER: u32 = 1 << 2;
/// The function keeps its interrupt pin to itself.
pub const COMMAND_INTX_DISABLE: u32 = 1 << 10;

/// The status register is the command register's upper half: its interrupt is pending.
const STATUS_INTERRUPT: u32 = 1 << 19;
/// It has a list of capabilities.
const STATUS_CAPABILITIES: u32 = 1 << 20;

const IDS: u16 = 0x00;
const CLASS: u16 = 0x08;
const SUBSYSTEM: u16 = 0x2c;
const CAPABILITIES: u16 = 0x34;
const INTERRUPT: u16 = 0x3c;

/// The first capability goes behind the header.
const HEADER: usize = 0x40;
/// 32-bit registers of a configuration space.
const REGISTERS: usize = 64;

/// What a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Base class, subclass, programming interface.
    pub class: [u8; 3],
    /// Revision.
    pub revision: u8,
    /// Subsystem vendor ID and subsystem ID.
    pub subsystem: (u16, u16),
}

/// A configuration space.
#[derive(Clone, Debug)]
pub struct Config {
    registers: [u32; REGISTERS],
    /// The bits that a guest can write.
    writable: [u32; REGISTERS],
    /// Where the next capability goes.
    free: usize,
    /// The register whose bits 8 to 15 have to name the next capability; 0 for the header's pointer.
    last: usize,
}

fn pair(low: u16, high: u16) -> u32 {
    u32::from(high) << 16 | u32::from(low)
}

impl Config {
    /// The header alone.
    pub fn new(identity: Identity) -> Self {
        let mut config = Self {
            registers: [0; REGISTERS],
            writable: [0; REGISTERS],
            free: HEADER,
            last: usize::from(CAPABILITIES),
        };
        let Identity { vendor, device, class: [base, sub, interface], revision, .. } = identity;
        config.set(IDS, pair(vendor, device), 0);
        config.set(CLASS, u32::from_be_bytes([base, sub, interface, revision]), 0);
        config.set(SUBSYSTEM, pair(identity.subsystem.0, identity.subsystem.1), 0);
        config
    }

    /// A memory BAR of 32 bits at `base`, `len` bytes long, a power of two, and switched on; the
    /// interrupt pin A, on `line`, as firmware would have it.
    #[must_use]
    pub fn with_bar(mut self, base: u32, len: u32, line: u8) -> Self {
        self.set(BAR, base, !len.saturating_sub(1));
        let command = COMMAND_MEMORY | COMMAND_BUS_MASTER | COMMAND_INTX_DISABLE;
        self.set(COMMAND, COMMAND_MEMORY, command);
        // Line, pin: what is written to the first is for the guest's own use.
        self.set(INTERRUPT, u32::from(line) | 1 << 8, 0xff);
        self
    }

    /// Adds a capability (6.7) whose bytes behind its ID and pointer are `body`, and of which those bits
    /// can be written that are set in `writable`. Returns where it is.
    pub fn capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> u16 {
        let at = self.free;
        let here = u8::try_from(at).unwrap_or_default();
        if self.last == usize::from(CAPABILITIES) {
            self.set(CAPABILITIES, here.into(), 0);
            self.or(COMMAND, STATUS_CAPABILITIES);
        } else if let Some(last) = self.registers.get_mut(self.last / 4) {
            *last |= u32::from(here) << 8;
        }
        let bytes = |rest: &[u8]| [&[0, 0], rest].concat();
        let (body, writable) = (bytes(body), bytes(writable));
        let words = body.chunks(4).zip(writable.chunks(4).chain(std::iter::repeat(&[][..])));
        for ((body, mask), register) in words.zip((here..).step_by(4)) {
            self.set(register.into(), word(body), word(mask));
        }
        self.or(here.into(), id.into());
        self.last = at;
        self.free = at.saturating_add(body.len().next_multiple_of(4));
        here.into()
    }

    /// A 32-bit register, `register` a multiple of 4.
    pub fn get(&self, register: u16) -> u32 {
        self.registers.get(usize::from(register) / 4).copied().unwrap_or_default()
    }

    fn set(&mut self, register: u16, value: u32, writable: u32) {
        let index = usize::from(register) / 4;
        let places = self.registers.get_mut(index).zip(self.writable.get_mut(index));
        if let Some((place, mask)) = places {
            (*place, *mask) = (value, writable);
        }
    }

    fn or(&mut self, register: u16, bits: u32) {
        if let Some(place) = self.registers.get_mut(usize::from(register) / 4) {
            *place |= bits;
        }
    }

    /// Says in the status register whether the function's interrupt is pending.
    pub fn set_pending(&mut self, pending: bool) {
        if let Some(status) = self.registers.get_mut(usize::from(COMMAND) / 4) {
            *status = *status & !STATUS_INTERRUPT | if pending { STATUS_INTERRUPT } else { 0 };
        }
    }

    /// Reads what lies within one register.
    pub fn read(&self, register: u16, width: Width) -> u32 {
        let lane = u32::from(register % 4);
        let value = self.get(register).checked_shr(lane.saturating_mul(8)).unwrap_or_default();
        value & u32::try_from(width.mask()).unwrap_or(u32::MAX)
    }

    /// Writes what lies within one register and can be written.
    pub fn write(&mut self, register: u16, width: Width, value: u32) {
        let index = usize::from(register) / 4;
        let places = self.registers.get_mut(index).zip(self.writable.get(index));
        if let Some((place, writable)) = places {
            let new = merge(*place, u32::from(register % 4), width, value);
            *place = *place & !writable | new & writable;
        }
    }

    /// Where the BAR answers, if it is switched on.
    pub fn bar(&self) -> Option<u64> {
        let on = self.get(COMMAND) & COMMAND_MEMORY != 0;
        on.then(|| self.get(BAR).into())
    }
}

fn word(bytes: &[u8]) -> u32 {
    let mut word = [0; 4];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    u32::from_le_bytes(word)
}
