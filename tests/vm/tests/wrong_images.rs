//! Images that are none, or broken, or hostile: one sentence, status 125, no panic and no hang.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use super::support::files::{Folder, kernel, ops_image};
use super::support::host::accelerator;
use super::support::or_skip;
use super::support::program::{runner, says};

/// What runner says of the image at `path`.
fn refused(path: impl AsRef<Path>) -> String {
    runner([path.as_ref()]).refused()
}

/// What runner says of an image of these bytes.
fn refused_bytes(bytes: &[u8]) -> String {
    refused(Folder::new().file("image", bytes))
}

#[test]
fn what_is_no_file_is_named_for_what_it_is() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let dangling = folder.path().join("link");
    std::os::unix::fs::symlink("nowhere", &dangling).unwrap();

    says(&refused("/nonexistent/image"), &["/nonexistent/image", "no image"]);
    says(&refused(dangling), &["no such file"]);
    says(&refused(folder.file("empty", "")), &["it is empty"]);
    says(&refused(folder.path()), &["it is a directory", "name the file inside it"]);
    says(&refused(fifo), &["it is a FIFO"]);
    says(&refused(socket), &["it is a socket"]);
    says(&refused("/dev/zero"), &["it is a character device"]);
    says(&refused("/dev/null"), &["it is a character device"]);
}

#[test]
fn a_file_that_may_not_be_read_says_whose_permission_is_missing() {
    let folder = Folder::new();
    let image = folder.file("image", ops_image("tfs-v5-go-bios"));
    folder.mode("image", 0o000);
    let why = runner([image]).by_ordinary_user(&folder).refused();
    says(&why, &["permission denied", "readable"]);
}

#[test]
#[cfg(target_arch = "x86_64")] // which the image is for
fn a_disk_image_that_may_not_be_written_is_not_booted_read_only_behind_the_users_back() {
    let folder = Folder::new();
    let image = folder.file("image", ops_image("tfs-v5-go-bios"));
    folder.mode("image", 0o444);
    let why = runner([image]).by_ordinary_user(&folder).refused();
    says(&why, &["chmod u+w"]);
}

#[test]
fn known_formats_are_named_with_what_to_do() {
    or_skip!(accelerator());
    let with = |at: usize, magic: &[u8]| {
        let mut bytes = vec![0; 4096];
        bytes[at..at + magic.len()].copy_from_slice(magic);
        refused_bytes(&bytes)
    };
    says(&with(0, b"QFI\xfb"), &["qcow2", "qemu-img convert -O raw"]);
    says(&with(0, b"\x1f\x8b\x08"), &["gzip", "gunzip"]);
    says(&with(0, b"vhdxfile"), &["VHDX", "qemu-img convert"]);
    says(&with(0, b"KDMV"), &["VMDK", "qemu-img convert"]);
    says(&with(257, b"ustar"), &["tar archive"]);
    says(&refused_bytes(b"#!/bin/sh\necho hello\n"), &["a script", "build an image with `ops`"]);
    says(&refused_bytes(b"just some text\n"), &["\"just some text", "its format is unknown"]);
    says(&refused_bytes(&[0; 1 << 20]), &["its format is unknown"]);
    says(&refused_bytes(b"\x7f"), &["its format is unknown"]);
}

#[test]
fn a_packed_fixture_says_how_to_unpack_it() {
    or_skip!(accelerator());
    let packed = super::support::files::checkout().join("tests/vm/data/images");
    says(&refused(packed.join("tfs-v5-go-bios.img.gz")), &["gzip", "gunzip"]);
}

#[test]
fn a_program_of_this_system_is_refused_and_ops_named() {
    or_skip!(accelerator());
    // These tests themselves: dynamic or static, as they were built.
    let why = refused(std::env::current_exe().unwrap());
    says(&why, &["Linux program", "build an image with `ops`"]);
}

/// The number of x86_64, or of aarch64 (ELF-64 Object File Format, "e_machine"), and where kernels are
/// linked for it.
const OTHER_MACHINE: (u16, u64) = match cfg!(target_arch = "aarch64") {
    true => (62, 0x10_0000),
    false => (183, 0x4010_0000),
};

