//! x86 string instructions on ports. A host may hand out one element or many at a time; a guest
//! may stand between two elements as between two instructions, with its count and pointer to match.

use guests::x86_64::conformance as x86_64;

use super::Image;
use super::bench::{Bench, Guest, ok};
use crate::exit::{Address, Exit, Resume, Width};
use crate::traits::{Hypervisor, Kicker, Vcpu};

const WRITES: Image = Image::x86_64(x86_64::STRING_WRITES);
const READS: Image = Image::x86_64(x86_64::STRING_READS);

declare! {
    string_writes_come_out_one_by_one(WRITES);
    string_reads_are_answered_one_by_one(READS);
    a_kick_amid_string_writes_loses_none(WRITES);
    a_kick_amid_string_reads_loses_none(READS);
    string_writes_can_be_settled_midway(WRITES);
    string_reads_can_be_settled_midway(READS);
}

const PORT: Address = Address::Port(0x300);
const TEXT: u64 = u64::from_le_bytes(*b"ABCDEFGH");
const WIDTHS: [(Width, u64); 3] = [(Width::W1, 8), (Width::W2, 4), (Width::W4, 2)];

/// Element `index` of the text.
fn element(width: Width, index: u64) -> u64 {
    TEXT >> (8 * width.bytes() as u64 * index) & width.mask()
}

fn string_writes_come_out_one_by_one<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    for (width, count) in WIDTHS {
        for index in 0..count {
            guest.writes(PORT, width, element(width, index));
        }
        guest.reports(0);
        guest.reports(8);
    }
    guest.ends();
}

fn string_reads_are_answered_one_by_one<H: Hypervisor>(bench: &Bench<'_, H>) {
    let mut guest = bench.boot();
    for (width, count) in WIDTHS {
        for index in 0..count {
            guest.reads(PORT, width, element(width, index));
        }
        guest.reports(0);
        guest.reports(8);
        guest.reports(TEXT);
    }
    guest.ends();
}

/// Takes one exit of the byte string, the `done`-th, and prepares its answer.
#[track_caller]
fn takes<H: Hypervisor>(guest: &mut Guest<H>, exit: Exit, done: u64) {
    let (width, value) = (Width::W1, element(Width::W1, done));
    match exit {
        Exit::Read { .. } => {
            assert_eq!(exit, Exit::Read { at: PORT, width });
            guest.resume = Resume::Value(value);
        }
        _ => assert_eq!(exit, Exit::Write { at: PORT, width, value }),
    }
}

/// Checks that the registers stand behind element `done` of the byte string at `begin`.
#[track_caller]
fn stands_behind<H: Hypervisor>(guest: &Guest<H>, done: u64, begin: u64, reads: bool) {
    let regs = guest.x86_64().regs;
    let pointer = if reads { regs.rdi } else { regs.rsi };
    assert_eq!((regs.rcx, pointer), (8 - done, begin + done), "count and pointer behind {done}");
}

/// Where the string is: the last 8 bytes of both guests.
fn begin<H: Hypervisor>(bench: &Bench<'_, H>) -> u64 {
    bench.image_end() - 8
}

fn a_kick_amid<H: Hypervisor>(bench: &Bench<'_, H>, reads: bool) {
    for before in 1..=8 {
        let mut guest = bench.boot();
        let mut done = 0;
        while done < before {
            let exit = guest.run();
            takes(&mut guest, exit, done);
            done += 1;
        }
        guest.kicker.kick();
        loop {
            let exit = guest.run();
            if exit == Exit::Kicked {
                break;
            }
            takes(&mut guest, exit, done);
            done += 1;
        }
        stands_behind(&guest, done, begin(bench), reads);
        while done < 8 {
            let exit = guest.run();
            takes(&mut guest, exit, done);
            done += 1;
        }
        guest.reports(0);
        guest.reports(8);
        if reads {
            guest.reports(TEXT);
        }
    }
}

fn a_kick_amid_string_writes_loses_none<H: Hypervisor>(bench: &Bench<'_, H>) {
    a_kick_amid(bench, false);
}

fn a_kick_amid_string_reads_loses_none<H: Hypervisor>(bench: &Bench<'_, H>) {
    a_kick_amid(bench, true);
}

fn settled_midway<H: Hypervisor>(bench: &Bench<'_, H>, reads: bool) {
    let mut guest = bench.boot();
    let mut done = 0;
    while done < 8 {
        let exit = guest.run();
        takes(&mut guest, exit, done);
        done += 1;
        while let Some(exit) =
            ok(guest.vcpu.settle(std::mem::replace(&mut guest.resume, Resume::Go)))
        {
            takes(&mut guest, exit, done);
            done += 1;
        }
        stands_behind(&guest, done, begin(bench), reads);
        // Written back as they are, they are no different.
        let state = ok(guest.vcpu.state());
        ok(guest.vcpu.set_state(&state));
    }
    guest.reports(0);
    guest.reports(8);
    if reads {
        guest.reports(TEXT);
    }
}

fn string_writes_can_be_settled_midway<H: Hypervisor>(bench: &Bench<'_, H>) {
    settled_midway(bench, false);
}

fn string_reads_can_be_settled_midway<H: Hypervisor>(bench: &Bench<'_, H>) {
    settled_midway(bench, true);
}
