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

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The host's RAM in bytes, as far as the system tells.
pub fn host_memory() -> Option<u64> {
    sys::host_memory()
}

/// Lets this process have up to `most` files open, as far as the system lets it.
pub fn allow_files(most: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let most = maximum.map_or(most, |maximum| maximum.min(most));
    if current.is_some_and(|current| current < most) {
        // Where that fails, a file that cannot be opened says so.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum });
    }
}

/// Has the calling thread, when it is woken and has been busy, wait for its turn instead of taking the CPU from
/// whoever has it, on systems where a thread can say so. Where a CPU is idle nothing changes.
pub fn give_way() {
    sys::give_way();
}

#[cfg_attr(target_os = "linux", path = "sys/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "sys/macos.rs")]
mod sys;
