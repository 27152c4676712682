use hv::arch::x86_64::State as Registers;
use hv::{GuestRam, mem};

use super::*;
use crate::boot::CommandLine;
use crate::boot::Platform;
use crate::boot::layout::{COMMAND_LINE, RSDP, ZERO_PAGE};
use crate::family::System;
use crate::image::testing::{BzImageFile, ElfFile, pvh_note};
use crate::image::{Image, Kernel};
use crate::machine::map::pc::{HIGH_RAM, LOW_RAM_END};

const MIB: u64 = 1 << 20;

/// RAM in one piece.
fn ram(len: u64) -> GuestMemory {
    mem::memory([(0, GuestRam::new(len).unwrap())]).unwrap()
}

/// A plan for the kernel in `file`, a file by name or bytes alone.
fn plan_of(source: Source, asked: Option<Protocol>) -> Result<BootPlan, Error> {
    let image = Image::recognise(source.clone()).unwrap();
    BootPlan::new(&image, Kernel::open(&source).unwrap(), asked)
}

fn plan(file: &[u8]) -> BootPlan {
    plan_of(Source::from_bytes("kernel", file), None).unwrap()
}

fn bytes<const N: usize>(memory: &GuestMemory, gpa: u64) -> [u8; N] {
    let mut bytes = [0; N];
    memory.read_slice(&mut bytes, GuestAddress(gpa)).unwrap();
    bytes
}

fn registers(loaded: &Loaded) -> &Registers {
    match &loaded.state {
        State::X86_64(state) => state,
        State::Aarch64(_) => panic!("for x86_64"),
    }
}

/// Loads `plan` into `len` bytes of RAM, which has to be refused.
fn refused(plan: &BootPlan, len: u64) -> String {
    plan.load(&ram(len), Platform::Hypervisor).unwrap_err().to_string()
}

#[test]
fn a_kernel_is_where_it_wants_to_be_with_its_command_line_and_its_ram_disk() {
    let mut plan = plan(&ElfFile::kernel().build());
    plan.tell(CommandLine::new(["a=1".to_owned()]).unwrap()).unwrap();
    plan.initrd = Some(Source::from_bytes("ram disk", b"files"));
    let memory = ram(4 * MIB);
    let loaded = plan.load(&memory, Platform::Hypervisor).unwrap();
    assert_eq!(registers(&loaded).regs.rip, MIB);
    assert_eq!(bytes(&memory, MIB), [0xf4; 16]);
    assert_eq!(bytes(&memory, MIB + 16), [0; 16]);
    assert_eq!(bytes(&memory, COMMAND_LINE), *b"a=1\0");
    assert_eq!(bytes(&memory, 4 * MIB - 4096), *b"files");
    let at = u32::from_le_bytes(bytes(&memory, ZERO_PAGE + 0x218));
    assert_eq!(u64::from(at), 4 * MIB - 4096);
    let inside = |range: &Gpas| range.start < range.end && range.end <= 4 * MIB;
    assert!(loaded.ranges.iter().all(inside), "{:x?}", loaded.ranges);
}

#[test]
fn a_kernel_with_a_pvh_note_is_entered_by_it_unless_another_entry_is_asked_for() {
    let mut file = ElfFile::kernel();
    file.notes(&pvh_note(0x10_0004));
    let source = Source::from_bytes("kernel", &file.build());
    let memory = ram(4 * MIB);
    let mut pvh = plan_of(source.clone(), None).unwrap();
    pvh.initrd = Some(Source::from_bytes("ram disk", b"files"));
    let loaded = pvh.load(&memory, Platform::Hypervisor).unwrap();
    assert_eq!(registers(&loaded).regs.rip, 0x10_0004);
    // start_info's magic, "xEn3" with its first bit set.
    let start_info = registers(&loaded).regs.rbx;
    assert_eq!(u32::from_le_bytes(bytes(&memory, start_info)), 0x336e_c578);
    let linux = plan_of(source.clone(), Some(Protocol::Linux64)).unwrap();
    assert_eq!(registers(&linux.load(&ram(4 * MIB), Platform::Hypervisor).unwrap()).regs.rip, MIB);
    let error = plan_of(source, Some(Protocol::Linux32)).unwrap_err().to_string();
    assert!(error.contains("linux64") && error.contains("pvh"), "{error}");
}

