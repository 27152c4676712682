//! Rings and chains that no good driver makes (virtio 1.2 §2.7).

use super::arch::CONTROLLERS;
use super::driver::*;
use super::script::Script;
use super::{END, Guest, accelerator, or_skip, served, stops};

/// The header of a request, alone at descriptor 0.
const HEAD: Descriptor = (HEADER, 16, NEXT, 1);

#[test]
fn r1_two_descriptors_that_lead_to_each_other_stop_the_device() {
    or_skip!(accelerator());
    let chain = [HEAD, (HEADER, 16, NEXT, 0)];
    stops(0, |s| s.chain(&chain).offer(&[0]), "the chain at descriptor 0: it has no end");
}

#[test]
fn r2_a_descriptor_that_leads_to_itself_stops_the_device() {
    or_skip!(accelerator());
    let chain = [(0, 0, 0, 0), (0, 0, 0, 0), (HEADER, 16, NEXT, 2)];
    stops(0, |s| s.chain(&chain).offer(&[2]), "the chain at descriptor 2: it has no end");
}

#[test]
fn r3_a_descriptor_that_leads_out_of_the_table_stops_the_device() {
    or_skip!(accelerator());
    for next in [8, 9, u16::MAX] {
        let fault = format!("the chain at descriptor 0: descriptor {next} is beyond the table");
        stops(0, |s| s.chain(&[(HEADER, 16, NEXT, next)]).offer(&[0]), &fault);
    }
}

#[test]
fn r4_a_head_that_the_table_does_not_have_stops_the_device() {
    or_skip!(accelerator());
    for head in [8, 256, u16::MAX] {
        let fault =
            format!("the chain at descriptor {head}: descriptor {head} is beyond the table");
        stops(0, |s| s.offer(&[head]), &fault);
    }
}

#[test]
fn r5_an_index_that_runs_ahead_by_more_than_the_queue_has_stops_the_device() {
    or_skip!(accelerator());
    for ahead in [9, 0x8000, u16::MAX] {
        let fault = "the available index ran ahead by more than the queue's size";
        stops(0, |s| s.add(AVAILABLE + 2, ahead).notify(), fault);
    }
}

#[test]
fn r6_indices_wrap_and_nothing_happens() {
    or_skip!(accelerator());
    // 128 requests for the disk's name at a time, 513 times: 65,664.
    let queue = Queue { size: 256, ..QUEUE };
    let chains = |head: u16| [(HEADER, 16, NEXT, head + 1), (ANSWER, 1, WRITE, 0)];
    let table: Vec<_> = (0..128).flat_map(|chain| chains(2 * chain)).collect();
    let heads: Vec<u16> = (0..256).map(|entry| entry % 128 * 2).collect();
    // The guest compares with what it has made available: a second word that it counts itself.
    let script = Script::default()
        .negotiate(VERSION_1)
        .queue(queue)
        .set(register::STATUS, DRIVER_OK)
        .header(GET_ID, 0)
        .chain(&table)
        .place(&heads);
    let script = (1..=513u16).fold(script, |script, batch| {
        script.add(AVAILABLE + 2, 128).notify().served(batch.wrapping_mul(128))
    });
    let script = script.expect(2, AVAILABLE + 2, 128).expect(1, ANSWER, OK);
    Guest::new(script.recovers().end(0)).passes();
}

#[test]
fn r8_the_same_head_twice_stops_the_device() {
    or_skip!(accelerator());
    let chain = [HEAD, (ANSWER, 1, WRITE, 0)];
    let script = Script::default().start(0).header(FLUSH_IT, 0).chain(&chain).offer(&[0, 0]);
    let guest = Guest::new(script.broken().recovers().end(0));
    guest.stops_its_device("descriptor 0 was made available twice");
}

#[test]
fn r9_buffers_outside_of_ram_stop_the_device() {
    or_skip!(accelerator());
    for address in [END, END - 511, DEVICE, CONTROLLERS[0], 1 << 32, u64::MAX] {
        let fault = format!(
            "the chain at descriptor 0: a buffer of 512 bytes at {address:#x} is not in the guest's RAM"
        );
        let chain = [HEAD, (address, 512, NEXT | WRITE, 2), (ANSWER, 1, WRITE, 0)];
        stops(0, |s| s.header(IN, 0).chain(&chain).offer(&[0]), &fault);
    }
}

#[test]
fn r10_a_buffer_that_wraps_around_stops_the_device() {
    or_skip!(accelerator());
    for (address, len) in [(u64::MAX - 15, 16), (u64::MAX - 15, 32), (DATA, u32::MAX)] {
        let fault = format!(
            "the chain at descriptor 0: a buffer of {len} bytes at {address:#x} is not in the guest's RAM"
        );
        let chain = [HEAD, (address, len, NEXT | WRITE, 2), (ANSWER, 1, WRITE, 0)];
        stops(0, |s| s.header(IN, 0).chain(&chain).offer(&[0]), &fault);
    }
}

