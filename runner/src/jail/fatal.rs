//! Ends of the process that come from within, at any point of any thread: one line on stderr, the
//! terminal as it was, status 125. No lock is taken, nothing is allocated and no file is opened, so
//! that it is the same within the jail and without.

// UNSAFETY: leaving without the exit handlers, which take locks, has no safe interface, nor has a
// signal's handler that reads what the kernel tells it.
#![allow(unsafe_code)]

use std::fmt::Write as _;
use std::io;
use std::mem::ManuallyDrop;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;

use libc::{c_int, c_void, siginfo_t};

use crate::io::stderr;
use crate::outcome::status;

/// What brings the terminal back. It has to keep to what this module does.
static RESTORE: OnceLock<fn()> = OnceLock::new();

/// Has `restore` called first when the process ends from within. Only the first one counts.
pub fn restore_with(restore: fn()) {
    let _ = RESTORE.set(restore);
}

/// Makes a panic, on whatever thread, one line and the end of the process. There is no backtrace,
/// whatever `RUST_BACKTRACE` says: it would open files, which the jail forbids.
pub fn end_on_panic() {
    std::panic::set_hook(Box::new(panicked));
}

fn panicked(info: &PanicHookInfo<'_>) {
    let mut line = Line::default();
    line.push("runner: ");
    // A line takes everything.
    let _ = match info.location() {
        Some(at) => write!(line, "panicked at {at}: "),
        None => write!(line, "panicked: "),
    };
    line.push_escaped(info.payload_as_str().unwrap_or_default());
    line.push("; this is a bug in runner, please report it");
    end(&mut line)
}

/// Signals of a process's own faults. SIGSYS is the jail's once it is there, if this system's has a
/// list of calls.
const FAULTS: [(c_int, &str); 6] = [
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGSYS, "SIGSYS"),
    (libc::SIGTRAP, "SIGTRAP"),
];

/// Makes a fault, on whatever thread, one line and the end of the process. Handlers of the standard
/// library's for memory that is not there would set the signal back to what it was, a system call that
/// the jail stops. Threads other than the calling one have to take another stack themselves.
///
/// # Errors
/// What the operating system says.
pub fn end_on_fault() -> io::Result<()> {
    use_other_stack()?;
    for (signal, _) in FAULTS {
        handle(signal, faulted)?;
    }
    Ok(())
}

/// Room for the handlers of this module, on a processor with large registers, too; macOS wants as much.
const OTHER_STACK: usize = 32 << 10;

/// Gives the calling thread another stack, for the rest of the process's life, on which handlers run:
/// a fault may be that its own is full.
///
/// # Errors
/// What the operating system says.
pub(crate) fn use_other_stack() -> io::Result<()> {
    // Never given back, and not touched before it is used.
    let mut memory = ManuallyDrop::new(Vec::<u8>::with_capacity(OTHER_STACK));
    let stack = libc::stack_t {
        ss_sp: memory.as_mut_ptr().cast(),
        ss_flags: 0,
        ss_size: memory.capacity(),
    };
    // SAFETY: the memory is nobody else's, now and later.
    match unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What a signal calls that says more than its number: on the thread's other stack, where it has one.
pub(crate) type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

/// Has `handler` called for `signal`, for the rest of the process's life. It has to be safe at any
/// point of any thread.
pub(crate) fn handle(signal: c_int, handler: Handler) -> io::Result<()> {
    // SAFETY: a sigaction of zeros is one, and the handler has the type that SA_SIGINFO asks for.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn faulted(signal: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the kernel passes a siginfo_t, whose address any signal may be asked for.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr()) };
    let name =
        FAULTS.iter().find(|(known, _)| *known == signal).map_or("a signal", |fault| fault.1);
    let mut line = Line::default();
    line.push("runner: stopped by ");
    line.push(name);
    if code <= 0 || code == SENT {
        line.push(", which a process sent");
    } else {
        // A line takes everything.
        let _ = write!(line, " at address {:#x}", address.addr());
        line.push(": the guest broke into runner, or runner has a bug: do not trust the guest's disks, and report it");
    }
    end(&mut line)
}

/// `si_code` of a signal that a process sent, on macOS (SI_USER); on Linux it is not above 0.
const SENT: c_int = 0x10001;

/// Text on its way to stderr, cut where it would be too long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    bytes: [u8; 512],
    len: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; 512], len: 0 }
    }
}

