//! The threads of a worker.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use super::worker::{Shared, Worker};

/// A worker's threads.
#[derive(Clone, Copy, Debug)]
pub struct Threads<'n> {
    /// What they are called, before a number.
    pub name: &'n str,
    /// How many: so many requests can be slow at once before the next one waits. Every start of a
    /// guest pays for each of them, with the jail on most for its list of system calls.
    pub count: usize,
}

type Handle = JoinHandle<Result<(), String>>;

/// A worker on its threads. Dropped, it finishes all the same.
pub struct WorkerThread {
    shared: Arc<Shared>,
    first: Option<Handle>,
}

impl std::fmt::Debug for WorkerThread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WorkerThread")
    }
}

impl WorkerThread {
    /// Gives `worker` its threads. Each calls what `begin` gives it first,
    /// and serves nothing if that is false. `failed` is called when one cannot go on, with one
    /// sentence.
    ///
    /// # Errors
    /// When the process can have no more threads.
    pub fn start<B: FnOnce() -> bool + Send + 'static>(
        worker: Worker,
        threads: Threads<'_>,
        mut begin: impl FnMut() -> B,
        failed: impl FnOnce(String) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::clone(&worker.shared);
        let failed = Arc::new(Mutex::new(Some(failed)));
        let mut body = || {
            let (shared, failed, begin) = (Arc::clone(&shared), Arc::clone(&failed), begin());
            move || {
                if begin()
                    && let Err(error) = shared.work()
                    && let Some(failed) =
                        failed.lock().unwrap_or_else(PoisonError::into_inner).take()
                {
                    failed(format!("wait for the guest's requests: {error}"));
                }
            }
        };
        let Threads { name, count } = threads;
        let spawn = |index: usize| Builder::new().name(format!("{name}{index}"));
        let mut others = Others { shared: Arc::clone(&shared), threads: Vec::new() };
        for index in 1..count {
            others.threads.push(spawn(index).spawn(body())?);
        }
        let body = body();
        let first = spawn(0).spawn(move || {
            body();
            others.join();
            others.shared.finish()
        })?;
        Ok(Self { shared, first: Some(first) })
    }

    /// Lets the worker finish, and waits for it.
    ///
    /// # Errors
    /// As [`Worker::finish`].
    pub fn finish(&mut self) -> Result<(), String> {
        self.shared.stop();
        match self.first.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(PANICKED.into()),
            None => Ok(()),
        }
    }
}

const PANICKED: &str = "a device's thread panicked: this is a bug in runner, please report it";

impl Drop for WorkerThread {
    fn drop(&mut self) {
        if let Err(why) = self.finish() {
            crate::warning!("{why}");
        }
    }
}

/// All threads but the first. Dropped, as when the next one cannot be started, they end.
struct Others {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Others {
    fn join(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                crate::warning!("{PANICKED}");
            }
        }
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.join();
    }
}
