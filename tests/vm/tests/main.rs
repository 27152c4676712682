//! Whole-VM tests: the program `runner` as its users start it, with guests of our own.
//!
//! They are a test target of the package `runner`, so that cargo builds the program first and says
//! where it is. The lab runs the program that ships instead, named in `RUNNER_BIN`.
//!
//! A test that needs what this machine lacks prints one line, `skipped: ` and the reason, and
//! passes; the lab fails it unless its list of allowed skips has it.

// Clippy knows tests by #[test] and #[cfg(test)], and all of this is one.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

#[cfg(target_arch = "x86_64")]
mod bzimage;
mod console;
mod disks;
mod emulation;
mod hello;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod hostile;
mod hosts;
mod images;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod jail;
mod links;
mod linux;
mod network;
#[cfg(target_arch = "x86_64")] // they are its own
mod protocols;
mod readme;
mod statuses;
mod terminal;
#[cfg(target_arch = "aarch64")] // they are its own
mod virt;
mod wrong_images;
mod wrong_requests;
