//! The half of devices that serves requests, on as many threads as there are.
//!
//! A thread without a request waits for doorbells and commands, each of which wakes one thread.
//! Whoever finds requests carries them out one by one, and wakes another thread for the rest before it
//! does anything that surely takes long. What mostly takes no time, a write into the page cache, and
//! sometimes much, is watched: one other thread looks in every millisecond whether there is progress,
//! tells the guest of it, and takes what waits when there is none. So a slow request holds up nobody for
//! long, a fast one changes no thread, and no more requests are begun than there are threads: the others
//! stay in their rings, which bounds what is in flight without a table or a buffer.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;
use std::{fmt, io};

use hv::GuestMemory;
use virtio_queue::Queue;

use super::chain::{Broken, Chain};
use super::desk::{Desk, Device, Job, Watch};
use super::state::{Own, VirtioState};
pub use super::threads::{Threads, WorkerThread};
use super::transport::Transport;
use crate::devices::state::{Refused, Undescribed};
use crate::io::event::Event;
use crate::io::waiter::Waiter;

/// Bytes of work ([`Backend::work`]) that are still done for a device when the run is over. A guest
/// that ends without waiting for its last writes finds that much of them on its disk, and none can
/// keep a run from ending. What is left out is said.
const LAST_BYTES: u64 = 256 << 20;

/// How often somebody looks whether those that carry out requests while others wait come on with them.
const WATCH: Duration = Duration::from_millis(1);

/// What a kind of device does with its requests. Several threads may call it at once.
pub trait Backend: fmt::Debug + Send + Sync {
    /// The driver has finished, and these are its features. No request is being served.
    fn activate(&self, features: u64);

    /// Carries out one request. Returns how many bytes were written into it. Calls `slow` before
    /// it does anything that mostly takes long; once is enough.
    ///
    /// # Errors
    /// [`Broken`] when the request cannot even be refused: the device stops until it is reset.
    fn serve(&self, chain: Chain<'_>, slow: &mut dyn FnMut()) -> Result<u32, Broken>;

    /// How much work one request is, in bytes that may have to be moved for it; at least its own.
    fn work(&self, chain: &Chain<'_>) -> u64 {
        chain.len()
    }

    /// What else it goes on with when another is made what it was.
    ///
    /// # Errors
    /// Why none can be.
    fn describe(&self) -> Result<Own, &'static str> {
        Ok(Own::Nothing)
    }

    /// Goes on with what another one described.
    ///
    /// # Errors
    /// [`Refused`].
    fn restore(&self, own: &Own) -> Result<(), Refused> {
        own.nothing()
    }

    /// The guest is gone, no request is being served: brings everything it wrote to where it
    /// belongs.
    ///
    /// # Errors
    /// One sentence on what was lost.
    fn finish(&self) -> Result<(), String>;
}

/// Queues on their way to the worker.
#[derive(Debug)]
pub struct Activation {
    /// Which activation of the device this is.
    pub generation: u64,
    /// What the driver accepted.
    pub features: u64,
    /// Each queue that is ready, by its number.
    pub queues: Vec<(usize, Queue)>,
}

/// What a transport wants of the worker.
#[derive(Debug)]
pub enum Command {
    /// Take these queues.
    Activate(Activation),
    /// Let go of the queues of that activation, and say so.
    Reset {
        /// Which.
        generation: u64,
    },
}

/// A transport's way to the worker. At most two commands of a device are on the way: what comes
/// after a reset waits for its end.
pub struct Commands {
    device: usize,
    sender: mpsc::Sender<(usize, Command)>,
    wake: Arc<Event>,
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Commands({})", self.device)
    }
}

impl Commands {
    /// The way to a worker with one device, and its end there. `wake` is signalled for each command.
    pub fn channel(wake: Arc<Event>) -> (Self, mpsc::Receiver<(usize, Command)>) {
        let (sender, commands) = mpsc::channel();
        (Self { device: 0, sender, wake }, commands)
    }

    /// Sends a command. Never waits.
    pub fn send(&self, command: Command) {
        // A worker that is gone has finished the run.
        let _ = self.sender.send((self.device, command));
        self.wake.signal();
    }
}

