//! The signals that end a run: an orderly stop for the first, the process at once for a second; and
//! those that a terminal's shell controls its jobs with.

// UNSAFETY: what a signal does now is not to be had from a safe interface, nor is a handler of our
// own.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{
    SIGABRT, SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGPROF, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1,
    SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use signal_hook::{flag, low_level};

use super::event_loop::{Control, EventLoop};
use super::terminal;

/// Signals that ask for an end.
const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// Signals that end a process where it stands, unless it handles them. Those of its own faults are
/// `jail::fatal`'s.
const FATAL: [i32; 8] = [SIGABRT, SIGALRM, SIGPROF, SIGQUIT, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU];

/// More of them, which only this system has or only here are fatal. The first real-time signal is the
/// kick's (`hv_kvm::kick`).
#[cfg(target_os = "linux")] // signal(7)
fn more_fatal() -> impl Iterator<Item = i32> {
    let real_time = libc::SIGRTMIN().saturating_add(1)..=libc::SIGRTMAX();
    [libc::SIGIO, libc::SIGPWR, libc::SIGSTKFLT].into_iter().chain(real_time)
}
#[cfg(not(target_os = "linux"))] // sigaction(2) of macOS
fn more_fatal() -> impl Iterator<Item = i32> {
    std::iter::once(libc::SIGEMT)
}

/// Signals that came.
#[derive(Debug)]
pub struct Signals {
    came: [Arc<AtomicBool>; ENDING.len()],
    /// An end has been asked for: the next signal ends the process at once.
    any: Arc<AtomicBool>,
    /// Readable once a signal came.
    readable: Arc<OwnedFd>,
    job: Option<Job>,
}

/// What a shell told its job.
#[derive(Debug, Default)]
struct Job {
    stop: Arc<AtomicBool>,
    go_on: Arc<AtomicBool>,
}

impl Signals {
    /// Takes the ending signals over, for the rest of the process's life. A write beyond the limit
    /// on file sizes (ulimit -f) becomes an error of that write and no end.
    ///
    /// With a `terminal` to put back, also those that stop and continue a job, and those that would
    /// end the process where it stands; they still do, with the status that a shell has for them.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn install(terminal: bool) -> io::Result<Self> {
        let (readable, writable) = std::io::pipe()?;
        // A handler is all it takes; what it notes is for nobody.
        flag::register(SIGXFSZ, Arc::default())?;
        let any = Arc::new(AtomicBool::new(false));
        let came: [Arc<AtomicBool>; ENDING.len()] = Default::default();
        for (signal, came) in ENDING.into_iter().zip(&came) {
            if ignored(signal) {
                continue; // as nohup(1) wants it, and a shell for its background jobs
            }
            // Handlers run in this order: a second signal finds `any` set and ends the process.
            let second = Arc::clone(&any);
            let end = move || {
                if second.load(Ordering::SeqCst) {
                    terminal::restore();
                    low_level::exit(128 + signal);
                }
            };
            // SAFETY: what it calls is async-signal-safe.
            unsafe { low_level::register(signal, end)? };
            flag::register(signal, Arc::clone(&any))?;
            flag::register(signal, Arc::clone(came))?;
            low_level::pipe::register(signal, writable.try_clone()?)?;
        }
        let job = if terminal { Some(Job::install(&writable)?) } else { None };
        Ok(Self { came, any, readable: Arc::new(readable.into()), job })
    }

    /// Has `event_loop` end its wait when a signal comes; who waits then looks at what came.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn wake(&self, event_loop: &mut EventLoop) -> io::Result<()> {
        let readable = Arc::clone(&self.readable);
        let take = move || {
            // Its end is no event: the handlers keep theirs open.
            let _ = rustix::io::read(&readable, &mut [0; 64]);
            Control::Keep
        };
        event_loop.add(Arc::clone(&self.readable) as _, take).map(drop)
    }

    /// A signal that came, if one did.
    pub fn first(&self) -> Option<i32> {
        let mut all = ENDING.into_iter().zip(&self.came);
        all.find(|(_, came)| came.load(Ordering::SeqCst)).map(|(signal, _)| signal)
    }

    /// The user asked for the end in another way: the next signal ends the process at once.
    pub fn end_at_next(&self) {
        self.any.store(true, Ordering::SeqCst);
    }

    /// Does what the shell asked its job for: stops the process, with the terminal as it was, and
    /// takes the terminal again when it goes on.
    pub fn control_job(&self) {
        let Some(job) = &self.job else { return };
        if job.stop.swap(false, Ordering::SeqCst) {
            terminal::suspend();
        }
        if job.go_on.swap(false, Ordering::SeqCst) {
            terminal::resume();
        }
    }
}

impl Job {
    fn install(writable: &io::PipeWriter) -> io::Result<Self> {
        let job = Self::default();
        for (signal, flag) in [(SIGTSTP, &job.stop), (SIGCONT, &job.go_on)] {
            if !ignored(signal) {
                flag::register(signal, Arc::clone(flag))?;
                low_level::pipe::register(signal, writable.try_clone()?)?;
            }
        }
        for signal in [libc::SIGTTIN, libc::SIGTTOU] {
            // They stop a process with the terminal raw. Ignored, a read in the background is an
            // error, and what the guest says is shown.
            // SAFETY: no handler of ours is called.
            if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
        }
        let fatal = FATAL.into_iter().chain(more_fatal());
        for signal in fatal.filter(|signal| !ignored(*signal)) {
            let end = move || {
                terminal::restore();
                // As a shell would call its death, which the jail has no room for.
                low_level::exit(128 + signal);
            };
            // SAFETY: what it calls is async-signal-safe.
            unsafe { low_level::register(signal, end)? };
        }
        Ok(job)
    }
}

/// Whether whoever started us had this signal ignored.
fn ignored(signal: i32) -> bool {
    // SAFETY: asks for the action of a signal, and sets none; a sigaction of zeros is one.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}
