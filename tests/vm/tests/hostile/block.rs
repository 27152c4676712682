//! Requests that no good driver makes of a disk (virtio 1.2 §5.2.6).

use std::fs;

use super::driver::*;
use super::rings::all_of_ram;
use super::script::Script;
use super::{Guest, SECTORS, accelerator, kernel, or_skip, runner, served, stops};

/// One request and its answer. Each is the first of an activation.
fn answers(kind: u32, sector: u64, data: &[(u64, u32, u16)], answer: u64) {
    let script = Script::default().start(0).request(kind, sector, data).expect(1, ANSWER, answer);
    let guest = Guest::new(script.recovers().end(0));
    guest.passes();
    assert_eq!(fs::read(guest.disk()).unwrap(), [0x5a; SECTORS * 512], "the disk is as it was");
}

#[test]
fn b41_a_header_in_pieces_is_a_header_and_a_short_one_is_an_error() {
    or_skip!(accelerator());
    let pieces = [
        (HEADER, 1, NEXT, 1),
        (HEADER + 1, 7, NEXT, 2),
        (HEADER + 8, 8, NEXT, 3),
        (DATA, 512, NEXT | WRITE, 4),
        (ANSWER, 1, WRITE, 0),
    ];
    served(0, |s| {
        let s = s.header(IN, 1).chain(&pieces).offer(&[0]).served(1).expect(1, ANSWER, OK);
        s.expect(1, DATA + 511, 0x5a)
    });
    for len in [1, 8, 15] {
        let short = [(HEADER, len, NEXT, 1), (DATA, 512, NEXT | WRITE, 2), (ANSWER, 1, WRITE, 0)];
        served(0, |s| {
            let s = s.header(IN, 1).chain(&short).offer(&[0]).served(1);
            s.expect(1, ANSWER, IO_ERROR).expect(8, DATA, 0)
        });
    }
}

#[test]
fn b42_a_request_without_room_for_its_answer_stops_the_device() {
    or_skip!(accelerator());
    let head = (HEADER, 16, NEXT, 1);
    let fault = "the chain at descriptor 0: no room for an answer";
    for chain in
        [vec![(HEADER, 16, 0, 0)], vec![head, (ANSWER, 1, 0, 0)], vec![head, (ANSWER, 0, WRITE, 0)]]
    {
        stops(0, |s| s.header(FLUSH_IT, 0).chain(&chain).offer(&[0]), fault);
    }
}

#[test]
fn b43_data_that_are_not_whole_sectors_are_an_error() {
    or_skip!(accelerator());
    for len in [1, 511, 513] {
        answers(IN, 0, &[(DATA, len, WRITE)], IO_ERROR);
        answers(OUT, 0, &[(DATA, len, 0)], IO_ERROR);
    }
}

#[test]
fn b44_sectors_that_the_disk_does_not_have_are_an_error() {
    or_skip!(accelerator());
    let last = SECTORS as u64 - 1;
    for sector in [last + 1, 1 << 55, 1 << 63, u64::MAX] {
        answers(IN, sector, &[(DATA, 512, WRITE)], IO_ERROR);
        answers(OUT, sector, &[(DATA, 512, 0)], IO_ERROR);
    }
    let two = |flags| [(DATA, 512, flags), (DATA + 512, 512, flags)];
    answers(IN, last, &two(WRITE), IO_ERROR);
    answers(OUT, last, &two(0), IO_ERROR);
}

#[test]
fn b45_a_disk_that_is_read_only_is_not_written() {
    or_skip!(accelerator());
    let script = Script::default().start(0).request(OUT, 1, &[(DATA, 512, 0)]);
    let guest = Guest::new(script.expect(1, ANSWER, IO_ERROR).recovers().end(0)).read_only();
    guest.passes();
    assert_eq!(fs::read(guest.disk()).unwrap(), [0x5a; SECTORS * 512]);
}

