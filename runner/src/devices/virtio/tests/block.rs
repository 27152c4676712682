//! The block device, request by request.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH,
    VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_SCSI_CMD,
    VIRTIO_BLK_T_WRITE_ZEROES,
};
use vm_memory::{Bytes, GuestAddress};

use super::super::COMMON_FEATURES;
use super::super::block::Disk;
use super::{Rig, SEAM, WRITE, reg};
use hv::Width;

use crate::machine::bus::Device;

pub(super) const FLUSH: u64 = 1 << VIRTIO_BLK_F_FLUSH;
pub(super) const DISCARD: u64 = 1 << VIRTIO_BLK_F_DISCARD;
pub(super) const WRITE_ZEROES: u64 = 1 << VIRTIO_BLK_F_WRITE_ZEROES;
pub(super) const SECTORS: u64 = 8;
pub(super) const LEN: u64 = SECTORS * 512;

/// Status bytes.
pub(super) const OK: u8 = 0;
pub(super) const IOERR: u8 = 1;
pub(super) const UNSUPP: u8 = 2;

/// Where a request's parts are.
pub(super) const HEADER: u64 = 0x10000;
pub(super) const STATUS: u64 = 0x11000;
pub(super) const DATA: u64 = 0x20000;

/// A file whose every sector holds its number.
pub(super) fn file() -> File {
    let mut file = tempfile::tempfile().unwrap();
    for sector in 0..SECTORS {
        file.write_all(&[u8::try_from(sector).unwrap(); 512]).unwrap();
    }
    file
}

pub(super) fn rig_on(file: File, len: u64, read_only: bool, features: u64) -> Rig {
    let disk = Disk::new("disk0", "d.img", Arc::new(file), len, read_only);
    let mut rig = Rig::new(disk.identity(), Box::new(disk));
    rig.start(features);
    rig
}

/// A started disk, and its file.
fn rig() -> (Rig, File) {
    let file = file();
    (rig_on(file.try_clone().unwrap(), LEN, false, FLUSH), file)
}

pub(super) fn header(rig: &Rig, kind: u32, sector: u64) {
    rig.memory.write_obj(kind.to_le(), GuestAddress(HEADER)).unwrap();
    rig.memory.write_obj(0u32, GuestAddress(HEADER + 4)).unwrap();
    rig.memory.write_obj(sector.to_le(), GuestAddress(HEADER + 8)).unwrap();
    rig.fill(STATUS, 0xff, 1);
}

/// Carries out one request with `data` between header and status. Returns the status byte and the
/// length in the used ring.
#[track_caller]
pub(super) fn request(
    rig: &mut Rig,
    kind: u32,
    sector: u64,
    data: &[(u64, u32, u16)],
) -> (u8, u32) {
    header(rig, kind, sector);
    let mut buffers = vec![(HEADER, 16, 0)];
    buffers.extend(data);
    buffers.push((STATUS, 1, WRITE));
    rig.chain(&buffers);
    served(rig)
}

/// Offers the chain at 0. Returns the status byte and the length in the used ring.
#[track_caller]
pub(super) fn served(rig: &mut Rig) -> (u8, u32) {
    let before = rig.used_index();
    rig.offer(0);
    rig.kick();
    assert_eq!((rig.status(), rig.used_index()), (0xf, before.wrapping_add(1)));
    (rig.bytes(STATUS, 1)[0], rig.used(before).1)
}

pub(super) fn sector_of(file: &File, sector: u64) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    file.read_exact_at(&mut bytes, sector * 512).unwrap();
    bytes
}

#[test]
fn a_driver_is_told_of_capacity_segments_and_block_size() {
    let (rig, _file) = rig();
    let config = |offset| rig.read(reg::CONFIG + offset);
    assert_eq!(rig.mmio.read(reg::CONFIG, Width::W8), SECTORS);
    assert_eq!((config(8), config(12), config(16), config(20)), (0, 254, 0, 512));
    assert_eq!(rig.read(reg::DEVICE_ID), 2);
    let own = 1 << VIRTIO_BLK_F_SEG_MAX | 1 << VIRTIO_BLK_F_BLK_SIZE | FLUSH;
    assert_eq!(rig.offered(), COMMON_FEATURES | own | DISCARD | WRITE_ZEROES);
    // Discard: most sectors, most segments, alignment; zeros: the same and whether they may unmap.
    assert_eq!((config(36), config(40), config(44)), (1 << 23, 32, 8));
    assert_eq!((config(48), config(52), config(56)), (1 << 17, 1, 1));
    let read_only = rig_on(file(), LEN, true, 0);
    assert_eq!(read_only.offered(), COMMON_FEATURES | own | 1 << VIRTIO_BLK_F_RO);
    assert_eq!([36, 40, 48, 52, 56].map(|at| read_only.read(reg::CONFIG + at)), [0; 5]);
}

