//! The signals that end a run: an orderly stop for the first, the process at once for a second.

// UNSAFETY: what a signal does now is not to be had from a safe interface.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

/// Signals that ask for an end.
const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// Signals that came. The descriptor becomes readable with the first.
#[derive(Debug)]
pub struct Signals {
    came: [Arc<AtomicBool>; ENDING.len()],
    /// Readable once a signal came; for the event loop.
    pub readable: Arc<OwnedFd>,
}

impl Signals {
    /// Takes the ending signals over, for the rest of the process's life. A write beyond the limit
    /// on file sizes (ulimit -f) becomes an error of that write and no end.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn install() -> io::Result<Self> {
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
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&any))?;
            flag::register(signal, Arc::clone(&any))?;
            flag::register(signal, Arc::clone(came))?;
            signal_hook::low_level::pipe::register(signal, writable.try_clone()?)?;
        }
        Ok(Self { came, readable: Arc::new(readable.into()) })
    }

    /// A signal that came, if one did.
    pub fn first(&self) -> Option<i32> {
        let mut all = ENDING.into_iter().zip(&self.came);
        all.find(|(_, came)| came.load(Ordering::SeqCst)).map(|(signal, _)| signal)
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