#[test]
fn r11_a_chain_of_more_than_four_gibibytes_stops_the_device() {
    or_skip!(accelerator());
    let script = Script::default().start(INDIRECT).header(OUT, 0);
    let script = all_of_ram(script, 129).broken().expect(2, USED + 2, 0).recovers().end(0);
    let fault = "the chain at descriptor 0: more than 4 GiB in one chain";
    Guest::new(script).memory(32).stops_its_device(fault);
}

/// A request to write all 32 MiB of RAM, `times` over.
pub(super) fn all_of_ram(script: Script, times: u16) -> Script {
    let mut table: Vec<Descriptor> = (1..=times).map(|next| (RAM, 32 << 20, NEXT, next)).collect();
    table.push((ANSWER, 1, WRITE, 0));
    let len = 16 * u32::try_from(table.len()).unwrap();
    let chain = [HEAD, (TABLE, len, TABLE_AT, 0)];
    script.descriptors(TABLE, &table).chain(&chain).offer(&[0])
}

#[test]
fn r12_descriptors_without_a_byte_are_nothing() {
    or_skip!(accelerator());
    let chain = [
        (0, 0, NEXT, 1),
        (HEADER, 16, NEXT, 2),
        (DATA, 0, NEXT | WRITE, 3),
        (DATA, 512, NEXT | WRITE, 4),
        (DATA, 0, NEXT | WRITE, 5),
        (ANSWER, 1, WRITE, 0),
    ];
    served(0, |s| {
        let s = s.header(IN, 1).chain(&chain).offer(&[0]).served(1);
        s.expect(1, ANSWER, OK).expect(1, DATA + 511, 0x5a).expect(4, USED + 8, 513)
    });
}

#[test]
fn r13_a_chain_without_a_byte_stops_the_device() {
    or_skip!(accelerator());
    let chain = [(HEADER, 0, NEXT, 1), (DATA, 0, NEXT | WRITE, 2), (ANSWER, 0, WRITE, 0)];
    let fault = "the chain at descriptor 0: no room for an answer";
    stops(0, |s| s.chain(&chain).offer(&[0]), fault);
}

#[test]
fn r14_a_readable_buffer_behind_a_writable_one_stops_the_device() {
    or_skip!(accelerator());
    let chain = [HEAD, (ANSWER, 1, NEXT | WRITE, 2), (DATA, 512, 0, 0)];
    let fault = "the chain at descriptor 0: a readable buffer behind a writable one";
    stops(0, |s| s.header(OUT, 0).chain(&chain).offer(&[0]), fault);
}

#[test]
fn r15_buffers_of_the_wrong_direction_move_nothing() {
    or_skip!(accelerator());
    // The header can be written only: there is none. Data of the wrong direction are no data.
    let header = [(HEADER, 16, NEXT | WRITE, 1), (ANSWER, 1, WRITE, 0)];
    let input = [HEAD, (DATA, 512, NEXT, 2), (ANSWER, 1, WRITE, 0)];
    let output = [HEAD, (DATA, 512, NEXT | WRITE, 2), (ANSWER, 1, WRITE, 0)];
    served(0, |s| {
        s.header(IN, 0)
            .chain(&header)
            .offer(&[0])
            .served(1)
            .expect(1, ANSWER, IO_ERROR)
            .header(IN, 0)
            .chain(&input)
            .add(AVAILABLE + 2, 1)
            .notify()
            .served(2)
            .expect(8, DATA, 0)
            .header(OUT, 0)
            .chain(&output)
            .add(AVAILABLE + 2, 1)
            .notify()
            .served(3)
            .expect(8, DATA, 0)
    });
}

#[test]
#[cfg(target_arch = "x86_64")] // whose RAM has a hole
fn r16_a_chain_may_have_buffers_on_both_sides_of_the_hole_and_none_across_its_edge() {
    or_skip!(accelerator());
    const HOLE: u64 = 3 << 30;
    let high = |flags| [(HOLE - 512, 512, flags), (1 << 32, 512, flags)];
    let word = u64::from_le_bytes(*b"crossing");
    let restarted = |s: Script| s.reset().store(4, AVAILABLE, 0).store(4, USED, 0).start(0);
    let request = |s: Script, kind, sector, data: &[(u64, u32, u16)]| {
        restarted(s).request(kind, sector, data).expect(1, ANSWER, OK)
    };
    let script = Script::default().store(8, DATA + 1016, word);
    let script = request(script, OUT, 2, &[(DATA, 1024, 0)]);
    let script = request(script, IN, 2, &high(WRITE));
    let script = request(script, OUT, 4, &high(0));
    let script = request(script, IN, 4, &[(DATA + 4096, 1024, WRITE)]);
    let script = script.expect(8, DATA + 4096 + 1016, word);
    let chain = [HEAD, (HOLE - 512, 1024, NEXT | WRITE, 2), (ANSWER, 1, WRITE, 0)];
    let script = restarted(script).header(IN, 2).chain(&chain).offer(&[0]);
    let script = script.broken().recovers().end(0);
    // The ram disk is at the end of low memory, and leaves the last sector of it.
    assert!(script.bytes().len() % 4096 <= 4096 - 512);
    let guest = Guest::new(script).memory(3584);
    let finished = guest.ends_with(0);
    let fault = "a buffer of 1024 bytes at 0xbffffe00 is not in the guest's RAM\n";
    assert!(finished.stderr.ends_with(fault), "{finished}");
    super::bounded(super::MEMORY, finished);
}

