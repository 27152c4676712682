//! The jail, as somebody meets it who has broken into a thread of a running VM.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::hostile::block::with_space;
use super::hostile::p9::with_a_share;
use super::hostile::rng::with_randomness;
use super::hostile::vsock::with_sockets;
use super::hvt;
#[cfg(target_arch = "x86_64")]
use super::network::{busy, unheard};
use super::support::files::{Folder, kernel};
use super::support::host::accelerator;
use super::support::or_skip;
use super::support::program::{Finished, Runner, Running, runner, says};
use super::support::trace::{Act, Call, Intrusion, Trace, watch};

/// A run with a thread of every kind: two vCPUs, the I/O loop, a disk's; `thread` is among them. Whoever
/// shares a folder has its thread, of which nobody wants anything. A main thread that serves disks is
/// another guest's.
fn everybody(folder: &Folder, thread: &str) -> Runner {
    if thread == HVT {
        return hvt::with_devices(folder, &hvt::every_call());
    }
    if thread == DUMP {
        return hvt::dumping(folder.path(), 0);
    }
    let disk = folder.file("d.img", [0x5a; 4096]);
    let network = if thread.starts_with("network") { "user" } else { "none" };
    let share = (thread == "share").then(|| format!("--share={}:t:ro", folder.path().display()));
    let vsock = format!("--vsock={}", folder.path().join("v.sock").display());
    runner(["--cpus=2", "-m", "32"])
        .arg(format!("--net={network}"))
        .args(thread.ends_with("vsock").then_some(vsock))
        .arg(format!("--disk={}", disk.display()))
        .args(share)
        .arg(kernel("disk"))
}

const THREADS: [&str; 10] =
    ["main (vcpu0)", HVT, DUMP, "vcpu", "io", "network", "vsock", "network+vsock", "disk", "share"];

/// The main thread of a Solo5 unikernel with block storage.
const HVT: &str = "main (disks)";

/// The same of one whose core is wanted: the list of the one before, and two entries.
const DUMP: &str = "main (dump)";

/// What Solo5's tender ends with for all that is not the guest's own end.
const TENDERS: i32 = 1;

