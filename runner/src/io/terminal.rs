//! The terminal on stdin as the guest's keyboard (`--stdin`): raw while the guest has it, and left
//! as it was found (POSIX.1-2024, Base Definitions, chapter 11, "General Terminal Interface").
//!
//! A process has one such terminal, so its state is static: whatever ends the process can put it
//! back, a signal handler or a panic, too. Only SIGKILL cannot, and SIGSTOP.
//!
//! A process group in the background neither reads the terminal nor changes it (section 11.1.4):
//! it is raw only while our group is in the foreground.

// UNSAFETY: the signal mask of a thread, stopping oneself, and process groups as numbers have no
// safe interface.
#![allow(unsafe_code)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::io::Errno;
use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcsetattr};

/// The key that ends the run, Ctrl-]: the one byte that never reaches the guest from a keyboard.
/// virsh(1) and telnet(1) have it, and unlike Ctrl-A no shell or editor does.
pub const ESCAPE: u8 = 0x1d;

/// The terminal's modes, and whose it is.
struct Modes {
    /// Our process group, which nobody but we could change. It is 0 where its leader is outside of
    /// our PID namespace, which rustix has no type for.
    group: i32,
    /// As it was found.
    before: Termios,
    /// While the guest has it.
    raw: Termios,
}

static MODES: OnceLock<Modes> = OnceLock::new();

/// It is as it was before.
const COOKED: u8 = 0;
/// Another thread changes it, which cannot be interrupted by a signal.
const CHANGING: u8 = 1;
/// It is raw.
const RAW: u8 = 2;
/// It is as it was before, for good.
const LEFT: u8 = 3;

static STATE: AtomicU8 = AtomicU8::new(COOKED);

/// How often [`restore`] looks for the end of another thread's change, which is a system call away;
/// then that thread has died in it.
const PATIENCE: u32 = 10_000_000;

/// Puts the terminal back when it goes.
#[derive(Debug)]
pub struct Terminal(());

