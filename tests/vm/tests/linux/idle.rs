//! What a guest costs that does nothing.

use super::super::support::host::cpu_time;
use super::super::support::or_skip;
use super::{Debian, Kernel, done, number};

/// How long it does nothing.
const SECONDS: u32 = 5;

/// What it may use of one CPU. A tick is a hundred thousand instructions of the lab's QEMU, and more where it
/// has to switch between exception levels: there one CPU was seen to use 35 % where the host had other work, and only
/// a busy loop is told from that. Wake-ups are counted by the tests named parked.
const PERCENT: u128 = if cfg!(target_arch = "aarch64") { 50 } else { 5 };

#[test]
fn four_processors_with_nothing_to_do_cost_their_timer_ticks() {
    let debian = or_skip!(Debian::find());
    let job = format!("idle {SECONDS}");
    let mut running = debian.boot(Kernel::ALL[0], &["-m", "256", "--cpus", "4"], &job).start();
    running.wait_until_it_says("begin\r\n");
    let before = cpu_time(running.id()).unwrap();
    running.wait_until_it_says("end\r\n");
    let used = cpu_time(running.id()).unwrap() - before;
    let finished = done(running.finish());
    let ticks = number(finished.text(), "ticks");
    println!("measured: {} ms of CPU in {SECONDS} s, {ticks} timer interrupts", used.as_millis());
    // A busy loop takes 100 % of one CPU at least, a poll every millisecond several.
    assert!(
        used.as_millis() * 100 < u128::from(SECONDS) * 1000 * PERCENT,
        "{used:?}, {ticks} ticks"
    );
}
