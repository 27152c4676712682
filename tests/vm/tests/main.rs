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

mod console;
mod disks;
mod emulated_virt;
mod ends;
mod hello;
mod hermit;
mod hosts;
mod hvt;
mod images;
mod linux;
mod parked;
mod readme;
mod statuses;
mod terminal;
#[cfg(target_arch = "aarch64")] // they are its own
mod virt;
mod wrong_images;
mod wrong_requests;

// What needs KVM.
#[cfg(target_os = "linux")]
mod hostile;
#[cfg(target_os = "linux")]
mod jail;

// What is x86_64's own, and what has guests for it alone.
#[cfg(target_arch = "x86_64")]
mod bzimage;
#[cfg(target_arch = "x86_64")]
mod emulation;
#[cfg(target_arch = "x86_64")]
mod links;
#[cfg(target_arch = "x86_64")]
mod network;
#[cfg(target_arch = "x86_64")]
mod ops;
#[cfg(target_arch = "x86_64")]
mod protocols;
#[cfg(target_arch = "x86_64")]
mod systems;
