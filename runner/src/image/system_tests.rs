use super::*;
use crate::image::testing::{ElfFile, arm64_image, note, pvh_note, with_sections};
use crate::image::{Image, Marks, Source};

fn image(bytes: Vec<u8>) -> Image {
    Image::recognise_as(Source::from_bytes("k", &bytes), Marks::NotNeeded).unwrap()
}

fn system(bytes: Vec<u8>) -> Option<System> {
    image(bytes).kernel().system()
}

fn multiboot() -> ElfFile {
    let mut file = ElfFile::new(0x10_0000).short();
    let header = [0x1bad_b002, 3, 0_u32.wrapping_sub(0x1bad_b002 + 3)];
    let body: Vec<u8> = header.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    file.load(0x10_0000, &body, 32);
    file
}

#[test]
fn unikraft_and_osv_are_known_by_their_sections_in_files_of_both_sizes() {
    let unikraft = b"\0.text\0.uk_libinfo\0.bss\0";
    assert_eq!(system(with_sections(&ElfFile::kernel(), unikraft)), Some(System::Unikraft));
    assert_eq!(system(with_sections(&multiboot(), unikraft)), Some(System::Unikraft));
    let osv = b"\0.text\0.percpu_workers\0";
    assert_eq!(system(with_sections(&ElfFile::kernel(), osv)), Some(System::Osv));
    for other in [&b"\0.text\0.ukulele\0.data.uk_x\0"[..], b"", b"\0"] {
        assert_eq!(system(with_sections(&ElfFile::kernel(), other)), None);
        assert_eq!(system(with_sections(&multiboot(), other)), None);
    }
}

#[test]
fn xens_note_names_the_guest_and_counts_before_sections() {
    for (name, wanted) in [
        (&b"FreeBSD\0"[..], Some(System::FreeBsd)),
        (b"NetBSD\0", Some(System::NetBsd)),
        (b"NetBSD", Some(System::NetBsd)),
        (b"osv\0", Some(System::Osv)),
        (b"linux\0", Some(System::Unikraft)),
        (b"", Some(System::Unikraft)),
    ] {
        let mut file = ElfFile::kernel();
        file.notes(&[note(b"Xen\0", 6, name), pvh_note(0x10_0000)].concat());
        assert_eq!(system(with_sections(&file, b"\0.uk_inittab\0")), wanted, "{name:?}");
    }
}

#[test]
fn sections_that_lie_are_no_error_and_no_system() {
    let whole = with_sections(&ElfFile::kernel(), b"\0.uk_inittab\0");
    assert_eq!(system(whole.clone()), Some(System::Unikraft));
    // Place of the table, size of an entry, the names' number; then where the names are, and how many.
    let entry = whole.len() - 64;
    for (at, value) in [
        (40, &u64::MAX.to_le_bytes()[..]),
        (40, &(whole.len() as u64).to_le_bytes()),
        (58, &[0, 0]),
        (58, &[63, 0]),
        (62, &[2, 0]),
        (62, &[0xff, 0xff]),
        (entry + 24, &u64::MAX.to_le_bytes()),
        (entry + 32, &u64::MAX.to_le_bytes()),
        (entry + 32, &(65_537_u64).to_le_bytes()),
    ] {
        let mut bytes = whole.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        assert_eq!(system(bytes), None, "{at} {value:?}");
    }
}

#[test]
fn images_for_arm64_are_known_by_their_header_or_by_the_elf_file_in_them() {
    let osv = with_sections(&ElfFile::kernel(), b"\0.text\0.percpu_workers\0");
    let nobodys = with_sections(&ElfFile::kernel(), b"\0.text\0");
    let image = |text_offset, at: usize, rest: &[u8]| {
        let mut image = arm64_image(text_offset, 0x20_0000, 0);
        image.resize(at, 0);
        [image, rest.to_vec()].concat()
    };
    for (bytes, wanted) in [
        (image(0xf_ffc0, 128, b""), Some(System::Unikraft)),
        (image(0xf_ffd0, 128, b""), None),
        (image(0x8_0000, 0x1_0000, &osv), Some(System::Osv)),
        (image(0x8_0000, 0x1_0010, &osv), None),
        (image(0x8_0000, 0x1_0000, &osv[1..]), None),
        (image(0x8_0000, 0x1_0000, &nobodys), None),
        (image(0x8_0000, 0x1_0000, b"\x7fELF"), None),
        (image(0x8_0000, 0x1_0000, b""), None),
    ] {
        assert_eq!(system(bytes.clone()), wanted, "{} bytes", bytes.len());
    }
}

fn loader(bytes: Vec<u8>) -> bool {
    let source = Source::from_bytes("k", &bytes);
    let image = Image::recognise_as(source, Marks::NeededOrLoader);
    image.is_ok_and(|image| image.kernel().is_hermits_loader())
}

#[test]
fn hermits_loader_is_known_by_its_text_and_never_where_something_says_that_it_is_another() {
    let with = |mut file: ElfFile, at| {
        file.load(at, b"x[LOADER][INFO] y", 32).flags = 4;
        file
    };
    assert!(loader(with(ElfFile::kernel(), 0x20_0000).build()));
    assert!(loader(with(multiboot(), 0x20_0000).build()));
    assert!(!loader(ElfFile::kernel().build()) && !loader(multiboot().build()));
    let unikraft = with_sections(&with(ElfFile::kernel(), 0x20_0000), b"\0.uk_inittab\0");
    assert!(!loader(unikraft));
    let mut by_pvh = with(ElfFile::kernel(), 0x20_0000);
    by_pvh.notes(&pvh_note(0x10_0000));
    assert!(!loader(by_pvh.build()));
    // It is entered where nobody may execute anything, and lies where programs do, which are refused.
    let mut odd = with(ElfFile::new(0x60_0000), 0x60_0000);
    assert!(loader(odd.build()));
    odd.interpreter(b"/lib/ld.so\0");
    assert!(!loader(odd.build()));
    let mut program = ElfFile::new(0x60_0000);
    program.load(0x60_0000, b"x[LOADEd]", 32);
    assert!(!loader(program.build()));
    // Text is not looked for without an end.
    let mut long = with(ElfFile::kernel(), 0x20_0000);
    long.load(0x40_0000, &vec![0; 4 << 20], 4 << 20);
    assert!(!loader(long.build()));
}
