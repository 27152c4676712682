//! What a guest costs whose processors all wait.

use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use super::support::files::kernel;
use super::support::host::{accelerator, scheduled};
use super::support::or_skip;
use super::support::program::runner;

const TIME: Duration = Duration::from_secs(10);

/// Twice in this time each vCPU is asked whether it sleeps for good, by a kick, and nothing else happens:
/// the I/O loop and four vCPUs, a few times each where a signal and its wait are two: 10 to 32 were seen. A
/// poll of each every second would be 50 more.
const WAKE_UPS: u64 = 45;

/// 0.0 % of a CPU, to one decimal; a kick costs some 20 µs. Not asked of the lab, whose CPU is emulated:
/// each kick takes a millisecond there, and many where the host has other work, since time goes on.
const LIMIT: Duration = Duration::from_millis(5);

#[test]
fn four_processors_that_wait_cost_nothing() {
    or_skip!(accelerator());
    let mut running = runner(["--cpus", "4"]).arg(kernel("parked")).start();
    running.wait_for("parked\n");
    // The others have been counted, and are on their way.
    sleep(Duration::from_secs(1));
    let (time_before, before) = or_skip!(scheduled(running.id()));
    sleep(TIME);
    let (time, wake_ups) = scheduled(running.id()).unwrap();
    let (time, wake_ups) = (time - time_before, wake_ups - before);
    running.signal(Signal::TERM);
    assert_eq!(running.finish().status, Some(143));
    println!("measured: {} µs of CPU in {TIME:?}, {wake_ups} wake-ups", time.as_micros());
    let in_lab = std::env::var_os("RUNNER_LAB_GUESTS").is_some();
    assert!(in_lab || time < LIMIT, "{time:?} of CPU in {TIME:?}");
    assert!(wake_ups <= WAKE_UPS, "{wake_ups} wake-ups in {TIME:?}");
}
