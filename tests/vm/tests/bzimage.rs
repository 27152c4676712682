//! Linux bzImages, by both of their entries, whole and broken.

use std::fs;
use std::path::PathBuf;

use super::emulation::qemu;
use super::support::files::{Folder, checkout};
use super::support::host::accelerator;
use super::support::or_skip;
use super::support::program::{runner, says};

/// A bzImage of our own, which prints what it is told.
fn guest(name: &str) -> PathBuf {
    checkout().join(format!("tests/guests/x86_64/bzimage/{name}.bin"))
}

/// `linux64` with some of its bytes changed.
fn changed(changes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = fs::read(guest("linux64")).unwrap();
    for (at, change) in changes {
        bytes[*at..*at + change.len()].copy_from_slice(change);
    }
    bytes
}

/// What runner says of an image of these bytes.
fn refused(bytes: &[u8]) -> String {
    let why = runner([Folder::new().file("image", bytes)]).refused();
    assert!(why.len() < 500, "{why}");
    why
}

// Offsets in the setup header (kernel documentation, arch/x86/boot.rst).
const SETUP_SECTS: usize = 0x1f1;
const SYSSIZE: usize = 0x1f4;
const JUMP: usize = 0x201;
const VERSION: usize = 0x206;
const LOADFLAGS: usize = 0x211;
const CODE32_START: usize = 0x214;
const INITRD_ADDR_MAX: usize = 0x22c;
const KERNEL_ALIGNMENT: usize = 0x230;
const RELOCATABLE: usize = 0x234;
const XLOADFLAGS: usize = 0x236;
const CMDLINE_SIZE: usize = 0x238;
const PREF_ADDRESS: usize = 0x258;
const INIT_SIZE: usize = 0x260;

#[test]
fn a_kernel_is_entered_in_64_bits_where_it_can_be_and_in_32_where_that_is_all_it_has() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let disk = folder.file("disk", "a ram disk");
    for (name, protocol) in [("linux64", "Linux 64-bit"), ("linux32", "Linux 32-bit")] {
        let run = runner(["-v", "-m", "64", "--append", "one two", "--initrd"]);
        let finished = run.arg(&disk).arg(guest(name)).ends_with(0);
        assert!(finished.text().contains("command line: one two\nram disk: a ram disk\n"));
        says(&finished.stderr, &[protocol, "Linux bzImage"]);
    }
}

#[test]
fn in_software_emulation_a_kernel_is_entered_in_64_bits_where_it_can_be() {
    or_skip!(qemu());
    let folder = Folder::new();
    let disk = folder.file("disk", "a ram disk");
    for name in ["linux64", "linux32"] {
        let run = runner(["--accel=off", "-m", "64", "--append", "one two", "--initrd"]);
        let finished = run.arg(&disk).arg(guest(name)).ends_with(0);
        assert!(finished.text().contains("command line: one two\nram disk: a ram disk\n"));
    }
}

#[test]
fn the_entry_can_be_chosen_among_those_there_are() {
    or_skip!(accelerator());
    // At its 32-bit entry this one exits with 2.
    runner(["--entry=linux32"]).arg(guest("linux64")).ends_with(2);
    runner(["--entry", "linux64"]).arg(guest("linux64")).ends_with(0);
    let why = runner(["--entry=pvh"]).arg(guest("linux64")).refused();
    says(&why, &["--entry=pvh", "linux64.bin", "only by linux64, linux32"]);
    let why = runner(["--entry=linux64"]).arg(guest("linux32")).refused();
    says(&why, &["only by linux32"]);
    let why = runner(["--entry=multiboot2"]).arg(guest("linux64")).refused();
    says(&why, &["choose linux64, linux32, pvh, multiboot, arm64, hvt or uhyve"]);
}

#[test]
fn a_config_chooses_the_entry_too() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let config = folder.file("config.json", r#"{"Runner": {"Entry": "linux32"}}"#);
    runner(["-c"]).arg(config).arg(guest("linux64")).ends_with(2);
}

#[test]
fn inspect_says_what_a_bzimage_is_and_wants() {
    let finished = runner(["inspect"]).arg(guest("linux64")).ends_with(0);
    let lines: Vec<_> = finished.text().lines().skip(1).map(str::to_owned).collect();
    assert_eq!(
        lines,
        [
            "format: Linux bzImage",
            "architecture: x86_64",
            "family: Linux, and what else is a bzImage",
            "version: 6.1 (runner\\'s own)",
            "boot protocol: 2.15",
            "command line: at most 255 bytes",
            "ram disk: up to 0x7fffffff",
            "entry: 0x1000200, Linux 64-bit protocol",
            "entry: 0x1000000, Linux 32-bit protocol, by --entry=linux32",
            "segment 0: 0x1000000-0x1010000",
            "memory: 17 MiB for what is loaded",
            "device: com1, ports 0x3f8-0x3ff, line 4: the console",
            "device: reset, port 0x64; clock, port 0x70",
            "device: exit, port 0x501",
            "device: pvpanic, port 0x505",
            "device: virtio, told of by ACPI",
            "end: a write to port 0x501: any gives its low 8 bits; 255 where those are 0 and it is not",
            "end: a write to port 0x505 (pvpanic): any with bit 0 gives 126",
            "end: a reset (0xfe to port 0x64, which is ACPI's reset register, too): gives 0",
            "end: a triple fault: gives 126, which is runner's",
            "end: all vCPUs halted with interrupts off: gives 126, which is runner's",
        ]
    );
}

