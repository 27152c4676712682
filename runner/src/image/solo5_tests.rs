use super::*;
use crate::image::testing::solo5_manifest;

fn put(mut desc: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    desc[at..at + bytes.len()].copy_from_slice(bytes);
    desc
}

/// Where an entry begins in a description.
const fn entry(index: usize) -> usize {
    PADDING + HEADER + index * ENTRY
}

#[test]
fn devices_have_the_handles_of_their_places() {
    let desc = solo5_manifest(&[("storage", 1), ("service0", 2), ("x", (1 << 30) + 1), ("y", 1)]);
    let manifest = Manifest::read(&desc).unwrap();
    let devices: Vec<_> =
        manifest.devices().map(|(handle, device)| (handle, device.kind)).collect();
    assert_eq!(devices, [(1, Kind::Block), (2, Kind::Net), (4, Kind::Block)]);
    assert_eq!(manifest.find("service0", Kind::Net), Some(2));
    assert_eq!(manifest.find("service0", Kind::Block), None);
    assert_eq!(manifest.find("x", Kind::Block), None);
}

#[test]
fn every_truncation_is_an_error() {
    let desc = solo5_manifest(&[("storage", 1)]);
    for len in 0..desc.len() {
        assert!(Manifest::read(&desc[..len]).is_err(), "{len}");
    }
    let longer = [desc, vec![0]].concat();
    assert_eq!(Manifest::read(&longer), Err(ManifestError::Size { count: 2, need: 216, has: 217 }));
}

#[test]
fn fields_that_lie_are_errors_that_name_the_entry() {
    let desc = || solo5_manifest(&[("storage", 1), ("service", 2)]);
    let error = |at, bytes: &[u8]| Manifest::read(&put(desc(), at, bytes)).unwrap_err();
    assert_eq!(error(4, &[2]), ManifestError::Version(2));
    for count in [0, 65, u32::MAX] {
        assert_eq!(error(8, &count.to_le_bytes()), ManifestError::Count(count));
    }
    assert_eq!(error(8, &[2]), ManifestError::Size { count: 2, need: 216, has: 320 });
    assert_eq!(error(entry(0), b"x"), ManifestError::First);
    assert_eq!(error(entry(0) + NAME_SIZE, &[1, 0, 0, 0]), ManifestError::First);
    assert_eq!(error(entry(1), &[0]), ManifestError::Name(1));
    assert_eq!(error(entry(1), b"a/b"), ManifestError::Name(1));
    assert_eq!(error(entry(1), &[0xff]), ManifestError::Name(1));
    assert_eq!(error(entry(1), &[b'a'; NAME_SIZE]), ManifestError::Name(1));
    assert_eq!(error(entry(2) + NAME_SIZE, &[3]), ManifestError::Type { entry: 2, kind: 3 });
    assert_eq!(error(entry(2) + 96, &[1]), ManifestError::Attached(2));
    assert_eq!(
        Manifest::read(&solo5_manifest(&[("same", 1), ("same", 2), ("same", 1)])),
        Err(ManifestError::Twice(3))
    );
}

#[test]
fn the_longest_name_and_the_most_devices_are_no_error() {
    let names: Vec<String> = (0..63).map(|index| format!("{index:067}")).collect();
    let devices: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 2)).collect();
    let manifest = Manifest::read(&solo5_manifest(&devices)).unwrap();
    assert_eq!(manifest.devices().last().unwrap().0, 63);
}
