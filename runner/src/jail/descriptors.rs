//! Descriptors that whoever started us left open.
//!
//! All that runner opens is closed on exec, and what came through an exec is not: that tells ours
//! from theirs, also where a file was named as `/dev/fd/N` and so has been opened a second time.

// UNSAFETY: descriptors of unknown owners are closed, by number.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_getfd};

/// So many free numbers in a row end the search. Ours were each the lowest free number when they were
/// opened, so they leave no such gap below them.
const GAP: RawFd = 16;

/// Closes them all, but stdin, stdout and stderr.
pub(super) fn close_inherited() -> io::Result<()> {
    let (mut fd, mut end): (RawFd, RawFd) = (3, 3 + GAP);
    while fd < end {
        // SAFETY: a number that is not open is an answer, too; nothing is done to what is.
        if let Ok(flags) = fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) }) {
            end = fd.saturating_add(1 + GAP);
            if !flags.contains(FdFlags::CLOEXEC) {
                // SAFETY: it is open, and nobody in this process has opened it.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        fd += 1;
    }
    super::sys::close_inherited_from(end)
}
