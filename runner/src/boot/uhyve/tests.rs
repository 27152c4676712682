use hv::{GuestRam, mem};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::boot::{CommandLine, Platform, Protocol};
use crate::image::testing::{ElfFile, Rela, hermit_file};
use crate::image::{Image, Source};
use crate::machine::slot::VirtioBus;

const MIB: u64 = 1 << 20;
/// A relative relocation, on both architectures.
const RELOCATIONS: [Rela; 1] = [(0x1000, 8, 0, 0x10)];

fn boot(arch: Arch, interface: Option<u32>, change: impl FnOnce(&mut ElfFile)) -> BootPlan {
    let mut relocations = RELOCATIONS;
    let mut machine = 62;
    if arch == Arch::Aarch64 {
        (machine, relocations[0].1) = (183, 1027);
    }
    let mut file = hermit_file(interface, &relocations);
    file.machine = machine;
    change(&mut file);
    let image = Image::recognise(Source::from_bytes("hermit", &file.build())).unwrap();
    BootPlan::new(&image, image.kernel().clone(), None).unwrap()
}

fn memory(boot: &BootPlan, len: u64) -> GuestMemory {
    let ram = boot.board.ram(len);
    mem::memory(ram.iter().map(|it| (it.start, GuestRam::new(it.end - it.start).unwrap()))).unwrap()
}

fn word(memory: &GuestMemory, gpa: u64) -> u64 {
    memory.read_obj(GuestAddress(gpa)).unwrap()
}

/// Where memory begins.
fn start(arch: Arch, interface: Option<u32>) -> u64 {
    match (arch, interface) {
        (Arch::X86_64, Some(2..)) => 4 << 30,
        (Arch::X86_64, _) => 0,
        (Arch::Aarch64, _) => 1 << 30,
    }
}

const MACHINES: [(Arch, Option<u32>); 4] = [
    (Arch::X86_64, None),
    (Arch::X86_64, Some(3)),
    (Arch::Aarch64, None),
    (Arch::Aarch64, Some(2)),
];

