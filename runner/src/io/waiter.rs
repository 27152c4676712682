//! Waiting for events on several threads at once: each signal wakes one of those that wait, and the
//! others sleep on. So a thread that is busy has no need to call another in its place.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::event::Event;
use super::sys;

/// The events, in the order in which they were added.
#[derive(Debug)]
pub struct Waiter {
    set: sys::Set,
    events: RwLock<Vec<Arc<Event>>>,
}

impl Waiter {
    /// A waiter without events.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { set: sys::Set::new()?, events: RwLock::default() })
    }

    /// Wakes somebody whenever `event` is signalled, for as long as this lives. Nobody else may clear
    /// it. Returns its number.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn add(&self, event: Arc<Event>) -> io::Result<usize> {
        let mut events = self.events.write().unwrap_or_else(PoisonError::into_inner);
        let number = events.len();
        self.set.add(&event, number)?;
        events.push(event);
        Ok(number)
    }

    /// Waits until an event is signalled that has woken nobody yet, at most as long as `timeout`, and
    /// calls `woken` with its number; with several there may be several. A signal before the wait is
    /// not lost.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn wait(&self, timeout: Option<Duration>, woken: impl FnMut(usize)) -> io::Result<()> {
        let events = self.events.read().unwrap_or_else(PoisonError::into_inner);
        self.set.wait(&events, timeout, woken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const NOW: Option<Duration> = Some(Duration::ZERO);

    fn woken(waiter: &Waiter, timeout: Option<Duration>) -> Vec<usize> {
        let mut numbers = Vec::new();
        waiter.wait(timeout, |number| numbers.push(number)).unwrap();
        numbers
    }

    #[test]
    fn signals_before_the_wait_merge_and_wake_once() {
        let waiter = Waiter::new().unwrap();
        let events = [(); 2].map(|()| Arc::new(Event::new().unwrap()));
        events[1].signal();
        for (number, event) in (0..).zip(&events) {
            assert_eq!(waiter.add(Arc::clone(event)).unwrap(), number);
        }
        assert_eq!(woken(&waiter, None), [1], "signalled before it was added");
        assert!(woken(&waiter, NOW).is_empty());
        for _ in 0..100 {
            events[0].signal();
            events[0].signal();
            assert_eq!(woken(&waiter, None), [0]);
            assert!(woken(&waiter, NOW).is_empty());
        }
    }

    #[test]
    fn every_signal_is_seen_by_a_thread_however_many_wait() {
        let waiter = Arc::new(Waiter::new().unwrap());
        let events = [(); 3].map(|()| Arc::new(Event::new().unwrap()));
        for event in &events {
            waiter.add(Arc::clone(event)).unwrap();
        }
        let (seen, sights) = mpsc::channel();
        for _ in 0..3 {
            let (waiter, seen) = (Arc::clone(&waiter), seen.clone());
            // They end when nobody listens any more, and with this process at the latest.
            std::thread::spawn(move || {
                while woken(&waiter, None).into_iter().all(|number| seen.send(number).is_ok()) {}
            });
        }
        for round in 0..3000 {
            let number = round % 3;
            events[number].signal();
            assert_eq!(sights.recv(), Ok(number));
        }
    }
}
