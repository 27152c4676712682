//! Discard and write-zeroes (§5.2.6): what they do, and what they refuse.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use virtio_bindings::virtio_blk::{VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES};
use vm_memory::{Bytes, GuestAddress};

use super::super::block::{Disk, Scratch};
use super::block::{
    DATA, DISCARD, FLUSH, HEADER, IOERR, LEN, OK, SECTORS, STATUS, UNSUPP, WRITE_ZEROES, file,
    header, request, rig_on, sector_of,
};
use super::{NEXT, Rig, WRITE};

const FEATURES: u64 = FLUSH | DISCARD | WRITE_ZEROES;
const UNMAP: u32 = 1;

fn rig() -> (Rig, File) {
    let file = file();
    (rig_on(file.try_clone().unwrap(), LEN, false, FEATURES), file)
}

/// Carries out `kind` with these segments: sector, number of sectors, flags.
#[track_caller]
fn segments(rig: &mut Rig, kind: u32, segments: &[(u64, u32, u32)]) -> u8 {
    for (index, (sector, count, flags)) in (0..).zip(segments) {
        let at = DATA + 16 * index;
        rig.memory.write_obj(sector.to_le(), GuestAddress(at)).unwrap();
        rig.memory.write_obj(count.to_le(), GuestAddress(at + 8)).unwrap();
        rig.memory.write_obj(flags.to_le(), GuestAddress(at + 12)).unwrap();
    }
    let len = u32::try_from(16 * segments.len()).unwrap();
    request(rig, kind, 0, &[(DATA, len, 0)]).0
}

/// Which sectors still hold their number; all others must be zeros.
fn kept(file: &File) -> Vec<u64> {
    let sectors = 0..SECTORS;
    let kept = sectors.filter(|sector| {
        let bytes = sector_of(file, *sector);
        let own = bytes.iter().all(|byte| u64::from(*byte) == *sector);
        assert!(own || bytes == [0; 512], "sector {sector} is neither");
        own
    });
    kept.collect()
}

#[test]
fn zeros_are_where_they_were_wanted_and_the_file_keeps_its_length() {
    for flags in [0, UNMAP] {
        let (mut rig, file) = rig();
        assert_eq!(segments(&mut rig, VIRTIO_BLK_T_WRITE_ZEROES, &[(2, 3, flags)]), OK);
        assert_eq!(kept(&file), [0, 1, 5, 6, 7]);
        assert_eq!(segments(&mut rig, VIRTIO_BLK_T_WRITE_ZEROES, &[(0, 8, flags)]), OK);
        assert_eq!(kept(&file), [0], "whose number is 0");
        assert_eq!(file.metadata().unwrap().len(), LEN);
    }
}

#[test]
fn discarding_leaves_the_neighbours_alone() {
    let (mut rig, file) = rig();
    assert_eq!(segments(&mut rig, VIRTIO_BLK_T_DISCARD, &[(1, 2, 0), (6, 1, 0), (8, 0, 0)]), OK);
    assert!([0, 3, 4, 5, 7].iter().all(|sector| kept(&file).contains(sector)));
    assert_eq!(file.metadata().unwrap().len(), LEN);
}

#[test]
fn a_sparse_file_stays_sparse_and_a_full_one_becomes_so() {
    let (mut rig, file) = rig();
    file.sync_all().unwrap();
    let before = file.metadata().unwrap().blocks();
    assert_eq!(segments(&mut rig, VIRTIO_BLK_T_DISCARD, &[(0, 8, 0)]), OK);
    if sector_of(&file, 7) != [0; 512] {
        println!("skipped: no holes in files here");
        return;
    }
    assert!(file.metadata().unwrap().blocks() < before);
    assert_eq!(segments(&mut rig, VIRTIO_BLK_T_WRITE_ZEROES, &[(0, 8, UNMAP)]), OK);
    assert!(file.metadata().unwrap().blocks() < before);
}

