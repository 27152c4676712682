use std::os::unix::fs::FileExt;

use super::*;
use crate::devices::virtio::block::{Disk, Scratch};

#[path = "../../../../../../tests/vm/tests/support/qcow2.rs"]
mod support;
use support::{CLUSTER, compressed, image};

/// Of the disks here, some of it in no cluster.
const SIZE: usize = 5 * CLUSTER + 1024;

/// A disk of which one cluster in two is zeros.
fn contents() -> Vec<u8> {
    let byte = |at: usize| match at / CLUSTER % 2 {
        0 => 0,
        _ => u8::try_from(at / 512 % 251).unwrap(),
    };
    (0..SIZE).map(byte).collect()
}

fn file(bytes: &[u8]) -> Arc<File> {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    Arc::new(file)
}

fn open(bytes: &[u8]) -> Result<Qcow2, Qcow2Error> {
    Qcow2::open(&file(bytes), bytes.len() as u64)
}

fn read(image: &Qcow2, offset: usize, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0xee; len];
    let slices: Vec<_> = bytes.chunks_mut(1000).map(VolatileSlice::from).collect();
    image.read(offset as u64, &slices)?;
    drop(slices);
    Ok(bytes)
}

#[test]
fn the_disk_in_an_image_is_read_wherever_it_is() {
    for bytes in [image(&contents()), compressed(&contents())] {
        let image = open(&bytes).unwrap();
        assert_eq!(image.size(), SIZE as u64);
        for (offset, len) in
            [(0, SIZE), (0, 512), (CLUSTER - 512, 1024), (3 * CLUSTER + 7, 2 * CLUSTER + 9)]
        {
            let wanted = &contents()[offset..offset + len];
            assert!(read(&image, offset, len).unwrap() == wanted, "{offset}");
        }
    }
}

#[test]
fn a_cluster_may_be_marked_as_zeros_and_the_last_one_may_be_cut_off() {
    let mut bytes = image(&contents());
    // The second entry of L2.
    bytes[4 * CLUSTER + 15] |= 1;
    bytes.truncate(bytes.len() - 100);
    let mut wanted = contents();
    wanted[CLUSTER..2 * CLUSTER].fill(0);
    assert!(read(&open(&bytes).unwrap(), 0, SIZE).unwrap() == wanted);
}

#[test]
fn an_image_is_as_long_as_whoever_opened_it_says_for_a_block_device_has_no_length() {
    let bytes = image(&contents());
    let file = file(&bytes);
    let image = Qcow2::open(&file, (bytes.len() - CLUSTER) as u64).unwrap();
    // What the last cluster holds lies behind the end.
    let last = SIZE - SIZE % CLUSTER;
    assert!(read(&image, 0, last).unwrap() == contents()[..last]);
    assert!(read(&image, last, SIZE - last).unwrap() == [0; SIZE % CLUSTER]);
    // A device's length of 0 would make it no image at all.
    assert!(matches!(Qcow2::open(&file, 0), Err(Qcow2Error::NotQcow2)));
}

#[test]
fn an_ephemeral_run_writes_over_an_image_and_not_into_it() {
    let before = image(&contents());
    let file = file(&before);
    let scratch = tempfile::tempfile().unwrap();
    scratch.set_len(SIZE as u64).unwrap();
    let scratch = Scratch { file: Arc::new(scratch), folder: "/tmp".into() };
    let disk = Disk::qcow2(
        "d",
        "d",
        Qcow2::open(&file, before.len() as u64).unwrap(),
        Some(scratch.clone()),
    );
    let at = CLUSTER + 512;
    disk.apply(crate::image::Patch { at: at as u64, bytes: vec![7; 512] }).unwrap();
    let mut after = vec![0; before.len()];
    file.read_exact_at(&mut after, 0).unwrap();
    assert!(after == before);
    // What is around it in its granule came from the image.
    let mut granule = vec![0; 4096];
    scratch.file.read_exact_at(&mut granule, CLUSTER as u64).unwrap();
    let mut wanted = contents()[CLUSTER..CLUSTER + 4096].to_vec();
    wanted[512..1024].fill(7);
    assert!(granule == wanted);
    let disk = Disk::qcow2("d", "d", Qcow2::open(&file, before.len() as u64).unwrap(), None);
    disk.apply(crate::image::Patch { at: 0, bytes: vec![7; 512] }).unwrap_err();
}

