//! The five images that the two real writers of OPS images made (`tests/vm/data/images/README.md`).

use std::io::Read;
use std::sync::OnceLock;

use super::*;

const KERNEL: &[u8] = include_bytes!("../../../../tests/vm/data/images/tfs-kernel.elf");

macro_rules! image {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../../../tests/vm/data/images/", $name, ".img.gz")))
    };
}

/// Name and gzipped image.
type Packed = (&'static str, &'static [u8]);

/// The image, whether it is for UEFI, its TFS version.
const IMAGES: [(Packed, bool, u64); 5] = [
    (image!("tfs-v4-go-bios"), false, 4),
    (image!("tfs-v5-c-bios"), false, 5),
    (image!("tfs-v5-c-uefi"), true, 5),
    (image!("tfs-v5-go-bios"), false, 5),
    (image!("tfs-v5-go-uefi"), true, 5),
];

fn unpack(packed: &[u8]) -> &'static [u8] {
    let mut image = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut image).unwrap();
    image.leak()
}

/// Fixture `number`, unpacked once for all tests.
fn unpacked(number: usize) -> &'static [u8] {
    static IMAGE: [OnceLock<&'static [u8]>; IMAGES.len()] =
        [const { OnceLock::new() }; IMAGES.len()];
    let ((_, packed), ..) = IMAGES[number];
    IMAGE[number].get_or_init(|| unpack(packed))
}

fn each(check: impl Fn(&str, Image, bool, u64)) {
    for (number, ((name, _), uefi, tfs)) in IMAGES.into_iter().enumerate() {
        let source = Source::from_static(name, unpacked(number));
        check(name, Image::recognise(source).unwrap(), uefi, tfs);
    }
}

#[test]
fn every_fixture_is_an_ops_image_with_the_same_kernel() {
    each(|name, image, uefi, tfs| {
        assert_eq!(image.format(), Format::Ops { uefi, tfs }, "{name}");
        assert_eq!(image.arch(), Arch::X86_64, "{name}");
        assert!(image.is_disk(), "{name}");
        let kernel = image.kernel();
        let mut bytes = vec![0; KERNEL.len()];
        assert_eq!(kernel.view().len(), 400, "{name}");
        kernel.view().read_exact_at(0, &mut bytes).unwrap();
        assert_eq!(bytes, KERNEL, "{name}");
    });
}

#[test]
fn the_segments_of_a_kernel_in_an_image_lead_to_its_bytes_on_disk() {
    each(|name, image, _, _| {
        let kernel = image.kernel();
        assert_eq!((kernel.entry(), kernel.pvh_entry()), (Some(0x20_0000), None), "{name}");
        let [segment] = kernel.segments() else { panic!("{name}: {:?}", kernel.segments()) };
        assert_eq!(
            (segment.paddr, segment.file_size, segment.mem_size),
            (0x20_0000, 0x46, 0x46),
            "{name}"
        );
        let pieces: Vec<_> = kernel.pieces(segment).collect();
        let [Piece { at: 0, len: 0x46, source: Some(offset) }] = pieces[..] else {
            panic!("{name}: {pieces:?}")
        };
        let mut bytes = [0; 0x46];
        kernel.read_exact_at(offset, &mut bytes).unwrap();
        assert_eq!(bytes, KERNEL[0x78..0xbe], "{name}");
    });
}

#[test]
fn every_fixture_has_the_manifest_that_its_writer_was_given() {
    each(|name, image, _, _| {
        let manifest = image.manifest().unwrap().unwrap();
        assert_eq!(manifest.program.as_deref(), Some("/hello"), "{name}");
        assert_eq!(manifest.arguments, ["hello", "7"], "{name}");
        let mut environment = manifest.environment;
        environment.sort();
        let expected =
            [("PWD", "/"), ("USER", "root")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(environment, expected, "{name}");
        assert_eq!(manifest.settings, [], "{name}");
    });
}

#[test]
fn a_fixture_truncated_anywhere_in_its_head_is_an_error() {
    let image = unpacked(1);
    // The table, the boot loader, the log of the boot file system.
    for len in (0..1024).chain(52_700..54_500).chain((54_500..image.len()).step_by(65_521)) {
        let truncated = Image::recognise(Source::from_static("truncated", &image[..len]));
        // Of the root file system, which nothing but the manifest needs, only the beginning has to
        // be there.
        assert!(truncated.is_err() || len > 12_635_648, "{len} bytes");
    }
}

#[test]
fn a_fixture_is_recognised_from_a_file_and_says_so_when_it_shrinks() {
    let path = std::env::temp_dir().join(format!("runner-fixture-{}.img", std::process::id()));
    std::fs::write(&path, unpacked(3)).unwrap();
    let image = Image::open(&path, Marks::Needed);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let image = image.unwrap();
    let kernel = image.kernel();
    let offset = kernel.pieces(&kernel.segments()[0]).next().unwrap().source.unwrap();
    file.set_len(offset + 1).unwrap();
    let error = kernel.read_exact_at(offset, &mut [0; 0x46]).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("became shorter") && text.contains(&format!("byte {offset}")), "{text}");
}
