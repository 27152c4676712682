//! The event loop: descriptors and what to do when they are readable (crate `mio`: epoll, kqueue).
//!
//! Two kinds. A source has a handler, which is called whenever there is something new to read. What is
//! watched has only a number: whoever serves it asks after each turn what is ready.
//!
//! Both are edge-triggered: what was left unread is not announced again, and a descriptor costs no
//! system call for as long as it is open.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token as Number};

/// What a handler wants done with its descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Call again when there is more to read: it has read all there was.
    Keep,
    /// Call again in the next turn if there is more to read: it may have left something.
    More,
    /// Not before [`EventLoop::resume`], and then at once if there is anything to read.
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

/// The waker's number; sources count from 0.
const WAKER: Number = Number(usize::MAX);

/// What is watched has the upper half of all other numbers.
const WATCHED: usize = 1 << (usize::BITS - 1);

/// Wakes a loop from another thread. A wake before the wait is not lost.
#[derive(Clone, Debug)]
pub struct Waker(Arc<mio::Waker>);

impl Waker {
    /// Makes the current or next [`EventLoop::turn`] return.
    pub fn wake(&self) {
        // Fails only when the loop is gone, which then needs no waking.
        let _ = self.0.wake();
    }
}

/// A watched descriptor that is ready, or may be: what it says is for a system call to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The number it was watched with.
    pub key: usize,
    /// Reading may bring something: bytes, an end, an error, a connection.
    pub readable: bool,
    /// Writing may go on.
    pub writable: bool,
    /// Nothing that is written reaches anybody any more.
    pub hung_up: bool,
}

/// Has descriptors watched by a loop, which need not be at hand.
#[derive(Debug)]
pub struct Watcher {
    registry: Registry,
    /// Added to every key.
    base: usize,
}

impl Watcher {
    /// The same with keys of its own: whoever asks for key 0 hears of `base`.
    #[must_use]
    pub fn based(self, base: usize) -> Self {
        Self { base, ..self }
    }

    /// Announces from now on whenever `fd` becomes readable or writable, at first if it is. `key` is
    /// the caller's, below 2⁶².
    ///
    /// # Errors
    /// What the operating system says: no room, or a descriptor that cannot be waited for.
    pub fn watch(&self, fd: BorrowedFd<'_>, key: usize) -> io::Result<()> {
        self.register(fd, key, Interest::READABLE | Interest::WRITABLE)
    }

    /// As [`Watcher::watch`], but not for writing: for what is always writable, and would be announced
    /// after each write (a socket for datagrams).
    ///
    /// # Errors
    /// As [`Watcher::watch`].
    pub fn watch_reading(&self, fd: BorrowedFd<'_>, key: usize) -> io::Result<()> {
        self.register(fd, key, Interest::READABLE)
    }

    fn register(&self, fd: BorrowedFd<'_>, key: usize, interest: Interest) -> io::Result<()> {
        let number = Number(WATCHED | self.base.wrapping_add(key));
        self.registry.register(&mut SourceFd(&fd.as_raw_fd()), number, interest)
    }

    /// No more. Before it is closed, or with the last of its descriptors closed: what was ready already
    /// may still be announced in this turn.
    pub fn forget(&self, fd: BorrowedFd<'_>) {
        // Fails for what is not watched, and then there is nothing to forget.
        let _ = self.registry.deregister(&mut SourceFd(&fd.as_raw_fd()));
    }
}

/// A thread's loop.
pub struct EventLoop {
    poll: Poll,
    events: Events,
    sources: Vec<Source>,
    ready: Vec<Ready>,
    waker: Waker,
}

