//! Formats that are recognised: which comes first, and what is said about those not booted.

use super::*;
use crate::image::solo5::Solo5Error;
use crate::image::testing::{
    BzImageFile, ElfFile, boot_disk, boot_filesystem, log, note, pvh_note, solo5_file, solo5_note,
};

fn not_yet(bytes: &[u8]) -> String {
    match problem(bytes) {
        Problem::NotYet { what } => what,
        other => panic!("{other}"),
    }
}

fn with_note(note: &[u8]) -> ElfFile {
    let mut file = ElfFile::kernel();
    file.notes(note);
    file
}

fn solo5(target: u32) -> Vec<u8> {
    with_note(&solo5_note(target, 2)).build()
}

/// A kernel whose first segment begins with a Multiboot header.
pub(super) fn multiboot() -> ElfFile {
    let mut file = ElfFile::kernel();
    let magic: u32 = 0x1bad_b002;
    let header = [magic, 0, 0_u32.wrapping_sub(magic)].map(u32::to_le_bytes).concat();
    file.load(0x20_0000, &header, 12);
    file
}

#[test]
fn a_multiboot_kernel_is_an_elf_file_of_64_bits_or_of_32_or_none() {
    for (file, entry) in [(multiboot(), Some(0x10_0000)), (multiboot().short(), None)] {
        let image = recognise(&file.build()).unwrap();
        assert_eq!((image.format(), image.arch()), (Format::Multiboot, Arch::X86_64));
        let kernel = image.kernel();
        assert_eq!((kernel.entry(), kernel.multiboot_entry()), (entry, Some(0x10_0000)));
        assert_eq!(kernel.segments().len(), 2);
    }
    let header =
        [0x1bad_b002, 0x1_0000, 0_u32.wrapping_sub(0x1bae_b002), 0x30_0000, 0x30_0000, 0, 0];
    let header = [&header[..], &[0x30_0000]].concat();
    let header: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    // Where a header has addresses, an ELF file's own do not count.
    for file in [header.clone(), put(ElfFile::kernel().build(), 0x300, &header)] {
        let image = recognise(&file).unwrap();
        assert_eq!(image.format(), Format::Multiboot);
        let [segment] = image.kernel().segments() else { panic!() };
        assert_eq!((segment.paddr, image.kernel().multiboot_entry()), (0x30_0000, Some(0x30_0000)));
    }
    let cut = problem(&header[..20]).to_string();
    assert!(cut.starts_with("its Multiboot header: the file ends within it"), "{cut}");
}

#[test]
fn a_32_bit_kernel_is_entered_by_pvh_too_and_by_nothing_else() {
    let mut file = ElfFile::kernel().short();
    assert!(Kernel::open(&Source::from_bytes("k", &file.build())).is_err());
    file.notes(&pvh_note(0x10_0004));
    let image = recognise(&file.build()).unwrap();
    assert_eq!((image.format(), image.kernel().entry()), (Format::Pvh, None));
    assert_eq!(image.kernel().pvh_entry(), Some(0x10_0004));
}

