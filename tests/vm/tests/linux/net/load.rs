//! What a network costs that has nothing to do.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use super::super::super::support::or_skip;
use super::{GATEWAY, Lan, PEER, forwarded};
use peer::ask;

/// How long nothing is done.
const SECONDS: u32 = 5;

/// How often each thread of a process has waited, by its name; but not the processors of the guest, where
/// the tick of Linux goes on.
fn waits(process: u32) -> BTreeMap<String, u64> {
    let count = |thread: fs::DirEntry| {
        let text = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap();
        let status = text("status");
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let name = format!("{} {}", text("comm").trim(), thread.file_name().display());
        (name, line.unwrap().trim().parse().unwrap())
    };
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten().map(count);
    threads.filter(|(name, _)| !name.starts_with("vcpu") && !name.starts_with("CPU")).collect()
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
    let after = waits(guest.id());
    println!("measured: wake-ups in {SECONDS} s: from {before:?} to {after:?}");
    let more = |(name, count): (&String, &u64)| count - before.get(name).unwrap_or(&0);
    let often = after.iter().map(more).sum::<u64>();
    lan.differs(often <= u64::from(SECONDS), "QEMU wakes up for timers of its own");
    drop(idle);
    lan.end(guest);
}