impl Terminal {
    /// Makes the terminal on stdin the guest's keyboard, from the first [`take`] on. Nothing when
    /// stdin is no terminal.
    pub fn on_stdin() -> Option<Self> {
        if !isatty(stdin()) {
            return None;
        }
        let before = tcgetattr(stdin()).ok()?;
        let raw = raw(&before);
        // SAFETY: returns a number.
        let group = unsafe { libc::getpgrp() };
        MODES.set(Modes { group, before, raw }).ok()?;
        Some(Self(()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Every byte as it is typed, at once, without an echo. What the guest sends is treated as before:
/// a guest that ends its lines with a line feed alone stays readable.
fn raw(before: &Termios) -> Termios {
    let mut raw = before.clone();
    raw.make_raw();
    raw.output_modes = before.output_modes;
    // A read returns what there is, and never waits: another process may have been faster.
    raw.special_codes[SpecialCodeIndex::VMIN] = 0;
    raw.special_codes[SpecialCodeIndex::VTIME] = 0;
    raw
}

/// Whether the terminal is the guest's keyboard.
pub fn is_keyboard() -> bool {
    MODES.get().is_some()
}

/// Whether the terminal is raw now.
pub fn is_taken() -> bool {
    STATE.load(Ordering::SeqCst) == RAW
}

/// Makes the terminal raw, if we are in the foreground. Returns whether it is.
pub fn take() -> bool {
    let Some(modes) = MODES.get() else { return false };
    foreground()
        && undisturbed(|| {
            let set = || tcsetattr(stdin(), OptionalActions::Now, &modes.raw).is_ok();
            change(COOKED, RAW, set) || change(RAW, RAW, set)
        })
}

/// Puts the terminal back, for now.
fn give_back() {
    if let Some(modes) = MODES.get() {
        undisturbed(|| change(RAW, COOKED, || put_back(modes)));
    }
}

/// Stops this process, as SIGTSTP asks for, with the terminal put back. Returns when it goes on.
pub fn suspend() {
    give_back();
    // SAFETY: sends a signal that nothing handles to this process.
    unsafe { libc::raise(libc::SIGSTOP) };
}

/// The process goes on, as SIGCONT says: in the foreground, or in the background, where the terminal
/// is not ours any more.
pub fn resume() {
    if !foreground() {
        give_back();
    } else if is_keyboard() {
        take();
    }
}

/// Puts the terminal back, for good. Async-signal-safe, and nothing without a [`Terminal`]; the
/// system calls are ioctl (TCGETS2, TCSETS2, TIOCGPGRP) and `rt_sigprocmask`, which every thread in
/// the jail may make.
pub fn restore() {
    let Some(modes) = MODES.get() else { return };
    undisturbed(|| {
        for _ in 0..PATIENCE {
            if change(COOKED, LEFT, || true) || change(RAW, LEFT, || put_back(modes)) {
                return;
            }
            if STATE.load(Ordering::SeqCst) == LEFT {
                return;
            }
            std::hint::spin_loop();
        }
        STATE.store(LEFT, Ordering::SeqCst);
        put_back(modes);
    });
}

/// Goes from state `from` to `to` by way of `act`. Where that fails the state stays; but for good
/// is for good.
fn change(from: u8, to: u8, act: impl FnOnce() -> bool) -> bool {
    let order = Ordering::SeqCst;
    if STATE.compare_exchange(from, CHANGING, order, order).is_err() {
        return false;
    }
    let done = act();
    STATE.store(if done || to == LEFT { to } else { from }, order);
    done
}

/// In the background a shell has set the terminal up for itself, or has not: then it is as we left
/// it, and nobody else will.
fn put_back(modes: &Modes) -> bool {
    let raw = || {
        tcgetattr(stdin()).is_ok_and(|now| {
            now.local_modes == modes.raw.local_modes && now.input_modes == modes.raw.input_modes
        })
    };
    if raw() || foreground() {
        return tcsetattr(stdin(), OptionalActions::Now, &modes.before).is_ok();
    }
    true
}

/// Whether this process may read the terminal: its group is in the foreground, or the terminal is
/// not the one that controls it.
pub fn foreground() -> bool {
    // SAFETY: returns a number.
    match unsafe { libc::tcgetpgrp(libc::STDIN_FILENO) } {
        -1 => true,
        group => MODES.get().is_some_and(|modes| modes.group == group),
    }
}

/// Whether nobody is behind the terminal any more.
pub fn is_gone() -> bool {
    matches!(tcgetattr(stdin()), Err(Errno::IO | Errno::NXIO))
}

/// Runs `act` with no signal delivered to this thread but those of its own faults. SIGTTOU and
/// SIGTTIN, too: a change from the background is made, a read there is an error, and neither stops
/// the process.
pub fn undisturbed<T>(act: impl FnOnce() -> T) -> T {
    const FAULTS: [i32; 7] = [
        libc::SIGSYS,
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGTRAP,
        libc::SIGABRT,
    ];
    // SAFETY: both sets are on the stack, and zeros are a set on every system; each is filled
    // before it is read.
    unsafe {
        let mut blocked: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut blocked);
        for fault in FAULTS {
            libc::sigdelset(&raw mut blocked, fault);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, &raw mut before);
        let result = act();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        result
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output, Stdio};

    use rustix::fs::{Mode, OFlags, open};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::LocalModes;

    use super::*;
    use crate::config::JailChoice;
    use crate::jail::{Jail, Needs, Role, fatal};

    /// Runs the test `child` in a process of its own, whose stdin is a terminal. It has to take the
    /// terminal, and to leave it as it was.
    fn takes_and_leaves(child: &str, environment: &[(&str, &str)]) -> Output {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let path = ptsname(&person, Vec::new()).unwrap();
        let line = open(path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let modes = || format!("{:?}", tcgetattr(&line).unwrap());
        let found = modes();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("io::terminal::tests::{child}")])
            .args(["--ignored", "--nocapture"])
            .envs(environment.iter().copied())
            .stdin(Stdio::from(line.try_clone().unwrap()))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("the terminal is raw"), "{output:?}");
        assert!(!output.status.success(), "{output:?}");
        assert_eq!(modes(), found);
        output
    }

    /// Takes the terminal, which nobody drops.
    fn take_for_good() {
        std::mem::forget(Terminal::on_stdin().unwrap());
        assert!(take());
        let modes = tcgetattr(stdin()).unwrap().local_modes;
        assert!(!modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
        println!("the terminal is raw");
    }

    #[test]
    fn a_panic_leaves_the_terminal_as_it_was() {
        takes_and_leaves("panics", &[]);
    }

    #[test]
    #[ignore = "its parent starts it"]
    fn panics() {
        fatal::restore_with(restore);
        fatal::end_on_panic();
        take_for_good();
        panic!("as planned");
    }

    /// The role that [`breaks_out`] plays.
    const ROLE: &str = "RUNNER_TEST_ROLE";

    #[test]
    #[cfg(target_os = "linux")]
    fn a_call_that_the_jail_stops_on_any_thread_leaves_the_terminal_as_it_was() {
        for role in Role::ALL {
            let output = takes_and_leaves("breaks_out", &[(ROLE, role.name())]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(125), "{output:?}");
            assert!(said.contains(&format!("thread {} at system call", role.name())), "{said}");
        }
    }

    #[test]
    #[ignore = "its parent starts it"]
    fn breaks_out() {
        let name = std::env::var(ROLE).unwrap();
        let role = Role::ALL.into_iter().find(|role| role.name() == name).unwrap();
        fatal::restore_with(restore);
        take_for_good();
        Jail::enter(JailChoice::On, Needs::default()).unwrap().lock(role, None).unwrap();
        let _ = std::net::TcpListener::bind("127.0.0.1:0");
    }

    /// What [`dies_of`] dies of: a signal's number.
    const SIGNAL: &str = "RUNNER_TEST_SIGNAL";
    /// Its status when it did not.
    const ALIVE: i32 = 99;

    /// Real-time signals, but for the kick's, which is handled before the terminal is raw; and those
    /// that are not fatal on this system.
    #[cfg(target_os = "linux")] // signal(7)
    fn others() -> (Vec<i32>, Vec<i32>) {
        ((libc::SIGRTMIN()..=libc::SIGRTMAX()).collect(), Vec::new())
    }
    #[cfg(not(target_os = "linux"))] // sigaction(2) of macOS
    fn others() -> (Vec<i32>, Vec<i32>) {
        (Vec::new(), vec![libc::SIGIO, libc::SIGINFO])
    }

    #[test]
    fn no_signal_leaves_the_terminal_raw() {
        let (real_time, harmless) = others();
        let all = (1..32).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal));
        for signal in all.chain(real_time) {
            let output = takes_and_leaves("dies_of", &[(SIGNAL, &signal.to_string())]);
            let status = output.status.code();
            let faults = [libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSEGV];
            let fault = faults.contains(&signal) || [libc::SIGSYS, libc::SIGTRAP].contains(&signal);
            // Those that are for the I/O loop, and those that nobody minds.
            let minor = [
                libc::SIGINT,
                libc::SIGTERM,
                libc::SIGHUP,
                libc::SIGTSTP,
                libc::SIGCONT,
                libc::SIGTTIN,
                libc::SIGTTOU,
                libc::SIGXFSZ,
                libc::SIGPIPE,
                libc::SIGCHLD,
                libc::SIGURG,
                libc::SIGWINCH,
            ];
            let wanted = match signal {
                _ if fault => 125,
                _ if minor.contains(&signal) || harmless.contains(&signal) => ALIVE,
                _ => 128 + signal,
            };
            assert_eq!(status, Some(wanted), "{signal}: {output:?}");
        }
    }

