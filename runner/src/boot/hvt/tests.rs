use hv::{GuestMemory, GuestRam, mem};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::boot::{CommandLine, Platform, Protocol};
use crate::image::testing::{ElfFile, solo5_file};
use crate::image::{Image, Source};
use crate::machine::map::hvt::{AARCH64_FIRST, first};

const MIB: u64 = 1 << 20;

/// A plan for a unikernel with text at 1 MiB, constants behind it, data at 3 MiB.
fn plan(arch: Arch, change: impl FnOnce(&mut ElfFile)) -> BootPlan {
    let mut file = solo5_file(&[("storage", 1), ("service", 2)]);
    file.machine = if arch == Arch::X86_64 { 62 } else { 183 };
    file.phdrs[0].flags = 1;
    file.load(MIB + 0x1000, b"constants", 0x1800).flags = 4;
    file.load(3 * MIB + 0x1000, b"data", 0x1_0000).flags = 6;
    change(&mut file);
    let image = Image::recognise(Source::from_bytes("kernel", &file.build())).unwrap();
    BootPlan::new(&image, image.kernel().clone(), None).unwrap()
}

/// RAM in pieces that begin and end at `cuts`.
fn ram(cuts: &[u64]) -> GuestMemory {
    let pieces = cuts.windows(2).map(|pair| (pair[0], GuestRam::new(pair[1] - pair[0]).unwrap()));
    mem::memory(pieces).unwrap()
}

fn word(memory: &GuestMemory, gpa: u64) -> u64 {
    memory.read_obj(GuestAddress(gpa)).unwrap()
}

/// The entry that translates `gpa`, with tables from `root` on, and whether it is a block's.
fn entry(memory: &GuestMemory, root: u64, gpa: u64) -> (u64, bool) {
    let address = |entry: u64| entry & 0xf_ffff_f000;
    let index = |level: u32| (gpa >> (12 + 9 * level)) & 511;
    let next = |table: u64, level: u32| word(memory, address(table) + 8 * index(level));
    let second = next(next(root, 3), 2);
    let third = next(second, 1);
    let block = match root {
        0x2000 => third & (1 << 7) != 0,
        _ => third & 0b11 == 0b01,
    };
    if block { (third, true) } else { (next(third, 0), false) }
}

#[test]
fn the_protocol_is_hvt_and_nothing_else_enters_it() {
    let plan = plan(Arch::X86_64, |_| ());
    assert_eq!((plan.protocol, plan.entry), (Protocol::Hvt, MIB));
    let source = Source::from_bytes("kernel", &solo5_file(&[]).build());
    let image = Image::recognise(source).unwrap();
    for other in [Protocol::Linux64, Protocol::Pvh, Protocol::Linux32, Protocol::Arm64] {
        let error = BootPlan::new(&image, image.kernel().clone(), Some(other)).unwrap_err();
        assert!(error.to_string().ends_with("only by hvt"), "{error}");
    }
}

#[test]
fn boot_info_has_memory_command_line_and_the_manifest_with_its_devices() {
    let mut plan = plan(Arch::X86_64, |_| ());
    plan.tell(CommandLine::new(["a b".to_owned()]).unwrap()).unwrap();
    let mac = [2, 0, 0, 0, 0, 1];
    plan.hvt.as_mut().unwrap().attached = vec![
        (1, Attached::Block { capacity: 4096, block_size: 1024 }),
        (2, Attached::Net { mac, mtu: 1500 }),
    ];
    let memory = ram(&[0, 4 * MIB]);
    plan.load(&memory, Platform::Hypervisor).unwrap();
    let info = |field: u64| word(&memory, BOOT_INFO + 8 * field);
    assert_eq!((info(0), info(1), info(5), info(6)), (4 * MIB, 3 * MIB + 0x1_1000, 0, 0));
    let mut line = [0; 4];
    memory.read_slice(&mut line, GuestAddress(info(3))).unwrap();
    assert_eq!(&line, b"a b\0");
    let manifest = info(4);
    assert_eq!(word(&memory, manifest), 1 | 3 << 32);
    let entry = |index: u64| manifest + 8 + 104 * index;
    assert_eq!((word(&memory, entry(0)), word(&memory, entry(0) + 96)), (0, 0));
    assert_eq!(word(&memory, entry(1)), u64::from_le_bytes(*b"storage\0"));
    let (kind, capacity, block) = (68, 72, 80);
    assert_eq!(word(&memory, entry(1) + kind) & 0xffff_ffff, 1);
    assert_eq!(word(&memory, entry(1) + capacity), 4096);
    assert_eq!((word(&memory, entry(1) + block), word(&memory, entry(1) + 96)), (1024, 1));
    let net = [mac.as_slice(), &1500_u16.to_le_bytes()].concat();
    assert_eq!(word(&memory, entry(2) + capacity).to_le_bytes(), net[..]);
    assert_eq!(word(&memory, entry(2) + 96), 1);
}

