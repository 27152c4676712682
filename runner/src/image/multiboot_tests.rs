use super::*;
use crate::image::testing::ElfFile;
use crate::image::{Source, View};

/// A file with a header of `words` at byte `at`, the checksum put in.
fn file(at: usize, flags: u32, addresses: &[u32], len: usize) -> Vec<u8> {
    let mut file = vec![0x90; len];
    let words = [MAGIC, flags, 0_u32.wrapping_sub(MAGIC).wrapping_sub(flags)];
    let words = words.iter().chain(addresses).flat_map(|word| word.to_le_bytes());
    for (byte, value) in file.iter_mut().skip(at).zip(words) {
        *byte = value;
    }
    file
}

fn parse(file: &[u8]) -> Result<Multiboot, MultibootError> {
    Multiboot::parse(file, file.len() as u64, None).unwrap()
}

/// With the header at byte 8: header, load, load end, bss end, entry.
fn by_addresses(addresses: [u32; 5]) -> Result<Multiboot, MultibootError> {
    parse(&file(8, ADDRESSES | 3, &addresses, 0x100))
}

#[test]
fn a_header_is_found_up_to_the_last_word_of_8_kib_if_it_is_whole() {
    let at = |at: usize, len| find(&file(at, 3, &[], len));
    assert_eq!((at(0, 12), at(8180, 9000), at(64, 100)), (Some(0), Some(8180), Some(64)));
    // It begins within, and its checksum is beyond; it is no multiple of 4; it is cut off.
    assert_eq!((at(8184, 9000), at(8192, 9000), at(2, 100), at(0, 11)), (None, None, None, None));
    let mut wrong = file(0, 3, &[], 12);
    wrong[8] ^= 1;
    assert_eq!(find(&wrong), None);
    assert!(Multiboot::parse(&wrong, 12, None).is_none());
}

#[test]
fn addresses_say_what_is_loaded_where_and_what_is_zero() {
    // 8 bytes before the header are loaded, too.
    let kernel = by_addresses([0x10_0008, 0x10_0000, 0x10_0080, 0x10_1000, 0x10_0020]).unwrap();
    let segment = kernel.segment.unwrap();
    assert_eq!((segment.file_offset, segment.file_size), (0, 0x80));
    assert_eq!((segment.paddr, segment.mem_size, kernel.entry), (0x10_0000, 0x1000, 0x10_0020));
    // Two zeros: the whole file, and nothing behind it. The first 4 bytes stay out.
    let kernel = by_addresses([0x10_0004, 0x10_0000, 0, 0, 0x10_0000]).unwrap();
    let segment = kernel.segment.unwrap();
    assert_eq!((segment.file_offset, segment.file_size, segment.mem_size), (4, 0xfc, 0xfc));
}

#[test]
fn addresses_that_do_not_fit_the_file_or_each_other_are_refused() {
    use MultibootError::{Entry, Load, Order};
    let is = |addresses, expected: fn(&MultibootError) -> bool| {
        let error = by_addresses(addresses).unwrap_err();
        assert!(expected(&error), "{addresses:x?}: {error:?}");
    };
    is([0x10_0000, 0x10_0004, 0, 0, 0x10_0010], |e| matches!(e, Load { .. }));
    is([0x10_0010, 0x10_0000, 0, 0, 0x10_0010], |e| matches!(e, Load { offset: 8, .. }));
    is([0x10_0008, 0x10_0000, 0x10_0101, 0, 0x10_0000], |e| matches!(e, Order { has: 0x100, .. }));
    is([0x10_0008, 0x10_0000, 0xf_ffff, 0, 0x10_0000], |e| matches!(e, Order { .. }));
    is([0x10_0008, 0x10_0000, 0x10_0080, 0x10_007f, 0x10_0000], |e| matches!(e, Order { .. }));
    is([0x10_0008, 0x10_0000, 0x10_0000, 0x10_0000, 0x10_0000], |e| matches!(e, Order { .. }));
    is([0x10_0008, 0x10_0000, 0, 0, 0x10_0100], |e| matches!(e, Entry(0x10_0100)));
    is([0xffff_ffff, 0xffff_fff7, 0, 0, 0], |e| matches!(e, Entry(0)));
}

#[test]
fn a_file_that_ends_within_its_addresses_is_truncated() {
    for len in 12..32 {
        let whole = file(0, ADDRESSES, &[0x10_0000; 5], 32);
        assert_eq!(parse(&whole[..len]), Err(MultibootError::Truncated), "{len}");
    }
    assert!(parse(&file(0, ADDRESSES, &[0x10_0000, 0x10_0000, 0, 0, 0x10_0000], 32)).is_ok());
}

#[test]
fn what_no_loader_can_give_is_refused_and_wishes_are_not() {
    let all = [0x10_0000, 0x10_0000, 0, 0, 0x10_0000];
    for bit in 0..32 {
        let parsed = parse(&file(0, ADDRESSES | 1 << bit, &all, 64));
        match bit {
            0..=2 | 16.. => assert!(parsed.is_ok(), "{bit}"),
            _ => assert_eq!(parsed, Err(MultibootError::Required(1 << bit))),
        }
    }
}

#[test]
fn without_addresses_an_elf_file_says_where_and_its_entry_may_be_virtual() {
    let header = file(0, 3, &[], 12);
    let elf_of =
        |file: &ElfFile| Elf::parse(&View::whole(Source::from_bytes("k", &file.build()))).unwrap();
    let of = |file: &ElfFile| Multiboot::parse(&header, 12, Some(&elf_of(file))).unwrap();
    let mut kernel = ElfFile::kernel();
    assert_eq!(of(&kernel), Ok(Multiboot { segment: None, entry: 0x10_0000 }));
    (kernel.entry, kernel.phdrs[0].vaddr) = (0xffff_ffff_8000_0008, 0xffff_ffff_8000_0000);
    assert_eq!(of(&kernel).unwrap().entry, 0x10_0008);
    kernel.entry = 0x50_0000;
    assert_eq!(of(&kernel), Err(MultibootError::Entry(0x50_0000)));
    let mut high = ElfFile::new(1 << 32);
    high.load(1 << 32, &[0xf4], 1);
    assert_eq!(of(&high), Err(MultibootError::Entry(1 << 32)));
    (kernel.entry, kernel.machine) = (0x10_0000, 183);
    assert_eq!(of(&kernel), Err(MultibootError::NoAddresses));
    assert_eq!(parse(&header), Err(MultibootError::NoAddresses));
}