    #[test]
    #[ignore = "its parent starts it"]
    fn dies_of() {
        let signal = std::env::var(SIGNAL).unwrap().parse().unwrap();
        fatal::restore_with(restore);
        fatal::end_on_fault().unwrap();
        crate::io::signals::Signals::install(true).unwrap();
        take_for_good();
        // SAFETY: sends a signal to this process.
        unsafe { libc::raise(signal) };
        // As the I/O loop does at its end.
        restore();
        // SAFETY: takes nothing along.
        unsafe { libc::_exit(ALIVE) };
    }

    #[test]
    fn a_fault_leaves_the_terminal_as_it_was() {
        let output = takes_and_leaves("faults", &[]);
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with("runner: stopped by SIGBUS at address 0x"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }

    #[test]
    #[ignore = "its parent starts it"]
    fn faults() {
        fatal::restore_with(restore);
        fatal::end_on_fault().unwrap();
        take_for_good();
        let empty = tempfile::tempfile().unwrap();
        let (fd, read) = (std::os::fd::AsRawFd::as_raw_fd(&empty), libc::PROT_READ);
        // SAFETY: a new mapping, at an address of the system's choice.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, read, libc::MAP_SHARED, fd, 0) };
        assert_ne!(page, libc::MAP_FAILED);
        Jail::enter(JailChoice::On, Needs::default()).unwrap().lock(Role::Io, None).unwrap();
        // SAFETY: the address is the page's; that it has no byte, and the process ends, is the test.
        unsafe { std::ptr::read_volatile(page.cast::<u8>()) };
    }

    #[test]
    fn what_is_left_for_good_is_not_taken_again() {
        takes_and_leaves("restores_and_takes", &[]);
    }

    #[test]
    #[ignore = "its parent starts it"]
    fn restores_and_takes() {
        take_for_good();
        restore();
        assert!(!take());
        resume();
        assert!(!is_taken());
        // SAFETY: takes nothing along.
        unsafe { libc::_exit(125) };
    }
}