#[test]
fn segments_that_are_not_on_the_disk_are_errors_and_nothing_is_done() {
    // B48; CH f7ebb4b87: sector * 512 overflows.
    let (mut rig, file) = rig();
    for kind in [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES] {
        for (sector, count) in [
            (0, 9),
            (7, 2),
            (8, 1),
            (9, 0),
            (0, u32::MAX),
            (u64::MAX, 1),
            (u64::MAX, u32::MAX),
            (1 << 55, 1),
            (1 << 63, 1 << 31),
        ] {
            assert_eq!(segments(&mut rig, kind, &[(sector, count, 0)]), IOERR, "{sector} {count}");
        }
    }
    assert_eq!(segments(&mut rig, VIRTIO_BLK_T_DISCARD, &[(0, 8, 0), (8, 1, 0)]), IOERR);
    assert_eq!(kept(&file).len(), 8);
}

#[test]
fn unknown_flags_are_unsupported_and_so_is_unmap_where_it_says_nothing() {
    let (mut rig, file) = rig();
    for flags in [2, 3, 0x8000_0000, u32::MAX] {
        for kind in [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES] {
            assert_eq!(segments(&mut rig, kind, &[(0, 1, flags)]), UNSUPP, "{flags:#x}");
        }
    }
    assert_eq!(segments(&mut rig, VIRTIO_BLK_T_DISCARD, &[(1, 1, UNMAP)]), UNSUPP);
    assert_eq!(segments(&mut rig, VIRTIO_BLK_T_DISCARD, &[(1, 1, 0), (2, 1, 2)]), UNSUPP);
    assert_eq!(kept(&file).len(), 8);
}

#[test]
fn no_segment_a_part_of_one_and_too_many_are_errors() {
    let (mut rig, file) = rig();
    for kind in [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES] {
        rig.fill(DATA, 0, 1024);
        for len in [0, 1, 15, 17, 31, 16 * 33, u32::try_from(super::RAM).unwrap() - 0x20000] {
            assert_eq!(request(&mut rig, kind, 0, &[(DATA, len, 0)]).0, IOERR, "{len}");
        }
    }
    let most = vec![(8, 0, 0); 32];
    assert_eq!(segments(&mut rig, VIRTIO_BLK_T_DISCARD, &most), OK);
    assert_eq!(segments(&mut rig, VIRTIO_BLK_T_WRITE_ZEROES, &most[..2]), IOERR);
    assert_eq!(kept(&file).len(), 8);
}

#[test]
fn segments_longer_than_the_driver_was_told_are_errors_on_a_disk_that_has_them() {
    let file = tempfile::tempfile().unwrap();
    let len = 16 << 30;
    file.set_len(len).unwrap();
    let mut rig = rig_on(file.try_clone().unwrap(), len, false, FEATURES);
    for (kind, most) in [(VIRTIO_BLK_T_DISCARD, 1 << 23), (VIRTIO_BLK_T_WRITE_ZEROES, 1 << 17)] {
        assert_eq!(segments(&mut rig, kind, &[(0, most + 1, 0)]), IOERR);
        assert_eq!(segments(&mut rig, kind, &[(0, u32::MAX, 0)]), IOERR);
    }
    assert_eq!(segments(&mut rig, VIRTIO_BLK_T_DISCARD, &[(0, 1 << 23, 0)]), OK);
    assert_eq!(file.metadata().unwrap().len(), len);
}

#[test]
fn what_was_not_negotiated_or_is_read_only_is_unsupported() {
    let file = file();
    for (read_only, features) in [(false, FLUSH), (false, 0), (true, FLUSH)] {
        let mut rig = rig_on(file.try_clone().unwrap(), LEN, read_only, features);
        for kind in [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES] {
            assert_eq!(segments(&mut rig, kind, &[(0, 1, 0)]), UNSUPP);
        }
    }
    let mut discard_alone = rig_on(file.try_clone().unwrap(), LEN, false, FLUSH | DISCARD);
    assert_eq!(segments(&mut discard_alone, VIRTIO_BLK_T_WRITE_ZEROES, &[(0, 1, 0)]), UNSUPP);
    assert_eq!(segments(&mut discard_alone, VIRTIO_BLK_T_DISCARD, &[(0, 0, 0)]), OK);
    assert_eq!(kept(&file).len(), 8);
}