#[test]
fn b46_requests_of_no_known_type_are_unsupported() {
    or_skip!(accelerator());
    for kind in [2, 3, 5, 0xff, 0x8000_0000, u32::MAX] {
        answers(kind, 0, &[(DATA, 512, WRITE)], UNSUPPORTED);
    }
}

#[test]
fn b47_the_disks_name_is_cut_to_what_there_is_room_for() {
    or_skip!(accelerator());
    served(0, |s| {
        s.request(GET_ID, 0, &[(DATA, 1, WRITE)]).expect(1, ANSWER, OK).expect(
            4,
            DATA,
            u64::from(b'd'),
        )
    });
    served(0, |s| {
        s.request(GET_ID, 0, &[(DATA, 4096, WRITE)])
            .expect(1, ANSWER, OK)
            .expect(8, DATA, u64::from_le_bytes(*b"disk0\0\0\0"))
            .expect(8, DATA + 16, 0)
    });
}

/// A segment of a discard or of zeros (§5.2.6).
fn segment(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    let mut bytes = sector.to_le_bytes().to_vec();
    bytes.extend(sectors.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes
}

/// Guests that mean no harm: one gives a block of its disk back, the other has one zeroed. They live
/// as long as what is returned first.
#[cfg(target_os = "linux")]
pub(crate) fn with_space() -> [(super::Folder, super::Runner); 2] {
    [(DISCARD, DISCARD_FEATURE), (WRITE_ZEROES, WRITE_ZEROES_FEATURE)].map(|(kind, feature)| {
        let all = u32::try_from(SECTORS).unwrap();
        let script = Script::default().copy(BIG, &segment(0, all, 0)).start(feature);
        let script = script.request(kind, 0, &[(BIG, 16, 0)]).expect(1, ANSWER, OK).end(0);
        let guest = Guest { folder: super::Folder::in_memory(), ..Guest::new(script) };
        let run = guest.runner();
        (guest.folder, run)
    })
}

#[test]
fn b48_segments_to_discard_or_zero_that_cannot_be_are_refused() {
    or_skip!(accelerator());
    let good = segment(0, 1, 0);
    for (kind, feature) in [(DISCARD, DISCARD_FEATURE), (WRITE_ZEROES, WRITE_ZEROES_FEATURE)] {
        for (segments, answer) in [
            (segment(0, u32::MAX, 0), IO_ERROR),
            (segment(SECTORS as u64, 1, 0), IO_ERROR),
            (segment(1, 8, 0), IO_ERROR),
            (segment(u64::MAX, 1, 0), IO_ERROR),
            (segment(1 << 55, 1, 0), IO_ERROR),
            (good[..15].to_vec(), IO_ERROR),
            ([&good[..], &[0]].concat(), IO_ERROR),
            (good.repeat(33), IO_ERROR),
            (good.repeat(65_536), IO_ERROR),
            (segment(0, 1, 2), UNSUPPORTED),
            (segment(0, 1, u32::MAX), UNSUPPORTED),
        ] {
            let len = u32::try_from(segments.len()).unwrap();
            let script = Script::default().copy(BIG, &segments).start(feature);
            let script = script.request(kind, 0, &[(BIG, len, 0)]).expect(1, ANSWER, answer);
            let guest = Guest::new(script.recovers().end(0));
            guest.passes();
            assert_eq!(fs::read(guest.disk()).unwrap(), [0x5a; SECTORS * 512], "{kind} {len}");
        }
        // No segment at all; what is not for the device to read; what was not negotiated.
        for data in [&[][..], &[(DATA, 16, WRITE)]] {
            served(feature, |s| s.request(kind, 0, data).expect(1, ANSWER, IO_ERROR));
        }
        answers(kind, 0, &[(DATA, 16, 0)], UNSUPPORTED);
    }
}

#[test]
fn b48_zeros_and_what_is_discarded_keep_to_their_segments() {
    or_skip!(accelerator());
    for (kind, feature, flags) in [
        (DISCARD, DISCARD_FEATURE, 0),
        (WRITE_ZEROES, WRITE_ZEROES_FEATURE, 0),
        (WRITE_ZEROES, WRITE_ZEROES_FEATURE, 1),
    ] {
        let script = Script::default().copy(BIG, &segment(2, 3, flags)).start(feature | FLUSH);
        let script = script.request(kind, 0, &[(BIG, 16, 0)]).expect(1, ANSWER, OK).recovers();
        let guest = Guest::new(script.end(0));
        guest.passes();
        let disk = fs::read(guest.disk()).unwrap();
        assert!(disk.iter().enumerate().all(|(at, byte)| match at / 512 {
            2..5 if kind == DISCARD => [0, 0x5a].contains(byte),
            2..5 => *byte == 0,
            _ => *byte == 0x5a,
        }));
        let guest = guest.option("--ephemeral");
        guest.passes();
        assert_eq!(fs::read(guest.disk()).unwrap(), [0x5a; SECTORS * 512]);
    }
}

#[test]
fn a_guest_that_writes_another_formats_header_has_written_a_header_and_opened_nothing() {
    or_skip!(accelerator());
    // qcow2 of a GiB that names a backing file (QEMU, docs/interop/qcow2.txt).
    let mut header = b"QFI\xfb\0\0\0\x03".to_vec();
    header.extend(104u64.to_be_bytes());
    header.extend([0, 0, 0, 11, 0, 0, 0, 16]);
    header.extend((1u64 << 30).to_be_bytes());
    header.resize(104, 0);
    header.extend(b"/etc/passwd");
    header.resize(512, 0);
    let script =
        Script::default().copy(DATA, &header).start(FLUSH).request(OUT, 0, &[(DATA, 512, 0)]);
    let guest = Guest::new(script.expect(1, ANSWER, OK).recovers().end(0));
    guest.passes();
    let mut wanted = vec![0x5a; SECTORS * 512];
    wanted[..512].copy_from_slice(&header);
    assert!(fs::read(guest.disk()).unwrap() == wanted);
    // The next run finds what it left: as many sectors as before, and its header in the first.
    let disk = format!("--disk={}", guest.disk().display());
    runner([disk.as_str()]).arg(kernel("disk")).ends_with(0);
    wanted[512..1024].copy_from_slice(&b"runner!\n".repeat(64));
    assert!(fs::read(guest.disk()).unwrap() == wanted);
    let why = runner([format!("{disk},ro,format=qcow2")]).arg(kernel("disk")).refused();
    assert!(why.contains("in another file, which a name in an image never opens"), "{why}");
}

#[test]
fn b49_a_request_of_four_gibibytes_costs_no_memory() {
    or_skip!(accelerator());
    // Just no more than a chain may have, and more than the disk has.
    let script = all_of_ram(Script::default().start(INDIRECT).header(OUT, 0), 127);
    let script = script.served(1).expect(1, ANSWER, IO_ERROR).recovers().end(0);
    let guest = Guest::new(script).memory(32);
    guest.passes();
    assert_eq!(fs::read(guest.disk()).unwrap(), [0x5a; SECTORS * 512]);
}

#[test]
fn b50_a_storm_of_flushes_is_served() {
    or_skip!(accelerator());
    let chains = |head: u16| [(HEADER, 16, NEXT, head + 1), (ANSWER, 1, WRITE, 0)];
    let table: Vec<_> = (0..128).flat_map(|chain| chains(2 * chain)).collect();
    let heads: Vec<u16> = (0..256).map(|entry| entry % 128 * 2).collect();
    let script = Script::default()
        .negotiate(VERSION_1 | FLUSH)
        .queue(Queue { size: 256, ..QUEUE })
        .set(register::STATUS, DRIVER_OK)
        .header(FLUSH_IT, 0)
        .chain(&table)
        .place(&heads);
    let script = (1..=100u16)
        .fold(script, |script, batch| script.add(AVAILABLE + 2, 128).notify().served(batch * 128));
    Guest::new(script.expect(1, ANSWER, OK).recovers().end(0)).passes();
}