#[test]
fn pages_have_the_rights_of_their_segments_and_the_first_64_kib_none_on_x86_64() {
    let memory = ram(&[0, 6 * MIB]);
    let loaded = plan(Arch::X86_64, |_| ()).load(&memory, Platform::Hypervisor).unwrap();
    let State::X86_64(state) = loaded.state else { panic!("x86_64") };
    assert_eq!((state.regs.rip, state.regs.rdi, state.regs.rsp), (MIB, BOOT_INFO, 6 * MIB - 8));
    assert_eq!((state.cr0, state.cr4, state.efer), (0x8001_0031, 0x620, 0xd00));
    let rights = |gpa| {
        let (entry, block) = entry(&memory, state.cr3, gpa);
        let address = entry & 0xf_ffff_f000;
        let page = if block { 2 * MIB } else { PAGE };
        assert!(entry == 0 || address == gpa & !(page - 1), "{gpa:#x}: {entry:#x}");
        (entry & 1 != 0, entry & 2 != 0, entry & 1 != 0 && entry >> 63 == 0)
    };
    for gpa in [0, 0x1000, 0xf_fff] {
        assert_eq!(rights(gpa), (false, false, false), "{gpa:#x}");
    }
    let (read, execute, write) = ((true, false, false), (true, false, true), (true, true, false));
    for (gpa, wanted) in [
        (BOOT_INFO, read),
        (MIB - 1, read),
        (MIB, execute),
        (MIB + 0x1000, read),
        (MIB + 0x2000, read),
        (MIB + 0x3000, write),
        (3 * MIB, write),
        (3 * MIB + 0x1000, write),
        (4 * MIB, write),
        (6 * MIB - 1, write),
    ] {
        assert_eq!(rights(gpa), wanted, "{gpa:#x}");
    }
    assert_eq!(rights(6 * MIB), (false, false, false));
}

#[test]
fn pages_have_the_rights_of_their_segments_and_the_first_64_kib_none_on_aarch64() {
    let memory = ram(&[AARCH64_FIRST, 6 * MIB]);
    let loaded = plan(Arch::Aarch64, |_| ()).load(&memory, Platform::Hypervisor).unwrap();
    let State::Aarch64(state) = loaded.state else { panic!("aarch64") };
    assert_eq!((state.x[0], state.x[16], state.sp_el1), (BOOT_INFO, MIB, 6 * MIB - 16));
    let start = state.pc;
    let rights = |gpa| {
        let (entry, _) = entry(&memory, AARCH64_FIRST, gpa);
        (entry & 1 != 0, entry & 1 << 7 == 0, entry & 1 << 53 == 0)
    };
    for gpa in [0, AARCH64_FIRST, 0xffff] {
        assert!(!rights(gpa).0, "{gpa:#x}");
    }
    let (read, execute, write) = ((true, false, false), (true, false, true), (true, true, false));
    for (gpa, wanted) in [
        (BOOT_INFO, read),
        (start, execute),
        (MIB, execute),
        (MIB + 0x1000, read),
        (MIB + 0x3000, write),
        (3 * MIB + 0x1000, write),
        (6 * MIB - 1, write),
    ] {
        assert_eq!(rights(gpa), wanted, "{gpa:#x}");
    }
    let second = word(&memory, AARCH64_FIRST) & 0xf_ffff_f000;
    let device = word(&memory, second + 4 * 8);
    assert_eq!((device & 0xf_c000_0000, device & 0x1f), (4 << 30, 0b101));
}

