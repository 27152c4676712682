use super::*;
use crate::image::testing::{ElfFile, note, pvh_note};
use crate::image::{Image, Marks, Source};

/// `file` with a table of two sections, the second of which has the names.
fn with_sections(file: &ElfFile, names: &[u8]) -> Vec<u8> {
    let mut bytes = file.build();
    let short = bytes[4] == 1;
    let (size, offset_at, len_at) = if short { (40, 16, 20) } else { (64, 24, 32) };
    let names_at = bytes.len();
    bytes.extend(names);
    let table = bytes.len();
    let mut section = vec![0; size];
    section[offset_at..offset_at + 4]
        .copy_from_slice(&u32::try_from(names_at).unwrap().to_le_bytes());
    section[len_at..len_at + 4].copy_from_slice(&u32::try_from(names.len()).unwrap().to_le_bytes());
    bytes.extend(vec![0; size]);
    bytes.extend(section);
    let at = if short { 32 } else { 40 };
    bytes[at..at + 4].copy_from_slice(&u32::try_from(table).unwrap().to_le_bytes());
    let at = if short { 46 } else { 58 };
    for (index, field) in [u16::try_from(size).unwrap(), 2, 1].into_iter().enumerate() {
        bytes[at + 2 * index..at + 2 * index + 2].copy_from_slice(&field.to_le_bytes());
    }
    bytes
}

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
    let osv = b"\0.text\0.tracepoint_patch_sites\0";
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