#[test]
fn the_rest_of_a_file_that_is_no_whole_sector_is_not_visible() {
    let mut rig = rig_on(file(), LEN - 1, false, 0);
    assert_eq!(rig.mmio.read(reg::CONFIG, Width::W8), SECTORS - 1);
    let last = SECTORS - 1;
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_IN, last, &[(DATA, 512, WRITE)]).0, IOERR);
    assert_eq!(rig_on(file(), 511, false, 0).read(reg::CONFIG), 0);
}

#[test]
fn sectors_are_read_into_scattered_buffers() {
    let (mut rig, _file) = rig();
    let buffers = [(DATA, 100, WRITE), (SEAM - 200, 412, WRITE), (DATA + 0x1000, 512, WRITE)];
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_IN, 3, &buffers), (OK, 1025));
    assert_eq!(rig.bytes(DATA, 101), [[3; 100].as_slice(), &[0]].concat());
    assert_eq!(rig.bytes(SEAM - 200, 413), [[3; 412].as_slice(), &[0]].concat());
    assert_eq!(rig.bytes(DATA + 0x1000, 512), [4; 512]);
}

#[test]
fn sectors_are_written_from_scattered_buffers() {
    let (mut rig, file) = rig();
    rig.fill(DATA, 0xa5, 1024);
    let buffers = [(DATA, 300, 0), (DATA + 300, 212, 0), (DATA, 512, 0)];
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_OUT, 6, &buffers), (OK, 1));
    assert_eq!([sector_of(&file, 6), sector_of(&file, 7)].concat(), [0xa5; 1024]);
    assert_eq!(sector_of(&file, 5), [5; 512]);
    assert_eq!(file.metadata().unwrap().len(), LEN);
}

#[test]
fn where_descriptors_are_cut_makes_no_difference() {
    // B41; §2.7.4.1
    let (mut rig, file) = rig();
    header(&rig, VIRTIO_BLK_T_IN, 2);
    rig.chain(&[
        (HEADER, 1, 0),
        (HEADER + 1, 7, 0),
        (HEADER + 8, 8, 0),
        (DATA, 511, WRITE),
        (DATA + 511, 1, WRITE),
        (STATUS, 1, WRITE),
    ]);
    assert_eq!(served(&mut rig), (OK, 513));
    assert_eq!(rig.bytes(DATA, 512), [2; 512]);
    // Header and data in one, and data and status in one.
    header(&rig, VIRTIO_BLK_T_OUT, 2);
    rig.fill(HEADER + 16, 0x77, 512);
    rig.chain(&[(HEADER, 16 + 512, 0), (STATUS, 1, WRITE)]);
    assert_eq!(served(&mut rig), (OK, 1));
    assert_eq!(sector_of(&file, 2), [0x77; 512]);
    header(&rig, VIRTIO_BLK_T_IN, 4);
    rig.chain(&[(HEADER, 16, 0), (STATUS - 512, 513, WRITE)]);
    assert_eq!(served(&mut rig), (OK, 513));
    assert_eq!(rig.bytes(STATUS - 512, 513), [[4; 512].as_slice(), &[0]].concat());
}

#[test]
fn a_header_that_is_too_short_is_an_error() {
    // B41
    let (mut rig, file) = rig();
    for len in [0, 1, 15] {
        header(&rig, VIRTIO_BLK_T_OUT, 0);
        rig.chain(&[(HEADER, len, 0), (STATUS, 1, WRITE)]);
        assert_eq!(served(&mut rig), (IOERR, 1), "{len}");
    }
    header(&rig, VIRTIO_BLK_T_IN, 0);
    rig.chain(&[(STATUS, 1, WRITE)]);
    assert_eq!(served(&mut rig), (IOERR, 1));
    assert_eq!(sector_of(&file, 0), [0; 512]);
}

