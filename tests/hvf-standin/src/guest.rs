//! Plays the conformance suite's own guests instead of a script.
//!
//! They are a handful of instructions each, of the few forms below (Arm ARM DDI 0487, "A64
//! Instruction Set Encoding"). Taking them from guest RAM at the program counter that the backend
//! left makes the stand-in as unforgiving as a CPU: a backend that forgets to move on sees the same
//! exit for ever. Any other instruction ends the test.

// UNSAFETY: the guest's RAM is memory that the backend has mapped by its host address.
#![allow(unsafe_code)]

use crate::decode::{Access, From, Kind};
use crate::esr;
use crate::script::{Reg, Step};
use crate::state::{Map, Registers};

/// What comes of running one instruction.
pub(crate) enum Ran {
    /// The next one can be run.
    On,
    /// It jumps to itself for ever.
    Idle,
    /// The guest exits.
    Exit(Step),
    /// It is none that is known here.
    Unknown(String),
}

/// Runs the instruction at the program counter.
pub(crate) fn run(registers: &mut Registers, maps: &[Map]) -> Ran {
    let pc = registers.get(Reg::Pc);
    let Some(word) = find(maps, pc, 4).map(|map| read(map, pc, 4)) else {
        return Ran::Exit(Step::exception(esr::instruction_abort()).at(pc).of_guest());
    };
    let next = pc.wrapping_add(4);
    if word & 0xff80_0000 == 0xd280_0000 {
        // MOVZ Xd, #imm16, LSL #(hw * 16)
        let value = bits(word, 5, 16) << (16 * bits(word, 21, 2));
        set(registers, register(word, 0), value);
    } else if let Some(access) = u32::try_from(word).ok().and_then(Access::of) {
        return self::access(registers, maps, access);
    } else if word & 0xfc00_0000 == 0x1400_0000 {
        // B label
        let offset = signed(bits(word, 0, 26), 26) * 4;
        if offset == 0 {
            return Ran::Idle;
        }
        registers.set(Reg::Pc, pc.wrapping_add_signed(offset));
        return Ran::On;
    } else {
        return Ran::Unknown(format!("instruction {word:#010x} at {pc:#x}"));
    }
    registers.set(Reg::Pc, next);
    Ran::On
}

/// A load or store: in RAM, or the exit for it.
fn access(registers: &mut Registers, maps: &[Map], access: Access) -> Ran {
    if let From::Base(31, _) | From::Index { base: 31, .. } = access.from {
        return Ran::Unknown("stack pointer".into());
    }
    let pc = registers.get(Reg::Pc);
    let at = access.address(pc, |register| get(registers, register));
    let map = find(maps, at, access.bytes().into());
    match (map, access.kind) {
        (None, _) => return Ran::Exit(Step::exception(access.syndrome()).at(at).of_guest()),
        (Some(map), Kind::Store) if map.writable => {
            write(map, at, access.bytes().into(), get(registers, access.rt));
        }
        (Some(_), Kind::Store) => {
            return Ran::Exit(Step::exception(esr::denied(access.syndrome())).at(at).of_guest());
        }
        (Some(map), _) => {
            let value = read(map, at, access.bytes().into());
            set(registers, access.rt, access.loaded(value));
        }
    }
    registers.set(Reg::Pc, pc.wrapping_add(4));
    Ran::On
}

/// What `bytes` bytes at `at` hold, where they are RAM.
pub(crate) fn peek(maps: &[Map], at: u64, bytes: u64) -> Option<u64> {
    find(maps, at, bytes).map(|map| read(map, at, bytes))
}

/// The RAM that holds all of `bytes` bytes at `at`.
fn find(maps: &[Map], at: u64, bytes: u64) -> Option<&Map> {
    let end = at.checked_add(bytes)?;
    maps.iter().find(|map| map.ipa <= at && end <= map.end)
}

/// The host address of the byte at `at`.
fn host(map: &Map, at: u64) -> *mut u8 {
    let offset = usize::try_from(at - map.ipa).unwrap_or(usize::MAX);
    std::ptr::with_exposed_provenance_mut(map.host + offset)
}

fn read(map: &Map, at: u64, bytes: u64) -> u64 {
    let byte = |index| {
        // SAFETY: `find` says that the map holds the bytes, and what is mapped is memory of the
        // backend's that it reads and writes with volatile operations only.
        let byte = unsafe { host(map, at + index).read_volatile() };
        u64::from(byte) << (8 * index)
    };
    (0..bytes).map(byte).sum()
}

fn write(map: &Map, at: u64, bytes: u64, value: u64) {
    for (index, byte) in (0..bytes).zip(value.to_le_bytes()) {
        // SAFETY: as for `read`.
        unsafe { host(map, at + index).write_volatile(byte) };
    }
}

fn get(registers: &Registers, register: u8) -> u64 {
    if register == 31 { 0 } else { registers.get(Reg::X(register)) }
}

fn set(registers: &mut Registers, register: u8, value: u64) {
    if register < 31 {
        registers.set(Reg::X(register), value);
    }
}

/// The register number in bits `at..at + 5`.
fn register(word: u64, at: u32) -> u8 {
    bits(word, at, 5).to_le_bytes()[0]
}

fn bits(word: u64, at: u32, count: u32) -> u64 {
    (word >> at) & ((1 << count) - 1)
}

fn signed(value: u64, bits: u32) -> i64 {
    (value << (64 - bits)).cast_signed() >> (64 - bits)
}
