use hv::{GuestMemory, GuestRam, mem};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::boot::{CommandLine, Platform, Protocol};
use crate::family::{Announcement, System};
use crate::image::testing::{ElfFile, arm64_image, pvh_note, with_sections};
use crate::image::{Image, Marks, Source};
use crate::machine::map::MIB;
use crate::machine::slot::VirtioBus;

const RAM: u64 = 0x4000_0000;

fn ram(len: u64) -> GuestMemory {
    mem::memory([(RAM, GuestRam::new(len).unwrap())]).unwrap()
}

fn planned(file: &[u8], asked: Option<Protocol>) -> Result<BootPlan, Error> {
    let source = Source::from_bytes("kernel", file);
    let image = Image::recognise_as(source, Marks::NotNeeded).unwrap();
    BootPlan::new(&image, image.kernel().clone(), asked)
}

fn plan(file: &[u8]) -> BootPlan {
    planned(file, None).unwrap()
}

/// A kernel as Nanos's is linked.
fn elf() -> ElfFile {
    let mut file = ElfFile::new(0x4040_0000);
    file.machine = 183;
    file.load(0x4040_0000, &[0x5a; 16], 32);
    file
}

fn bytes<const N: usize>(memory: &GuestMemory, gpa: u64) -> [u8; N] {
    let mut bytes = [0; N];
    memory.read_slice(&mut bytes, GuestAddress(gpa)).unwrap();
    bytes
}

fn refused(plan: &BootPlan, len: u64) -> String {
    plan.load(&ram(len), Platform::Hypervisor).unwrap_err().to_string()
}

#[test]
fn an_image_is_entered_with_the_device_tree_at_the_beginning_of_ram() {
    let image = arm64_image(0, 0x1_0000, 0xa);
    let mut plan = plan(&image);
    assert_eq!((plan.protocol, plan.family.told), (Protocol::Arm64, Announcement::DeviceTree));
    plan.tell(CommandLine::new(["marked=1".to_owned()]).unwrap()).unwrap();
    plan.initrd = Some(Source::from_bytes("ram disk", b"files"));
    let memory = ram(64 * MIB);
    let loaded = plan.load(&memory, Platform::Hypervisor).unwrap();
    let State::Aarch64(state) = &loaded.state else { panic!("aarch64") };
    assert_eq!((state.pc, state.pstate), (RAM + 2 * MIB, 0x3c5));
    assert_eq!(state.x[..4], [RAM, 0, 0, 0]);
    assert_eq!(bytes(&memory, RAM), 0xd00d_feed_u32.to_be_bytes());
    let tree: [u8; 4096] = bytes(&memory, RAM);
    assert!(tree.windows(9).any(|bytes| bytes == b"marked=1\0"));
    assert_eq!(bytes(&memory, RAM + 2 * MIB), image[..128].first_chunk::<128>().copied().unwrap());
    assert_eq!(bytes(&memory, RAM + 64 * MIB - 4096), *b"files");
}

#[test]
fn a_kernel_of_nanos_is_entered_where_it_is_linked_with_x1_zero() {
    let memory = ram(64 * MIB);
    let plan = plan(&elf().build());
    let State::Aarch64(state) = plan.load(&memory, Platform::Hypervisor).unwrap().state else {
        panic!("aarch64")
    };
    assert_eq!((state.pc, state.x[0], state.x[1]), (0x4040_0000, RAM, 0));
    assert_eq!(bytes(&memory, 0x4040_0000), [0x5a; 16]);
}

#[test]
fn ways_into_kernels_of_x86_64_are_none_into_these() {
    let mut file = elf();
    file.notes(&pvh_note(0x4040_0000));
    assert_eq!(plan(&file.build()).protocol, Protocol::Arm64);
    for asked in [Protocol::Linux64, Protocol::Pvh, Protocol::Linux32] {
        let error = planned(&file.build(), Some(asked)).unwrap_err().to_string();
        assert!(error.ends_with("only by arm64"), "{error}");
    }
    let error = planned(&ElfFile::kernel().build(), Some(Protocol::Arm64)).unwrap_err();
    assert!(error.to_string().ends_with("only by linux64"), "{error}");
}