#[test]
fn a_bzimage_is_entered_in_64_bit_mode_or_in_32_bit_mode_as_asked() {
    let source = Source::from_bytes("bzImage", &BzImageFile::new().build());
    for (asked, rip) in [(Protocol::Linux64, 0x100_0200), (Protocol::Linux32, 0x100_0000)] {
        let memory = ram(32 * MIB);
        let plan = plan_of(source.clone(), Some(asked)).unwrap();
        assert_eq!(
            registers(&plan.load(&memory, Platform::Hypervisor).unwrap()).regs.rip,
            rip,
            "{asked}"
        );
        assert_eq!(bytes(&memory, 0x100_0000), [0xf4; 4]);
        assert_eq!(bytes(&memory, ZERO_PAGE + 0x202), *b"HdrS");
    }
    let mut plan = plan_of(source, None).unwrap();
    let long = CommandLine::new(["x".repeat(2048)]).unwrap();
    let error = plan.tell(long).unwrap_err().to_string();
    assert!(error.contains("2048 bytes") && error.contains("2047"), "{error}");
}

#[test]
fn processors_that_the_command_line_cannot_tell_of_are_in_acpi_tables() {
    let mut plan = plan(&ElfFile::kernel().build());
    assert!(plan.announce(1, []).is_empty());
    assert!(plan.acpi.is_none(), "one needs none");
    assert!(plan.announce(4, []).is_empty());
    let memory = ram(4 * MIB);
    plan.load(&memory, Platform::Hypervisor).unwrap();
    assert_eq!(bytes(&memory, RSDP), *b"RSD PTR ");
}

