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