/// Events of one turn. More wait for the next.
const EVENTS: usize = 256;

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
        let poll = Poll::new()?;
        let waker = Waker(Arc::new(mio::Waker::new(poll.registry(), WAKER)?));
        let events = Events::with_capacity(EVENTS);
        // All of it now: in the jail it could not grow, for which the C library calls mremap(2).
        let ready = Vec::with_capacity(EVENTS);
        Ok(Self { poll, events, sources: Vec::new(), ready, waker })
    }

    /// What wakes this loop.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// What has descriptors watched by this loop.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn watcher(&self) -> io::Result<Watcher> {
        self.poll.registry().try_clone().map(|registry| Watcher { registry, base: 0 })
    }

    /// Calls `handler` whenever there is something new to read from `fd`, for as long as the loop
    /// lives.
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
    /// handlers of what is ready. What is watched and ready is in [`EventLoop::ready`].
    ///
    /// # Errors
    /// What the operating system says.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.ready.clear();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &self.events {
            let Number(number) = event.token();
            if event.token() == WAKER {
                continue;
            }
            if number & WATCHED != 0 {
                let over = event.is_error();
                self.ready.push(Ready {
                    key: number & !WATCHED,
                    readable: event.is_readable() || event.is_read_closed() || over,
                    writable: event.is_writable() || event.is_write_closed() || over,
                    hung_up: event.is_write_closed(),
                });
                continue;
            }
            let Some(source) = self.sources.get_mut(number) else { continue };
            let control = (source.handler)();
            if control == Control::Keep {
                continue;
            }
            let registry = self.poll.registry();
            let (fd, number) = (source.fd.as_fd().as_raw_fd(), event.token());
            registry.deregister(&mut SourceFd(&fd))?;
            match control {
                Control::Pause => source.paused = true,
                // What is there already is announced to who comes new.
                _ => registry.register(&mut SourceFd(&fd), number, Interest::READABLE)?,
            }
        }
        Ok(())
    }

    /// What was found ready in the last turn, of what is watched.
    pub fn ready(&self) -> &[Ready] {
        &self.ready
    }

    fn listen(&self, fd: &(dyn AsFd + Send + Sync), token: Token) -> io::Result<()> {
        let registry = self.poll.registry();
        registry.register(
            &mut SourceFd(&fd.as_fd().as_raw_fd()),
            Number(token.0),
            Interest::READABLE,
        )
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
    fn what_a_handler_leaves_is_announced_again_if_it_says_so_and_so_is_the_end_behind_it() {
        let mut lp = EventLoop::new().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        let (reader, bytes) = (Arc::new(reader), Arc::new(AtomicU32::new(0)));
        let (from, read) = (Arc::clone(&reader), Arc::clone(&bytes));
        let handler = move || match io::Read::read(&mut &*from, &mut [0; 1]) {
            Ok(1) => {
                read.fetch_add(1, Ordering::SeqCst);
                Control::More
            }
            _ => Control::Pause,
        };
        lp.add(reader, handler).unwrap();
        io::Write::write_all(&mut writer, b"abc").unwrap();
        drop(writer);
        for read in [1, 2, 3] {
            lp.turn(None).unwrap();
            assert_eq!(bytes.load(Ordering::SeqCst), read);
        }
        lp.turn(None).unwrap(); // its end
        lp.turn(SHORT).unwrap();
        assert_eq!(bytes.load(Ordering::SeqCst), 3);
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

    #[test]
    fn what_is_watched_for_reading_is_not_announced_when_it_is_written() {
        let mut lp = EventLoop::new().unwrap();
        let watcher = lp.watcher().unwrap();
        let ours = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        watcher.watch_reading(ours.as_fd(), 7).unwrap();
        let theirs = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        ours.send_to(b"out", theirs.local_addr().unwrap()).unwrap();
        lp.turn(SHORT).unwrap();
        assert_eq!(lp.ready(), []);
        theirs.send_to(b"in", ours.local_addr().unwrap()).unwrap();
        lp.turn(None).unwrap();
        assert_eq!(lp.ready(), [Ready { key: 7, readable: true, writable: false, hung_up: false }]);
    }

    #[test]
    fn what_is_watched_is_announced_by_its_number_once_for_each_change() {
        let mut lp = EventLoop::new().unwrap();
        let watcher = lp.watcher().unwrap();
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        watcher.watch(ours.as_fd(), 7).unwrap();
        lp.turn(None).unwrap();
        assert_eq!(lp.ready(), [Ready { key: 7, readable: false, writable: true, hung_up: false }]);
        lp.turn(SHORT).unwrap();
        assert_eq!(lp.ready(), []);
        io::Write::write_all(&mut theirs, b"x").unwrap();
        lp.turn(None).unwrap();
        assert!(matches!(lp.ready(), [Ready { key: 7, readable: true, .. }]));
        lp.turn(SHORT).unwrap();
        assert_eq!(lp.ready(), [], "what was left unread is not announced again");
        drop(theirs);
        lp.turn(None).unwrap();
        assert!(
            matches!(lp.ready(), [Ready { key: 7, readable: true, hung_up: true, .. }]),
            "its end"
        );
        watcher.forget(ours.as_fd());
        watcher.watch(ours.as_fd(), 8).unwrap();
        lp.turn(None).unwrap();
        assert!(matches!(lp.ready(), [Ready { key: 8, .. }]), "under another number");
    }
}