/// What is put into each of them, and the number and name that runner has to say.
const INTRUSIONS: [(&str, i64, [i64; 4]); 19] = [
    ("execve", libc::SYS_execve, [0; 4]),
    ("clone", libc::SYS_clone, [libc::SIGCHLD as i64, 0, 0, 0]),
    ("clone3", libc::SYS_clone3, [0; 4]),
    ("mmap", libc::SYS_mmap, [0, 4096, RWX, PRIVATE]),
    ("mprotect", libc::SYS_mprotect, [0, 4096, RWX, 0]),
    ("ptrace", libc::SYS_ptrace, [libc::PTRACE_ATTACH as i64, 1, 0, 0]),
    ("socket", libc::SYS_socket, [libc::AF_NETLINK as i64, libc::SOCK_RAW as i64, 0, 0]),
    // The network's thread may have sockets: those that do not wait.
    ("socket", libc::SYS_socket, [libc::AF_INET as i64, libc::SOCK_STREAM as i64, 0, 0]),
    ("socket", libc::SYS_socket, LOCAL),
    ("socket", libc::SYS_socket, TCP),
    ("socket", libc::SYS_socket, [libc::AF_UNIX as i64, libc::SOCK_STREAM as i64, 0, 0]),
    ("socket", libc::SYS_socket, [libc::AF_UNIX as i64, RAW, 0, 0]),
    ("socket", libc::SYS_socket, [libc::AF_INET as i64, RAW, 0, 0]),
    ("bind", libc::SYS_bind, [0; 4]),
    ("listen", libc::SYS_listen, [0; 4]),
    ("kill", libc::SYS_kill, [1, libc::SIGTERM as i64, 0, 0]),
    ("tgkill", libc::SYS_tgkill, [1, 1, libc::SIGTERM as i64, 0]),
    ("ioctl", libc::SYS_ioctl, [-1, 0xae01, 0, 0]), // KVM_CREATE_VM
    OPEN,
];
/// What a socket device has, and what a network has.
const LOCAL: [i64; 4] = [libc::AF_UNIX as i64, STREAM, 0, 0];
const TCP: [i64; 4] = [libc::AF_INET as i64, STREAM, 0, 0];
/// A way to a file that no list has; openat is refused without an end.
#[cfg(target_arch = "x86_64")]
const OPEN: (&str, i64, [i64; 4]) = ("open", libc::SYS_open, [0; 4]);
#[cfg(not(target_arch = "x86_64"))]
const OPEN: (&str, i64, [i64; 4]) = ("openat2", libc::SYS_openat2, [0; 4]);
const STREAM: i64 = (libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as i64;
const RAW: i64 = (libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as i64;
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
    for (turn, thread) in THREADS.into_iter().enumerate() {
        let own = |arguments| {
            arguments == LOCAL && thread.ends_with("vsock")
                || arguments == TCP && thread.starts_with("network")
        };
        let calls = INTRUSIONS.into_iter().enumerate().filter(|(_, one)| !own(one.2));
        for (index, (name, number, arguments)) in calls {
            // Elsewhere one in each of them: runs take their time in the lab, and names are the same. Of two lists
            // that are nearly one, too.
            if (cfg!(not(target_arch = "x86_64")) || thread == DUMP) && index != turn {
                continue;
            }
            let act = Act::Call(number, arguments);
            let (trace, finished) = intruded(everybody(&folder, thread), thread, act);
            assert_eq!(trace.status, Some(125), "{thread}, {name}: {finished}");
            let wanted =
                format!("the jail stopped thread {thread} at system call {number} ({name}):");
            says(&finished.stderr, &[&wanted]);
            assert_eq!(said(&finished).len(), 1, "{finished}");
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
        let (trace, finished) = intruded(everybody(&folder, thread), thread, act);
        assert_eq!(trace.answer, Some(-i64::from(libc::EACCES)), "{thread}: {finished}");
        assert_eq!((trace.status, &*finished.stdout), (Some(0), &b""[..]), "{thread}");
        assert_eq!(said(&finished), Vec::<&str>::new(), "{thread}");
    }
}

#[test]
fn a_shares_thread_opens_files_below_a_descriptor_and_through_no_link() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let (below, nofollow) = (0, i64::from(libc::O_NOFOLLOW));
    let refused = -i64::from(libc::EACCES);
    // The kernel looks at the name, which is none, and so the list has let it pass.
    for (place, flags, answer) in [
        (below, nofollow, -i64::from(libc::EFAULT)),
        (below, 0, refused),
        (i64::from(libc::AT_FDCWD), nofollow, refused),
        (-1, nofollow, refused),
    ] {
        let act = Act::Call(libc::SYS_openat, [place, 0, flags, 0]);
        let (trace, finished) = intruded(everybody(&folder, "share"), "share", act);
        assert_eq!(trace.answer, Some(answer), "{place} {flags:#x}: {finished}");
        assert_eq!((trace.status, finished.quiet_text()), (Some(0), ""));
    }
    // By name, without a folder to begin at.
    for number in [
        libc::SYS_newfstatat,
        libc::SYS_unlinkat,
        libc::SYS_mkdirat,
        libc::SYS_renameat,
        libc::SYS_linkat,
        libc::SYS_utimensat,
        libc::SYS_fchmodat,
        libc::SYS_fchownat,
    ] {
        let act = Act::Call(number, [i64::from(libc::AT_FDCWD), 0, 0, 0]);
        let (trace, finished) = intruded(everybody(&folder, "share"), "share", act);
        assert_eq!(trace.status, Some(125), "{number}: {finished}");
        says(&finished.stderr, &[&format!("thread share at system call {number}")]);
    }
}

/// What runner has said, but for what a Linux before 6.12 lacks, and root, who cannot take an empty file away.
fn said(finished: &Finished) -> Vec<&str> {
    let old = "runner: the jail is not complete: Landlock before version 6";
    let usual = |line: &&str| line.starts_with(old) || line.contains(": nothing was dumped, ");
    finished.stderr.lines().filter(|line| !usual(line)).collect()
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

/// Entries that the runs below do not need, and why they are on their lists.
const UNSEEN: [(&str, Option<u64>, &str); 18] = [
    ("ioctl", Some(0x4020_aea5), "KVM_SIGNAL_MSI: a Linux with its devices on PCI, in the lab"),
    ("brk", None, "a heap that grows, on threads: `doctor` tries it on each kind of them"),
    ("mremap", None, "a large block that grows: the same"),
    ("openat", None, "denied and no trap: a file that a library looks for, and does without"),
    ("clock_gettime", None, "where the vDSO cannot read the clock, as on some virtual machines"),
    ("restart_syscall", None, "waits with a time limit, of the C library's, behind SIGCONT"),
    ("sched_yield", None, "a queue that another thread is at in the same moment"),
    ("preadv", None, "what is not in the page cache, where the file system tells"),
    ("ioctl", Some(0x8090_ae81), "KVM_GET_REGS: `sse`, where KVM cannot execute an instruction"),
    ("ioctl", Some(0xc018_ae85), "KVM_TRANSLATE: the same"),
    ("ioctl", Some(0x8004_ae98), "KVM_GET_MP_STATE: the tests hostile::*::v69"),
    ("ioctl", Some(0x1277), "BLKDISCARD: a block device, which a test cannot make"),
    ("ioctl", Some(0x802c_542a), "TCGETS2: the tests terminal::*, on every thread"),
    ("ioctl", Some(0x402c_542b), "TCSETS2: the same"),
    ("ioctl", Some(0x5413), "TIOCGWINSZ: a console on a terminal, the tests hostile::console"),
    ("ioctl", Some(0x540f), "TIOCGPGRP: the same"),
    (
        "ioctl",
        Some(0x4008_ae61),
        "KVM_IRQ_LINE on a vCPU: a guest that hears of its UART, linux::*",
    ),
    ("rt_sigprocmask", None, "on the main thread, the same"),
];

/// The same, of the main thread that serves disks, whose list is any main thread's and more: these are of
/// guests with further vCPUs or threads.
const UNSEEN_IN_MAIN_DISK: [&str; 3] = ["mmap", "munmap", "tgkill"];

/// The same, of the I/O loop: SIGTSTP, for which there are tests of terminals.
const UNSEEN_IN_IO: [&str; 2] = ["getpid", "gettid"];

/// The same, of the I/O loop with a network: besides, a tap device, which not every machine can have,
/// with tests of its own.
const UNSEEN_IN_NETWORK: [(&str, Option<u64>); 4] = [
    ("getpid", None),
    ("gettid", None),
    ("ioctl", Some(0x4004_54d0)), // TUNSETOFFLOAD
    ("writev", None),
];

/// The same, of the I/O loop with a socket device; what `io` and `network` do is seen there.
const UNSEEN_IN_VSOCK: [&str; 3] = ["getpid", "gettid", "getrandom"];

/// Runs whose networks do all they can.
#[cfg(target_arch = "x86_64")] // whose guest has a network
fn networked(folder: &Folder) -> Vec<(Trace, Finished)> {
    let (run, beside) = busy(folder);
    let beside = std::thread::spawn(beside);
    let first = watched(run);
    beside.join().unwrap();
    let (run, beside) = unheard();
    let beside = std::thread::spawn(beside);
    let second = watched(run);
    beside.join().unwrap();
    vec![first, second]
}

/// No guest of ours talks to the network here: of that thread only what every run does is seen.
#[cfg(not(target_arch = "x86_64"))]
fn networked(_folder: &Folder) -> Vec<(Trace, Finished)> {
    Vec::new()
}

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
    add(watched(everybody(&folder, "io")), &[0]);
    add(watched(runner(["doctor"])), &[0]);
    let report = folder.path().join("r.json");
    let spin = || runner(["--cpus=2", "-m", "32"]).arg(kernel("spin"));
    add(watched(spin().arg("--timeout=500ms").arg("--report").arg(&report)), &[124]);
    add(watched(everybody(&folder, HVT)), &[0]);
    add(watched(hvt::dumping(folder.path(), 255)), &[255]);
    add(watched(runner(["-m", "32"]).arg(kernel("echo")).input("abc\u{4}")), &[0]);
    if cfg!(target_arch = "x86_64") {
        add(watched(runner(["-m", "32"]).arg(kernel("sse"))), &[42, 125]);
    }
    add(watched(runner(["--cpus=2", "-m", "32"]).arg(kernel("second_cpu"))), &[7]);
    for (_folder, run) in with_space().into_iter().chain(with_randomness()) {
        add(watched(run), &[0]);
    }
    for (_folders, run) in with_a_share() {
        add(watched(run), &[0]);
    }
    for finished in networked(&folder) {
        add(finished, &[0]);
    }
    for (_folder, run, beside) in with_sockets() {
        let beside = std::thread::spawn(beside);
        add(watched(run), &[0]);
        beside.join().unwrap();
    }
    let kill = Act::Call(libc::SYS_kill, [1, 0, 0, 0]);
    for thread in THREADS {
        add(intruded(everybody(&folder, thread), thread, kill), &[125]);
        add(
            intruded(everybody(&folder, thread), thread, Act::Signals(&[libc::SIGTERM])),
            &[0, 143, TENDERS],
        );
        let two = Act::Signals(&[libc::SIGINT, libc::SIGTERM]);
        add(intruded(everybody(&folder, thread), thread, two), &[130, 143, TENDERS]);
    }
    let calls = seen.get(HVT).cloned().unwrap_or_default();
    seen.entry(DUMP.to_owned()).or_default().extend(calls);
    // Who has both makes the calls of both.
    for one in ["network", "vsock"] {
        let calls = seen.get(one).cloned().unwrap_or_default();
        seen.entry("network+vsock".to_owned()).or_default().extend(calls);
    }
    let mut unseen = Vec::new();
    let network = cfg!(target_arch = "x86_64");
    for (kind, list) in
        lists().into_iter().filter(|(kind, _)| network || !kind.starts_with("network"))
    {
        let seen = seen.entry(kind.clone()).or_default();
        for (name, call) in list.iter().filter(|(_, call)| !seen.contains(call)) {
            let known = |(unseen, request, _): &(&str, Option<u64>, &str)| {
                unseen == name && *request == call.1
            };
            let of_io = kind == "io" && UNSEEN_IN_IO.contains(&&**name);
            let of_main = [HVT, DUMP].contains(&&*kind) && UNSEEN_IN_MAIN_DISK.contains(&&**name);
            let of_network =
                kind.starts_with("network") && UNSEEN_IN_NETWORK.contains(&(name.as_str(), call.1));
            let of_vsock = kind == "vsock" && UNSEEN_IN_VSOCK.contains(&&**name);
            let known = UNSEEN.iter().any(known);
            if !of_io && !of_main && !of_network && !of_vsock && !known {
                unseen.push(format!("{kind}: {name} {:x?}", call.1));
            }
        }
    }
    assert!(unseen.is_empty(), "nobody makes these calls: {unseen:#?}");
}

/// A line of a process's `/proc` file, behind its name; of all its threads where `file` is `status`.
fn lines(process: u32, file: &str, name: &str) -> Vec<String> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let texts = threads.map(|thread| {
        std::fs::read_to_string(thread.unwrap().path().join(file)).unwrap_or_default()
    });
    texts
        // KVM has a thread of its own in the process, which runs no code of ours.
        .filter(|text| !text.contains("kvm-nx-lpage-re"))
        .flat_map(|text| {
            let found = text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            found.map(str::to_owned)
        })
        .collect()
}

