//! Plays the conformance suite's own guests instead of a script.
//!
//! They are a handful of instructions each, of the few forms below (Arm ARM DDI 0487, "A64
//! Instruction Set Encoding"). Taking them from guest RAM at the program counter that the backend
//! left makes the stand-in as unforgiving as a CPU: a backend that forgets to move on sees the same
//! exit for ever. Any other instruction ends the test.

// UNSAFETY: the guest's RAM is memory that the backend has mapped by its host address.
#![allow(unsafe_code)]

use crate::Width;
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
        // Instruction abort, translation fault.
        return Ran::Exit(Step::exception(0x20 << 26 | 1 << 25 | 0x07).at(pc).of_guest());
    };
    let next = pc.wrapping_add(4);
    if word & 0xff80_0000 == 0xd280_0000 {
        // MOVZ Xd, #imm16, LSL #(hw * 16)
        let value = bits(word, 5, 16) << (16 * bits(word, 21, 2));
        set(registers, register(word, 0), value);
    } else if word & 0xff00_0000 == 0x5800_0000 {
        // LDR Xt, label
        let at = pc.wrapping_add_signed(signed(bits(word, 5, 19), 19) * 4);
        let Some(map) = find(maps, at, 8) else { return Ran::Unknown(format!("loads {at:#x}")) };
        set(registers, register(word, 0), read(map, at, 8));
    } else if word & 0x3f00_0000 == 0x3900_0000 && register(word, 5) < 31 {
        // LDR, LDRS, STR and so on of one register, with an unsigned offset.
        return access(registers, maps, word);
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
fn access(registers: &mut Registers, maps: &[Map], word: u64) -> Ran {
    let (scale, opc, rt) = (bits(word, 30, 2), bits(word, 22, 2), register(word, 0));
    let width = match scale {
        0 => Width::W1,
        1 => Width::W2,
        2 => Width::W4,
        _ => Width::W8,
    };
    let bytes = 1 << scale;
    let at = get(registers, register(word, 5)).wrapping_add(bits(word, 10, 12) << scale);
    let map = find(maps, at, bytes);
    let (store, syndrome) = match (opc, map) {
        (0, Some(_)) => (true, esr::store_denied(width, rt)),
        (0, None) => (true, esr::store(width, rt)),
        (1, _) => (false, esr::load(width, rt)),
        (sign, _) => (false, esr::load_signed(width, rt, sign == 2)),
    };
    match map {
        Some(map) if store && map.writable => write(map, at, bytes, get(registers, rt)),
        Some(map) if !store && opc == 1 => set(registers, rt, read(map, at, bytes)),
        Some(_) if !store => return Ran::Unknown(format!("a signed load from RAM at {at:#x}")),
        _ => return Ran::Exit(Step::exception(syndrome).at(at).of_guest()),
    }
    registers.set(Reg::Pc, registers.get(Reg::Pc).wrapping_add(4));
    Ran::On
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