#[test]
fn an_image_that_wants_to_stand_close_behind_the_beginning_of_ram_has_the_device_tree_before_it() {
    let memory = ram(64 * MIB);
    let mut unikraft = plan(&arm64_image(0xf_ffc0, 0x20_0000, 0xa));
    assert_eq!(unikraft.kernel.system(), Some(System::Unikraft));
    assert_eq!(unikraft.announce(1, []), ["kernel"]);
    unikraft.initrd = Some(Source::from_bytes("ram disk", b"files"));
    let State::Aarch64(state) = unikraft.load(&memory, Platform::Hypervisor).unwrap().state else {
        panic!("aarch64")
    };
    assert_eq!((state.pc, state.x[0]), (0x400f_ffc0, RAM));
    assert_eq!(bytes(&memory, RAM), 0xd00d_feed_u32.to_be_bytes());
    assert_eq!(bytes(&memory, RAM + 64 * MIB - 4096), *b"files");
    // Where there is no room behind it, there is some between the device tree's and it.
    let memory = ram(3 * MIB);
    unikraft.load(&memory, Platform::Hypervisor).unwrap();
    assert_eq!(bytes(&memory, 0x400f_e000), *b"files");
    unikraft.initrd = Some(Source::from_bytes("ram disk", &[0; 0x8_0000]));
    let error = refused(&unikraft, 3 * MIB);
    assert!(error.contains("ram disk needs guest memory 0x40080000"), "{error}");
}

/// An Image as OSv's: an ELF file with its sections, 64 KiB behind the beginning.
fn osv() -> Vec<u8> {
    let elf = with_sections(&elf(), b"\0.text\0.percpu_workers\0");
    let mut image = arm64_image(0x8_0000, 0x20_0000, 0);
    image.resize(0x1_0000, 0);
    image.extend(elf);
    image
}

#[test]
fn osv_has_room_in_the_tree_for_its_own_command_line_and_is_told_no_longer_one() {
    let memory = ram(64 * MIB);
    let mut plan = plan(&osv());
    assert_eq!(plan.kernel.system(), Some(System::Osv));
    assert_eq!(plan.announce(1, []), <[String; 0]>::default());
    let State::Aarch64(state) = plan.load(&memory, Platform::Hypervisor).unwrap().state else {
        panic!("aarch64")
    };
    assert_eq!(state.pc, RAM + 0x8_0000);
    let total = u32::from_be_bytes(bytes(&memory, RAM + 4));
    let strings = u32::from_be_bytes(bytes(&memory, RAM + 12));
    let strings_len = u32::from_be_bytes(bytes(&memory, RAM + 32));
    // Three words before a property's value, which is padded, and its name.
    assert!(total - (strings + strings_len) >= 12 + 1024 + 9, "{total} {strings} {strings_len}");
    plan.tell(CommandLine::new(["x".repeat(1023)]).unwrap()).unwrap();
    let error = plan.tell(CommandLine::new(["x".repeat(1024)]).unwrap()).unwrap_err();
    assert!(error.to_string().contains("can be given 1023"), "{error}");
}

#[test]
fn what_lies_where_the_device_tree_goes_or_below_ram_is_refused() {
    for (at, wanted) in [
        (RAM, "the device tree is there"),
        (RAM + MIB / 2 - 16, "the device tree is there"),
        (RAM - 16, "RAM begins at 1 GiB"),
        (MIB, "RAM begins at 1 GiB"),
        (RAM + 64 * MIB, "give the guest more memory"),
    ] {
        let mut file = elf();
        file.load(at, &[0; 16], 32);
        let error = refused(&plan(&file.build()), 64 * MIB);
        assert!(error.contains(wanted), "{at:#x}: {error}");
    }
    let error = refused(&plan(&elf().build()), MIB);
    assert!(error.contains("give the guest more memory"), "{error}");
    let hostile = arm64_image(1 << 60, 4096, 0);
    let error = refused(&plan(&hostile), 64 * MIB);
    assert!(error.contains("kernel's segment 0 needs guest memory 0x1000000040000000"), "{error}");
}

#[test]
fn processors_and_devices_are_in_the_tree_and_not_on_the_command_line() {
    let mut plan = plan(&elf().build());
    let slots: Vec<_> = plan.board.virtio.on(VirtioBus::Mmio).take(2).collect();
    assert!(plan.announce(4, slots.clone()).is_empty());
    assert_eq!((plan.tree.cpus, &plan.tree.virtio), (4, &slots));
    assert!(plan.acpi.is_none());
}
