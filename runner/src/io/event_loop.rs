//! The event loop: descriptors and what to do when they are readable (crate `polling`: epoll,
//! kqueue).

// UNSAFETY: polling wants a promise that a registered descriptor is removed before it is closed.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use polling::{Event as Ready, Events, PollMode, Poller};

/// What a handler wants done with its descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Call again when it is readable.
    Keep,
    /// Not before [`EventLoop::resume`].
    Pause,
}

struct Source {
    fd: Arc<dyn AsFd + Send + Sync>,
    /// Not with the poller: one whose other end is gone would wake the loop for as long as it is.
    paused: bool,
    handler: Box<dyn FnMut() -> Control + Send>,
}

/// Which descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(usize);

/// Wakes a loop from another thread. A wake before the wait is not lost.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Poller>);

impl Waker {
    /// Makes the current or next [`EventLoop::turn`] return.
    pub fn wake(&self) {
        // Fails only when the loop is gone, which then needs no waking.
        let _ = self.0.notify();
    }
}

/// A thread's loop.
pub struct EventLoop {
    poller: Arc<Poller>,
    events: Events,
    sources: Vec<Source>,
}

impl std::fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventLoop").field("sources", &self.sources.len()).finish()
    }
}

impl EventLoop {
    /// A loop that waits for nothing yet.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn new() -> io::Result<Self> {
        let poller = Arc::new(Poller::new()?);
        Ok(Self { poller, events: Events::new(), sources: Vec::new() })
    }

    /// What wakes this loop.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.poller))
    }

    /// Calls `handler` whenever `fd` is readable, for as long as the loop lives.
    ///
    /// # Errors
    /// `PermissionDenied` for a descriptor that cannot be waited for, a regular file for instance.
    pub fn add(
        &mut self,
        fd: Arc<dyn AsFd + Send + Sync>,
        handler: impl FnMut() -> Control + Send + 'static,
    ) -> io::Result<Token> {
        let token = Token(self.sources.len());
        self.listen(&*fd, token)?;
        self.sources.push(Source { fd, paused: false, handler: Box::new(handler) });
        Ok(token)
    }

    /// Waits again for a descriptor whose handler paused it.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn resume(&mut self, token: Token) -> io::Result<()> {
        match self.sources.get(token.0).filter(|source| source.paused) {
            Some(source) => self.listen(&*source.fd, token)?,
            None => return Ok(()),
        }
        if let Some(source) = self.sources.get_mut(token.0) {
            source.paused = false;
        }
        Ok(())
    }

    /// Waits until something is ready, the loop is woken, or `timeout` is over, and calls the
    /// handlers of what is ready.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.events.clear();
        match self.poller.wait(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        };
        let ready: Vec<usize> = self.events.iter().map(|event| event.key).collect();
        for key in ready {
            let Some(source) = self.sources.get_mut(key) else { continue };
            if (source.handler)() == Control::Pause {
                self.poller.delete(source.fd.as_fd())?;
                source.paused = true;
            }
        }
        Ok(())
    }

    fn listen(&self, fd: &(dyn AsFd + Send + Sync), token: Token) -> io::Result<()> {
        let ready = Ready::readable(token.0);
        // SAFETY: a source keeps its descriptor open for as long as the loop lives, and `drop`
        // deletes it from the poller first.
        unsafe { self.poller.add_with_mode(&fd.as_fd(), ready, PollMode::Level) }
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        for source in self.sources.iter().filter(|source| !source.paused) {
            // Wakers may keep the poller; what it waits for goes now.
            let _ = self.poller.delete(source.fd.as_fd());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::event::Event;
    use std::sync::atomic::{AtomicU32, Ordering};

    const SHORT: Option<Duration> = Some(Duration::from_millis(1));

    fn counting(lp: &mut EventLoop, control: Control) -> (Arc<Event>, Arc<AtomicU32>, Token) {
        let event = Arc::new(Event::new().unwrap());
        let count = Arc::new(AtomicU32::new(0));
        let (seen, counted) = (Arc::clone(&event), Arc::clone(&count));
        let token = lp.add(event.clone(), move || {
            seen.clear();
            counted.fetch_add(1, Ordering::SeqCst);
            control
        });
        (event, count, token.unwrap())
    }

    #[test]
    fn signals_before_a_turn_merge_and_none_is_lost() {
        let mut lp = EventLoop::new().unwrap();
        let (event, count, _) = counting(&mut lp, Control::Keep);
        lp.turn(SHORT).unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 0);
        event.signal();
        event.signal();
        lp.turn(None).unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 1);
        event.signal();
        lp.turn(None).unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_paused_source_is_quiet_until_it_is_resumed() {
        let mut lp = EventLoop::new().unwrap();
        let (event, count, token) = counting(&mut lp, Control::Pause);
        event.signal();
        lp.turn(None).unwrap();
        event.signal();
        lp.turn(SHORT).unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 1);
        lp.resume(token).unwrap();
        lp.turn(None).unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_paused_source_whose_other_end_is_gone_does_not_wake_the_loop() {
        let mut lp = EventLoop::new().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let handler = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Control::Pause
        };
        let token = lp.add(Arc::new(reader), handler).unwrap();
        drop(writer);
        lp.turn(None).unwrap();
        lp.turn(SHORT).unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 1);
        lp.resume(token).unwrap();
        lp.resume(token).unwrap();
        lp.turn(None).unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_wake_before_the_wait_is_not_lost() {
        let mut lp = EventLoop::new().unwrap();
        let waker = lp.waker();
        std::thread::spawn(move || waker.wake()).join().unwrap();
        lp.turn(None).unwrap();
    }
}
