//! Multiboot's entry (Multiboot Specification 0.6.96, §3.2 and §3.3): the processor's state, and what the
//! kernel is told.

use hv::State;
use hv::arch::x86_64;

use super::Gpas;
use super::bytes::Bytes;
use super::layout::multiboot::{INFORMATION, LOADER_NAME, MEMORY_MAP, MODULES};
use super::layout::{GDT, LOW_END, STACK_TOP, usable_ram};

/// In EAX: a boot loader of this specification.
const LOADED: u64 = 0x2bad_b002;
/// What is told (§3.3): memory sizes, a command line, modules, a memory map, the loader's name.
const TOLD: u32 = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9;
/// Usable RAM in the memory map.
const RAM: u32 = 1;
/// Bytes of a memory map's entry, and what its field for the size says: all behind that field.
const ENTRY: u32 = 24;
const ENTRY_SIZE: u32 = 20;
/// The boot loader's name.
const NAME: &[u8] = b"runner\0";
/// Fields of 32 bits behind the loader's name, which tell of nothing: APM, VBE, a frame buffer.
const WORDS_BEHIND_NAME: usize = 12;

/// The boot data and where it goes: information, loader's name, module list, memory map. A ram disk is the one
/// module, with an empty string.
pub(super) fn info(ram: &[Gpas], command_line: u64, initrd: Option<&Gpas>) -> [(u64, Vec<u8>); 4] {
    let low = |address: u64| u32::try_from(address).unwrap_or(u32::MAX);
    let map: Vec<Gpas> = usable_ram(ram).collect();
    // KiB of conventional memory, and from 1 MiB to the first hole.
    let upper = map.get(1).map_or(0, |upper| (upper.end - upper.start) >> 10);
    let entries = low(map.len() as u64);
    let info = Bytes::default()
        .u32(TOLD)
        .u32(low(LOW_END >> 10))
        .u32(low(upper))
        .u32(0) // boot device: none
        .u32(low(command_line))
        .u32(u32::from(initrd.is_some()))
        .u32(low(MODULES))
        .u64(0) // symbols: none
        .u64(0)
        .u32(entries.saturating_mul(ENTRY))
        .u32(low(MEMORY_MAP))
        .u64(0) // drives: none
        .u32(0) // BIOS's configuration table
        .u32(low(LOADER_NAME));
    let info = (0..WORDS_BEHIND_NAME).fold(info, |info, _| info.u32(0));
    let module = initrd.map_or_else(Bytes::default, |range| {
        let text = low(LOADER_NAME + NAME.len() as u64 - 1);
        Bytes::default().u32(low(range.start)).u32(low(range.end)).u32(text).u32(0)
    });
    let table = map.iter().fold(Bytes::default(), |table, range| {
        table.u32(ENTRY_SIZE).u64(range.start).u64(range.end - range.start).u32(RAM)
    });
    [
        (INFORMATION, info.0),
        (LOADER_NAME, NAME.to_vec()),
        (MODULES, module.0),
        (MEMORY_MAP, table.0),
    ]
}

/// The boot vCPU: 32-bit protected mode without paging, EBX at the information, a stack that can be used.
pub(super) fn state(entry: u64) -> State {
    let mut state = x86_64::State::protected_mode(entry, GDT);
    state.regs.rax = LOADED;
    state.regs.rbx = INFORMATION;
    state.regs.rsp = STACK_TOP;
    State::X86_64(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn words(bytes: &[u8]) -> Vec<u32> {
        bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
    }

    #[test]
    fn the_information_has_its_fields_where_the_specification_has_them() {
        let ram = [0..3 * GIB, 4 * GIB..5 * GIB];
        let initrd = 0x200_0000..0x200_0801;
        let [(at, info), (name_at, name), (modules_at, module), (map_at, map)] =
            super::info(&ram, 0x2_0000, Some(&initrd));
        assert_eq!((at, info.len(), name.as_slice()), (INFORMATION, 116, NAME));
        assert!(at + 116 <= name_at && name_at + 7 <= modules_at && modules_at + 16 <= map_at);
        let info = words(&info);
        let low = |gpa: u64| u32::try_from(gpa).unwrap();
        let upper = low((3 * GIB - 0x10_0000) >> 10);
        assert_eq!(info[..5], [TOLD, 639, upper, 0, 0x2_0000]);
        assert_eq!(info[5..7], [1, low(modules_at)]);
        assert_eq!(info[11..13], [3 * 24, low(map_at)]);
        assert_eq!(info[16], low(name_at));
        // Its string is the name's last byte: empty.
        assert_eq!(words(&module), [0x200_0000, 0x200_0801, low(name_at) + 6, 0]);
        let map = words(&map);
        assert_eq!(map[..6], [20, 0, 0, low(LOW_END), 0, 1]);
        assert_eq!(map[12..], [20, 0, 1, low(GIB), 0, 1]);
    }

    #[test]
    fn without_a_ram_disk_there_is_no_module() {
        let [(_, info), _, (_, module), ..] = info(&[0..0x1000_0000], 0x2_0000, None);
        assert_eq!((words(&info)[5], module.len()), (0, 0));
    }
}