#[test]
fn a_kernel_for_another_machine_names_both() {
    or_skip!(accelerator());
    let (machine, address) = OTHER_MACHINE;
    let (machine, address) = (machine.to_le_bytes(), address.to_le_bytes());
    let why = refused_bytes(&elf(&[
        (E_MACHINE, &machine),
        (E_ENTRY, &address),
        (P_VADDR, &address),
        (P_PADDR, &address),
    ]));
    says(&why, &["aarch64", "x86_64"]);
}

#[test]
fn a_sparse_file_of_eight_tebibytes_is_refused_at_once() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let path = folder.file("image", "");
    File::options().write(true).open(&path).unwrap().set_len(8 << 40).unwrap();
    says(&refused(path), &["its format is unknown"]);
}

#[test]
#[cfg(target_arch = "x86_64")] // which the image is for
fn an_image_that_is_followed_by_eight_tebibytes_of_nothing_boots() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let path = folder.file("image", ops_image("tfs-v5-go-bios"));
    File::options().write(true).open(&path).unwrap().set_len(8 << 40).unwrap();
    runner([path]).ends_with(7);
}

#[test]
fn an_image_that_is_cut_off_anywhere_says_what_is_missing() {
    or_skip!(accelerator());
    let image = ops_image("tfs-v5-c-bios");
    let kernel = fs::read(kernel("exit")).unwrap();
    for (bytes, lengths) in [
        (&image, &[1, 440, 510, 511, 512, 513, 4096, image.len() / 2][..]),
        (&kernel, &[1, 4, 16, 63, 64, 100, kernel.len() / 2]),
    ] {
        for length in lengths {
            refused_bytes(&bytes[..*length]);
        }
    }
    says(&refused_bytes(&image[..image.len() / 3]), &["truncated"]);
}

// Offsets in an ELF64 file whose program headers follow its header (ELF-64 Object File Format,
// "File header" and "Program header table").
const EI_CLASS: usize = 4;
const EI_DATA: usize = 5;
const E_TYPE: usize = 16;
const E_MACHINE: usize = 18;
const E_ENTRY: usize = 24;
const E_PHOFF: usize = 32;
const E_PHENTSIZE: usize = 54;
const E_PHNUM: usize = 56;
const P_OFFSET: usize = 72;
const P_VADDR: usize = 80;
const P_PADDR: usize = 88;
const P_FILESZ: usize = 96;
const P_MEMSZ: usize = 104;

/// A good kernel with some of its bytes changed.
fn elf(changes: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = fs::read(kernel("exit")).unwrap();
    for (at, change) in changes {
        bytes[*at..*at + change.len()].copy_from_slice(change);
    }
    bytes
}

#[test]
fn the_elf_file_that_the_others_are_made_from_is_good() {
    or_skip!(accelerator());
    let folder = Folder::new();
    runner([folder.file("image", elf(&[]))]).ends_with(255);
}

#[test]
fn an_elf_header_that_lies_is_refused() {
    or_skip!(accelerator());
    for (at, value) in [
        (EI_CLASS, &[1][..]),
        (EI_CLASS, &[9]),
        (EI_DATA, &[2]),
        (E_TYPE, &[3, 0]),
        (E_TYPE, &[0xff, 0xff]),
        (E_MACHINE, &[0xff, 0xff]),
        (E_ENTRY, &[0; 8]),
        (E_ENTRY, &[0xff; 8]),
        (E_ENTRY, &(1_u64 << 63).to_le_bytes()),
        (E_PHOFF, &[0; 8]),
        (E_PHOFF, &[0xff; 8]),
        (E_PHOFF, &(u64::MAX - 55).to_le_bytes()),
        (E_PHENTSIZE, &[55, 0]),
        (E_PHENTSIZE, &[0, 0]),
        (E_PHNUM, &[0, 0]),
        (E_PHNUM, &[0xff, 0xff]),
        (E_PHNUM, &[0xfe, 0xff]),
    ] {
        let why = refused_bytes(&elf(&[(at, value)]));
        assert!(why.len() < 500, "byte {at}: {why}");
    }
}