#[test]
fn a_file_that_cannot_be_written_is_the_guests_io_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.img");
    std::fs::write(&path, [0x5a; 4096]).unwrap();
    let mut rig = rig_on(File::open(&path).unwrap(), LEN, false, FEATURES);
    for kind in [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES] {
        assert_eq!(segments(&mut rig, kind, &[(0, 8, 0)]), IOERR);
    }
    assert_eq!(std::fs::read(&path).unwrap(), [0x5a; 4096]);
}

#[test]
fn zeros_are_as_durable_as_writes_for_a_driver_that_cannot_flush() {
    // A character device takes zeros and cannot be synced.
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let mut rig = rig_on(null, LEN, false, WRITE_ZEROES);
    assert_eq!(segments(&mut rig, VIRTIO_BLK_T_WRITE_ZEROES, &[(0, 1, 0)]), IOERR);
}

#[test]
fn an_ephemeral_disk_reads_zeros_and_its_file_keeps_what_it_has() {
    let file = file();
    let scratch = tempfile::tempfile().unwrap();
    scratch.set_len(LEN).unwrap();
    let scratch = Scratch { file: Arc::new(scratch), folder: "/scratch".into() };
    let base = Arc::new(file.try_clone().unwrap());
    let disk = Disk::ephemeral("disk0", "d.img", base, LEN, scratch);
    let mut rig = Rig::new(disk.identity(), Box::new(disk));
    rig.start(FEATURES);
    assert_eq!(segments(&mut rig, VIRTIO_BLK_T_WRITE_ZEROES, &[(3, 2, UNMAP)]), OK);
    assert_eq!(segments(&mut rig, VIRTIO_BLK_T_DISCARD, &[(6, 1, 0)]), OK);
    let read = |rig: &mut Rig, sector| {
        assert_eq!(request(rig, 0, sector, &[(DATA, 512, super::WRITE)]), (OK, 513));
        rig.bytes(DATA, 512)
    };
    assert_eq!([2, 3, 4, 5].map(|sector| read(&mut rig, sector)[0]), [2, 0, 0, 5]);
    rig.fill(DATA, 0xaa, 512);
    assert_eq!(request(&mut rig, 1, 7, &[(DATA, 512, 0)]), (OK, 1));
    assert_eq!(read(&mut rig, 7), [0xaa; 512]);
    assert_eq!(request(&mut rig, 4, 0, &[]), (OK, 1));
    rig.worker.finish().unwrap();
    assert_eq!(kept(&file).len(), 8);
}

/// Leaves seven requests for `count` sectors each, and ends the run. Returns how many were served.
fn left_at_the_end(kind: u32, count: u32) -> u16 {
    let file = tempfile::tempfile().unwrap();
    let len = 16 << 30;
    file.set_len(len).unwrap();
    let mut rig = rig_on(file, len, false, FEATURES);
    header(&rig, kind, 0);
    let flags = if kind == VIRTIO_BLK_T_DISCARD { 0 } else { UNMAP };
    let segment = u128::from(flags) << 96 | u128::from(count) << 64;
    rig.memory.write_obj(segment.to_le(), GuestAddress(HEADER + 16)).unwrap();
    rig.descriptor(7, (STATUS, 1, WRITE, 0));
    for head in 0..7 {
        rig.descriptor(head, (HEADER, 32, NEXT, 7));
        rig.offer(head);
    }
    rig.worker.finish().unwrap();
    rig.used_index()
}

#[test]
fn a_guest_that_is_gone_has_no_more_zeros_written_than_other_bytes() {
    // 64 MiB each, which is more than the 33 bytes of their chains: 256 MiB are not exceeded.
    assert_eq!(left_at_the_end(VIRTIO_BLK_T_WRITE_ZEROES, 1 << 17), 3);
    assert_eq!(left_at_the_end(VIRTIO_BLK_T_WRITE_ZEROES, 1 << 10), 7);
    assert_eq!(
        left_at_the_end(VIRTIO_BLK_T_WRITE_ZEROES, u32::MAX),
        7,
        "refused, which is no work"
    );
    assert_eq!(left_at_the_end(VIRTIO_BLK_T_DISCARD, 1 << 23), 7, "moves no bytes");
}
