//! Watches a run's system calls, or puts one of its own into a thread of it (ptrace(2)).
//!
//! A thread is watched from the moment it has restricted itself (seccomp(2)). The kernel stops it for
//! us before it looks at the thread's list, so a call that is put into it is treated as if the thread
//! had made it: as if somebody had broken in.

// UNSAFETY: ptrace and waiting for one's own tracees have no safe interface.
#![allow(unsafe_code)]

// The registers that a system call has.
#[cfg_attr(target_arch = "x86_64", path = "trace/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "trace/aarch64.rs")]
mod arch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::ptr::null_mut;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use libc::{c_int, c_long, c_uint, c_void, pid_t};

/// A system call: its number, and the request of an `ioctl`.
pub(crate) type Call = (u64, Option<u64>);

/// The request of an `ioctl` that runs a vCPU (`include/uapi/linux/kvm.h`).
const KVM_RUN: u64 = 0xae80;

/// What a traced run did.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// The calls of restricted threads, by the kind of thread.
    pub(crate) calls: BTreeMap<String, BTreeSet<Call>>,
    /// How often a vCPU was run: once more than it came back to runner.
    pub(crate) runs: u64,
    /// The process's status, unless a signal ended it.
    pub(crate) status: Option<i32>,
    /// What the kernel answered to an intrusion, if it did.
    pub(crate) answer: Option<i64>,
}

/// What happens to the first thread of a kind that makes a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intrusion {
    /// Of which kind.
    pub(crate) thread: &'static str,
    pub(crate) act: Act,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// It makes another call first: number, arguments.
    Call(c_long, [i64; 4]),
    /// These signals come.
    Signals(&'static [c_int]),
}

/// Has the process that `command` starts stop for us.
pub(crate) fn traced(command: &mut Command) {
    // SAFETY: one system call between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
}

/// Keeps the calling thread, and what it starts, on one CPU while it lives. Whoever is watched and whoever
/// watches are never busy at once, and to wake another CPU for each call takes most of the time where CPUs
/// are emulated.
#[derive(Debug)]
pub(crate) struct OneCpu {
    before: CpuSet,
}

impl OneCpu {
    pub(crate) fn keep() -> Self {
        let before = sched_getaffinity(None).unwrap();
        let mut one = CpuSet::new();
        one.set((0..CpuSet::MAX_CPU).find(|cpu| before.is_set(*cpu)).unwrap());
        sched_setaffinity(None, &one).unwrap();
        Self { before }
    }
}

impl Drop for OneCpu {
    fn drop(&mut self) {
        // It was so before.
        let _ = sched_setaffinity(None, &self.before);
    }
}

/// Watches `process`, a child of the calling thread, to its end. `intrusion` is put into the first
/// thread of its kind that makes a call.
pub(crate) fn watch(process: u32, mut intrusion: Option<Intrusion>) -> Trace {
    let process = pid_t::try_from(process).unwrap();
    let mut trace = Trace::default();
    let mut threads: HashMap<pid_t, Thread> = HashMap::new();
    while let Some((thread, status)) = wait() {
        let known = threads.contains_key(&thread);
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            threads.remove(&thread);
            if thread == process {
                trace.status = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
            }
            continue;
        }
        let state = threads.entry(thread).or_default();
        let signal = match libc::WSTOPSIG(status) {
            SYSCALL_STOP => {
                syscall_stop(thread, state, &mut trace, &mut intrusion);
                0
            }
            libc::SIGTRAP => {
                if !known {
                    options(thread);
                }
                0 // exec, or the news of a new thread
            }
            libc::SIGSTOP if !known => 0, // a new thread's first stop
            signal => signal,
        };
        ptrace(libc::PTRACE_SYSCALL, thread, 0, isize::try_from(signal).unwrap());
    }
    trace
}

const SYSCALL_STOP: c_int = libc::SIGTRAP | 0x80;

/// A thread that is watched.
#[derive(Debug, Default)]
struct Thread {
    /// Its kind, once it is restricted.
    kind: Option<String>,
    /// It is about to restrict itself.
    restricting: bool,
    /// It makes a call of ours, and had these registers.
    intruded: Option<arch::Before>,
}

