//! The process's entry, which the C library calls: what has to be true before anything else runs.
//!
//! The standard library has an entry of its own. It would read /proc/self/maps to learn where the main
//! thread's stack ends, and give every thread a stack for a handler of signals that tells of its
//! overflow, which `jail::fatal` does instead: a twentieth of a start. The rest of what it does is done
//! here.

// UNSAFETY: the C library finds `main` by its name, and hands over pointers; a signal is ignored; a
// descriptor is looked at that nobody may have opened.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::fd::{BorrowedFd, IntoRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, OFlags};

/// Runs the program (ISO C, 5.1.2.2.1, "Program startup").
#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, words: *const *const c_char) -> c_int {
    have_standard_streams();
    // SAFETY: nothing else runs yet. A write to a pipe without a reader is an error, and no end; and
    // whoever ignored the ends of his children did not mean ours, which would tell us nothing then.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
    let word = |index| {
        // SAFETY: there are `count` strings, for as long as the process lives.
        let word = unsafe { CStr::from_ptr(*words.add(index)) };
        OsStr::from_bytes(word.to_bytes()).to_owned()
    };
    let words: Vec<OsString> = (0..usize::try_from(count).unwrap_or(0)).map(word).collect();
    // What is on its way to stdout goes out with it.
    std::process::exit(super::obey(words).into())
}

/// Opens what is closed of stdin, stdout and stderr, for nothing to come and to go nowhere: the next
/// file to be opened, a guest's disk, would have its number.
fn have_standard_streams() {
    for stream in [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        if is_closed(stream) {
            // A child's, too, if it inherits it.
            let nothing = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty());
            // The lowest number that is free, which is this one's.
            if nothing.map(IntoRawFd::into_raw_fd) != Ok(stream) {
                std::process::abort();
            }
        }
    }
}

fn is_closed(fd: RawFd) -> bool {
    // SAFETY: a number that is not open is an answer, too; nothing is done to what is.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    rustix::io::fcntl_getfd(fd) == Err(rustix::io::Errno::BADF)
}
