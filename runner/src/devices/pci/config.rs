//! The configuration space of a function with a type 0 header (PCI Local Bus 3.0, 6.1, 6.2, 6.7): what
//! can be read, and which bits of it can be written.
//!
//! What is behind the first 256 bytes, where PCI Express has more capabilities, reads as 0: there are
//! none.

use std::collections::BTreeMap;

use hv::Width;

use super::merge;
use crate::devices::state::Refused;

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

    /// What a guest can have written, by registers.
    pub fn written(&self) -> BTreeMap<u16, u32> {
        let registers = (0u16..).step_by(4).zip(self.registers.iter().zip(&self.writable));
        let written = registers.filter(|(_, (_, writable))| **writable != 0);
        written.map(|(register, (value, writable))| (register, value & writable)).collect()
    }

    /// Has it written what [`Config::written`] said.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn restore(&mut self, written: &BTreeMap<u16, u32>) -> Result<(), Refused> {
        let own = self.written();
        let why = format!("registers {:?}, and it has {:?}", written.keys(), own.keys());
        Refused::unless(written.keys().eq(own.keys()), "config", &why)?;
        for (register, value) in written {
            let index = usize::from(*register) / 4;
            let writable = self.writable.get(index).copied().unwrap_or_default();
            let why =
                format!("{value:#x} has bits that nobody can write: {:#x}", value & !writable);
            Refused::unless(value & !writable == 0, &format!("config.{register}"), &why)?;
            self.write(*register, Width::W4, *value);
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use Width::{W1, W2, W4};

    const LEN: u32 = 0x8000;
    const BASE: u32 = 0xc001_0000;

    fn config() -> Config {
        let identity = Identity {
            vendor: 0x1af4,
            device: 0x1042,
            class: [0x01, 0x80, 0x02],
            revision: 3,
            subsystem: (0x5678, 0x9abc),
        };
        Config::new(identity).with_bar(BASE, LEN, 0x2b)
    }

    #[test]
    fn the_header_says_what_the_function_is_at_every_width() {
        let config = config();
        for (register, width, value) in [
            (0x00, W4, 0x1042_1af4),
            (0x00, W2, 0x1af4),
            (0x02, W2, 0x1042),
            (0x01, W1, 0x1a),
            // Revision, interface, subclass, base class.
            (0x08, W4, 0x0180_0203),
            (0x08, W1, 3),
            (0x09, W1, 2),
            (0x0a, W2, 0x0180),
            (0x0b, W1, 0x01),
            // Type 0, one function.
            (0x0e, W1, 0),
            (0x2c, W2, 0x5678),
            (0x2e, W2, 0x9abc),
            (0x3c, W1, 0x2b),
            (0x3d, W1, 1),
            (0x3c, W2, 0x012b),
        ] {
            assert_eq!(config.read(register, width), value, "{register:#x} {width:?}");
        }
    }

    #[test]
    fn of_all_bits_only_those_of_command_bar_and_line_can_be_written() {
        let mut config = config();
        let before = config.clone();
        for register in (0..0x1000).step_by(4) {
            config.write(register, W4, u32::MAX);
        }
        for register in (0..0x1000).step_by(4) {
            let (old, new) = (before.get(register), config.get(register));
            let changed = match register {
                // Memory, bus master, no pin.
                COMMAND => 0x0000_0406,
                BAR => !(LEN - 1),
                INTERRUPT => 0xff,
                _ => 0,
            };
            assert_eq!(new, old | changed, "{register:#x}");
        }
        for register in (0..0x1000).step_by(4) {
            config.write(register, W4, 0);
        }
        assert_eq!((config.get(COMMAND), config.get(BAR), config.get(INTERRUPT)), (0, 0, 0x100));
        assert_eq!(config.get(IDS), before.get(IDS));
    }

    #[test]
    fn a_byte_or_a_half_changes_itself_alone() {
        let mut config = config();
        config.write(BAR + 3, W1, 0xfe);
        assert_eq!(config.get(BAR), 0xfe01_0000);
        config.write(BAR + 2, W2, 0x1234);
        assert_eq!(config.get(BAR), 0x1234_0000);
        config.write(BAR + 1, W1, 0xff);
        assert_eq!(config.get(BAR), 0x1234_8000, "bits below the length are 0");
        config.write(COMMAND + 1, W1, 0x04);
        assert_eq!(config.read(COMMAND, W2), 0x0402);
        // Behind the command register is the status register, none of whose bits is the guest's.
        config.write(COMMAND + 2, W2, 0xffff);
        assert_eq!(config.read(COMMAND + 2, W2), 0);
    }

    #[test]
    fn a_bar_is_sized_by_ones_moved_by_an_address_and_gone_with_the_memory_bit() {
        let mut config = config();
        assert_eq!(config.bar(), Some(BASE.into()));
        config.write(BAR, W4, u32::MAX);
        let sized = config.get(BAR);
        // Bits 0 to 3: of memory, 32 bits wide, without side effects it is not.
        assert_eq!((sized & 0xf, !(sized & !0xf) + 1), (0, LEN));
        config.write(BAR, W4, 0xd000_7fff);
        assert_eq!(config.bar(), Some(0xd000_0000));
        config.write(COMMAND, W2, COMMAND_BUS_MASTER);
        assert_eq!(config.bar(), None);
        config.write(COMMAND, W2, COMMAND_MEMORY);
        assert_eq!(config.bar(), Some(0xd000_0000));
        for other in [0x14, 0x18, 0x1c, 0x20, 0x24, 0x30] {
            config.write(other, W4, u32::MAX);
            assert_eq!(config.get(other), 0, "there is no other BAR, and no ROM: {other:#x}");
        }
    }

    #[test]
    fn capabilities_are_a_list_and_only_what_is_said_of_them_can_be_written() {
        let mut config = config();
        assert_eq!(
            (config.read(CAPABILITIES, W1), config.get(COMMAND) & STATUS_CAPABILITIES),
            (0, 0)
        );
        let first = config.capability(0x11, &[2, 0, 7, 8, 9], &[0, 0xc0]);
        let second = config.capability(0x09, &[0x10, 1], &[]);
        assert_eq!((first, second), (0x40, 0x48));
        assert_eq!(config.read(CAPABILITIES, W1), 0x40);
        assert_eq!(config.read(COMMAND + 2, W2), 1 << 4, "the status register says so");
        assert_eq!((config.get(first), config.get(first + 4)), (0x0002_4811, 0x0009_0807));
        assert_eq!(config.get(second), 0x0110_0009);
        for register in (0x40..0x50).step_by(4) {
            config.write(register, W4, u32::MAX);
        }
        assert_eq!((config.get(first), config.get(first + 4)), (0xc002_4811, 0x0009_0807));
        assert_eq!(config.get(second), 0x0110_0009);
    }

    #[test]
    fn the_status_register_says_whether_an_interrupt_is_pending() {
        let mut config = config();
        for pending in [true, false] {
            config.set_pending(pending);
            assert_eq!(config.read(COMMAND + 2, W2), u32::from(pending) << 3);
            assert_eq!(config.read(COMMAND, W2), COMMAND_MEMORY);
        }
    }
}
