//! What an ended process used, which the standard library does not tell (wait4(2), getrusage(2)).

// UNSAFETY: no crate here has a safe wait4.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

/// The end of a child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// The most bytes of memory that it had at a time.
    pub(crate) peak_memory: u64,
    /// Time of the CPU that it used, in its own code and the system's.
    pub(crate) cpu_time: Duration,
}

/// The end of the child `process`, if it has come. To be asked no more after that, nor is
/// `std::process::Child`: the number may be another's.
pub(crate) fn ended(process: u32) -> io::Result<Option<Ended>> {
    let process = i32::try_from(process).map_err(io::Error::other)?;
    let mut status = 0;
    // SAFETY: all zeroes is a valid rusage, which is made of numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values that live until the call is over.
    match unsafe { libc::wait4(process, &mut status, libc::WNOHANG, &mut usage) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        _ => Ok(Some(Ended {
            status: ExitStatus::from_raw(status),
            peak_memory: peak_memory(&usage),
            cpu_time: time(usage.ru_utime) + time(usage.ru_stime),
        })),
    }
}

/// The most bytes of memory that this process had at a time.
pub(crate) fn own_peak_memory() -> u64 {
    // SAFETY: all zeroes is a valid rusage, which is made of numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a value that lives until the call is over.
    match unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) } {
        0 => peak_memory(&usage),
        _ => 0,
    }
}

/// Linux counts in KiB, macOS in bytes.
fn peak_memory(usage: &libc::rusage) -> u64 {
    let unit = if cfg!(target_os = "linux") { 1024 } else { 1 };
    u64::try_from(usage.ru_maxrss).unwrap_or(0) * unit
}

fn time(value: libc::timeval) -> Duration {
    let seconds = u64::try_from(value.tv_sec).unwrap_or(0);
    let microseconds = u64::try_from(value.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(microseconds)
}