#[test]
fn a_segment_that_lies_where_something_else_is_or_nothing_at_all_is_refused_by_name() {
    for (address, why) in [
        (0x1000, "boot data is there"),
        (0x2_f000, "boot data is there"),
        (0xa_0000, "the BIOS area is there"),
        (0xf_f000, "the BIOS area is there"),
        (4 * MIB - 0x800, "the guest has 4 MiB, up to 0x400000"),
        (8 * MIB, "the guest has 4 MiB, up to 0x400000"),
        (1 << 40, "the guest has 4 MiB, up to 0x400000"),
    ] {
        let mut file = ElfFile::kernel();
        file.load(address, &[0xf4; 16], 0x1000);
        file.notes(&pvh_note(0x10_0000));
        let error = refused(&plan(&file.build()), 4 * MIB);
        assert!(error.starts_with("the kernel's segment 1 needs"), "{error}");
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn a_64_bit_kernel_beyond_what_is_mapped_at_its_entry_is_refused() {
    let mut file = ElfFile::new(MIB);
    file.load(MIB, &[0xf4; 16], 1 << 30);
    let error = refused(&plan(&file.build()), 2 << 30);
    assert!(error.contains("only memory below 0x40000000 is mapped"), "{error}");
}

#[test]
fn a_guest_without_room_for_boot_data_is_refused() {
    let pieces = [(0, 0x2_0000), (MIB, MIB)];
    let low = mem::memory(pieces.map(|(at, len)| (at, GuestRam::new(len).unwrap())));
    let plan = plan(&ElfFile::kernel().build());
    let error = plan.load(&low.unwrap(), Platform::Hypervisor).unwrap_err().to_string();
    assert!(error.starts_with("boot data needs"), "{error}");
}

#[test]
fn a_ram_disk_that_leaves_no_room_is_refused_with_what_helps() {
    let mut plan = plan(&ElfFile::kernel().build());
    plan.initrd = Some(Source::from_bytes("big.img", &vec![1; 2 << 20]));
    let error = refused(&plan, 2 * MIB);
    assert!(error.starts_with("the ram disk big.img needs"), "{error}");
    assert!(error.ends_with(MORE_MEMORY), "{error}");
    let mut file = BzImageFile::new();
    file.u32(0x22c, 0x10f_ffff);
    let mut plan = self::plan(&file.build());
    plan.initrd = Some(Source::from_bytes("big.img", &vec![1; 16 << 20]));
    let error = refused(&plan, 64 * MIB);
    assert!(
        error.contains("memory for it ends at 0x1100000") && error.ends_with(SMALLER),
        "{error}"
    );
}

#[test]
fn a_segment_in_the_hole_is_to_be_linked_lower_as_no_memory_helps() {
    let plan = plan(&ElfFile::kernel().build());
    let ram = plan.board.ram(5 << 30);
    let remedy = |start: u64, end| match plan.fits(&(start..end), &ram, String::new) {
        Err(Error::DoesNotFit { remedy, .. }) => Some(remedy),
        _ => None,
    };
    assert_eq!(remedy(LOW_RAM_END - MIB, LOW_RAM_END), None);
    assert_eq!(remedy(LOW_RAM_END, LOW_RAM_END + 16), Some(plan.places().out_of_hole));
    assert_eq!(remedy(LOW_RAM_END - 16, LOW_RAM_END + 16), Some(plan.places().out_of_hole));
    assert_eq!(remedy(HIGH_RAM - 16, HIGH_RAM + 16), Some(plan.places().out_of_hole));
    assert_eq!(remedy(MIB, u64::MAX), Some(plan.places().out_of_hole));
    assert_eq!(remedy(HIGH_RAM, HIGH_RAM + 16), None);
    assert_eq!(remedy(6 << 30, (6 << 30) + 16), Some(MORE_MEMORY));
}

/// A file without blocks, whatever its length.
fn sparse(len: u64) -> Source {
    let file = tempfile::tempfile().unwrap();
    file.set_len(len).unwrap();
    Source::from_file(file, "big.img").unwrap()
}

#[test]
fn a_ram_disk_that_no_memory_has_room_for_is_to_be_smaller_however_much_there_is() {
    let mut plan = plan(&ElfFile::kernel().build());
    let remedy = |plan: &BootPlan, memory| match plan.initrd_place(&plan.board.ram(memory)) {
        Err(Error::DoesNotFit { remedy, .. }) => remedy,
        other => panic!("{other:?}"),
    };
    plan.initrd = Some(sparse(3 << 30));
    for memory in [64 * MIB, 3 << 30, 8 << 30] {
        assert_eq!(remedy(&plan, memory), SMALLER, "{memory}");
    }
    plan.initrd = Some(sparse(2 << 30));
    assert_eq!(remedy(&plan, 64 * MIB), MORE_MEMORY);
    assert!(plan.initrd_place(&plan.board.ram(3 << 30)).is_ok());
}

#[test]
fn hermits_loader_has_its_module_behind_itself_by_multiboot_and_at_the_end_by_linuxs_entry() {
    let mut file = ElfFile::new(MIB);
    let magic: u32 = 0x1bad_b002;
    file.load(MIB, &[magic, 0, magic.wrapping_neg()].map(u32::to_le_bytes).concat(), 16);
    let image = Image::recognise(Source::from_bytes("loader", &file.build())).unwrap();
    let loader = image.kernel().clone().of_system(System::HermitLoader);
    let plan = |protocol| {
        let mut plan = BootPlan::new(&image, loader.clone(), Some(protocol)).unwrap();
        plan.initrd = Some(Source::from_bytes("unikernel", &[7; 5000]));
        let words = plan.announce(2, []).into_iter().chain(["a=1".to_owned()]);
        plan.tell(CommandLine::new(words).unwrap()).unwrap();
        plan
    };
    let memory = ram(4 * MIB);
    let by_multiboot = plan(Protocol::Multiboot);
    assert_eq!(by_multiboot.family.ends.port(), Some(0xf4));
    by_multiboot.load(&memory, Platform::Hypervisor).unwrap();
    assert_eq!(bytes(&memory, MIB + 4096), *b"loader a=1\0");
    assert_eq!(bytes(&memory, MIB + 8192), [7; 5000]);
    assert_eq!(bytes(&memory, RSDP), *b"RSD PTR ");
    let error = refused(&by_multiboot, MIB + 8192);
    assert!(error.starts_with("the ram disk unikernel needs guest memory 0x102000-"), "{error}");
    assert!(error.ends_with(MORE_MEMORY), "{error}");
    let mut large = plan(Protocol::Multiboot);
    large.initrd = Some(sparse(4 << 30));
    let error = refused(&large, 4 * MIB);
    assert!(error.starts_with("the ram disk") && error.ends_with(SMALLER), "{error}");
    let memory = ram(4 * MIB);
    plan(Protocol::Linux64).load(&memory, Platform::Hypervisor).unwrap();
    assert_eq!(bytes(&memory, 4 * MIB - 8192), [7; 5000]);
    assert_eq!(bytes(&memory, RSDP), *b"RSD PTR ");
    // With its NUL.
    assert_eq!(bytes(&memory, ZERO_PAGE + 0x238), [4, 0, 0, 0]);
}

#[test]
fn a_ram_disk_goes_into_the_last_gap_that_the_kernel_leaves() {
    let place = |segments: &[(u64, u64)], len: usize, memory| {
        let mut file = ElfFile::kernel();
        for (at, size) in segments {
            file.load(*at, &[0xf4; 16], *size);
        }
        file.notes(&pvh_note(0x10_0000));
        let mut plan = plan(&file.build());
        plan.initrd = Some(Source::from_bytes("ram disk", &vec![1; len]));
        plan.initrd_place(&plan.board.ram(memory)).ok().flatten().map(|at| at.start)
    };
    // A kernel above 4 GiB leaves everything below.
    assert_eq!(place(&[(HIGH_RAM, 4096)], 5, 5 << 30), Some(LOW_RAM_END - 4096));
    // At the end of memory, one across it, one with less than a page behind it.
    assert_eq!(place(&[(8 * MIB - 4096, 4096)], 5, 8 * MIB), Some(8 * MIB - 8192));
    assert_eq!(place(&[(8 * MIB - 5000, 4096)], 5, 8 * MIB), Some(8 * MIB - 3 * 4096));
    // Too small a gap, then one that is just large enough.
    let two = [(4 * MIB, MIB), (6 * MIB, MIB)];
    assert_eq!(place(&two, (1 << 20) + 1, 8 * MIB), Some(3 * MIB - 4096));
    assert_eq!(place(&two, 1 << 20, 8 * MIB), Some(7 * MIB));
    assert_eq!(place(&two, 3 << 20, 8 * MIB), None, "the kernel begins at 1 MiB");
}

#[test]
fn a_kernel_is_read_from_its_file_and_one_that_has_become_shorter_is_an_error() {
    let file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut &file, &ElfFile::kernel().build()).unwrap();
    let source = Source::from_file(file.try_clone().unwrap(), "k.elf").unwrap();
    let plan = plan_of(source, None).unwrap();
    let memory = ram(4 * MIB);
    plan.load(&memory, Platform::Hypervisor).unwrap();
    assert_eq!(bytes(&memory, MIB), [0xf4; 16]);
    file.set_len(64).unwrap();
    let error = refused(&plan, 4 * MIB);
    assert!(error.starts_with("k.elf: ") && error.contains("check the file"), "{error}");
}