#[test]
fn a_request_without_room_for_its_status_breaks_the_device() {
    // B42
    for buffers in [
        &[(HEADER, 16, 0)][..],
        &[(HEADER, 16, 0), (DATA, 512, 0)],
        &[(HEADER, 16, 0), (STATUS, 1, 0)],
        &[(HEADER, 16, 0), (STATUS, 0, WRITE)],
    ] {
        let (mut rig, file) = rig();
        header(&rig, VIRTIO_BLK_T_OUT, 1);
        rig.chain(buffers);
        rig.offer(0);
        rig.kick();
        rig.expect_broken();
        assert_eq!(rig.used_index(), 0);
        assert_eq!(sector_of(&file, 1), [1; 512], "nothing was written");
        rig.restart(FLUSH);
        assert_eq!(request(&mut rig, VIRTIO_BLK_T_IN, 1, &[(DATA, 512, WRITE)]).0, OK);
    }
}

#[test]
fn data_that_is_no_whole_sector_is_an_error() {
    // B43
    let (mut rig, file) = rig();
    for len in [1, 511, 513, 1023] {
        assert_eq!(request(&mut rig, VIRTIO_BLK_T_IN, 0, &[(DATA, len, WRITE)]), (IOERR, 0));
        assert_eq!(request(&mut rig, VIRTIO_BLK_T_OUT, 0, &[(DATA, len, 0)]), (IOERR, 1));
    }
    let pieces = [(DATA, 256, 0), (DATA, 257, 0)];
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_OUT, 0, &pieces).0, IOERR);
    assert_eq!(sector_of(&file, 0), [0; 512]);
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_IN, 0, &[]), (OK, 1), "and none is none");
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_OUT, SECTORS, &[]), (OK, 1));
}

#[test]
fn a_request_that_reaches_past_the_end_moves_no_byte() {
    // B44; CH 376434a69: each descriptor fits, and their sum does not.
    let (mut rig, file) = rig();
    rig.fill(DATA, 0xee, 4096);
    let last = SECTORS - 1;
    for sector in [SECTORS, SECTORS + 1, 1 << 55, 1 << 63, u64::MAX / 512, u64::MAX] {
        assert_eq!(request(&mut rig, VIRTIO_BLK_T_IN, sector, &[(DATA, 512, WRITE)]).0, IOERR);
        assert_eq!(request(&mut rig, VIRTIO_BLK_T_OUT, sector, &[(DATA, 512, 0)]).0, IOERR);
    }
    let two = [(DATA, 512, 0), (DATA, 512, 0)];
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_OUT, last, &two).0, IOERR);
    assert_eq!(sector_of(&file, last), [7; 512]);
    assert_eq!(file.metadata().unwrap().len(), LEN, "the disk does not grow");
    let two = [(DATA, 512, WRITE), (DATA, 512, WRITE)];
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_IN, last, &two).0, IOERR);
    assert_eq!(rig.bytes(DATA, 512), [0xee; 512]);
}

#[test]
fn a_read_only_disk_is_not_written_whatever_the_driver_negotiated() {
    // B45; the descriptor below could be written.
    let file = file();
    for features in [0, 1 << VIRTIO_BLK_F_RO] {
        let mut rig = rig_on(file.try_clone().unwrap(), LEN, true, features);
        assert_eq!(request(&mut rig, VIRTIO_BLK_T_OUT, 1, &[(DATA, 512, 0)]), (IOERR, 1));
        assert_eq!(request(&mut rig, VIRTIO_BLK_T_IN, 1, &[(DATA, 512, WRITE)]).0, OK);
        assert_eq!(request(&mut rig, VIRTIO_BLK_T_FLUSH, 0, &[]).0, OK);
        rig.worker.finish().unwrap();
    }
    assert_eq!(sector_of(&file, 1), [1; 512]);
}

#[test]
fn unknown_requests_are_unsupported() {
    // B46, B48
    let (mut rig, file) = rig();
    for kind in [
        VIRTIO_BLK_T_SCSI_CMD,
        VIRTIO_BLK_T_DISCARD,
        VIRTIO_BLK_T_WRITE_ZEROES,
        3,
        0x100,
        0x8000_0000,
        u32::MAX,
    ] {
        assert_eq!(request(&mut rig, kind, 0, &[(DATA, 16, 0)]), (UNSUPP, 1), "{kind:#x}");
        assert_eq!(request(&mut rig, kind, 0, &[(DATA, 512, WRITE)]), (UNSUPP, 0), "{kind:#x}");
    }
    assert_eq!(sector_of(&file, 0), [0; 512]);
}

