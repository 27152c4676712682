//! Signals stay away from vCPU threads: one that arrives inside `hv_vcpu_run` makes it return with
//! reason UNKNOWN.

// UNSAFETY: the thread's signal mask is reached through libc only.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use hv::{Error, Result};

/// What a fault of this very thread raises: blocking them would hide the report of a crash.
const FAULTS: [libc::c_int; 7] = [
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGTRAP,
];

/// The calling thread takes no signals as long as this lives; others of the process do.
#[derive(Debug)]
pub(crate) struct Blocked {
    before: libc::sigset_t,
    /// A mask belongs to its thread.
    not_send: PhantomData<*const ()>,
}

impl Blocked {
    pub(crate) fn all() -> Result<Self> {
        let mut wanted = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: sigfillset fills the set; sigdelset changes a set that is filled.
        let wanted = unsafe {
            libc::sigfillset(wanted.as_mut_ptr());
            for signal in FAULTS {
                libc::sigdelset(wanted.as_mut_ptr(), signal);
            }
            wanted.assume_init()
        };
        // SAFETY: both pointers are to sets of ours; the call concerns this thread alone.
        let failed = unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const wanted, before.as_mut_ptr())
        };
        if failed != 0 {
            return Err(Error::errno("pthread_sigmask", failed));
        }
        // SAFETY: the call succeeded and has written the set.
        Ok(Self { before: unsafe { before.assume_init() }, not_send: PhantomData })
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the set is the one this thread had; nothing is written through the null pointer.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(signal: libc::c_int) -> bool {
        let mut set = MaybeUninit::uninit();
        // SAFETY: the mask is only read, into a set of ours.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), set.as_mut_ptr());
            libc::sigismember(set.as_ptr(), signal) == 0
        }
    }

    #[test]
    fn signals_are_blocked_but_for_faults_and_come_back_afterwards() {
        assert!(takes(libc::SIGTERM));
        let blocked = Blocked::all().unwrap();
        assert!(!takes(libc::SIGTERM) && !takes(libc::SIGALRM));
        assert!(takes(libc::SIGSEGV) && takes(libc::SIGABRT));
        drop(blocked);
        assert!(takes(libc::SIGTERM));
    }
}
