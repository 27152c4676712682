use super::super::Source;
use super::super::testing::BzImageFile;
use super::*;

fn parse(file: &BzImageFile) -> Result<BzImage, BzImageError> {
    parse_bytes(&file.build())
}

fn parse_bytes(bytes: &[u8]) -> Result<BzImage, BzImageError> {
    BzImage::parse(&View::whole(Source::from_bytes("k", bytes)))
}

#[test]
fn a_kernel_goes_where_it_prefers_to_be_with_the_memory_it_needs() {
    let image = parse(&BzImageFile::new()).unwrap();
    let segment = Segment {
        index: 0,
        file_offset: 1024,
        file_size: 0x1000,
        mem_size: 0x8000,
        paddr: 0x100_0000,
        vaddr: 0x100_0000,
        flags: 7,
    };
    assert_eq!(image.segment, segment);
    assert_eq!((image.entry64, image.entry32), (Some(0x100_0200), 0x100_0000));
    let setup = image.setup;
    assert_eq!((setup.initrd_addr_max, setup.cmdline_size), (0x7fff_ffff, 2047));
    assert_eq!(setup.to_string(), "boot protocol: 2.15");
    assert_eq!(setup.version.as_deref(), Some("6.1 (me) \\x1b"));
    assert_eq!(setup.header.len(), 0x26c - Setup::HEADER_AT);
    assert_eq!(setup.header[0x202 - Setup::HEADER_AT..][..4], *b"HdrS");
}

#[test]
fn a_kernel_without_a_64_bit_entry_has_the_32_bit_one() {
    let mut file = BzImageFile::new();
    file.u16(0x236, 0);
    assert_eq!(parse(&file).unwrap().entry64, None);
    // The flags are younger than their place.
    let mut old = BzImageFile::new();
    old.u16(0x206, 0x020b);
    assert_eq!(parse(&old).unwrap().entry64, None);
}

#[test]
fn a_kernel_that_cannot_be_moved_is_loaded_where_it_says_with_room_to_move_itself() {
    let mut file = BzImageFile::new();
    file.byte(0x234, 0);
    file.u32(0x230, 3); // and its alignment means nothing
    let segment = parse(&file).unwrap().segment;
    assert_eq!((segment.paddr, segment.end()), (0x10_0000, 0x100_8000));
    file.u64(0x258, 0);
    let segment = parse(&file).unwrap().segment;
    assert_eq!((segment.paddr, segment.end()), (0x10_0000, 0x10_8000));
}

#[test]
fn before_2_10_a_kernel_does_not_say_what_it_needs() {
    let mut file = BzImageFile::new();
    file.u16(0x206, 0x0206);
    file.byte(0x201, 0x3a); // its header ends with cmdline_size
    let segment = parse(&file).unwrap().segment;
    assert_eq!((segment.paddr, segment.mem_size), (0x10_0000, 0x1000));
}

#[test]
fn a_setup_of_no_sectors_has_four() {
    let mut file = BzImageFile::new();
    file.byte(0x1f1, 0);
    file.bytes.resize(5 * 512 + 0x1000, 0xf4);
    assert_eq!(parse(&file).unwrap().segment.file_offset, 5 * 512);
}

#[test]
fn real_mode_programs_and_zimages_are_refused() {
    let mut file = BzImageFile::new();
    file.u32(0x214, 0);
    assert!(matches!(parse(&file), Err(BzImageError::RealMode)));
    let mut file = BzImageFile::new();
    file.byte(0x211, 0);
    assert!(matches!(parse(&file), Err(BzImageError::LoadedLow)));
}

#[test]
fn protocols_from_before_2_06_and_from_elsewhere_are_refused() {
    for version in [0, 0x0200, 0x0205, 0x0300, 0xffff] {
        let mut file = BzImageFile::new();
        file.u16(0x206, version);
        assert!(matches!(parse(&file), Err(BzImageError::TooOld(v)) if v == version));
    }
}

#[test]
fn a_header_that_ends_too_early_is_refused() {
    let mut file = BzImageFile::new();
    for jump in [0, 0x36, 0x61] {
        file.byte(0x201, jump);
        let error = parse(&file).unwrap_err();
        assert!(matches!(error, BzImageError::ShortHeader { needed: 0x264, .. }), "{error}");
    }
}

#[test]
fn every_truncation_is_an_error_except_within_the_last_paragraph() {
    let whole = BzImageFile::new().build();
    for len in 0x206..whole.len() {
        let parsed = parse_bytes(&whole[..len]);
        match whole.len() - len {
            1..16 => {
                assert_eq!(parsed.unwrap().segment.file_size, 0x1000 - (whole.len() - len) as u64)
            }
            _ => assert!(parsed.is_err(), "{len} bytes"),
        }
    }
}

#[test]
fn sizes_that_contradict_each_other_are_refused() {
    for init_size in [0, 1, 0xfff] {
        let mut file = BzImageFile::new();
        file.u32(0x260, init_size);
        assert!(matches!(parse(&file), Err(BzImageError::InitSize { size: 0x1000, .. })));
    }
    let mut file = BzImageFile::new();
    file.u32(0x1f4, 0);
    assert!(matches!(parse(&file), Err(BzImageError::NoKernel)));
    file.u32(0x1f4, u32::MAX);
    assert!(matches!(parse(&file), Err(BzImageError::PastEnd { .. })));
    let mut file = BzImageFile::new();
    file.byte(0x1f1, 255);
    assert!(matches!(parse(&file), Err(BzImageError::PastEnd { offset: 0x2_0000, .. })));
}

#[test]
fn addresses_beyond_what_can_be_entered_are_refused() {
    let at = |address: u64| {
        let mut file = BzImageFile::new();
        file.u64(0x258, address);
        parse(&file)
    };
    assert!(matches!(at(0x100_0001), Err(BzImageError::Alignment { .. })));
    assert!(matches!(at(!0x1f_ffff), Err(BzImageError::Beyond32(_))));
    assert!(matches!(at(0x1_0000_0000), Err(BzImageError::Beyond32(_))));
    let mut file = BzImageFile::new();
    file.u64(0x258, !0x1f_ffff);
    file.u32(0x260, u32::MAX);
    assert!(matches!(parse(&file), Err(BzImageError::Wraps { .. })));
}

#[test]
fn an_alignment_that_is_no_power_of_two_is_refused() {
    for alignment in [0, 3, 0x30_0000, u32::MAX] {
        let mut file = BzImageFile::new();
        file.u32(0x230, alignment);
        assert!(matches!(parse(&file), Err(BzImageError::Alignment { .. })), "{alignment:#x}");
    }
}

#[test]
fn a_64_bit_entry_that_the_kernel_is_too_short_for_is_refused() {
    let mut file = BzImageFile::new();
    file.u32(0x1f4, 0x200 / 16);
    assert!(matches!(parse(&file), Err(BzImageError::NoEntry64(0x200))));
}

#[test]
fn a_version_string_outside_of_the_setup_code_is_none() {
    for pointer in [0, 0x200, 0x1000, u16::MAX] {
        let mut file = BzImageFile::new();
        file.u16(0x20e, pointer);
        assert_eq!(parse(&file).unwrap().setup.version, None, "{pointer:#x}");
    }
}

#[test]
fn a_bzimage_needs_the_signature_and_the_header() {
    let mut head = [&[0; 0x202][..], b"HdrS"].concat();
    assert!(!is_bzimage(&head));
    head[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    assert!(is_bzimage(&head));
    assert!(!is_bzimage(&head[..0x205]));
}
