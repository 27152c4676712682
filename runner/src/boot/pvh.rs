//! Xen's PVH entry: `xen/include/public/arch-x86/hvm/start_info.h`, version 1, and
//! `docs/misc/pvh.pandoc` for the processor's state.

use hv::State;
use hv::arch::x86_64;

use super::Gpas;
use super::bytes::Bytes;
use super::layout::{COMMAND_LINE, GDT, MEMORY_MAP, MODULES, STACK_TOP, START_INFO, usable_ram};

const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;
/// As e820: usable RAM.
const RAM: u32 = 1;

/// The boot data and where it goes: start_info, module list, memory map.
pub(super) fn start_info(ram: &[Gpas], initrd: Option<&Gpas>, rsdp: u64) -> [(u64, Vec<u8>); 3] {
    let map: Vec<Gpas> = usable_ram(ram).collect();
    let modules = u32::from(initrd.is_some());
    let entries = u32::try_from(map.len()).unwrap_or(u32::MAX);
    let info = Bytes::default()
        .u32(MAGIC)
        .u32(VERSION)
        .u32(0) // flags
        .u32(modules)
        .u64(if initrd.is_some() { MODULES } else { 0 })
        .u64(COMMAND_LINE)
        .u64(rsdp)
        .u64(MEMORY_MAP)
        .u32(entries)
        .u32(0);
    let module = match initrd {
        Some(range) => Bytes::default().u64(range.start).u64(range.end - range.start).u64(0).u64(0),
        None => Bytes::default(),
    };
    let table = map.iter().fold(Bytes::default(), |table, range| {
        table.u64(range.start).u64(range.end - range.start).u32(RAM).u32(0)
    });
    [(START_INFO, info.0), (MODULES, module.0), (MEMORY_MAP, table.0)]
}

/// The boot vCPU: 32-bit protected mode without paging, EBX at start_info, a stack that can be used.
pub(super) fn state(entry: u64) -> State {
    let mut state = x86_64::State::protected_mode(entry, GDT);
    state.regs.rbx = START_INFO;
    state.regs.rsp = STACK_TOP;
    State::X86_64(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_info_points_at_the_command_line_the_module_and_the_map() {
        let ram = [0..0x1000_0000u64, 0x1_0000_0000..0x1_4000_0000];
        let [(at, info), (_, module), (map_at, map)] =
            start_info(&ram, Some(&(0xff0_0000..0xff0_0800)), 0xe_0000);
        let u32_at = |at: usize| u32::from_le_bytes(info[at..at + 4].try_into().unwrap());
        assert_eq!((at, info.len()), (START_INFO, 56));
        assert_eq!((u32_at(0), u32_at(4), u32_at(12)), (0x336e_c578, 1, 1));
        assert_eq!(u64::from(u32_at(16)), MODULES);
        assert_eq!(u64::from(u32_at(24)), COMMAND_LINE);
        assert_eq!(u32_at(32), 0xe_0000);
        assert_eq!((u64::from(u32_at(40)), u32_at(48)), (map_at, 3));
        assert_eq!((module.len(), map.len()), (32, 3 * 24));
        assert_eq!(module[8..16], 0x800u64.to_le_bytes());
    }

    #[test]
    fn without_a_ram_disk_there_is_no_module() {
        let [(_, info), (_, module), _] = start_info(&[0..0x1000_0000], None, 0);
        assert_eq!(info[12..24], [0; 12]);
        assert!(module.is_empty());
    }

    #[test]
    fn the_stack_is_below_one_mebibyte_and_has_a_page() {
        let State::X86_64(state) = state(0x10_0000) else { panic!("x86_64") };
        assert!(state.regs.rsp < 1 << 20);
        assert!(state.regs.rsp - 4096 >= MEMORY_MAP + 4096 - 0x100);
    }
}
