//! What a network costs that has nothing to do.

use std::fs;
use std::thread;
use std::time::Duration;

use super::super::super::support::or_skip;
use super::{GATEWAY, Lan, PEER, forwarded};
use peer::ask;

/// How long nothing is done.
const SECONDS: u32 = 5;

/// How often the thread of a process has waited that serves the network. The others are the processors of
/// the guest, where the tick of Linux goes on.
fn waits(process: u32, name: &str) -> u64 {
    let count = |thread: fs::DirEntry| {
        let text = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap();
        let status = text("status");
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        (text("comm").trim() == name).then(|| line.unwrap().trim().parse::<u64>().unwrap())
    };
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
    threads.filter_map(count).max().unwrap_or_else(|| panic!("no thread is called {name}"))
}

#[test]
fn a_network_with_a_hundred_idle_connections_wakes_nobody() {
    let lan = or_skip!(Lan::find());
    let (machine, forwards) = forwarded(lan.machine(), &[PEER]);
    let mut guest = lan.start(&machine);
    guest.must(&format!("(peer idle {} 50 >/dev/null &)", lan.at(GATEWAY))).unwrap();
    let idle = ask::one_by_one(forwards[0], 50).unwrap();
    thread::sleep(Duration::from_secs(4));
    let name = if lan.is_qemu() { "qemu-system-x86" } else { "network" };
    let before = waits(guest.id(), name);
    thread::sleep(Duration::from_secs(SECONDS.into()));
    let waits = waits(guest.id(), name) - before;
    println!("measured: {waits} wake-ups in {SECONDS} s");
    lan.differs(waits <= u64::from(SECONDS), "QEMU wakes up for timers of its own");
    drop(idle);
    lan.end(guest);
}
