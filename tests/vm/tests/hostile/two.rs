//! Two processors at once.

use std::fs;

use super::driver::register::*;
use super::driver::*;
#[cfg(target_arch = "x86_64")]
use super::processors::asleep;
use super::script::Script;
use super::{Guest, SECTORS, accelerator, or_skip};

/// Set by the second processor when it runs.
const RUNS: u64 = RAM + 0x2f_0000;
/// Set by the first one when the second is to end.
const OVER: u64 = RAM + 0x2f_0008;

/// A guest whose second processor does `steps` over and over while the first does its own.
fn beside(steps: impl FnOnce(Script) -> Script, first: impl FnOnce(Script) -> Script) -> Guest {
    let script = Script::default()
        .second(|second| second.store(4, RUNS, 1).times(u64::MAX, steps))
        .wait(4, RUNS, u64::MAX, 1);
    Guest::new(first(script)).option("--cpus=2")
}

#[test]
fn r7_a_ring_that_another_processor_rewrites_meanwhile_harms_nobody() {
    or_skip!(accelerator());
    // The second one makes every part of the queue good and bad in turn; the first starts the device
    // on it, and resets it whatever came of it.
    let tear = |s: Script| {
        s.store(2, AVAILABLE + 2, 8)
            .store(8, DESCRIPTORS, u64::MAX)
            .store(4, DESCRIPTORS + 8, 0xffff_ffff)
            .store(4, DESCRIPTORS + 12, 0x1_0005)
            .store(2, AVAILABLE + 2, 1)
            .store(2, AVAILABLE + 4, 0xffff)
            .store(8, DESCRIPTORS, HEADER)
            .store(4, DESCRIPTORS + 8, 16)
            .store(2, AVAILABLE + 4, 0)
            .store(2, AVAILABLE + 2, 0x7fff)
    };
    let guest = beside(tear, |s| {
        let chain = [(HEADER, 16, NEXT, 1), (DATA, 512, NEXT | WRITE, 2), (ANSWER, 1, WRITE, 0)];
        let s = s.header(IN, 1).chain(&chain);
        let start =
            |s: Script| s.negotiate(VERSION_1 | INDIRECT).queue(QUEUE).set(STATUS, DRIVER_OK);
        s.times(200, |s| start(s).times(20, Script::notify).reset()).end(0)
    });
    let finished = guest.ends_with(0);
    let said = |line: &str| line.contains(": stopped until the driver resets it: ");
    assert!(finished.stderr.lines().all(said), "{finished}");
    assert_eq!(fs::read(guest.disk()).unwrap(), [0x5a; SECTORS * 512]);
}

#[test]
fn r30_two_processors_that_reset_and_start_one_device_harm_nobody() {
    or_skip!(accelerator());
    let storm = |s: Script| {
        let s = s.set(STATUS, 0).set(STATUS, 1).set(STATUS, 3);
        let s = s.set(DRIVER_FEATURES_SEL, 1).set(DRIVER_FEATURES, 1).set(STATUS, 0xb);
        s.set(QUEUE_SEL, 0).queue(QUEUE).set(STATUS, 0xf).notify()
    };
    let guest = beside(
        |s| storm(s).wait(4, OVER, u64::MAX, 0),
        |s| {
            let s = s.times(500, storm).store(4, OVER, 1);
            // The second one may be in the middle of it.
            s.times(2000, |s| s.read(4, DEVICE)).recovers().end(0)
        },
    );
    let finished = guest.ends_with(0);
    let said = |line: &str| {
        line.contains(": the driver wrote status 0x") || line.contains("stopped until the driver")
    };
    assert!(finished.stderr.lines().all(said), "{finished}");
}

#[test]
#[cfg(target_arch = "x86_64")] // it ends by a port
fn c63_of_two_processors_that_end_the_run_the_first_wins_and_the_disk_has_what_was_asked_for() {
    or_skip!(accelerator());
    let word = u64::from_le_bytes(*b"the last");
    let chain = [(HEADER, 16, NEXT, 1), (DATA, 512, NEXT, 2), (ANSWER, 1, WRITE, 0)];
    for _ in 0..10 {
        let guest = beside(
            |s| s.output(1, 0x501, 7),
            |s| {
                let s = (0..64).fold(s, |s, at| s.store(8, DATA + 8 * at, word));
                s.start(FLUSH).header(OUT, 1).chain(&chain).offer(&[0]).end(9)
            },
        );
        let finished = super::bounded(super::MEMORY, guest.runner().run());
        assert!(matches!(finished.status, Some(7 | 9)), "{finished}");
        assert_eq!(finished.stderr, "");
    }
}

#[test]
#[cfg(target_arch = "x86_64")] // KVM tells on no other which processor sleeps
fn v69_two_processors_that_halt_for_good_are_found_out_and_one_that_still_runs_is_let_run() {
    or_skip!(accelerator());
    use super::script::Routine::Halt;
    let halts = |second: Script| second.store(4, RUNS, 1).call(Halt, 0, 0);
    let script = Script::default().second(halts).wait(4, RUNS, u64::MAX, 1);
    // A third one was never started, and sleeps as well.
    asleep(&Guest::new(script.clone().call(Halt, 0, 0)).option("--cpus=3"));
    let waits = script.wait(4, RUNS, u64::MAX, 2);
    Guest::new(waits).option("--cpus=2").option("--timeout=17s").ends_with(124);
}

#[test]
#[cfg(target_arch = "x86_64")] // it has no start-up IPI
fn v70_a_processor_that_runs_is_not_started_again() {
    or_skip!(accelerator());
    // A start-up IPI without INIT is lost on it (SDM volume 3A, 9.4.3).
    let guest = beside(
        |s| s.add(RUNS + 4, 1),
        |s| {
            let s = s.store(4, 0xfee0_0310, 1 << 24);
            let s = s.times(1000, |s| s.store(4, 0xfee0_0300, 0x4650));
            s.expect(4, RUNS, 1).end(0)
        },
    );
    guest.passes();
}