impl Line {
    /// Adds `text` but leaves room for the line's end.
    pub(crate) fn push(&mut self, text: &str) {
        for byte in text.bytes() {
            if self.len + 1 < self.bytes.len()
                && let Some(free) = self.bytes.get_mut(self.len)
            {
                *free = byte;
                self.len += 1;
            }
        }
    }

    fn push_escaped(&mut self, text: &str) {
        let _ = write!(self, "{}", text.escape_debug());
    }

    /// All of it, as a whole line.
    fn finish(&mut self) -> &[u8] {
        if let Some(free) = self.bytes.get_mut(self.len) {
            *free = b'\n';
        }
        self.bytes.get(..=self.len).unwrap_or_default()
    }
}

impl std::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.push(text);
        Ok(())
    }
}

/// Ends the process with `line` and status 125.
pub(crate) fn end(line: &mut Line) -> ! {
    if let Some(restore) = RESTORE.get() {
        restore();
    }
    stderr::write(line.finish());
    // SAFETY: ends the process, and takes nothing along but what the kernel has of it.
    unsafe { libc::_exit(status::FAILED.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_and_always_ends() {
        let mut line = Line::default();
        line.push("system call ");
        let _ = write!(line, "{} ", 451);
        line.push_escaped("a\nb\u{1b}");
        let text = b"system call 451 a\\nb\\u{1b}\n";
        assert_eq!(line.finish(), text);
        line.push(&"x".repeat(1000));
        assert_eq!(line.finish().len(), 512);
        assert!(line.finish().ends_with(b"xx\n"));
    }

    #[test]
    #[ignore = "ends the process: started by the test below"]
    fn ends_the_process() {
        end_on_panic();
        panic!("a \u{1b}[31m{}", "guest's");
    }

    /// Deeper than any stack.
    fn fall(depth: u64) -> u64 {
        if depth == u64::MAX {
            return depth;
        }
        let frame = std::hint::black_box([depth; 512]);
        fall(depth + 1) + frame[0]
    }

    #[test]
    #[ignore = "ends the process: started by the test below"]
    fn overflows_its_stack() {
        let none = libc::stack_t {
            ss_sp: std::ptr::null_mut(),
            ss_flags: libc::SS_DISABLE,
            ss_size: OTHER_STACK,
        };
        // SAFETY: takes the standard library's away, which is in no use.
        assert_eq!(unsafe { libc::sigaltstack(&raw const none, std::ptr::null_mut()) }, 0);
        end_on_fault().unwrap();
        fall(0);
    }

    #[test]
    fn a_stack_that_is_full_is_one_line_and_status_125() {
        let mut test = std::process::Command::new(std::env::current_exe().unwrap());
        test.args(["--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        let output = test.arg("jail::fatal::tests::overflows_its_stack").output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(125), "{text}");
        assert!(text.starts_with("runner: stopped by SIG") && text.lines().count() == 1, "{text}");
    }

    #[test]
    fn a_panic_is_one_line_and_status_125_whatever_rust_backtrace_says() {
        let mut test = std::process::Command::new(std::env::current_exe().unwrap());
        test.args(["--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        test.arg("jail::fatal::tests::ends_the_process").env("RUST_BACKTRACE", "full");
        let output = test.output().unwrap();
        assert_eq!(output.status.code(), Some(125));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.starts_with("runner: panicked at runner/src/jail/fatal.rs:"), "{text}");
        let end = "a \\u{1b}[31mguest\\'s; this is a bug in runner, please report it\n";
        assert!(text.ends_with(end) && text.lines().count() == 1, "{text}");
    }
}
