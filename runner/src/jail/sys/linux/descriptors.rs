//! Descriptors from a number on (close_range(2)).

// UNSAFETY: descriptors of unknown owners are closed, by number.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;

/// Closes all of them; none is ours.
pub(in crate::jail) fn close_inherited_from(first: RawFd) -> io::Result<()> {
    // SAFETY: what is here was open before us, as no number of ours is.
    match unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()), // before Linux 5.9
            error => Err(error),
        },
    }
}