fn options(thread: pid_t) {
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_EXITKILL;
    ptrace(libc::PTRACE_SETOPTIONS, thread, 0, isize::try_from(options).unwrap());
}

fn syscall_stop(
    thread: pid_t,
    state: &mut Thread,
    trace: &mut Trace,
    intrusion: &mut Option<Intrusion>,
) {
    // SAFETY: a structure of integers, which the kernel fills.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let size = size_of_val(&info);
    ptrace(libc::PTRACE_GET_SYSCALL_INFO, thread, size, (&raw mut info).addr().cast_signed());
    if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
        // SAFETY: at the entry of a call this is what the union has.
        let (number, arguments) = unsafe { (info.u.entry.nr, info.u.entry.args) };
        state.restricting = i64::try_from(number) == Ok(libc::SYS_seccomp)
            && arguments[0] == u64::from(libc::SECCOMP_SET_MODE_FILTER);
        let Some(kind) = &state.kind else { return };
        match intrusion.take_if(|intrusion| intrusion.thread == kind).map(|intrusion| intrusion.act)
        {
            Some(Act::Call(number, arguments)) => {
                state.intruded = Some(arch::replace(thread, number, arguments));
                return;
            }
            Some(Act::Signals(signals)) => signals.iter().for_each(|signal| send(thread, *signal)),
            None => {}
        }
        let ioctl = i64::try_from(number) == Ok(libc::SYS_ioctl);
        let call = (number, ioctl.then_some(arguments[1] & u64::from(u32::MAX)));
        trace.runs += u64::from(call.1 == Some(KVM_RUN));
        trace.calls.entry(kind.clone()).or_default().insert(call);
    } else if let Some(before) = state.intruded.take() {
        trace.answer = Some(arch::again(thread, before));
    } else if std::mem::take(&mut state.restricting) {
        state.kind = Some(kind(thread));
    }
}

/// The kind of a thread, as `doctor` calls it.
fn kind(thread: pid_t) -> String {
    let name = fs::read_to_string(format!("/proc/{thread}/comm")).unwrap();
    match name.trim().trim_end_matches(|c: char| c.is_ascii_digit() || c == '-') {
        kind @ ("vcpu" | "io" | "network" | "vsock" | "network+vsock" | "disk" | "share") => {
            kind.to_owned()
        }
        // The main thread has the program's name; what it does is what it was asked for.
        _ => {
            let line = fs::read(format!("/proc/{thread}/cmdline")).unwrap_or_default();
            let words = || line.split(|byte| *byte == 0);
            let asks_for = |option: &[u8]| words().any(|word| word.starts_with(option));
            let kind = match (asks_for(b"--dumpcore="), asks_for(b"--block=")) {
                (true, _) => "main (dump)",
                (false, true) => "main (disks)",
                (false, false) => "main (vcpu0)",
            };
            kind.to_owned()
        }
    }
}

/// Sends a signal to one thread.
fn send(thread: pid_t, signal: c_int) {
    // SAFETY: a signal to a tracee.
    let sent = unsafe { libc::syscall(libc::SYS_tkill, thread, signal) };
    assert_eq!(sent, 0, "{}", io::Error::last_os_error());
}

/// A request about a stopped thread, which fails only for one that was killed meanwhile.
fn ptrace(request: c_uint, thread: pid_t, address: usize, data: isize) {
    // SAFETY: the callers pass addresses of structures that are as large as the request wants.
    let done = unsafe { libc::ptrace(request, thread, address as *mut c_void, data) };
    let gone = done != -1 || io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
    assert!(gone, "ptrace {request}: {}", io::Error::last_os_error());
}

/// The next of the calling thread's tracees that stops or ends; nothing once there is none.
fn wait() -> Option<(pid_t, c_int)> {
    let mut status = 0;
    loop {
        // SAFETY: waits, and fills the status.
        let thread = unsafe {
            libc::wait4(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD, null_mut())
        };
        match io::Error::last_os_error().raw_os_error() {
            _ if thread > 0 => return Some((thread, status)),
            Some(libc::EINTR) => {}
            _ => return None,
        }
    }
}