/// A guest at work on two CPUs.
fn spinning(run: Runner) -> Running {
    let mut running = run.arg("--cpus=2").arg(kernel("spin")).start();
    running.wait_for("running\n");
    running
}

#[test]
fn no_thread_of_a_run_has_rights_or_a_way_to_them() {
    or_skip!(accelerator());
    let running = spinning(runner(["-m", "32"]));
    let all = |name, wanted: &str| {
        let found = lines(running.id(), "status", name);
        assert!(found.len() == 3 && found.iter().all(|found| found == wanted), "{name} {found:?}");
    };
    all("Seccomp:", "2");
    all("NoNewPrivs:", "1");
    for capabilities in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        all(capabilities, "0000000000000000");
    }
    if rustix::process::geteuid().is_root() {
        all("CapBnd:", "0000000000000000");
        all("Uid:", "65534\t65534\t65534\t65534");
        all("Gid:", "65534\t65534\t65534\t65534");
        all("Groups:", "");
    }
    let limit = |name| lines(running.id(), "limits", name).remove(0);
    assert!(limit("Max core file size").starts_with("0 "));
    assert!(limit("Max open files").starts_with("3 "));
    assert!(limit("Max file size").starts_with("1048576 "));
}

#[test]
fn root_by_sudo_becomes_the_user_who_typed_it() {
    or_skip!(accelerator());
    or_skip!(match rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => Err("the tests are not run by root"),
    });
    let run = runner(["-m", "32"]).env("SUDO_UID", "1234").env("SUDO_GID", "2345");
    let running = spinning(run);
    assert_eq!(lines(running.id(), "status", "Uid:"), ["1234\t1234\t1234\t1234"; 3]);
    assert_eq!(lines(running.id(), "status", "Gid:"), ["2345\t2345\t2345\t2345"; 3]);
}

