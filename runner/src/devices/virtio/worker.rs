//! The half of devices that serves requests, on a thread of its own with an event loop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, io};

use hv::GuestMemory;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_INDIRECT_DESC;
use virtio_queue::Queue;

use super::chain::{Broken, Chain};
use super::ring::Ring;
use super::transport::Transport;
use crate::io::event_loop::{Control, EventLoop, Waker};

/// Bytes of requests that are still served for a device when the run is over. A guest that ends
/// without waiting for its last writes finds that much of them on its disk, and none can keep a run
/// from ending. What is left out is said.
const LAST_BYTES: u64 = 256 << 20;

/// What a kind of device does with its requests.
pub trait Backend: fmt::Debug + Send {
    /// The driver has finished, and these are its features.
    fn activate(&mut self, features: u64);

    /// Carries out one request. Returns how many bytes were written into it.
    ///
    /// # Errors
    /// [`Broken`] when the request cannot even be refused: the device stops until it is reset.
    fn serve(&mut self, chain: Chain<'_>) -> Result<u32, Broken>;

    /// The guest is gone: brings everything it wrote to where it belongs.
    ///
    /// # Errors
    /// One sentence on what was lost.
    fn finish(&mut self) -> Result<(), String>;
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
    waker: Waker,
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Commands({})", self.device)
    }
}

impl Commands {
    /// Sends a command. Never waits.
    pub fn send(&self, command: Command) {
        // A worker that is gone has finished the run.
        let _ = self.sender.send((self.device, command));
        self.waker.wake();
    }
}

/// One device on the worker's side.
#[derive(Debug)]
struct Device {
    transport: Arc<Transport>,
    backend: Box<dyn Backend>,
    /// A doorbell rang.
    rung: Arc<AtomicBool>,
    active: Option<Active>,
}

#[derive(Debug)]
struct Active {
    generation: u64,
    rings: Vec<(usize, Ring)>,
}

/// Serves devices, all on the thread that calls [`Worker::turn`].
pub struct Worker {
    events: EventLoop,
    memory: GuestMemory,
    devices: Vec<Device>,
    sender: mpsc::Sender<(usize, Command)>,
    commands: mpsc::Receiver<(usize, Command)>,
    /// The run is over.
    stop: Arc<AtomicBool>,
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("devices", &self.devices).finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker without devices.
    ///
    /// # Errors
    /// When the process has no file descriptors left.
    pub fn new(memory: GuestMemory) -> io::Result<Self> {
        let (sender, commands) = mpsc::channel();
        let (events, stop) = (EventLoop::new()?, Arc::new(AtomicBool::new(false)));
        Ok(Self { events, memory, devices: Vec::new(), sender, commands, stop })
    }

    /// The way to this worker for the device that is added next.
    pub fn commands(&self) -> Commands {
        let (device, sender) = (self.devices.len(), self.sender.clone());
        Commands { device, sender, waker: self.events.waker() }
    }

    /// Adds a device, whose transport has [`Worker::commands`].
    ///
    /// # Errors
    /// When a doorbell cannot be waited for.
    pub fn add(&mut self, transport: Arc<Transport>, backend: Box<dyn Backend>) -> io::Result<()> {
        let rung = Arc::new(AtomicBool::new(false));
        for doorbell in transport.doorbells() {
            let (event, flag) = (Arc::clone(doorbell), Arc::clone(&rung));
            self.events.add(doorbell.clone(), move || {
                event.clear();
                flag.store(true, Ordering::Relaxed);
                Control::Keep
            })?;
        }
        self.devices.push(Device { transport, backend, rung, active: None });
        Ok(())
    }

    /// Waits for something to do, at most as long as `timeout`, and does it: commands first, then
    /// one pass over the queues whose doorbells rang.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.events.turn(timeout)?;
        self.obey();
        for device in &mut self.devices {
            if device.rung.swap(false, Ordering::Relaxed) {
                device.serve(&self.memory, &self.stop);
            }
        }
        Ok(())
    }

    /// Carries out the commands that have come.
    fn obey(&mut self) {
        while let Ok((device, command)) = self.commands.try_recv() {
            if let Some(device) = self.devices.get_mut(device) {
                device.obey(command);
            }
        }
    }

    /// The guest is gone: serves what it left, up to a limit, and finishes every backend.
    ///
    /// # Errors
    /// One sentence for each that failed.
    pub fn finish(&mut self) -> Result<(), String> {
        self.stop.store(true, Ordering::Release);
        // A guest may activate a device, ask for a write and end before this thread has run at all.
        self.obey();
        let mut failures = Vec::new();
        for device in &mut self.devices {
            device.serve(&self.memory, &self.stop);
            failures.extend(device.backend.finish().err());
            crate::info!("device: {}", device.describe());
        }
        match failures.is_empty() {
            true => Ok(()),
            false => Err(failures.join("; ")),
        }
    }
}

