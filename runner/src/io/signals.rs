//! The signals that end a run: an orderly stop for the first, the process at once for a second; and
//! those that a terminal's shell controls its jobs with.

// UNSAFETY: what a signal does now is not to be had from a safe interface, nor is a handler of our
// own.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use libc::{
    SIGABRT, SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGPROF, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1,
    SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ, c_int,
};

use super::event::Event;
use super::event_loop::{Control, EventLoop};
use super::terminal;

/// Signals that ask for an end.
const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// Signals that end a process where it stands, unless it handles them. Those of its own faults are
/// `jail::fatal`'s.
const FATAL: [i32; 8] = [SIGABRT, SIGALRM, SIGPROF, SIGQUIT, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU];

/// More of them, which only this system has or only here are fatal.
#[cfg(target_os = "linux")] // signal(7)
fn more_fatal() -> impl Iterator<Item = i32> {
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    [libc::SIGIO, libc::SIGPWR, libc::SIGSTKFLT].into_iter().chain(real_time)
}
#[cfg(not(target_os = "linux"))] // sigaction(2) of macOS
fn more_fatal() -> impl Iterator<Item = i32> {
    std::iter::once(libc::SIGEMT)
}

/// Which of `ENDING` came. This and what follows is written by handlers, of which a process has one for
/// a signal.
static CAME: [AtomicBool; ENDING.len()] = [const { AtomicBool::new(false) }; ENDING.len()];

/// When an end was asked for first, in milliseconds of a clock that does not stand at 0. A later signal
/// ends the process at once.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// Long ago, by that clock.
const LONG_AGO: u64 = 1;

/// So soon after another a signal is the same one: timeout(1) signals its child and then all of its
/// group, and of a terminal that is closed the kernel tells and the shell.
const SAME: u64 = 200;

/// What a shell told its job: to stop, and to go on.
static STOP: AtomicBool = AtomicBool::new(false);
static GO_ON: AtomicBool = AtomicBool::new(false);

/// Signalled when the terminal's window has another size, where somebody wants to know.
static WINDOW: OnceLock<Event> = OnceLock::new();

/// Signalled when a signal came.
static EVENT: OnceLock<Event> = OnceLock::new();

/// The signals of this process.
#[derive(Debug)]
pub struct Signals {
    event: &'static Event,
    /// There is a terminal to put back.
    terminal: bool,
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
        let event = Event::new()?;
        let event = EVENT.get_or_init(|| event);
        // A handler is all it takes.
        handle(SIGXFSZ, nothing)?;
        // What is ignored stays so, as nohup(1) wants it, and a shell for its background jobs.
        for signal in ENDING.into_iter().filter(|signal| !ignored(*signal)) {
            handle(signal, end_asked_for)?;
        }
        if terminal {
            control_terminal()?;
        }
        Ok(Self { event, terminal })
    }

    /// Has `event_loop` end its wait when a signal comes; who waits then looks at what came.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn wake(&self, event_loop: &mut EventLoop) -> io::Result<()> {
        let event = self.event;
        let take = move || {
            event.clear();
            Control::Keep
        };
        event_loop.add(Arc::new(event.as_fd()), take).map(drop)
    }

    /// A signal that came, if one did.
    pub fn first(&self) -> Option<i32> {
        let mut all = ENDING.into_iter().zip(&CAME);
        all.find(|(_, came)| came.load(Ordering::SeqCst)).map(|(signal, _)| signal)
    }

    /// The user asked for the end in another way: the next signal ends the process at once.
    pub fn end_at_next(&self) {
        // If one came, it may be on its way a second time.
        let _ = ASKED.compare_exchange(0, LONG_AGO, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Does what the shell asked its job for: stops the process, with the terminal as it was, and
    /// takes the terminal again when it goes on.
    pub fn control_job(&self) {
        if !self.terminal {
            return;
        }
        if STOP.swap(false, Ordering::SeqCst) {
            terminal::suspend();
        }
        if GO_ON.swap(false, Ordering::SeqCst) {
            terminal::resume();
        }
    }
}

/// What is signalled from now on when the terminal's window has another size (SIGWINCH).
///
/// # Errors
/// What the operating system says.
pub fn window_changes() -> io::Result<&'static Event> {
    let event = Event::new()?;
    let event = WINDOW.get_or_init(|| event);
    handle(libc::SIGWINCH, window_changed)?;
    Ok(event)
}

extern "C" fn window_changed(_signal: c_int) {
    if let Some(event) = WINDOW.get() {
        event.signal();
    }
}

fn control_terminal() -> io::Result<()> {
    for signal in [SIGTSTP, SIGCONT].into_iter().filter(|signal| !ignored(*signal)) {
        handle(signal, job_told)?;
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
        handle(signal, end_now)?;
    }
    Ok(())
}

/// Has `handler` called for `signal`. It has to be async-signal-safe. Calls that it interrupts go on.
fn handle(signal: c_int, handler: extern "C" fn(c_int)) -> io::Result<()> {
    // SAFETY: a sigaction of zeros is one, and the handler has the type of one without SA_SIGINFO.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn nothing(_signal: c_int) {}

/// Notes that an end is asked for. A second time there is no waiting for it.
extern "C" fn end_asked_for(signal: c_int) {
    let now = milliseconds();
    if let Err(first) = ASKED.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst)
        && now.saturating_sub(first) >= SAME
    {
        end_now(signal);
    }
    for (_, came) in ENDING.iter().zip(&CAME).filter(|(ending, _)| **ending == signal) {
        came.store(true, Ordering::SeqCst);
    }
    wake();
}

/// A clock's time (clock_gettime(2), which is async-signal-safe).
fn milliseconds() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the structure, which is ours.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    let (seconds, nanoseconds) = (seconds.unwrap_or_default(), nanoseconds.unwrap_or_default());
    seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000).max(LONG_AGO)
}

extern "C" fn job_told(signal: c_int) {
    let told = if signal == SIGTSTP { &STOP } else { &GO_ON };
    told.store(true, Ordering::SeqCst);
    wake();
}

fn wake() {
    if let Some(event) = EVENT.get() {
        event.signal();
    }
}

/// Ends the process, with the status that a shell has for the signal: to die of it the jail has no
/// room.
extern "C" fn end_now(signal: c_int) {
    terminal::restore();
    // SAFETY: takes nothing along but what the kernel has of the process.
    unsafe { libc::_exit(128_i32.saturating_add(signal)) }
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