#[test]
fn an_elf_segment_that_lies_or_lies_outside_of_memory_is_refused() {
    or_skip!(accelerator());
    let entry = u64::from_le_bytes(elf(&[])[E_ENTRY..][..8].try_into().unwrap());
    for (at, value) in [
        (P_OFFSET, u64::MAX),
        (P_OFFSET, u64::MAX - 0x1ff),
        (P_OFFSET, 1 << 40),
        (P_FILESZ, u64::MAX),
        (P_FILESZ, 1 << 40),
        (P_MEMSZ, 1),
        (P_MEMSZ, u64::MAX),
        (P_MEMSZ, 1 << 62),
        (P_MEMSZ, 1 << 40),
        (P_PADDR, 0),
        (P_PADDR, 0x7000),
        (P_PADDR, 0x2_0000),
        (P_PADDR, 0xf_0000),
        (P_PADDR, 0xc000_0000),
        (P_PADDR, 0xfeb0_0000),
        (P_PADDR, 0xfee0_0000),
        (P_PADDR, 1 << 50),
        (P_PADDR, u64::MAX - 0xff),
    ] {
        // The entry goes along, so that it is the segment that is refused.
        let entry = if at == P_PADDR { value.saturating_add(0x88) } else { entry };
        let change = [(at, &value.to_le_bytes()[..]), (E_ENTRY, &entry.to_le_bytes())];
        let why = refused_bytes(&elf(&change));
        assert!(why.len() < 500, "byte {at}, {value:#x}: {why}");
    }
}

/// The head of a Hermit unikernel whose relocation table begins at 0x2000, in its one segment of 16 KiB, and is
/// `size` bytes long.
fn hermit_with_table(size: u64) -> Vec<u8> {
    let mut bytes = vec![0; 0x4000];
    let mut put = |at: usize, words: &[u64]| {
        let words = words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
        bytes[at..at + words.len()].copy_from_slice(&words);
    };
    let machine = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    put(0, &[0xff01_0102_464c_457f, 0, 3 | machine << 16 | 1 << 32, 0x1000, 64, 0]);
    put(48, &[64 << 32 | 56 << 48, 3]);
    // To be loaded, notes, and the table for linkers.
    put(64, &[1 | 7 << 32, 0, 0, 0, 0x4000, 0x4000, 0x1000]);
    put(120, &[4 | 4 << 32, 0x400, 0x400, 0x400, 24, 24, 4]);
    put(176, &[2 | 6 << 32, 0x800, 0x800, 0x800, 64, 64, 8]);
    put(0x400, &[7 | 1 << 32, 0x5a00 | u64::from_le_bytes(*b"\0\0\0\0HERM"), 0x0004_0000_5449]);
    put(0x800, &[7, 0x2000, 8, size, 0, 0, 0, 0]);
    bytes
}

#[test]
fn a_hermit_unikernel_with_a_relocation_table_that_is_a_hole_is_refused_at_once() {
    or_skip!(accelerator());
    let folder = Folder::new();
    for size in [4_800_000_000, 7 << 40] {
        let path = folder.file("image", hermit_with_table(size));
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(0x3000 + size).unwrap();
        let why = refused(&path);
        says(&why, &["relocation table", "at 0x2000", "one segment", "build it again"]);
        assert_eq!(runner(["inspect"]).arg(&path).refused(), why);
    }
}