#[test]
fn root_of_a_namespace_without_other_users_stays_that_and_has_no_rights() {
    or_skip!(accelerator());
    let unshare = ["unshare", "-r"];
    if !Command::new("unshare").args(["-r", "true"]).output().is_ok_and(|o| o.status.success()) {
        println!("skipped: no user namespaces here");
        return;
    }
    let finished = runner(["-v", "-m", "32", "hello"]).by(unshare).ends_with(0);
    says(&finished.stderr, &["jail: root of a user namespace", "stays root there"]);
    let refusal = runner(["--jail=strict", "hello"]).by(unshare).refused();
    says(&refusal, &["--jail=strict", "user namespace"]);
}

#[test]
fn descriptors_that_whoever_started_us_left_open_are_closed() {
    or_skip!(accelerator());
    let (reader, writer) = std::io::pipe().unwrap();
    let left_open = ["sh", "-c", "exec 5>&1 9>&1 >/dev/null; exec \"$@\"", "sh"];
    let running = runner(["-m", "32"]).arg(kernel("spin")).by(left_open).stdout(writer).start();
    let patience = Timespec { tv_sec: 60, tv_nsec: 0 };
    // Nobody has the other end any more.
    let gone = poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&patience));
    assert_eq!(gone, Ok(1));
    running.signal(Signal::TERM);
    assert_eq!(running.finish().status, Some(143));
}

