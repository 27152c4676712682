use super::*;
use crate::image::testing::arm64_image;
use crate::image::{Arch, Format, Image, Source};

/// What is loaded of an Image with such fields.
fn segment_of(text_offset: u64, image_size: u64, flags: u64) -> Result<Segment, Arm64Error> {
    let image = arm64_image(text_offset, image_size, flags);
    let view = View::whole(Source::from_bytes("Image", &image));
    segment(&view, &image)
}

#[test]
fn an_image_stands_behind_the_device_tree_and_is_entered_at_its_first_byte() {
    let source = Source::from_bytes("Image", &arm64_image(0, 0x30_0000, 0xa));
    let image = Image::recognise(source).unwrap();
    assert_eq!((image.format(), image.arch()), (Format::Arm64Image, Arch::Aarch64));
    let kernel = image.kernel();
    assert_eq!(kernel.entry(), Some(0x4020_0000));
    let [segment] = kernel.segments() else { panic!("one segment") };
    assert_eq!((segment.paddr, segment.file_size, segment.mem_size), (0x4020_0000, 128, 0x30_0000));
    assert!(segment.executable());
}

#[test]
fn text_offset_counts_where_image_size_says_that_it_does() {
    assert_eq!(segment_of(0x1000, 4096, 0).unwrap().paddr, 0x4020_1000);
    let old = segment_of(u64::MAX, 0, 0).unwrap();
    assert_eq!((old.paddr, old.mem_size), (0x4008_0000, 128));
}

#[test]
fn an_image_that_leaves_room_for_the_device_tree_stands_behind_the_beginning_of_ram() {
    for (text_offset, paddr) in
        [(0x7_fff0, 0x4027_fff0), (0x8_0000, 0x4008_0000), (0xf_ffc0, 0x400f_ffc0)]
    {
        assert_eq!(segment_of(text_offset, 4096, 0xa).unwrap().paddr, paddr);
    }
}

#[test]
fn hostile_headers_are_refused_with_what_is_wrong() {
    for (fields, wanted) in [
        ((0, 4096, 1), "CONFIG_CPU_BIG_ENDIAN"),
        ((0, 4096, u64::MAX), "CONFIG_CPU_BIG_ENDIAN"),
        ((0, 127, 0), "needs 127 bytes of memory, and has 128"),
        ((u64::MAX, 4096, 0), "no multiple of 16"),
        ((0x8_0008, 4096, 0), "no multiple of 16"),
        ((u64::MAX - 15, 4096, 0), "past the last address"),
        ((u64::MAX - 0x4000_000f, 4096, 0), "past the last address"),
        ((0, u64::MAX, 0), "past the last address"),
    ] {
        let (text_offset, image_size, flags) = fields;
        let error = segment_of(text_offset, image_size, flags).unwrap_err().to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
}

#[test]
fn a_file_that_ends_in_its_header_is_never_more_than_its_bytes() {
    let image = arm64_image(0, 4096, 0);
    for len in 60..64 {
        let short = &image[..len];
        let view = View::whole(Source::from_bytes("Image", short));
        assert!(is_arm64_image(short));
        assert_eq!(segment(&view, short).unwrap().file_size, len as u64);
    }
    assert!(!is_arm64_image(&image[..59]));
}
