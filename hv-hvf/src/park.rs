//! Where a vCPU's thread waits outside of the guest: one that is off, and one whose WFI the framework
//! has handed out (ASSUMPTIONS.md, A3).
//!
//! Nobody waits who was woken in between: a wake is kept until the next wait, and an interrupt that
//! was sent since the vCPU entered the guest is counted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// One vCPU's place to wait.
#[derive(Debug, Default)]
pub(crate) struct Park {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Park {
    /// Ends the current or the next wait.
    pub(crate) fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    /// Waits for a wake, which may have come before.
    pub(crate) fn wait(&self) {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_while(woken, |woken| !*woken);
        *waited.unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// The same for `longest`. Whether there was a wake.
    pub(crate) fn wait_for(&self, longest: Duration) -> bool {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(woken, longest, |woken| !*woken);
        let (mut woken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut woken, false)
    }
}

/// The places of all vCPUs of a VM, and what may end a wait for an interrupt.
#[derive(Debug)]
pub(crate) struct Parks {
    parks: Vec<Arc<Park>>,
    /// Interrupts that were sent to any vCPU, as far as they go through our hands.
    sent: AtomicU64,
    /// How many vCPUs wait for one.
    waiting: AtomicUsize,
}

impl Parks {
    pub(crate) fn new(vcpus: u32) -> Self {
        let parks = (0..vcpus).map(|_| Arc::default()).collect();
        Self { parks, sent: AtomicU64::new(0), waiting: AtomicUsize::new(0) }
    }

    /// The place of vCPU `cpu`, if there is one.
    pub(crate) fn of(&self, cpu: u32) -> Option<&Arc<Park>> {
        usize::try_from(cpu).ok().and_then(|index| self.parks.get(index))
    }

    /// An interrupt was sent. Whom the guest has routed it to is the framework's knowledge, so all
    /// that wait have a look.
    pub(crate) fn interrupt(&self) {
        self.sent.fetch_add(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.parks.iter().for_each(|park| park.wake());
        }
    }

    /// How many interrupts were sent so far; to be asked before the guest is entered.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Waits at `park` for `longest`, for a kick, or for an interrupt since there were `sent`. Whether
    /// one of the two has come.
    pub(crate) fn await_interrupt(&self, park: &Park, sent: u64, longest: Duration) -> bool {
        // Counted before it looks, while whoever sends counts and then looks: one sees the other.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let woken = self.sent() != sent || park.wait_for(longest);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        woken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(2);

    #[test]
    fn a_wake_before_a_wait_ends_it_and_counts_once() {
        let park = Park::default();
        park.wake();
        park.wake();
        park.wait();
        assert!(!park.wait_for(SHORT));
        park.wake();
        assert!(park.wait_for(LONG));
    }

    #[test]
    fn an_interrupt_between_the_exit_and_the_wait_is_not_slept_over() {
        let parks = Parks::new(1);
        let (park, sent) = (parks.of(0).unwrap(), parks.sent());
        parks.interrupt();
        assert!(parks.await_interrupt(park, sent, LONG));
        assert!(!parks.await_interrupt(park, parks.sent(), SHORT));
    }

    #[test]
    fn an_interrupt_ends_every_wait() {
        let parks = Parks::new(4);
        let started = Instant::now();
        std::thread::scope(|scope| {
            for cpu in 0..4 {
                let (parks, sent) = (&parks, parks.sent());
                scope.spawn(move || {
                    assert!(parks.await_interrupt(parks.of(cpu).unwrap(), sent, LONG));
                });
            }
            while parks.waiting.load(Ordering::SeqCst) < 4 {
                std::thread::yield_now();
            }
            parks.interrupt();
        });
        assert!(started.elapsed() < LONG);
        assert!(parks.of(4).is_none());
    }

    #[test]
    fn a_thousand_interrupts_at_any_moment_are_all_noticed() {
        let parks = Parks::new(1);
        let (order, orders) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let (parks, park) = (&parks, parks.of(0).unwrap());
            scope.spawn(move || orders.iter().for_each(|()| parks.interrupt()));
            for _ in 0..1000 {
                let sent = parks.sent();
                order.send(()).unwrap();
                assert!(parks.await_interrupt(park, sent, LONG));
                // The wake of an interrupt that was seen by its number comes too late for its wait.
                while parks.sent() == sent {
                    std::hint::spin_loop();
                }
            }
            drop(order);
        });
    }
}