#[test]
fn a_file_may_be_named_by_a_descriptor_that_was_left_open() {
    or_skip!(accelerator());
    let script = "exec 7<\"$1\"; shift; exec \"$@\" /proc/self/fd/7";
    let kernel = kernel("reset").display().to_string();
    runner(["-m", "32"]).by(["sh", "-c", script, "sh", &kernel]).ends_with(0);
}

#[test]
fn the_jail_can_be_left_off() {
    or_skip!(accelerator());
    let running = spinning(runner(["-m", "32", "--jail=off"]));
    assert_eq!(lines(running.id(), "status", "Seccomp:"), ["0"; 3]);
    assert_eq!(lines(running.id(), "status", "NoNewPrivs:"), ["0"; 3]);
}

#[test]
fn a_strict_jail_is_whole_or_the_run_is_refused_with_what_is_missing() {
    or_skip!(accelerator());
    let run = runner(["-m", "32", "--jail=strict", "--append", "exit=7"]).arg(kernel("exit"));
    let finished = run.run();
    match finished.status {
        Some(7) => assert_eq!(finished.quiet_text(), ""),
        _ => {
            assert_eq!((finished.status, &*finished.stdout), (Some(125), &b""[..]), "{finished}");
            says(&finished.stderr, &["--jail=strict: ", "Landlock", "--jail=on"]);
        }
    }
    let missing = runner(["-v", "-m", "32"]).arg(kernel("reset")).ends_with(0).stderr;
    assert_eq!(missing.contains("jail: Landlock here is"), finished.status != Some(7), "{missing}");
}

