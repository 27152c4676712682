//! Why a run ends, and telling everybody: the first reason wins.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};

use hv::{Crash, Unhandled};

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The guest wrote `raw` to its exit port.
    Exit {
        /// The value as written.
        raw: u64,
        /// The process's exit status for it.
        status: u8,
    },
    /// The guest asked for a reset, which ends a run.
    Reset,
    /// The guest asked its firmware to be started again (PSCI), which ends a run.
    Restart,
    /// The guest asked its firmware to be switched off (PSCI).
    Shutdown,
    /// The guest broke itself.
    Crash {
        /// On which vCPU.
        vcpu: u32,
        /// How.
        crash: Crash,
    },
    /// The host cannot go on with the guest.
    Unhandled {
        /// On which vCPU.
        vcpu: u32,
        /// Why, and at which instruction.
        exit: Unhandled,
    },
    /// A vCPU halted with nothing that could wake it.
    Halted {
        /// Which vCPU.
        vcpu: u32,
    },
    /// Every vCPU has halted with interrupts off.
    Asleep,
    /// The time given with `--timeout` is over.
    TimedOut,
    /// This signal came.
    Signal(i32),
    /// The key that ends a run was pressed on the guest's keyboard.
    Escape,
    /// The guest broke the rules of its boot protocol, in this way.
    Violation(String),
    /// Something of ours failed while the guest ran.
    Failed(String),
}

impl Reason {
    /// Whether the guest ended by its own will.
    pub fn is_success(&self) -> bool {
        matches!(self, Reason::Exit { .. } | Reason::Reset | Reason::Restart | Reason::Shutdown)
    }
}

/// Wakes somebody who waits.
pub type Wake = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Inner {
    set: AtomicBool,
    reason: OnceLock<Reason>,
    wakes: OnceLock<Vec<Wake>>,
}

/// The one way to end a run, held by everyone who may want to. Clones are the same.
#[derive(Clone, Default)]
pub struct Stop(Arc<Inner>);

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Stop").field(&self.0.reason.get()).finish()
    }
}

impl Stop {
    /// Names who is to be woken: every vCPU and the I/O loop. Called once, before the guest runs.
    pub fn wake_on_stop(&self, wakes: Vec<Wake>) {
        let first = self.0.wakes.set(wakes).is_ok();
        fence(Ordering::SeqCst);
        if first && self.requested() {
            self.wake();
        }
    }

    /// Ends the run for `reason`, unless it has ended for another.
    pub fn request(&self, reason: Reason) {
        if self.0.reason.set(reason).is_ok() {
            // Before the wakes are looked up, and seen by who sets them: one of the two wakes.
            self.0.set.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            self.wake();
        }
    }

    /// Whether the run is over. Cheap enough for every exit.
    pub fn requested(&self) -> bool {
        self.0.set.load(Ordering::Acquire)
    }

    /// Why it is over, if it is.
    pub fn reason(&self) -> Option<&Reason> {
        self.0.reason.get()
    }

    fn wake(&self) {
        for wake in self.0.wakes.get().into_iter().flatten() {
            wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn the_first_reason_wins_and_everybody_is_woken_once() {
        let stop = Stop::default();
        let woken = Arc::new(AtomicU32::new(0));
        let wake = {
            let woken = Arc::clone(&woken);
            move || {
                woken.fetch_add(1, Ordering::SeqCst);
            }
        };
        stop.wake_on_stop(vec![Box::new(wake)]);
        assert!(!stop.requested());
        stop.request(Reason::TimedOut);
        stop.request(Reason::Reset);
        assert_eq!(stop.reason(), Some(&Reason::TimedOut));
        assert_eq!(woken.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_stop_before_anybody_waits_is_not_lost() {
        let stop = Stop::default();
        stop.request(Reason::Reset);
        let woken = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&woken);
        stop.wake_on_stop(vec![Box::new(move || flag.store(true, Ordering::SeqCst))]);
        assert!(woken.load(Ordering::SeqCst));
    }
}
