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

/// Has the calling thread, when it is woken, wait for its turn instead of taking the CPU from whoever has
/// it, on systems where a thread can say so. Where a CPU is idle nothing changes.
pub fn give_way() {
    sys::give_way();
}

#[cfg_attr(target_os = "linux", path = "sys/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "sys/macos.rs")]
mod sys;

#[cfg(all(test, target_os = "linux"))] // elsewhere it has no effect
mod tests {
    #[test]
    fn a_thread_that_gives_way_is_scheduled_as_a_batch_and_its_process_is_not() {
        // proc(5): field 41, counted from behind the name.
        let policy = |stat: &str| {
            let stat = std::fs::read_to_string(stat).unwrap();
            let fields = stat.rsplit_once(") ").unwrap().1;
            fields.split(' ').nth(41 - 3).unwrap().to_owned()
        };
        let other = std::thread::spawn(move || {
            super::give_way();
            policy("/proc/thread-self/stat")
        });
        assert_eq!(other.join().unwrap(), "3");
        assert_eq!(policy("/proc/thread-self/stat"), "0");
    }
}