#[test]
fn what_is_read_only_ram_of_its_own_may_be_written_as_far_as_the_tables_go() {
    let plan = plan(Arch::X86_64, |_| ());
    assert_eq!(plan.read_only(), [MIB..MIB + 0x3000]);
    let memory = ram(&[0, MIB, MIB + 0x3000, 6 * MIB]);
    plan.load(&memory, Platform::Hypervisor).unwrap();
    for (gpa, no_execute) in [(MIB, 0), (MIB + 0x1000, 1), (MIB + 0x3000, 1)] {
        let (entry, _) = entry(&memory, 0x2000, gpa);
        assert_eq!((entry & 0b11, entry >> 63), (0b11, no_execute), "{gpa:#x}");
    }
}

#[test]
fn memory_of_half_a_block_and_a_kernel_outside_are_refused() {
    let refused = |plan: &BootPlan, len: u64| {
        plan.load(&ram(&[0, len]), Platform::Hypervisor).unwrap_err().to_string()
    };
    let plain = plan(Arch::X86_64, |_| ());
    assert!(refused(&plain, 5 * MIB).contains("multiple of 2 MiB"));
    assert!(refused(&plain, 2 * MIB).contains("-m"));
    let long = CommandLine::new(["x".repeat(70_000)]).unwrap();
    let mut told = plan(Arch::X86_64, |_| ());
    assert!(told.tell(long).unwrap_err().to_string().contains("8191"));
    let scattered = plan(Arch::X86_64, |file| {
        file.phdrs.truncate(4);
        for block in 2..5 {
            file.load(2 * MIB * block + 0x1000, b"x", 1).flags = 6;
        }
    });
    scattered.load(&ram(&[0, 32 * MIB]), Platform::Hypervisor).unwrap();
}

#[test]
fn more_changes_of_rights_than_there_are_tables_for_are_refused() {
    let segment = |block: u64| Segment {
        index: 0,
        file_offset: 0,
        file_size: 0,
        mem_size: 1,
        paddr: 2 * MIB * block + 0x1000,
        vaddr: 2 * MIB * block + 0x1000,
        flags: 4,
    };
    let load = |arch, segments: u64| {
        let memory = ram(&[first(arch), 64 * MIB]);
        let segments: Vec<_> = (1..=segments).map(segment).collect();
        let mut loading = Loading { memory: &memory, ranges: Vec::new() };
        let map = paging::Map::new(&segments, 64 * MIB, false);
        match arch {
            Arch::X86_64 => x86_64::load(MIB, &map, &mut loading).map(|_| ()),
            Arch::Aarch64 => aarch64::load(MIB, &map, &mut loading).map(|_| ()),
        }
    };
    for (arch, most) in [(Arch::X86_64, 10), (Arch::Aarch64, 8)] {
        load(arch, most).unwrap();
        assert!(load(arch, most + 1).unwrap_err().to_string().contains("fewer segments"));
    }
}

#[test]
fn a_segment_on_the_last_page_there_is_is_refused_when_it_is_loaded() {
    let last = u64::MAX - 0xffe;
    let plan = plan(Arch::X86_64, |file| {
        let segment = file.load(last, b"constants", 0x800);
        (segment.flags, segment.align) = (4, 1);
    });
    assert_eq!(plan.read_only().last().map(|range| range.start), Some(last & !(PAGE - 1)));
    let error = plan.load(&ram(&[0, 4 * MIB]), Platform::Hypervisor).unwrap_err();
    assert!(error.to_string().contains("the kernel's segment"), "{error}");
}
