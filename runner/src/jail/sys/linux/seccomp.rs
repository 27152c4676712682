//! A thread's list of system calls, handed to the kernel (seccomp(2)).

// UNSAFETY: seccomp(2) has no safe interface.
#![allow(unsafe_code)]

use std::io;

use libc::{
    SECCOMP_FILTER_FLAG_SPEC_ALLOW, SECCOMP_GET_ACTION_AVAIL, SECCOMP_RET_TRAP,
    SECCOMP_SET_MODE_FILTER, c_uint, c_ulong, c_void, sock_fprog,
};

use super::filter::Program;

/// What a kernel without it lacks.
pub(super) const MISSING: &str = "the kernel, or the container runner is in, has no seccomp filters: \
                                  threads keep all their system calls";

/// Whether there are filters, and the action that names what they block.
pub(super) fn available() -> bool {
    let action = SECCOMP_RET_TRAP;
    call(SECCOMP_GET_ACTION_AVAIL, 0, (&raw const action).cast()).is_ok()
}

/// Restricts the calling thread to what `program` allows. It must have no way to new rights.
pub(super) fn install(mut program: Program) -> io::Result<()> {
    let code = program.instructions(std::process::id());
    let len = u16::try_from(code.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = sock_fprog { len, filter: code.as_ptr().cast_mut() };
    // Before Linux 5.16 a filter also turned a mitigation on that is made for scripts of strangers
    // (SSBD) and slows down every load. What a guest may find out by timing is not promised anyway.
    call(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, (&raw const program).cast())
}

fn call(operation: c_uint, flags: c_ulong, argument: *const c_void) -> io::Result<()> {
    // SAFETY: the callers pass what the operation reads, which is all the kernel does with it.
    match unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, argument) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
