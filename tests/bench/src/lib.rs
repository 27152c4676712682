//! Measuring whole runs: processes started in turn, timed to a marker in their output, with the CPU
//! time and memory that the kernel accounts to them.
//!
//! Absolute times drift with the machine. What counts is the ratio of two programs in one run, so
//! every round starts each of them once, in an order that rotates.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

pub mod build;
pub mod crowd;
pub mod floor;
pub mod hermit;
pub mod linux;
pub mod measure;
pub mod table;

/// The exit status of a benchmark; what went wrong goes to stderr.
#[must_use]
pub fn status(of: Result<(), String>) -> std::process::ExitCode {
    match of {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            std::process::ExitCode::FAILURE
        }
    }
}
