//! What happens to a thread that makes a call it may not make: one line on stderr, and the end of the
//! process with status 125.
//!
//! The kernel sends it SIGSYS (seccomp(2), `SECCOMP_RET_TRAP`), wherever it was: the handler takes no
//! lock and allocates nothing. The calls it makes itself are on every list. Where glibc has SIGSYS
//! blocked, within pthread_create(3) and posix_spawn(3), the kernel ends the process without a word
//! (status 159 in a shell) and its audit log has the line (`type=1326`).

// UNSAFETY: a signal's handler reads what the kernel tells it through a raw pointer.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::fmt::Write as _;
use std::io;

use libc::{c_int, c_void, siginfo_t};

use crate::jail::fatal;

thread_local! {
    /// A constant without a destructor: reading it is reading memory.
    static THREAD: Cell<&'static str> = const { Cell::new("") };
}

/// The calling thread's name, for the line.
pub(super) fn name_thread(name: &'static str) {
    THREAD.set(name);
}

/// Installs the handler, for the rest of the process's life.
pub(super) fn install() -> io::Result<()> {
    fatal::handle(libc::SIGSYS, blocked)
}

/// Where a `siginfo_t` of SIGSYS has the call's number: behind three ints, padding and an address
/// (`si_syscall`, include/uapi/asm-generic/siginfo.h).
const SYSCALL: usize = 24;

extern "C" fn blocked(_signal: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel passes a siginfo_t of 128 bytes; any of them is an int.
    let number = unsafe { info.byte_add(SYSCALL).cast::<c_int>().read() };
    let mut line = fatal::Line::default();
    line.push("runner: the jail stopped thread ");
    line.push(THREAD.get());
    // Numbers are written without a lock or memory, and a line takes everything.
    let _ = write!(line, " at system call {number}");
    if let Some((_, name)) = NAMES.iter().find(|(known, _)| *known == i64::from(number)) {
        line.push(" (");
        line.push(name);
        line.push(")");
    }
    line.push(
        ": the guest broke into runner, or runner has a bug: do not trust the guest's disks, and \
         report it; --jail=off runs a guest you trust",
    );
    fatal::end(&mut line)
}

/// The calls that are worth most to whoever breaks in, by number.
const NAMES: &[(i64, &str)] = &[
    (libc::SYS_bind, "bind"),
    (libc::SYS_bpf, "bpf"),
    (libc::SYS_clone, "clone"),
    (libc::SYS_clone3, "clone3"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_execve, "execve"),
    (libc::SYS_execveat, "execveat"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_fork, "fork"),
    (libc::SYS_io_uring_setup, "io_uring_setup"),
    (libc::SYS_ioctl, "ioctl"),
    (libc::SYS_kill, "kill"),
    (libc::SYS_listen, "listen"),
    (libc::SYS_madvise, "madvise"),
    (libc::SYS_memfd_create, "memfd_create"),
    (libc::SYS_mmap, "mmap"),
    (libc::SYS_mprotect, "mprotect"),
    (libc::SYS_mremap, "mremap"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, "open"),
    (libc::SYS_openat2, "openat2"),
    (libc::SYS_prctl, "prctl"),
    (libc::SYS_process_vm_readv, "process_vm_readv"),
    (libc::SYS_process_vm_writev, "process_vm_writev"),
    (libc::SYS_ptrace, "ptrace"),
    (libc::SYS_rt_sigaction, "rt_sigaction"),
    (libc::SYS_seccomp, "seccomp"),
    (libc::SYS_setresuid, "setresuid"),
    (libc::SYS_socket, "socket"),
    (libc::SYS_tgkill, "tgkill"),
    (libc::SYS_userfaultfd, "userfaultfd"),
];
