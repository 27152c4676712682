//! A disk in an image of QEMU's: whatever is in the file, reading it gives bytes or an error.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::Arc;

use runner::devices::virtio::block::Qcow2;
use vm_memory::VolatileSlice;

/// Bytes of a read: of more than one cluster, where those are of 512.
const LEN: u64 = 700;

/// Bits of an entry (QEMU, `docs/interop/qcow2.txt`): a place, and what else a cluster can be.
const PLACE: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const ZEROS: u64 = 1;

/// An image of any bytes.
pub fn qcow2(data: &[u8]) {
    let mut image = data.to_vec();
    // Nearly all else is no image.
    if let Some(signature) = image.first_chunk_mut() {
        *signature = *b"QFI\xfb";
    }
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(&image).expect("room for it");
    let file = Arc::new(file);
    match Qcow2::open(&file, image.len() as u64) {
        Ok(disk) => places(&disk, &image).into_iter().for_each(|at| check(&disk, &image, at)),
        Err(error) => one_line(&error.to_string()),
    }
    assert!(contents(&file) == image, "the image has changed");
}

/// Where it is read: in its first clusters, and here and there to its end.
fn places(disk: &Qcow2, image: &[u8]) -> Vec<u64> {
    let (size, cluster) = (disk.size(), 1 << bits(image));
    let first = (0..16u64).map(|number| number * cluster + number * 37 % cluster);
    let more = (1..=8).map(|part| (size / 8 * part).saturating_sub(LEN));
    first.chain(more).filter(|at| *at < size).collect()
}

fn check(disk: &Qcow2, image: &[u8], at: u64) {
    let len = LEN.min(disk.size() - at);
    let read = |byte: u8| {
        let mut bytes = vec![byte; usize::try_from(len).expect("it is not long")];
        let slices: Vec<_> = bytes.chunks_mut(300).map(VolatileSlice::from).collect();
        disk.read(at, &slices)?;
        drop(slices);
        Ok::<_, io::Error>(bytes)
    };
    let (once, twice) = (read(0xee), read(0x11));
    let told = |read: &io::Result<Vec<u8>>| read.as_ref().err().map(ToString::to_string);
    assert_eq!(told(&once), told(&twice), "another read, another end");
    told(&once).iter().for_each(|error| one_line(error));
    assert!(once.as_ref().ok() == twice.as_ref().ok(), "another read, other bytes");
    for (at, byte) in (at..).zip(once.unwrap_or_default()) {
        let found = found(image, at).expect("there is a table");
        assert!(found.is_none_or(|wanted| wanted == byte), "at {at}: {byte}, not {found:?}");
    }
}

/// What a simple reader finds: no byte where that is compressed, and nothing where the tables lead out of the
/// file.
fn found(image: &[u8], at: u64) -> Option<Option<u8>> {
    let entry = |table: u64, index: u64| {
        let at = usize::try_from(table.checked_add(index.checked_mul(8)?)?).ok()?;
        Some(u64::from_be_bytes(*image.get(at..)?.first_chunk()?))
    };
    let cluster = 1u64 << bits(image);
    let (index, entries) = (at / cluster, cluster / 8);
    let l2 = entry(entry(40, 0)?, index / entries)? & PLACE;
    if l2 == 0 {
        return Some(Some(0));
    }
    let entry = entry(l2, index % entries)?;
    if entry & COMPRESSED != 0 {
        return Some(None);
    }
    if entry & ZEROS != 0 || entry & PLACE == 0 {
        return Some(Some(0));
    }
    let byte = usize::try_from((entry & PLACE) + at % cluster).ok()?;
    Some(Some(image.get(byte).copied().unwrap_or(0)))
}

/// Bits of a cluster of an image that was opened.
fn bits(image: &[u8]) -> u32 {
    let bytes = image.get(20..).and_then(|rest| rest.first_chunk());
    u32::from_be_bytes(*bytes.expect("there is a header"))
}

fn one_line(error: &str) {
    assert!(!error.chars().any(char::is_control), "{error:?}");
}

fn contents(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().expect("a file");
    file.read_to_end(&mut bytes).expect("a file");
    bytes
}
