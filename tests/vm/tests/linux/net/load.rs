//! What a network costs that has nothing to do.

use std::fs;
use std::thread;
use std::time::Duration;

use super::super::super::support::or_skip;
use super::{GATEWAY, Lan, PEER, forwarded};
use peer::ask;

/// How long nothing is done.
const SECONDS: u32 = 5;

/// How often threads of a process have waited that are not processors of the guest: the tick of Linux
/// goes on there.
fn waits(process: u32) -> u64 {
    let count = |thread: fs::DirEntry| {
        let text = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap();
        if text("comm").contains("vcpu") || text("comm").contains("CPU") {
            return 0;
        }
        let status = text("status");
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten().map(count).sum()
}

#[test]
fn a_network_with_a_hundred_idle_connections_wakes_nobody() {
    let lan = or_skip!(Lan::find());
    let (machine, forwards) = forwarded(lan.machine(), &[PEER]);
    let mut guest = lan.start(&machine);
    guest.must(&format!("(peer idle {} 50 >/dev/null &)", lan.at(GATEWAY))).unwrap();
    let idle = ask::one_by_one(forwards[0], 50).unwrap();
    thread::sleep(Duration::from_secs(4));
    let before = waits(guest.id());
    thread::sleep(Duration::from_secs(SECONDS.into()));
    let waits = waits(guest.id()) - before;
    println!("measured: {waits} wake-ups in {SECONDS} s");
    lan.differs(waits <= 2 * u64::from(SECONDS), "QEMU wakes up for timers of its own");
    drop(idle);
    lan.end(guest);
}