#[test]
fn r17_more_buffers_than_a_chain_can_have_stop_the_device() {
    or_skip!(accelerator());
    let table: Vec<Descriptor> = (1..=1100).map(|next| (DATA, 1, NEXT, next)).collect();
    let chain = [HEAD, (TABLE, 1100 * 16, TABLE_AT, 0)];
    let steps = |s: Script| s.header(OUT, 0).descriptors(TABLE, &table).chain(&chain).offer(&[0]);
    stops(INDIRECT, steps, "the chain at descriptor 0: it has no end");
}

/// A good request in a table of its own, which the chain refers to with `flags`, as `len` bytes.
fn in_a_table(script: Script, at: u64, len: u32, flags: u16) -> Script {
    let table = [HEAD, (DATA, 512, NEXT | WRITE, 2), (ANSWER, 1, WRITE, 0)];
    let chain = [(at, len, TABLE_AT | flags, 1), (ANSWER, 1, WRITE, 0)];
    script.header(IN, 0).descriptors(TABLE, &table).chain(&chain).offer(&[0])
}

#[test]
fn r18_a_table_that_was_not_negotiated_stops_the_device() {
    or_skip!(accelerator());
    let fault = "the chain at descriptor 0: an indirect table, which was not negotiated";
    stops(0, |s| in_a_table(s, TABLE, 48, 0), fault);
    served(INDIRECT, |s| in_a_table(s, TABLE, 48, 0).served(1).expect(1, ANSWER, OK));
}

#[test]
fn r19_a_table_inside_a_table_stops_the_device() {
    or_skip!(accelerator());
    let steps = |s: Script| {
        s.header(IN, 0)
            .descriptors(TABLE, &[HEAD, (TABLE, 32, TABLE_AT, 0)])
            .chain(&[(TABLE, 32, TABLE_AT, 0)])
            .offer(&[0])
    };
    stops(INDIRECT, steps, "the chain at descriptor 0: an indirect table where none may be");
}

#[test]
fn r20_a_table_with_a_descriptor_behind_it_stops_the_device() {
    or_skip!(accelerator());
    let fault = "the chain at descriptor 0: an indirect table where none may be";
    stops(INDIRECT, |s| in_a_table(s, TABLE, 48, NEXT), fault);
}

#[test]
fn r21_a_table_of_no_possible_length_or_outside_of_ram_stops_the_device() {
    or_skip!(accelerator());
    for len in [0, 8, 24, 65_536 * 16, u32::MAX] {
        let fault = format!("the chain at descriptor 0: an indirect table of {len} bytes");
        stops(INDIRECT, |s| in_a_table(s, TABLE, len, 0), &fault);
    }
    let fault = "the chain at descriptor 0: its table is not in the guest's RAM";
    for at in [END, DEVICE, u64::MAX - 15] {
        stops(INDIRECT, |s| in_a_table(s, at, 48, 0), fault);
    }
    // Its second half.
    let last = END - 16;
    let steps = |s: Script| {
        s.header(IN, 0).descriptors(last, &[HEAD]).chain(&[(last, 32, TABLE_AT, 0)]).offer(&[0])
    };
    stops(INDIRECT, steps, fault);
}

#[test]
fn r24_a_device_that_overwrites_its_own_rings_goes_on_or_stops() {
    or_skip!(accelerator());
    // The used ring and the descriptors as buffers: what is read of them has been read.
    for buffer in [USED, DESCRIPTORS] {
        served(0, |s| {
            s.request(IN, 1, &[(buffer, 512, WRITE)]).expect(1, ANSWER, OK).expect(
                1,
                buffer + 511,
                0x5a,
            )
        });
    }
    // The available ring: its index is 0x5a5a now, which the device sees when it looks next.
    let script = Script::default().start(0).request(IN, 1, &[(AVAILABLE, 512, WRITE)]).notify();
    Guest::new(script.broken().recovers().end(0))
        .stops_its_device("the available index ran ahead by more than the queue's size");
}

#[test]
fn r25_any_index_to_be_notified_at_will_do() {
    or_skip!(accelerator());
    for event in [1, 0x7fff, 0x8000, u16::MAX] {
        served(EVENT_IDX, |s| {
            s.store(2, AVAILABLE + 4 + 2 * QUEUE.size, event.into())
                .store(2, USED + 4 + 8 * QUEUE.size, event.into())
                .request(IN, 1, &[(DATA, 512, WRITE)])
                .expect(1, ANSWER, OK)
        });
    }
}
