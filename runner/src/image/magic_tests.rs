use super::*;

fn at(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut head = vec![0; offset];
    head.extend_from_slice(bytes);
    head
}

fn multiboot_header(magic: u32, words: usize) -> Vec<u8> {
    let flags: u32 = 3;
    let mut all = vec![magic, flags];
    all.resize(words - 1, 0);
    all.push(all.iter().fold(0_u32, |sum, word| sum.wrapping_sub(*word)));
    all.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn a_multiboot_2_header_is_found_in_32_kib() {
    let header = multiboot_header(0xe852_50d6, 4);
    assert!(multiboot2(&at(16384, &header)));
    assert!(!multiboot2(&at(32768, &header)));
    assert!(!multiboot2(&at(4, &header)));
    let mut wrong = header;
    wrong[8] ^= 1;
    assert!(!multiboot2(&at(0, &wrong)));
}

#[test]
fn a_pe_file_is_told_by_its_magic() {
    let mut pe = at(0x80, b"PE\0\0");
    pe[..2].copy_from_slice(b"MZ");
    pe[0x3c] = 0x80;
    assert!(is_pe(&pe));
    pe[0x3f] = 0xff;
    assert!(!is_pe(&pe));
    assert!(!is_pe(b"MZ"));
}

#[test]
fn every_foreign_format_is_named_with_a_remedy_and_a_prefix_of_its_magic_is_not() {
    for (offset, magic, what, remedy) in FOREIGN {
        let head = at(*offset, magic);
        let found = foreign(&head).unwrap();
        assert_eq!((found.what, found.remedy), (*what, *remedy));
        assert!(foreign(&head[..head.len() - 1]).is_none(), "{what}");
    }
}

#[test]
fn a_zboot_image_says_what_it_is_packed_with() {
    let mut head = at(0, b"MZ\0\0zimg");
    head.resize(24, 0);
    head.extend_from_slice(b"zstd22\0");
    assert_eq!(efi_zboot(&head), None, "cut off");
    head.resize(64, 0);
    assert_eq!(efi_zboot(&head).as_deref(), Some("zstd22"));
    head[4] = b'y';
    assert_eq!(efi_zboot(&head), None);
}