/// Puts bytes into a file that is long enough, or made so.
fn put(mut file: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    file.resize(file.len().max(at + bytes.len()), 0);
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

/// The file with a bzImage's marks, and fields enough to be one.
fn bzimage(mut file: Vec<u8>) -> Vec<u8> {
    let whole = BzImageFile::new().build();
    file.resize(file.len().max(whole.len()), 0);
    put(file, 0x1f1, &whole[0x1f1..0x26c])
}

#[test]
fn a_kernel_with_a_pvh_note_has_both_entries() {
    let image = recognise(&with_note(&pvh_note(0x10_0004)).build()).unwrap();
    assert_eq!((image.format(), image.arch()), (Format::Pvh, Arch::X86_64));
    assert_eq!(
        (image.kernel().entry(), image.kernel().pvh_entry()),
        (Some(0x10_0000), Some(0x10_0004))
    );
    assert!(!image.is_disk());
    assert_eq!(image.manifest().unwrap(), None);
}

#[test]
fn a_plain_kernel_is_entered_at_its_elf_entry() {
    let image = recognise(&ElfFile::kernel().build()).unwrap();
    assert_eq!((image.format(), image.kernel().entry()), (Format::Elf, Some(0x10_0000)));
    let mut arm = ElfFile::new(0x4040_0000);
    arm.machine = 183;
    arm.load(0x4040_0000, &[0; 4], 4);
    assert_eq!(recognise(&arm.build()).unwrap().arch(), Arch::Aarch64);
}

#[test]
fn what_is_known_and_not_booted_is_named_and_not_unknown() {
    let mut small = ElfFile::kernel().short();
    assert_eq!(not_yet(&small.build()), "a 32-bit x86 ELF file");
    small.machine = 40;
    assert_eq!(not_yet(&small.build()), "a 32-bit Arm ELF file");
    let second = [0xe852_50d6_u32, 0, 16, 0_u32.wrapping_sub(0xe852_50d6 + 16)];
    let second = second.map(u32::to_le_bytes).concat();
    let file = put(ElfFile::kernel().build(), 0x400, &second);
    assert_eq!(not_yet(&file), "a Multiboot 2 kernel");
    assert_eq!(not_yet(&second), "a Multiboot 2 kernel");
    let mut pe = put(b"MZ".to_vec(), 0x80, b"PE\0\0");
    pe[0x3c] = 0x80;
    assert_eq!(not_yet(&pe), "a program for EFI or Windows");
}

#[test]
fn what_must_be_converted_is_named_with_the_command() {
    let text = problem(b"QFI\xfb and more").to_string();
    assert_eq!(
        text,
        "this is a qcow2 disk: convert it with `qemu-img convert -O raw IMAGE IMAGE.raw`, and run that"
    );
    assert!(problem(b"\x1f\x8b\x08\0").to_string().contains("gunzip"));
    let volume = log(5, 4, &[testing::Node::Tuple(vec![])]);
    assert!(problem(&volume).to_string().contains("`--disk`"));
}

#[test]
fn the_unknown_is_described_by_its_first_bytes_without_control_characters() {
    let text = problem(b"\x1b[2Jevil\0\nand much more than that").to_string();
    assert!(text.contains(r#"(it begins with "\x1b[2Jevil\x00\nand mu")"#), "{text}");
    assert!(problem(b"x").to_string().contains(r#"it begins with "x""#));
    assert!(problem(b"").to_string().contains(r#"it begins with """#));
}

#[test]
fn of_two_formats_in_one_file_the_first_in_order_counts() {
    // The disk's sector 0 is all but its table free for others.
    let disk = boot_disk(&boot_filesystem(5, &ElfFile::kernel().build()));
    for other in [
        b"QFI\xfb".to_vec(),
        b"\x1f\x8b".to_vec(),
        multiboot().build()[..440].to_vec(),
        solo5(1)[..440].to_vec(),
    ] {
        assert!(matches!(format(&put(disk.clone(), 0, &other)), Format::Ops { .. }));
    }
    assert!(matches!(format(&put(disk.clone(), 0x202, b"HdrS")), Format::Ops { .. }));
    assert!(matches!(format(&put(disk, 0x38, b"ARM\x64")), Format::Ops { .. }));
    // Solo5, then Hermit, then bzImage, then PVH, then Multiboot, then plain.
    let mut all = multiboot();
    all.body.resize(0x100, 0); // the bzImage's header goes over the beginning
    all.notes(&pvh_note(0x10_0000));
    assert_eq!(format(&all.build()), Format::Pvh);
    assert_eq!(format(&bzimage(all.build())), Format::BzImage);
    all.notes(&note(b"HERMIT\0", 0x5a00, &[4]));
    assert_eq!(format(&bzimage(all.build())), Format::Hermit);
    all.notes(&solo5_note(2, 1));
    assert!(matches!(problem(&bzimage(all.build())), Problem::Solo5Target { name: "spt", .. }));
}

#[test]
fn a_boot_sector_that_is_no_partition_table_does_not_hide_a_bzimage() {
    let garbage = put(vec![0xcc; 4096], 0x1fe, &[0x55, 0xaa]);
    assert_eq!(format(&bzimage(garbage.clone())), Format::BzImage);
    assert!(matches!(problem(&garbage), Problem::Partitions(_)));
}

#[test]
fn a_solo5_unikernel_for_hvt_is_entered_by_hvt_alone() {
    let image = recognise(&solo5_file(&[("storage", 1), ("service", 2)]).build()).unwrap();
    assert_eq!((image.format(), image.arch()), (Format::Solo5, Arch::X86_64));
    let kernel = image.kernel();
    assert_eq!((kernel.entry(), kernel.pvh_entry(), kernel.entry32()), (None, None, None));
    let solo5 = kernel.solo5().unwrap();
    assert_eq!((solo5.entry, solo5.abi.version), (0x10_0000, 2));
    let devices = solo5.manifest.devices().map(|(handle, device)| (handle, device.name.as_str()));
    assert_eq!(devices.collect::<Vec<_>>(), [(1, "storage"), (2, "service")]);
}

#[test]
fn a_solo5_unikernel_for_another_target_is_named_with_what_to_build_instead() {
    for (target, name) in
        [(2, "spt"), (3, "virtio"), (4, "muen"), (5, "genode"), (6, "xen"), (77, "target 77")]
    {
        let text = problem(&solo5(target)).to_string();
        let wanted = "this is a Solo5 unikernel for ";
        assert!(
            text.starts_with(wanted) && text.contains(name) && text.contains("-t hvt"),
            "{text}"
        );
    }
}

#[test]
fn a_unikernel_for_hvt_that_its_tender_would_refuse_is_refused() {
    let refused = |file: ElfFile| match problem(&file.build()) {
        Problem::Solo5(error) => error,
        other => panic!("{other}"),
    };
    let with = |change: &dyn Fn(&mut ElfFile)| {
        let mut file = solo5_file(&[]);
        change(&mut file);
        refused(file)
    };
    assert_eq!(refused(with_note(&solo5_note(1, 3))), Solo5Error::Version(3));
    assert_eq!(refused(with_note(&solo5_note(1, 2))), Solo5Error::NoManifest);
    assert_eq!(with(&|file| file.kind = 3), Solo5Error::Dynamic);
    assert_eq!(with(&|file| file.phdrs[0].vaddr += 0x1000), Solo5Error::Virtual(0));
    assert_eq!(with(&|file| file.phdrs[0].flags = 7), Solo5Error::WriteExecute(0));
    let low = with(&|file| file.load(0xf_f000, &[0; 16], 16).flags = 4);
    assert_eq!(low, Solo5Error::TooLow { index: 4, start: 0xf_f000 });
    let shared = with(&|file| file.load(0x10_0f00, &[0; 16], 16).flags = 6);
    assert_eq!(shared, Solo5Error::SharedPage(0, 4));
    for entry in [0, 0x20_0000, u64::MAX] {
        let mut file = solo5_file(&[]);
        file.entry = entry;
        assert!(matches!(problem(&file.build()), Problem::Elf { .. }), "{entry:#x}");
    }
}
