//! The jail on macOS: Seatbelt, told by [`seatbelt`] what to allow (`sandbox.h`). It is for the whole
//! process and for good, and takes no rights from what is open.

// UNSAFETY: sandbox_init and fork have no safe interface; descriptors of unknown owners are closed.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use hv::Check;
use rustix::io::{FdFlags, fcntl_getfd};

use crate::jail::seatbelt::{self, trial};
use crate::jail::{Entered, Error, Missing, Needs, Role};
use crate::p9::Folder;

unsafe extern "C" {
    /// With flags 0 `profile` is a program, not the name of one.
    fn sandbox_init(profile: *const c_char, flags: u64, error: *mut *mut c_char) -> c_int;
    fn sandbox_free_error(error: *mut c_char);
}

/// Enters the sandbox, or says why not.
fn restrict(needs: Needs<'_>) -> Result<(), String> {
    let folder = needs.vsock.then(std::env::current_dir).transpose();
    let folder = folder.map_err(|error| error.to_string())?;
    let shares = seatbelt::shares(needs.shares);
    let emptied = needs.emptied.map(Folder::path);
    let profile = seatbelt::profile(needs.network, &shares, folder.as_deref(), emptied)?;
    let profile = CString::new(profile).map_err(|error| error.to_string())?;
    let mut error = std::ptr::null_mut();
    // SAFETY: a string, and a variable that outlives the call.
    if unsafe { sandbox_init(profile.as_ptr(), 0, &raw mut error) } == 0 {
        return Ok(());
    }
    if error.is_null() {
        return Err("no reason".to_owned());
    }
    // SAFETY: the system has made a string there, which is freed once.
    let said = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
    // SAFETY: see above.
    unsafe { sandbox_free_error(error) };
    Err(said)
}

pub(super) fn missing() -> Vec<Missing> {
    let root = "root stays root: start runner as the user whose disks these are".to_owned();
    let is_root = rustix::process::geteuid().is_root();
    is_root.then_some(Missing { what: root, is_a_hole: false }).into_iter().collect()
}

pub(super) fn has_lists() -> bool {
    false
}

pub(super) fn prepare() {}

pub(super) fn enter(needs: Needs<'_>) -> Result<Entered, Error> {
    match restrict(needs) {
        Ok(()) => Ok(Entered { done: vec![seatbelt::holds(needs)], missing: Vec::new() }),
        Err(said) => Err(Error::Absent(seatbelt::fails(&said))),
    }
}

pub(super) fn prepare_child() -> Result<(), Error> {
    Ok(())
}

/// Closes what was open before us, from `first` on.
pub(super) fn close_inherited_from(first: RawFd) -> io::Result<()> {
    for entry in std::fs::read_dir("/dev/fd")? {
        let number = entry?.file_name().to_string_lossy().parse().unwrap_or(0);
        if number >= first {
            // SAFETY: a number that is not open is an answer, too.
            let flags = fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) });
            if flags.is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC)) {
                // SAFETY: it is open, and nobody in this process has opened it.
                drop(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
    }
    Ok(())
}

/// The sandbox is one for all threads.
#[expect(clippy::unnecessary_wraps, reason = "Linux's threads have their own")]
pub(super) fn narrow(_folder: Option<&Folder>, _role: Role) -> Result<(), Error> {
    Ok(())
}

pub(super) fn lock(_role: Role, _descriptors: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn lists() -> Vec<String> {
    Vec::new()
}

pub(super) fn checks() -> Vec<Check> {
    // SAFETY: doctor has no other thread that could hold a lock; the child ends by _exit.
    let status = match unsafe { libc::fork() } {
        // SAFETY: ends the child.
        0 => unsafe { libc::_exit(attempt()) },
        child => ended(child),
    };
    vec![seatbelt::judge(status)]
}

fn attempt() -> c_int {
    match (restrict(Needs::default()), File::open("/etc/hosts")) {
        (Err(_), _) => trial::REFUSED,
        (Ok(()), Err(_)) => trial::HOLDS,
        (Ok(()), Ok(_)) => trial::LEAKS,
    }
}

/// The exit status of a child.
fn ended(child: libc::pid_t) -> Option<c_int> {
    let mut status = 0;
    // SAFETY: the variable outlives the call; what is no child of ours is an error.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    (child > 0 && waited == child && libc::WIFEXITED(status)).then(|| libc::WEXITSTATUS(status))
}
