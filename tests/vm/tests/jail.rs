//! The jail, as somebody meets it who has broken into a thread of a running VM.

use std::collections::{BTreeMap, BTreeSet};

use super::support::files::{Folder, kernel};
use super::support::host::accelerator;
use super::support::or_skip;
use super::support::program::{Runner, runner, says};
use super::support::trace::{Call, Intrusion, Trace, watch};

/// A run with a thread of every kind: two vCPUs, the I/O loop, a disk's.
fn everybody(folder: &Folder) -> Runner {
    let disk = folder.file("d.img", [0x5a; 4096]);
    runner(["--cpus=2", "-m", "32"]).arg(format!("--disk={}", disk.display())).arg(kernel("disk"))
}

const THREADS: [&str; 4] = ["main (vcpu0)", "vcpu", "io", "disk"];

/// What is put into each of them, and the number and name that runner has to say.
const INTRUSIONS: [(&str, i64, [i64; 4]); 12] = [
    ("execve", libc::SYS_execve, [0; 4]),
    ("clone", libc::SYS_clone, [libc::SIGCHLD as i64, 0, 0, 0]),
    ("clone3", libc::SYS_clone3, [0; 4]),
    ("mmap", libc::SYS_mmap, [0, 4096, RWX, PRIVATE]),
    ("mprotect", libc::SYS_mprotect, [0, 4096, RWX, 0]),
    ("ptrace", libc::SYS_ptrace, [libc::PTRACE_ATTACH as i64, 1, 0, 0]),
    ("socket", libc::SYS_socket, [libc::AF_NETLINK as i64, libc::SOCK_RAW as i64, 0, 0]),
    ("socket", libc::SYS_socket, [libc::AF_INET as i64, libc::SOCK_STREAM as i64, 0, 0]),
    ("kill", libc::SYS_kill, [1, libc::SIGTERM as i64, 0, 0]),
    ("tgkill", libc::SYS_tgkill, [1, 1, libc::SIGTERM as i64, 0]),
    ("ioctl", libc::SYS_ioctl, [-1, 0xae01, 0, 0]), // KVM_CREATE_VM
    ("open", libc::SYS_open, [0; 4]),
];
const RWX: i64 = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as i64;
const PRIVATE: i64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as i64;

#[test]
fn a_call_that_no_thread_needs_ends_the_run_with_its_name_in_every_thread() {
    or_skip!(accelerator());
    let folder = Folder::new();
    for thread in THREADS {
        for (name, number, arguments) in INTRUSIONS {
            let intrusion = Intrusion { thread, number, arguments };
            let (trace, finished) =
                everybody(&folder).watched(|run| watch(run.id(), Some(intrusion)));
            assert_eq!(trace.status, Some(125), "{thread}, {name}: {finished}");
            let wanted =
                format!("the jail stopped thread {thread} at system call {number} ({name}):");
            says(&finished.stderr, &[&wanted]);
            assert_eq!(finished.stderr.lines().count(), 1, "{finished}");
        }
    }
}

#[test]
fn a_file_cannot_be_opened_in_any_thread_and_the_run_goes_on() {
    or_skip!(accelerator());
    let folder = Folder::new();
    for thread in THREADS {
        let arguments = [i64::from(libc::AT_FDCWD), 0, 0, 0];
        let intrusion = Intrusion { thread, number: libc::SYS_openat, arguments };
        let (trace, finished) = everybody(&folder).watched(|run| watch(run.id(), Some(intrusion)));
        assert_eq!(trace.answer, Some(-i64::from(libc::EACCES)), "{thread}: {finished}");
        assert_eq!((trace.status, finished.quiet_text()), (Some(0), ""), "{thread}");
    }
}

/// What `doctor` says that each kind of thread may call.
fn lists() -> BTreeMap<String, BTreeSet<Call>> {
    let finished = runner(["doctor", "-v"]).run();
    let lists =
        finished.text().lines().filter_map(|line| line.strip_prefix("jail  ")?.split_once(": "));
    let lists: BTreeMap<_, _> = lists
        .map(|(kind, calls)| (kind.to_owned(), calls.split("; ").flat_map(entries).collect()))
        .collect();
    assert_eq!(lists.len(), THREADS.len(), "{finished}");
    lists
}

/// A list's line, `ioctl(16) if argument 1 is 0xae80 or 0x8090ae81`: one entry for each request.
fn entries(line: &str) -> Vec<Call> {
    let (_, rest) = line.split_once('(').unwrap();
    let (number, rest) = rest.split_once(')').unwrap();
    let number = number.parse().unwrap();
    match rest.split_once("argument 1 is ").filter(|_| line.starts_with("ioctl")) {
        Some((_, requests)) => requests
            .split(" or ")
            .map(|request| (number, u64::from_str_radix(&request[2..], 16).ok()))
            .collect(),
        None => vec![(number, None)],
    }
}

#[test]
fn audit() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let mut seen: BTreeMap<String, BTreeSet<Call>> = BTreeMap::new();
    let mut add = |(trace, finished): (Trace, super::support::program::Finished), status: i32| {
        assert_eq!(trace.status, Some(status), "{finished}");
        for (kind, calls) in trace.calls {
            seen.entry(kind).or_default().extend(calls);
        }
    };
    add(everybody(&folder).watched(|run| watch(run.id(), None)), 0);
    add(runner(["doctor"]).watched(|run| watch(run.id(), None)), 0);
    let lists = lists();
    for (kind, list) in &lists {
        let seen = seen.get(kind).cloned().unwrap_or_default();
        println!("{kind}: {} entries", list.len());
        println!("  never seen: {:?}", list.difference(&seen).collect::<Vec<_>>());
        println!("  beyond: {:?}", seen.difference(list).collect::<Vec<_>>());
    }
}
