//! Waiting and files: the event loop, events between threads, signals, the console. Nothing else
//! in runner asks the operating system to wait.

pub mod console;
pub mod event;
pub mod event_loop;
pub mod file;
pub mod frames;
pub mod lock;
pub mod ports;
#[cfg(any(not(target_os = "linux"), test))] // Linux has its own ways, and tests these
mod posix;
pub mod random;
pub(crate) mod ring;
pub mod signals;
pub mod socket;
pub mod space;
pub mod stderr;
pub mod terminal;
pub mod waiter;

/// The host's RAM in bytes, as far as the system tells.
pub fn host_memory() -> Option<u64> {
    sys::host_memory()
}

#[cfg_attr(target_os = "linux", path = "sys/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "sys/macos.rs")]
mod sys;
