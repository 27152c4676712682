//! The jail, as somebody meets it who has broken into a thread of a running VM.

use std::collections::{BTreeMap, BTreeSet};

use super::support::files::{Folder, kernel};
use super::support::host::accelerator;
use super::support::or_skip;
use super::support::program::{Finished, Runner, runner, says};
use super::support::trace::{Act, Call, Intrusion, Trace, watch};

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

/// Runs it to its end, and watches.
fn watched(run: Runner) -> (Trace, Finished) {
    run.watched(|run| watch(run.id(), None))
}

/// As [`watched`], with something that happens to the first thread of a kind.
fn intruded(run: Runner, thread: &'static str, act: Act) -> (Trace, Finished) {
    run.watched(|run| watch(run.id(), Some(Intrusion { thread, act })))
}

#[test]
fn a_call_that_no_thread_needs_ends_the_run_with_its_name_in_every_thread() {
    or_skip!(accelerator());
    let folder = Folder::new();
    for thread in THREADS {
        for (name, number, arguments) in INTRUSIONS {
            let act = Act::Call(number, arguments);
            let (trace, finished) = intruded(everybody(&folder), thread, act);
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
        let act = Act::Call(libc::SYS_openat, arguments);
        let (trace, finished) = intruded(everybody(&folder), thread, act);
        assert_eq!(trace.answer, Some(-i64::from(libc::EACCES)), "{thread}: {finished}");
        assert_eq!((trace.status, finished.quiet_text()), (Some(0), ""), "{thread}");
    }
}

/// What `doctor` says that each kind of thread may call: names and calls.
fn lists() -> BTreeMap<String, Vec<(String, Call)>> {
    let finished = runner(["doctor", "-v"]).run();
    let lines = finished.text().lines().filter_map(|line| line.strip_prefix("jail  "));
    let lists = lines.map(|line| {
        let (kind, calls) = line.split_once(": ").unwrap();
        (kind.to_owned(), calls.split("; ").flat_map(entries).collect())
    });
    let lists: BTreeMap<_, _> = lists.collect();
    assert_eq!(lists.len(), THREADS.len(), "{finished}");
    lists
}

/// A line of a list, `ioctl(16) if argument 1 is 0xae80 or 0x8090ae81`: an entry for each request.
fn entries(line: &str) -> Vec<(String, Call)> {
    let (name, rest) = line.split_once('(').unwrap();
    let (number, rest) = rest.split_once(')').unwrap();
    let number = number.parse().unwrap();
    let entry = |request| (name.to_owned(), (number, request));
    match rest.split_once("argument 1 is ").filter(|_| name == "ioctl") {
        Some((_, requests)) => requests
            .split(" or ")
            .map(|request| entry(u64::from_str_radix(&request[2..], 16).ok()))
            .collect(),
        None => vec![entry(None)],
    }
}

/// Entries that no run of ours can be made to need, and why they stay.
const UNSEEN: [(&str, &str); 3] = [
    ("clock_gettime", "where the vDSO cannot read the clock, as on some virtual machines"),
    ("restart_syscall", "a wait with a time limit that SIGSTOP and SIGCONT interrupt"),
    ("sched_yield", "a queue that another thread is at in the same moment"),
];

#[test]
fn every_call_on_a_list_is_made_by_some_run() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let mut seen: BTreeMap<String, BTreeSet<Call>> = BTreeMap::new();
    let mut add = |(trace, finished): (Trace, Finished), statuses: &[i32]| {
        assert!(trace.status.is_some_and(|status| statuses.contains(&status)), "{finished}");
        for (kind, calls) in trace.calls {
            seen.entry(kind).or_default().extend(calls);
        }
    };
    add(watched(everybody(&folder)), &[0]);
    add(watched(runner(["doctor"])), &[0]);
    let report = folder.path().join("r.json");
    let spin = || runner(["--cpus=2", "-m", "32"]).arg(kernel("spin"));
    add(watched(spin().arg("--timeout=500ms").arg("--report").arg(&report)), &[124]);
    add(watched(runner(["-m", "32"]).arg(kernel("echo")).input("abc\u{4}")), &[0]);
    add(watched(runner(["-m", "32"]).arg(kernel("sse"))), &[42, 125]);
    let kill = Act::Call(libc::SYS_kill, [1, 0, 0, 0]);
    for thread in THREADS {
        add(intruded(everybody(&folder), thread, kill), &[125]);
        add(intruded(everybody(&folder), thread, Act::Signals(&[libc::SIGTERM])), &[0, 143]);
        let two = Act::Signals(&[libc::SIGINT, libc::SIGTERM]);
        add(intruded(everybody(&folder), thread, two), &[130, 143]);
    }
    let mut unseen = Vec::new();
    for (kind, list) in lists() {
        let seen = seen.entry(kind.clone()).or_default();
        for (name, call) in list.iter().filter(|(_, call)| !seen.contains(call)) {
            if !UNSEEN.iter().any(|(unseen, _)| unseen == name) {
                unseen.push(format!("{kind}: {name} {:x?}", call.1));
            }
        }
    }
    assert!(unseen.is_empty(), "nobody makes these calls: {unseen:#?}");
}
