//! qcow2 images, made by the format's text alone (QEMU, `docs/interop/qcow2.txt`).

use std::io::Write;

/// Bytes of a cluster.
pub(crate) const CLUSTER: usize = 1 << 16;

/// Bytes of the header of version 3.
const HEADER: usize = 104;

/// The cluster is used once, by what refers to it so.
const COPIED: u64 = 1 << 63;

/// An image with tables that have each cluster once: header, table of reference counts, a block of them, L1, L2,
/// and data. A cluster of `disk` that is all zeros has none.
pub(crate) fn image(disk: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    let mut l2 = Vec::new();
    for piece in disk.chunks(CLUSTER) {
        let place = 5 * CLUSTER + data.len();
        let is_there = piece.iter().any(|byte| *byte != 0);
        l2.extend(if is_there { COPIED | place as u64 } else { 0 }.to_be_bytes());
        if is_there {
            data.extend_from_slice(piece);
            data.resize(data.len().next_multiple_of(CLUSTER), 0);
        }
    }
    let place = |cluster: usize| ((cluster * CLUSTER) as u64).to_be_bytes().to_vec();
    let mut header = b"QFI\xfb\0\0\0\x03".to_vec();
    for (len, value) in [
        (8, 0), // backing file
        (4, 0),
        (4, 16), // bits of a cluster
        (8, disk.len()),
        (4, 0), // encryption
        (4, 1), // entries of L1
        (8, 3 * CLUSTER),
        (8, CLUSTER),
        (4, 1), // clusters of the table of reference counts
        (4, 0), // snapshots
        (8, 0),
        (8, 0), // features
        (8, 0),
        (8, 0),
        (4, 4), // bits of the bits of a count
        (4, HEADER),
    ] {
        header.extend(&(value as u64).to_be_bytes()[8 - len..]);
    }
    assert_eq!(header.len(), HEADER);
    let counts = 1u16.to_be_bytes().repeat(5 + data.len() / CLUSTER);
    let l1 = (COPIED | (4 * CLUSTER) as u64).to_be_bytes().to_vec();
    let mut image = Vec::new();
    for part in [header, place(2), counts, l1, l2] {
        assert!(part.len() <= CLUSTER);
        image.extend(part);
        image.resize(image.len().next_multiple_of(CLUSTER), 0);
    }
    image.extend(data);
    image
}

/// The same with its clusters compressed, as `qemu-img convert -c` does: deflate without a
/// header, at any byte of the file.
pub(crate) fn compressed(disk: &[u8]) -> Vec<u8> {
    let mut bytes = image(disk);
    let whole = bytes.split_off(5 * CLUSTER);
    for index in 0..disk.len().div_ceil(CLUSTER) {
        let entry = 4 * CLUSTER + 8 * index;
        let place = u64::from_be_bytes(bytes[entry..entry + 8].try_into().unwrap()) & !COPIED;
        let Some(at) = usize::try_from(place).unwrap().checked_sub(5 * CLUSTER) else { continue };
        let mut deflate =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        deflate.write_all(&whole[at..at + CLUSTER]).unwrap();
        let (place, data) = (bytes.len(), deflate.finish().unwrap());
        let sectors = (place + data.len() - 1) / 512 - place / 512;
        let descriptor = 1 << 62 | (sectors as u64) << (62 - 8) | place as u64;
        bytes[entry..entry + 8].copy_from_slice(&descriptor.to_be_bytes());
        bytes.extend(data);
    }
    bytes
}