#[test]
fn the_id_is_given_as_far_as_there_is_room() {
    // B47
    let (mut rig, _file) = rig();
    rig.fill(DATA, 0xff, 64);
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_GET_ID, 0, &[(DATA, 20, WRITE)]), (OK, 21));
    assert_eq!(rig.bytes(DATA, 21), [b"disk0".as_slice(), &[0; 15], &[0xff]].concat());
    rig.fill(DATA, 0xff, 64);
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_GET_ID, 0, &[(DATA, 1, WRITE)]), (OK, 2));
    assert_eq!(rig.bytes(DATA, 2), [b'd', 0xff]);
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_GET_ID, 0, &[(DATA, 64, WRITE)]), (OK, 20));
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_GET_ID, 0, &[]), (OK, 1));
}

#[test]
fn a_request_of_all_of_memory_is_judged_by_the_disk_and_not_buffered() {
    // B49
    let (mut rig, _file) = rig();
    let all = u32::try_from(super::RAM).unwrap();
    let data: Vec<_> = (0..5).map(|_| (0, all, WRITE)).collect();
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_IN, 0, &data), (IOERR, 0));
}

#[test]
fn flushes_without_end_cost_nothing_when_nothing_was_written() {
    // B50: the descriptor would refuse a flush; none comes.
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let mut rig = rig_on(null, LEN, false, FLUSH);
    for _ in 0..1000 {
        assert_eq!(request(&mut rig, VIRTIO_BLK_T_FLUSH, 0, &[]), (OK, 1));
    }
}

#[cfg(target_os = "linux")] // the one system with /dev/full
#[test]
fn a_full_disk_is_the_guests_io_error_and_the_device_goes_on() {
    let full = File::options().read(true).write(true).open("/dev/full").unwrap();
    let mut rig = rig_on(full, LEN, false, FLUSH);
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_OUT, 0, &[(DATA, 512, 0)]), (IOERR, 1));
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_IN, 0, &[(DATA, 512, WRITE)]), (OK, 513));
}

#[test]
fn a_flush_that_fails_is_not_made_good_by_a_later_one() {
    // A character device cannot be synced: EINVAL.
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let mut rig = rig_on(null, LEN, false, FLUSH);
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_OUT, 0, &[(DATA, 512, 0)]), (OK, 1));
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_FLUSH, 0, &[]), (IOERR, 1));
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_FLUSH, 0, &[]), (IOERR, 1));
    let why = rig.worker.finish().unwrap_err();
    assert!(why.contains("disk0 (d.img)") && why.contains("not all"), "{why}");
}

#[test]
fn a_driver_that_cannot_flush_has_every_write_made_durable() {
    // §5.2.6.2: the write is as good as its flush, which fails here.
    let null = || File::options().read(true).write(true).open("/dev/null").unwrap();
    let mut rig = rig_on(null(), LEN, false, 0);
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_OUT, 0, &[(DATA, 512, 0)]), (IOERR, 1));
    let mut rig = rig_on(file(), LEN, false, 0);
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_OUT, 0, &[(DATA, 512, 0)]), (OK, 1));
}

#[test]
fn a_file_that_becomes_shorter_is_the_guests_io_error() {
    let (mut rig, file) = rig();
    file.set_len(3 * 512).unwrap();
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_IN, 2, &[(DATA, 1024, WRITE)]), (IOERR, 0));
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_IN, 2, &[(DATA, 512, WRITE)]), (OK, 513));
    assert_eq!(rig.bytes(DATA, 512), [2; 512]);
}

#[test]
fn a_descriptor_that_cannot_be_read_or_written_is_the_guests_io_error() {
    // EBADF stands for whatever a medium says.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.img");
    std::fs::write(&path, [0; 4096]).unwrap();
    let write_only = File::options().write(true).open(&path).unwrap();
    let mut rig = rig_on(write_only, LEN, false, FLUSH);
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_IN, 0, &[(DATA, 512, WRITE)]), (IOERR, 0));
    let mut rig = rig_on(File::open(&path).unwrap(), LEN, false, FLUSH);
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_OUT, 0, &[(DATA, 512, 0)]), (IOERR, 1));
}

#[test]
fn the_files_own_position_does_not_matter() {
    let (mut rig, mut file) = rig();
    file.seek(SeekFrom::Start(1234)).unwrap();
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_IN, 5, &[(DATA, 512, WRITE)]).0, OK);
    assert_eq!(rig.bytes(DATA, 512), [5; 512]);
    assert_eq!(file.stream_position().unwrap(), 1234);
}