#[test]
fn a_run_that_is_stopped_and_continued_goes_on() {
    or_skip!(accelerator());
    let stopped = |running: &Running| {
        for _ in 0..20 {
            running.signal(Signal::STOP);
            running.signal(Signal::CONT);
        }
    };
    let running = spinning(runner(["-m", "32", "--timeout=1s"]));
    stopped(&running);
    assert_eq!(running.finish().status, Some(124));
    let (reader, writer) = std::io::pipe().unwrap();
    let mut running = runner(["-m", "32"]).arg(kernel("echo")).stdin(reader).start();
    for line in ["one\n", "two\n", "three\n"] {
        (&writer).write_all(line.as_bytes()).unwrap();
        running.wait_for(line);
        stopped(&running);
    }
    (&writer).write_all(&[4]).unwrap();
    assert_eq!(running.finish().status, Some(0));
}

/// A guest with a socket device at work, and the folder of its socket.
fn with_socket(folder: &Folder, options: &[&str]) -> Running {
    // Where tests are run by root, runner becomes nobody.
    folder.mode("", 0o777);
    let option = format!("--vsock={}", folder.path().join("v.sock").display());
    spinning(runner(["-m", "32", &option]).args(options))
}

#[test]
fn a_socket_device_leaves_its_folder_in_reach_and_nothing_else() {
    or_skip!(accelerator());
    or_skip!(match rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => Err("the tests are not run by root"),
    });
    let folder = Folder::new();
    let root = |running: &Running| std::fs::read_link(format!("/proc/{}/root", running.id()));
    let running = with_socket(&folder, &[]);
    assert_eq!(root(&running).unwrap(), folder.path());
    running.signal(Signal::TERM);
    assert_eq!(running.finish().quiet_text(), "running\n");
    assert!(!folder.path().join("v.sock").exists());
    // Root that may not take one has a namespace for it, as anybody else has.
    let by = ["setpriv", "--bounding-set=-sys_chroot", "--inh-caps=-all"];
    let option = format!("--vsock={}", folder.path().join("v.sock").display());
    let running = spinning(runner(["-m", "32", &option]).by(by));
    assert_eq!(root(&running).unwrap(), folder.path());
    assert_eq!(lines(running.id(), "status", "Uid:"), ["65534\t65534\t65534\t65534"; 3]);
    running.signal(Signal::TERM);
    assert_eq!(running.finish().quiet_text(), "running\n");
    let running = with_socket(&folder, &["--jail=off"]);
    assert_eq!(root(&running).unwrap(), std::path::Path::new("/"));
}

#[test]
fn who_cannot_have_another_root_directory_is_told_and_a_strict_jail_refuses() {
    or_skip!(accelerator());
    let folder = Folder::new();
    folder.mode("", 0o777);
    let option = format!("--vsock={}", folder.path().join("v.sock").display());
    let run = |jail: &str| {
        // Neither the right to have one, nor a namespace in which everybody has it.
        let script = "echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv \
                      --bounding-set=-sys_chroot,-sys_admin --inh-caps=-all \"$@\"";
        runner(["-m", "32", &option, jail, "hello"])
            .by(["unshare", "-rU", "sh", "-c", script, "sh"])
    };
    if run("--jail=off").run().status != Some(0) {
        println!("skipped: no user namespaces here, or no setpriv");
        return;
    }
    let finished = run("--jail=on").ends_with(0);
    says(&finished.stderr, &["the jail is not complete: no other root directory here", "--vsock"]);
    let refusal = run("--jail=strict").refused();
    says(&refusal, &["--jail=strict: "]);
}