/// Serves devices, on the thread that calls [`Worker::turn`] or on those of a [`WorkerThread`].
pub struct Worker {
    pub(super) shared: Arc<Shared>,
    sender: mpsc::Sender<(usize, Command)>,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("desk", &*self.shared.desk()).finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker without devices.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn new(memory: GuestMemory) -> io::Result<Self> {
        let (sender, commands) = mpsc::channel();
        let (waiter, wake) = (Waiter::new()?, Arc::new(Event::new()?));
        waiter.add(Arc::clone(&wake))?;
        let desk = Mutex::new(Desk::new(commands));
        let stop = AtomicBool::new(false);
        Ok(Self { shared: Arc::new(Shared { waiter, wake, memory, desk, stop }), sender })
    }

    /// The way to this worker for the device that is added next.
    pub fn commands(&self) -> Commands {
        let device = self.shared.desk().devices();
        Commands { device, sender: self.sender.clone(), wake: Arc::clone(&self.shared.wake) }
    }

    /// Adds a device, whose transport has [`Worker::commands`].
    ///
    /// # Errors
    /// When a doorbell cannot be waited for.
    pub fn add(&mut self, transport: Arc<Transport>, backend: Box<dyn Backend>) -> io::Result<()> {
        let mut doorbells = Vec::new();
        for doorbell in transport.doorbells() {
            doorbells.push(self.shared.waiter.add(Arc::clone(doorbell))?);
        }
        self.shared.desk().add(Device::new(transport, backend.into(), doorbells));
        Ok(())
    }

    /// What a device is, the one that was added as number `device`, while none of its requests is served.
    ///
    /// # Errors
    /// [`Undescribed`].
    pub fn describe(&self, device: usize) -> Result<VirtioState, Undescribed> {
        self.shared.desk().describe(device)
    }

    /// Makes a device that nobody has used yet what `saved` was.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn restore(&mut self, device: usize, saved: &VirtioState) -> Result<(), Refused> {
        self.shared.desk().restore(device, saved)
    }

    /// Waits for something to do, at most as long as `timeout`, and does it: commands first, then
    /// one pass over the queues whose doorbells rang.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let shared = &self.shared;
        drop(shared.watch(shared.desk(), timeout)?);
        loop {
            // Not while there is a job: its end takes the lock.
            let job = shared.desk().take(&shared.memory);
            match job {
                Some(job) => shared.carry_out(&job),
                None => break,
            }
        }
        shared.desk().tell(&shared.memory);
        Ok(())
    }

    /// The guest is gone: serves what it left, up to a limit, and finishes every backend.
    ///
    /// # Errors
    /// One sentence for each that failed.
    pub fn finish(&mut self) -> Result<(), String> {
        self.shared.finish()
    }
}

/// What the threads of a worker share.
pub(super) struct Shared {
    waiter: Waiter,
    /// Wakes one thread: there is a command, or more to do than one can.
    wake: Arc<Event>,
    memory: GuestMemory,
    desk: Mutex<Desk>,
    /// The run is over.
    stop: AtomicBool,
}

