//! What the ROM has behind its code, read as the code does.

use super::*;
use crate::emulate::testing::{plan, plan_of};
use crate::machine::slot::VirtioBus;
use guests::aarch64::kernels::HELLO;
use hv::GuestRam;

const RAM: u64 = 0x4000_0000;

fn memory() -> GuestMemory {
    let memory = hv::mem::memory([(RAM, GuestRam::new(16 << 20).unwrap())]).unwrap();
    memory.write_slice(b"the device tree is here", GuestAddress(RAM)).unwrap();
    memory
}

fn state() -> aarch64::State {
    let mut state = aarch64::State::el1(0x4040_0000, RAM);
    for (register, value) in (100u64..).zip(&mut state.x) {
        *value = register << 32 | register;
    }
    aarch64::State { sp_el1: 0x4800_0000, ..state }
}

/// The words behind the code.
fn words(rom: &[u8]) -> Vec<u64> {
    let rest = &rom[ENTER.len()..];
    rest.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn the_device_tree_is_written_by_the_rom_and_everything_else_loaded() {
    let mut ranges = vec![KERNELS..KERNELS + 4096, RAM..RAM + 23];
    let rom = rom(&state(), &plan_of(HELLO, VirtioBus::Mmio, &[false]), &memory(), &mut ranges);
    let rom = rom.unwrap();
    assert_eq!(ranges, [KERNELS..KERNELS + 4096]);
    assert_eq!(rom.len() % 8, 0);
    let words = words(&rom);
    // No device on the PCI bus; two blocks of 16 bytes, and no more.
    assert_eq!(words[..3], [0, RAM, 2]);
    let text: Vec<u8> = words[3..7].iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(text, b"the device tree is here\0\0\0\0\0\0\0\0\0");
    assert_eq!(words[7..12], [0, 0, 0x4800_0000, 0x4040_0000, 0x3c5]);
    assert_eq!(words[12..], state().x);
}

#[test]
fn every_device_on_the_pci_bus_has_its_bar_at_home_and_is_switched_on() {
    let plan = plan_of(HELLO, VirtioBus::Pci, &[false, true]);
    let rom = rom(&state(), &plan, &memory(), &mut Vec::new()).unwrap();
    let words = words(&rom);
    let expected = [
        6,
        // Device 1: BAR 4 and what is above it, the command register.
        0x3f00_8020,
        0x1000_0000,
        0x3f00_8024,
        0,
        0x3f00_8004,
        6,
        // Device 2.
        0x3f01_0020,
        0x1000_8000,
        0x3f01_0024,
        0,
        0x3f01_0004,
        6,
        0,
        0,
    ];
    assert_eq!(words[..expected.len()], expected);
}

#[test]
fn a_range_outside_of_memory_is_an_error() {
    assert!(rom(&state(), &plan(&[]), &memory(), &mut vec![0..16]).is_err());
}

#[test]
fn the_code_is_where_the_processor_begins_and_a_whole_number_of_blocks() {
    // `adr x30, words`, of the first byte behind.
    let first = u32::from_le_bytes(ENTER[..4].try_into().unwrap());
    let (low, high) = (first >> 29 & 3, first >> 5 & 0x7_ffff);
    assert_eq!(first & 0x9f00_001f, 0x1000_001e);
    assert_eq!((u32::try_from(ENTER.len()).unwrap(), ENTER.len() % 16), (high << 2 | low, 0));
}
