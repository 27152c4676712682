//! Requests that no good driver makes of a disk (virtio 1.2 §5.2.6).

use std::fs;

use super::driver::*;
use super::rings::all_of_ram;
use super::script::Script;
use super::{Guest, SECTORS, accelerator, or_skip, served, stops};

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

const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;
const UNMAP: u64 = 1;
/// What offers them (§5.2.3), and a flush, without which each would be made durable.
const BOTH: u64 = FLUSH | 1 << 13 | 1 << 14;

/// A request of `len` bytes, the first of which are a segment, and its answer.
fn segment(
    script: Script,
    kind: u32,
    (sector, count, flags): (u64, u64, u64),
    len: u32,
    answer: u64,
) -> Script {
    let script = script.store(8, DATA, sector).store(8, DATA + 8, flags << 32 | count);
    script.request(kind, 0, &[(DATA, len, 0)]).expect(1, ANSWER, answer)
}

#[test]
fn b48_segments_that_no_disk_has_are_refused_and_nothing_is_done() {
    or_skip!(accelerator());
    for kind in [DISCARD, WRITE_ZEROES] {
        let mut cases = vec![
            (BOTH, (0, 0xffff_ffff, 0), 16, IO_ERROR),
            (BOTH, (7, 2, 0), 16, IO_ERROR),
            (BOTH, (1 << 63, 1, 0), 16, IO_ERROR),
            (BOTH, (u64::MAX, 1, 0), 16, IO_ERROR),
            (BOTH, (0, 1, 0), 0, IO_ERROR),
            (BOTH, (0, 1, 0), 15, IO_ERROR),
            (BOTH, (0, 1, 0), 24, IO_ERROR),
            (BOTH, (0, 1, 0), 1 << 20, IO_ERROR),
            (BOTH, (0, 1, 2), 16, UNSUPPORTED),
            (BOTH, (0, 1, 0xffff_ffff), 16, UNSUPPORTED),
            (FLUSH, (0, 1, 0), 16, UNSUPPORTED),
        ];
        if kind == DISCARD {
            cases.push((BOTH, (0, 1, UNMAP), 16, UNSUPPORTED));
        }
        for (features, what, len, answer) in cases {
            let script = segment(Script::default().start(features), kind, what, len, answer);
            let guest = Guest::new(script.recovers().end(0));
            guest.passes();
            assert_eq!(fs::read(guest.disk()).unwrap(), [0x5a; SECTORS * 512], "{what:x?}");
        }
    }
}

#[test]
fn b48_zeros_and_what_is_discarded_keep_to_their_segments() {
    or_skip!(accelerator());
    for (kind, flags) in [(DISCARD, 0), (WRITE_ZEROES, 0), (WRITE_ZEROES, UNMAP)] {
        for options in [&[][..], &["--ephemeral"]] {
            let script =
                segment(Script::default().start(BOTH), kind, (2, 3, flags), 16, OK).recovers();
            let guest = Guest::new(script.end(0));
            let guest = options.iter().fold(guest, |guest, option| guest.option(option));
            guest.passes();
            let disk = fs::read(guest.disk()).unwrap();
            let (before, rest) = disk.split_at(2 * 512);
            let (segment, behind) = rest.split_at(3 * 512);
            assert!(before.iter().chain(behind).all(|byte| *byte == 0x5a));
            let zeros = kind == WRITE_ZEROES && options.is_empty();
            let same = segment.iter().all(|byte| *byte == segment[0]);
            assert!(same && (segment[0] == 0 || segment[0] == 0x5a && !zeros), "{}", segment[0]);
        }
    }
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
    let script = (1..=100u64).fold(script, |script, batch| {
        script.add(AVAILABLE + 2, 128).notify().served((batch * 128) as u16)
    });
    Guest::new(script.expect(1, ANSWER, OK).recovers().end(0)).passes();
}