impl Shared {
    fn desk(&self) -> AtDesk<'_> {
        let desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        AtDesk { desk, notes: Notes(Vec::new()) }
    }

    /// A thread's work, until the run is over.
    pub(super) fn work(&self) -> io::Result<()> {
        let mut desk = self.desk();
        while !self.stop.load(Ordering::Acquire) {
            if desk.watch == Watch::Wanted {
                desk = self.keep_watch(desk)?;
            } else if let Some(job) = desk.take(&self.memory) {
                if desk.watch == Watch::None && desk.idle > 0 && desk.is_waiting() {
                    desk.watch = Watch::Wanted;
                    self.wake.signal();
                }
                drop(desk);
                self.carry_out(&job);
                desk = self.desk();
            } else {
                desk.tell(&self.memory);
                desk = self.watch(desk, None)?;
            }
        }
        drop(desk);
        // The next one.
        self.wake.signal();
        Ok(())
    }

    /// Waits for events, without the lock, and notes what they brought. Does not wait when there is
    /// something to note already.
    fn watch<'a>(&'a self, desk: AtDesk<'a>, timeout: Option<Duration>) -> io::Result<AtDesk<'a>> {
        self.wait(desk, timeout).map(|(_, desk)| desk)
    }

    /// The same; whether there was an event.
    fn wait<'a>(
        &'a self,
        mut desk: AtDesk<'a>,
        timeout: Option<Duration>,
    ) -> io::Result<(bool, AtDesk<'a>)> {
        let timeout = if desk.is_rung() { Some(Duration::ZERO) } else { timeout };
        desk.idle = desk.idle.saturating_add(1);
        drop(desk);
        let mut rung = Vec::new();
        let result = self.waiter.wait(timeout, |number| rung.push(number));
        let mut desk = self.desk();
        desk.idle = desk.idle.saturating_sub(1);
        desk.collect(&rung, &self.memory);
        result.map(|()| (!rung.is_empty(), desk))
    }

    /// Looks in from time to time, until an event wakes this thread as any other, or nobody has come to
    /// another request: there is none, or this thread takes it.
    fn keep_watch<'a>(&'a self, mut desk: AtDesk<'a>) -> io::Result<AtDesk<'a>> {
        desk.watch = Watch::Kept;
        loop {
            let begun = desk.begun;
            let (woken, now) = self.wait(desk, Some(WATCH))?;
            desk = now;
            desk.tell(&self.memory);
            if woken || desk.begun == begun || self.stop.load(Ordering::Acquire) {
                desk.watch = Watch::None;
                return Ok(desk);
            }
        }
    }

    fn carry_out(&self, job: &Job) {
        let chain = Chain::read(&self.memory, job.table, job.head);
        let done = chain.and_then(|chain| job.backend.serve(chain, &mut || self.stand_in()));
        self.desk().done(&self.memory, job, done);
    }

    /// The calling thread will be busy: the guest hears of what was done up to now, and another
    /// thread takes what is left.
    fn stand_in(&self) {
        let mut desk = self.desk();
        desk.tell(&self.memory);
        if desk.idle > 0 && (desk.is_waiting() || desk.is_rung()) {
            self.wake.signal();
        }
    }

    /// Lets every thread end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake.signal();
    }

    /// See [`Worker::finish`]. The calling thread is the only one.
    pub(super) fn finish(&self) -> Result<(), String> {
        self.stop.store(true, Ordering::Release);
        // A guest may activate a device, ask for a write and end before any thread has run at all.
        self.desk().collect_all(&self.memory);
        let devices = self.desk().devices();
        let finish = |index| {
            self.finish_requests(index);
            let Some((backend, state)) = self.desk().part_with(index) else { return Ok(()) };
            let end = backend.finish();
            crate::info!("device: {state}");
            end
        };
        crate::devices::together((0..devices).map(finish))
    }

    /// Serves what is left for one device.
    fn finish_requests(&self, device: usize) {
        let mut left = LAST_BYTES;
        loop {
            let job = self.desk().take_of(device, &self.memory);
            let Some(job) = job else { return };
            let chain = Chain::read(&self.memory, job.table, job.head);
            let work = chain.as_ref().map_or(0, |chain| job.backend.work(chain));
            let Some(rest) = left.checked_sub(work) else {
                crate::warning!(
                    "{:?}: the guest left more than {} MiB of requests, and the rest is dropped",
                    job.backend,
                    LAST_BYTES >> 20
                );
                return;
            };
            left = rest;
            let done = chain.and_then(|chain| job.backend.serve(chain, &mut || ()));
            self.desk().done(&self.memory, &job, done);
        }
    }
}

/// The lock on the desk. Behind it, and without it, what came up is said.
struct AtDesk<'a> {
    // Fields are dropped in this order.
    desk: MutexGuard<'a, Desk>,
    notes: Notes,
}

impl Deref for AtDesk<'_> {
    type Target = Desk;
    fn deref(&self) -> &Desk {
        &self.desk
    }
}

impl DerefMut for AtDesk<'_> {
    fn deref_mut(&mut self) -> &mut Desk {
        &mut self.desk
    }
}

impl Drop for AtDesk<'_> {
    fn drop(&mut self) {
        self.notes.0 = self.desk.notes();
    }
}

/// Lines for stderr, said when they are dropped.
struct Notes(Vec<String>);

impl Drop for Notes {
    fn drop(&mut self) {
        for note in &self.0 {
            crate::warning!("{note}");
        }
    }
}