#[test]
fn the_kernel_lies_behind_boot_data_relocated_and_is_entered_with_boot_info() {
    for (arch, interface) in MACHINES {
        let boot = boot(arch, interface, |_| ());
        let start = start(arch, interface);
        assert_eq!((boot.protocol, boot.entry), (Protocol::Uhyve, start + KERNEL));
        let memory = memory(&boot, 64 * MIB);
        let loaded = boot.load(&memory, Platform::Hypervisor).unwrap();
        assert_eq!(word(&memory, start + KERNEL), 0xf4f4_f4f4_f4f4_f4f4);
        assert_eq!(word(&memory, start + KERNEL + 0x1000), start + KERNEL + 0x10);
        let second = boot.state_of(&loaded.state, 3).unwrap();
        match (&loaded.state, second) {
            (State::X86_64(first), State::X86_64(second)) => {
                assert_eq!((first.regs.rip, first.regs.rsi), (start + KERNEL, 0));
                assert_eq!((first.regs.rdi, second.regs.rsi), (start + BOOT_INFO, 3));
                assert_eq!(first.regs.rsp, start + STACK);
            }
            (State::Aarch64(first), State::Aarch64(second)) => {
                assert_eq!((first.pc, first.x[16]), (start + START, start + KERNEL));
                assert_eq!((first.x[0], first.x[17], second.x[17]), (start + BOOT_INFO, 0, 3));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Where the guest's tables lead, from `root` on, and the last entry.
fn walk(memory: &GuestMemory, root: u64, at: u64) -> Option<(u64, u64)> {
    let mut table = root;
    for shift in [39, 30, 21, 12] {
        let entry = word(memory, table + ((at >> shift) & 511) * 8);
        if entry & 1 == 0 {
            return None;
        }
        let is_large = shift == 21 && entry & 1 << 7 != 0 && entry & 0b10 != 0 && root & 0xfff == 0;
        let address = entry & 0xf_ffff_f000;
        if shift == 12 || (is_large && entry & 0x700 == 0) {
            let inside = (1 << shift) - 1;
            return Some((address & !inside | at & inside, entry));
        }
        table = address;
    }
    None
}

#[test]
fn memory_up_to_the_kernels_end_is_mapped_to_itself_and_the_tables_to_themselves() {
    for (arch, interface) in MACHINES {
        let boot = boot(arch, interface, |_| ());
        let (start, memory) = (start(arch, interface), memory(&boot, 64 * MIB));
        boot.load(&memory, Platform::Hypervisor).unwrap();
        let root = start + PAGE_TABLES.start;
        assert_eq!(word(&memory, root + 511 * 8) & 0xf_ffff_f000, root);
        for at in [0, BOOT_INFO, PAGE_TABLES.start, STACK, KERNEL, KERNEL + 0x2fff] {
            assert_eq!(walk(&memory, root, start + at).map(|it| it.0), Some(start + at), "{at:#x}");
        }
        // By way of the last entry a kernel of arm64's reads and writes tables as pages, which are accessed.
        let second = word(&memory, root + (start >> 39) * 8);
        let third = word(&memory, (second & 0xf_ffff_f000) + (start >> 30 & 511) * 8);
        if arch == Arch::Aarch64 {
            assert_eq!((second & 0xfff, third & 0xfff), (0x713, 0x713));
        }
        let calls = walk(&memory, root, 0x1010);
        match (arch, start) {
            // Not cached, and not executed.
            (Arch::Aarch64, _) => {
                let (at, entry) = calls.unwrap();
                assert_eq!((at, entry & 0x1c, entry >> 53 & 3), (0x1010, 4, 3));
            }
            (Arch::X86_64, 0) => {}
            (Arch::X86_64, _) => assert_eq!(calls, None),
        }
        // A kernel that does not say what it is has a GiB, any other no more than it needs.
        let far = walk(&memory, root, start + 0x3000_0000);
        assert_eq!(far.map(|it| it.0), (arch == Arch::X86_64).then_some(start + 0x3000_0000));
    }
}

#[test]
fn boot_info_and_device_tree_are_where_a_kernel_looks_for_them() {
    for (arch, interface) in MACHINES {
        let mut boot = boot(arch, interface, |_| ());
        let slots = boot.board.virtio.on(VirtioBus::Pci).take(1);
        boot.announce(4, slots);
        let line = "quiet env=A=1 -- 'two words'".to_owned();
        boot.tell(CommandLine::new([line.clone()]).unwrap()).unwrap();
        boot.uhyve.as_mut().unwrap().mounts = vec!["/data".to_owned(), "/root".to_owned()];
        let (start, memory) = (start(arch, interface), memory(&boot, 64 * MIB));
        boot.load(&memory, Platform::Hypervisor).unwrap();
        let now = Duration::new(1_700_000_000, 7);
        boot.complete(&memory, Some(2_500_000_000), now).unwrap();
        let info = |field: u64| word(&memory, start + BOOT_INFO + field);
        assert_eq!((info(0), info(8)), (start, start + 64 * MIB));
        assert_eq!(info(16), if interface.is_some() { 0x1030 } else { 0x800 });
        assert_eq!((info(32), info(40)), (start + KERNEL, start + KERNEL + 0x3000));
        assert_eq!((info(48), info(64), info(72)), (start + KERNEL + 0x1000, 0x81, 8));
        assert_eq!((info(80), info(88), info(96)), (1, 1, 4));
        assert_eq!(info(104) & 0xffff_ffff, 2_500_000);
        let time = if arch == Arch::X86_64 { 112 } else { 108 };
        assert_eq!(info(time), 1_700_000_000_000_000_007);
        let tree = info(24);
        assert_eq!(tree, start + DEVICE_TREE.start);
        let mut bytes = vec![0; 0x2000];
        memory.read_slice(&mut bytes, GuestAddress(tree)).unwrap();
        assert_eq!(bytes[..4], [0xd0, 0x0d, 0xfe, 0xed]);
        let has = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
        for text in [&b"hermit,uhyve\0"[..], b"/data\0/root\0", b"cpu@3\0", b"hermit,tsc\0"] {
            assert!(has(text), "{}", String::from_utf8_lossy(text));
        }
        assert!(has(line.as_bytes()) && has(&2_500_000_u32.to_be_bytes()));
        assert_eq!(has(b"arm,gic-v3\0"), arch == Arch::Aarch64);
        assert_eq!(has(b"pci-host-ecam-generic\0"), arch == Arch::Aarch64);
        assert!(!has(b"virtio,mmio\0"));
    }
}

/// On x86_64 Hermit looks for them where QEMU's `microvm` has them.
#[test]
fn on_arm64_devices_in_windows_are_in_the_device_tree() {
    let mut boot = boot(Arch::Aarch64, Some(2), |_| ());
    let slots = boot.board.virtio.on(VirtioBus::Mmio).take(1);
    boot.announce(1, slots);
    let place = tree::Place { ram: 0..MIB, khz: None };
    let bytes = boot.uhyve_tree(&place).unwrap();
    let has = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
    assert!(has(b"virtio_mmio@a000000\0") && has(b"virtio,mmio\0"));
    assert!(!has(b"pci-host-ecam-generic\0"));
}

#[test]
fn without_a_counter_of_a_fixed_rate_none_is_told() {
    let boot = boot(Arch::X86_64, None, |_| ());
    let memory = memory(&boot, 64 * MIB);
    boot.complete(&memory, None, Duration::ZERO).unwrap();
    assert_eq!(word(&memory, BOOT_INFO + 104), 0);
}

#[test]
fn what_does_not_fit_is_named_with_what_to_do() {
    let refused = |boot: &BootPlan, len| {
        let memory = memory(boot, len);
        let loaded = boot.load(&memory, Platform::Hypervisor).map(|_| ());
        let done = loaded.and_then(|()| boot.complete(&memory, None, Duration::ZERO));
        done.unwrap_err().to_string()
    };
    let small = boot(Arch::X86_64, None, |_| ());
    assert!(refused(&small, 0x4_2000).contains("give the guest more memory"), "too little memory");
    let fixed = boot(Arch::X86_64, None, |file| file.kind = 2);
    assert!(refused(&fixed, 64 * MIB).contains("boot data is there"), "linked at 0");
    let mut many = boot(Arch::X86_64, None, |_| ());
    many.uhyve.as_mut().unwrap().mounts = vec![format!("/{}", "a".repeat(4000)); 8];
    many.tell(CommandLine::new(["a".repeat(COMMAND_LINE_MAX)]).unwrap()).unwrap();
    assert!(refused(&many, 64 * MIB).contains("the device tree needs guest memory"), "long paths");
    many.uhyve.as_mut().unwrap().mounts.clear();
    many.announce(254, []);
    let memory = memory(&many, 64 * MIB);
    many.complete(&memory, None, Duration::ZERO).unwrap();
    let long = CommandLine::new(["a".repeat(COMMAND_LINE_MAX + 1)]).unwrap();
    assert!(matches!(many.tell(long), Err(Error::CommandLineTooLong { .. })));
}

#[test]
fn a_kernel_with_a_place_of_its_own_stays_there() {
    let boot = boot(Arch::X86_64, None, |file| {
        file.kind = 2;
        file.entry = 0x80_0000;
        for phdr in file.phdrs.iter_mut().filter(|phdr| [1, 7].contains(&phdr.kind)) {
            phdr.vaddr += 0x80_0000;
            phdr.paddr += 0x80_0000;
        }
    });
    assert_eq!(boot.entry, 0x80_0000);
    let memory = memory(&boot, 64 * MIB);
    boot.load(&memory, Platform::Hypervisor).unwrap();
    // It is linked for that place, and not relocated.
    assert_eq!(word(&memory, 0x80_1000), 0);
    assert_eq!(word(&memory, 0x80_0000), 0xf4f4_f4f4_f4f4_f4f4);
}