#[test]
#[cfg(target_arch = "x86_64")] // whose Xen has them
fn a_pvh_note_that_lies_is_refused_or_no_note() {
    or_skip!(accelerator());
    let good = fs::read(kernel("pvh_info")).unwrap();
    let note = [4_u32, 4, 18].map(u32::to_le_bytes).concat();
    let at = good.windows(12).position(|bytes| bytes == note).unwrap();
    for (offset, value) in [(0, u32::MAX), (4, u32::MAX), (4, 0x7fff_ffff), (16, 0), (16, u32::MAX)]
    {
        let mut bytes = good.clone();
        bytes[at + offset..at + offset + 4].copy_from_slice(&value.to_le_bytes());
        let folder = Folder::new();
        let finished = runner(["inspect"]).arg(folder.file("image", bytes)).run();
        assert!([Some(0), Some(125)].contains(&finished.status), "{finished}");
        assert!(!finished.text().contains("PVH entry"), "{finished}");
    }
}

/// Where the partition table is, and what an entry has where.
const TABLE: usize = 0x1be;
const TYPE: usize = 4;
const FIRST_SECTOR: usize = 8;
const SECTORS: usize = 12;

#[test]
fn a_partition_table_that_leads_nowhere_is_refused() {
    or_skip!(accelerator());
    for (at, value) in [
        (TABLE + TYPE, &[0xee][..]),
        (TABLE + TYPE, &[0xef]),
        (TABLE + FIRST_SECTOR, &[0; 4]),
        (TABLE + FIRST_SECTOR, &[0xff; 4]),
        (TABLE + FIRST_SECTOR, &[1, 0, 0, 0]),
        (TABLE + SECTORS, &[0xff; 4]),
        (TABLE + SECTORS, &[0; 4]),
        (TABLE + 64, &[0, 0]),
    ] {
        let mut image = ops_image("tfs-v5-go-bios");
        image[at..at + value.len()].copy_from_slice(value);
        refused_bytes(&image);
    }
}

/// The first byte of an image's boot file system.
fn boot_file_system(image: &[u8]) -> usize {
    let sector = &image[TABLE + FIRST_SECTOR..][..4];
    512 * usize::try_from(u32::from_le_bytes(sector.try_into().unwrap())).unwrap()
}

#[test]
fn a_file_system_log_that_goes_in_circles_or_nowhere_is_refused() {
    or_skip!(accelerator());
    let good = ops_image("tfs-v5-c-bios");
    let start = boot_file_system(&good);
    assert_eq!(&good[start..start + 6], b"NVMTFS");
    // Behind magic, version, length and UUID the label ends with a NUL, then come the records.
    let label = start + 6 + 1 + 1 + 16;
    let records = label + good[label..].iter().position(|byte| *byte == 0).unwrap() + 1;
    for (what, at, bytes) in [
        ("no magic", start, &b"NVMTFT"[..]),
        ("an unknown version", start + 6, &[9]),
        ("a version without end", start + 6, &[0xff; 12]),
        ("a length without end", start + 7, &[0xff; 12]),
        ("an unknown record", records, &[0x7f]),
        ("a link to itself", records, &[5, 0, 1]),
        ("a link beyond the disk", records, &[5, 0xff, 0xff, 0xff, 0x7f, 1]),
        (
            "a link that is never over",
            records,
            &[5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ),
        ("a tuple larger than the log", records, &[2, 0xff, 0xff, 0x7f, 0xff, 0xff, 0x7f]),
        ("nothing in it", records, &[1]),
    ] {
        let mut image = good.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        let why = refused_bytes(&image);
        assert!(why.len() < 500, "{what}: {why}");
    }
}

#[test]
fn no_single_broken_byte_of_a_file_system_makes_inspect_panic_or_hang() {
    let good = ops_image("tfs-v4-go-bios");
    let start = boot_file_system(&good);
    let folder = Folder::new();
    let path = folder.file("image", &good);
    let file = File::options().write(true).open(&path).unwrap();
    let mut refused = 0;
    for at in (start..start + 1024).step_by(5) {
        file.write_all_at(&[!good[at]], at as u64).unwrap();
        let finished = runner(["inspect"]).arg(&path).run();
        match finished.status {
            Some(0) => {}
            Some(125) => refused += 1,
            _ => panic!("byte {at}: {finished}"),
        }
        file.write_all_at(&[good[at]], at as u64).unwrap();
    }
    assert!(refused > 10, "only {refused} were found broken");
}