impl Device {
    fn obey(&mut self, command: Command) {
        match command {
            Command::Activate(Activation { generation, features, queues }) => {
                self.backend.activate(features);
                let indirect = features & (1 << VIRTIO_RING_F_INDIRECT_DESC) != 0;
                let ring = |(index, queue)| (index, Ring::new(queue, indirect));
                let rings = queues.into_iter().map(ring).collect();
                self.active = Some(Active { generation, rings });
                // What was made available before is not announced again.
                self.rung.store(true, Ordering::Relaxed);
            }
            Command::Reset { generation } => {
                self.active = None;
                self.transport.reset_done(generation);
            }
        }
    }

    /// One pass over the queues. What comes meanwhile waits for the next turn.
    fn serve(&mut self, memory: &GuestMemory, stop: &AtomicBool) {
        let mut last = LAST_BYTES;
        let Some(Active { generation, rings }) = &mut self.active else { return };
        let generation = *generation;
        let (transport, backend) = (&self.transport, &mut self.backend);
        let mut result = Ok(());
        for (index, ring) in rings {
            let drained = ring.drain(memory, |chain| {
                if stop.load(Ordering::Acquire) {
                    match last.checked_sub(chain.len()) {
                        Some(left) => last = left,
                        None => {
                            crate::warning!(
                                "{backend:?}: the guest left more than {} MiB of requests, and the \
                                 rest is dropped",
                                LAST_BYTES >> 20
                            );
                            return Ok(None);
                        }
                    }
                }
                match transport.wants(generation) {
                    true => backend.serve(chain).map(Some),
                    false => Ok(None),
                }
            });
            match drained {
                Ok(drained) => {
                    if drained.interrupt {
                        transport.used(generation);
                    }
                    if drained.more
                        && let Some(doorbell) = transport.doorbells().get(*index)
                    {
                        doorbell.signal();
                    }
                }
                Err(fault) => result = Err(fault),
            }
        }
        if let Err(fault) = result {
            self.active = None;
            transport.fault(generation, fault);
        }
    }

    /// Its state, for a person.
    fn describe(&self) -> String {
        let mut text = format!("{:?}: {}", self.backend, self.transport.describe());
        for (index, ring) in self.active.iter().flat_map(|active| &active.rings) {
            text.push_str(&format!(", queue {index}: {ring:?}"));
        }
        text
    }
}

/// A worker on its thread. Dropped, it finishes all the same.
#[derive(Debug)]
pub struct WorkerThread {
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl WorkerThread {
    /// Gives `worker` a thread called `name`, which does nothing but `finish` if `begin`, called there
    /// first, is false. `failed` is called when the thread cannot go on, with
    /// one sentence.
    ///
    /// # Errors
    /// When the process can have no more threads.
    pub fn start(
        mut worker: Worker,
        name: &str,
        begin: impl FnOnce() -> bool + Send + 'static,
        failed: impl FnOnce(String) + Send + 'static,
    ) -> io::Result<Self> {
        let (waker, stop) = (worker.events.waker(), Arc::clone(&worker.stop));
        let body = move || {
            let begun = begin();
            while begun && !worker.stop.load(Ordering::Acquire) {
                if let Err(error) = worker.turn(None) {
                    failed(format!("wait for the guest's disk requests: {error}"));
                    break;
                }
            }
            worker.finish()
        };
        let thread = std::thread::Builder::new().name(name.into()).spawn(body)?;
        Ok(Self { stop, waker, thread: Some(thread) })
    }

    /// Lets the worker finish, and waits for it.
    ///
    /// # Errors
    /// As [`Worker::finish`].
    pub fn finish(&mut self) -> Result<(), String> {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => {
                Err("a device's thread panicked: this is a bug in runner, please report it".into())
            }
            None => Ok(()),
        }
    }
}

impl Drop for WorkerThread {
    fn drop(&mut self) {
        if let Err(why) = self.finish() {
            crate::warning!("{why}");
        }
    }
}
