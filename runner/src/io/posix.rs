//! What any POSIX system does this way, and so macOS, whose twin in Linux's file is made of Linux's own
//! calls. Its tests run on both.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{Errno, FdFlags, fcntl_setfd};

use crate::io::event::Event;
use crate::io::lock::Mode;

/// The descriptors of an event: to read, and to write where that is another. A pipe.
pub(in crate::io) fn event() -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    let (read, write) = rustix::pipe::pipe()?;
    for end in [&read, &write] {
        fcntl_setfd(end, FdFlags::CLOEXEC)?;
        fcntl_setfl(end, OFlags::NONBLOCK)?;
    }
    Ok((read, Some(write)))
}

/// Locks `file` with flock(2). Returns whether nobody was in the way.
pub(in crate::io) fn lock(file: &File, mode: Mode) -> io::Result<bool> {
    let result = match mode {
        Mode::Read => file.try_lock_shared(),
        Mode::Write => file.try_lock(),
    };
    match result {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Gives the lock of `file` back.
pub(in crate::io) fn unlock(file: &File) {
    // Cannot fail for a descriptor that is open.
    let _ = file.unlock();
}

/// What several threads wait for (poll(2)): a signal may wake all of them, and one of them clears it.
#[derive(Debug)]
pub(in crate::io) struct Set;

impl Set {
    #[expect(clippy::unnecessary_wraps, reason = "Linux has a descriptor for it")]
    pub(in crate::io) fn new() -> io::Result<Self> {
        Ok(Self)
    }

    #[expect(clippy::unnecessary_wraps, reason = "as above")]
    pub(in crate::io) fn add(&self, _event: &Event, _number: usize) -> io::Result<()> {
        Ok(())
    }

    pub(in crate::io) fn wait(
        &self,
        events: &[Arc<Event>],
        timeout: Option<Duration>,
        mut woken: impl FnMut(usize),
    ) -> io::Result<()> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut ready: Vec<_> =
            events.iter().map(|event| PollFd::new(event, PollFlags::IN)).collect();
        match poll(&mut ready, timeout.as_ref()) {
            Err(Errno::INTR) => return Ok(()),
            result => result?,
        };
        let ready: Vec<bool> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
        for (number, (event, ready)) in events.iter().zip(ready).enumerate() {
            if ready && event.clear() {
                woken(number);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const NOW: Option<Duration> = Some(Duration::ZERO);

    fn woken(events: &[Arc<Event>], timeout: Option<Duration>) -> Vec<usize> {
        let mut numbers = Vec::new();
        let set = Set::new().unwrap();
        for (number, event) in events.iter().enumerate() {
            set.add(event, number).unwrap();
        }
        set.wait(events, timeout, |number| numbers.push(number)).unwrap();
        numbers
    }

    fn events() -> [Arc<Event>; 2] {
        [(); 2].map(|()| Arc::new(Event::of(event().unwrap())))
    }

    #[test]
    fn a_pipe_is_an_event_whose_signals_merge() {
        let events = events();
        assert!(woken(&events, NOW).is_empty());
        for _ in 0..100_000 {
            events[1].signal(); // more than a pipe holds
        }
        assert_eq!(woken(&events, None), [1]);
        while events[1].clear() {}
        assert!(woken(&events, NOW).is_empty());
        events[0].signal();
        events[1].signal();
        assert_eq!(woken(&events, None), [0, 1]);
    }

    #[test]
    fn a_signal_wakes_one_of_several_threads() {
        let events = Arc::new(events());
        let (seen, sights) = mpsc::channel();
        for _ in 0..3 {
            let (events, seen) = (Arc::clone(&events), seen.clone());
            // They end when nobody listens any more, and with this process at the latest.
            std::thread::spawn(move || {
                while woken(&*events, None).into_iter().all(|number| seen.send(number).is_ok()) {}
            });
        }
        for round in 0..1000 {
            events[round % 2].signal();
            assert_eq!(sights.recv(), Ok(round % 2));
        }
    }

    #[test]
    fn one_writes_or_several_read() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let [one, other] = [(); 2].map(|()| File::open(path.path()).unwrap());
        assert!(lock(&one, Mode::Read).unwrap() && lock(&other, Mode::Read).unwrap());
        assert!(!lock(&one, Mode::Write).unwrap());
        unlock(&other);
        assert!(lock(&one, Mode::Write).unwrap() && !lock(&other, Mode::Read).unwrap());
        unlock(&one);
        assert!(lock(&other, Mode::Read).unwrap());
    }
}