#[test]
fn a_command_line_that_the_kernel_would_cut_off_is_refused() {
    or_skip!(accelerator());
    let long = "x".repeat(256);
    runner(["--append", &long[1..]]).arg(guest("linux64")).ends_with(0);
    says(&runner(["--append", &long]).arg(guest("linux64")).refused(), &["256 bytes", "255"]);
    runner(["--append", &"x".repeat(1 << 16)]).arg(guest("linux64")).refused();
}

#[test]
fn a_ram_disk_goes_no_higher_than_the_kernel_can_reach() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let disk = folder.file("disk", "a ram disk");
    let end = |end: u32| changed(&[(INITRD_ADDR_MAX, &end.to_le_bytes()[..])]);
    let run = |image: Vec<u8>| {
        runner(["-m", "64", "--initrd"]).arg(&disk).arg(folder.file("image", image))
    };
    // Above the kernel; below it, where its limit is within or just behind it.
    for fits in [0x1ff_ffff, 0x101_0000, 0x100_ffff, 0x10_ffff] {
        let finished = run(end(fits)).ends_with(0);
        assert!(finished.text().contains("ram disk: a ram disk\n"), "{fits:#x}: {finished}");
    }
    for low in [0, 0xfff, 0xf_ffff] {
        says(&run(end(low)).refused(), &["the ram disk", "the kernel reaches no further"]);
    }
}

#[test]
fn a_kernel_that_does_not_fit_says_what_it_needs() {
    or_skip!(accelerator());
    says(&runner(["-m", "16"]).arg(guest("linux64")).refused(), &["0x1000000-0x1010000", "-m"]);
    runner(["-m", "17"]).arg(guest("linux64")).ends_with(0);
}

#[test]
fn a_header_that_lies_is_refused() {
    or_skip!(accelerator());
    for (at, value) in [
        (SETUP_SECTS, &[0][..]),
        (SETUP_SECTS, &[255]),
        (SYSSIZE, &[0; 4]),
        (SYSSIZE, &[0xff; 4]),
        (JUMP, &[0]),
        (JUMP, &[0x36]),
        (VERSION, &[5, 2]),
        (VERSION, &[0xff; 2]),
        (LOADFLAGS, &[0]),
        (CODE32_START, &[0; 4]),
        (KERNEL_ALIGNMENT, &[0; 4]),
        (KERNEL_ALIGNMENT, &[3, 0, 0, 0]),
        (KERNEL_ALIGNMENT, &[0, 0, 0, 0x40]),
        (PREF_ADDRESS, &[0xff; 8]),
        (PREF_ADDRESS, &[0, 0, 0xe0, 0xff, 0xff, 0xff, 0xff, 0xff]),
        (PREF_ADDRESS, &[0, 0, 0, 0, 1, 0, 0, 0]),
        (PREF_ADDRESS, &[0, 0, 0, 0xc0, 0, 0, 0, 0]),
        (PREF_ADDRESS, &[0, 0, 0xc0, 0xfe, 0, 0, 0, 0]),
        (INIT_SIZE, &[0; 4]),
        (INIT_SIZE, &[0xff; 4]),
        (INIT_SIZE, &[0, 0, 0, 0x40]),
    ] {
        refused(&changed(&[(at, value)]));
    }
    // Boot data, the BIOS area and the hole below 4 GiB, for a kernel that cannot be moved.
    for place in [0x1_u32, 0x7000, 0x2_0000, 0xe_0000, 0xf_ffff, 0xfeb0_0000, u32::MAX] {
        let place = place.to_le_bytes();
        let change = [(RELOCATABLE, &[0][..]), (PREF_ADDRESS, &[0; 8]), (CODE32_START, &place)];
        refused(&changed(&change));
    }
    // A 64-bit entry behind the kernel's end.
    refused(&changed(&[(SYSSIZE, &[0x20, 0, 0, 0]), (XLOADFLAGS, &[1, 0])]));
    let none = changed(&[(CMDLINE_SIZE, &[0; 4])]);
    let folder = Folder::new();
    runner(["--append", "x"]).arg(folder.file("image", none)).refused();
}

#[test]
fn boot_loaders_and_packed_kernels_are_told_from_kernels() {
    or_skip!(accelerator());
    let real_mode = changed(&[(CODE32_START, &[0; 4])]);
    says(&refused(&real_mode), &["real mode only", "qemu-system-x86_64 -kernel"]);
    says(&refused(&changed(&[(LOADFLAGS, &[0])])), &["zImage"]);
    let mut packed = vec![0; 4096];
    packed[..8].copy_from_slice(b"MZ\0\0zimg");
    packed[24..28].copy_from_slice(b"gzip");
    says(&refused(&packed), &["packed with gzip for EFI (zboot)", "CONFIG_EFI_ZBOOT"]);
}

#[test]
fn a_bzimage_that_is_cut_off_anywhere_says_so() {
    or_skip!(accelerator());
    let whole = changed(&[]);
    for length in [1, 0x1f1, 0x200, 0x206, 0x210, 0x240, 0x26b, 0x3ff, 0x400, 0x600, 0x13f0] {
        refused(&whole[..length]);
    }
    says(&refused(&whole[..0x1000]), &["truncated"]);
}

#[test]
fn no_single_broken_byte_of_a_header_makes_inspect_panic_or_hang() {
    let folder = Folder::new();
    let mut refused = 0;
    for at in (0x1f1..0x270).step_by(2) {
        let image = folder.file("image", changed(&[(at, &[!changed(&[])[at]])]));
        let finished = runner(["inspect"]).arg(image).run();
        match finished.status {
            Some(0) => {}
            Some(125) => refused += 1,
            _ => panic!("byte {at:#x}: {finished}"),
        }
    }
    assert!(refused > 10, "only {refused} were found broken");
}