#[test]
fn an_image_that_names_another_file_is_refused_and_nothing_is_opened() {
    let whole = image(&contents());
    let mut backed = whole.clone();
    // A name behind the header.
    let name = b"/etc/passwd";
    backed[8..16].copy_from_slice(&512u64.to_be_bytes());
    backed[16..20].copy_from_slice(&11u32.to_be_bytes());
    backed[512..512 + name.len()].copy_from_slice(name);
    let mut external = whole.clone();
    external[79] = 4;
    for bytes in [backed, external] {
        let error = open(&bytes).unwrap_err().to_string();
        assert!(error.contains("in another file") && error.contains("-O qcow2"), "{error}");
    }
}

#[test]
fn what_is_no_image_or_one_that_is_not_known_is_refused_with_the_remedy() {
    let whole = image(&contents());
    for bytes in [vec![], vec![0; 512], b"QFI".to_vec(), [0x5a; 4096].to_vec()] {
        let error = open(&bytes).unwrap_err().to_string();
        assert!(error.starts_with("it is no qcow2 image: leave `format=qcow2` out"), "{error}");
    }
    for (at, byte, why) in [
        (7, 9, "neither of version 2 nor 3"),
        (35, 2, "encrypted"),
        (23, 8, "512 bytes to 2 MiB"),
        (23, 40, "512 bytes to 2 MiB"),
        (23, 0xff, "512 bytes to 2 MiB"),
        (72, 0x80, "a feature that is not known"),
        (79, 2, "marked as corrupt"),
        (24, 0x40, "too short for its disk"),
        (39, 0, "too short for its disk"),
    ] {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        let error = open(&bytes).unwrap_err().to_string();
        assert!(
            error.contains(why) && error.contains("`qemu-img convert -O raw`"),
            "{at}: {error}"
        );
    }
    for (version, whole_header) in [(2, 72), (3, 104)] {
        let mut bytes = whole[..whole_header - 1].to_vec();
        bytes[7] = version;
        let error = open(&bytes).unwrap_err().to_string();
        assert!(error.contains("its header is not whole"), "{version}: {error}");
    }
    // A dirty one is read.
    let mut bytes = whole.clone();
    bytes[79] = 1;
    assert!(read(&open(&bytes).unwrap(), 0, SIZE).unwrap() == contents());
}

#[test]
fn tables_that_lead_nowhere_are_errors_of_the_requests_that_need_them() {
    let (l1, l2) = (3 * CLUSTER, 4 * CLUSTER);
    for (at, byte, why) in [
        (40, 0x7f, "beyond the end"),
        (l1 + 1, 0x7f, "beyond the end"),
        (l2 + 14, 2, "does not begin where one can"),
    ] {
        let mut bytes = image(&contents());
        bytes[at] = byte;
        let error = read(&open(&bytes).unwrap(), CLUSTER, 512).unwrap_err();
        assert!(error.to_string().contains(why), "{at}: {error}");
    }
    let mut bytes = compressed(&contents());
    let data = 5 * CLUSTER;
    bytes[data..data + 64].fill(0xff);
    let image = open(&bytes).unwrap();
    let error = read(&image, CLUSTER, 512).unwrap_err();
    assert!(error.to_string().contains("cannot be inflated"), "{error}");
    // Nothing of it is kept.
    read(&image, CLUSTER, 512).unwrap_err();
    assert!(read(&image, 3 * CLUSTER, 512).unwrap() == contents()[3 * CLUSTER..][..512]);
}

/// Numbers that look like chance and are the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

#[test]
fn a_damaged_image_is_an_error_or_some_disk_and_never_a_panic() {
    let wholes = [image(&contents()), compressed(&contents())];
    let mut chance = Chance(1);
    for round in 0..3000 {
        let mut bytes = wholes[round % 2].clone();
        for _ in 0..=chance.below(3) {
            // Tables, mostly where something is.
            let at = chance.below(6) * CLUSTER + chance.below(112);
            bytes[at] =
                [0, 0xff, 1, 0x80, 0x40][chance.below(5)] ^ u8::try_from(round % 7).unwrap();
        }
        if round % 10 == 0 {
            bytes.truncate(chance.below(bytes.len()));
        }
        let Ok(image) = open(&bytes) else { continue };
        let size = usize::try_from(image.size()).unwrap();
        for at in [0, chance.below(SIZE), size.saturating_sub(512)] {
            // Whatever comes of it.
            let _ = read(&image, at / 512 * 512, 512);
        }
    }
}
