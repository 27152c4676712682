//! The machine: RAM, boot data, devices, vCPU threads, from a plan to a stop.
//!
//! Three states, each a type: a [`Machine`] has a VM and a loaded guest; a [`Parked`] one has every
//! thread bound and waiting, its lines and doorbells registered, and needs nothing more from the
//! system; running it ends in a [`Reason`].

pub mod bus;
mod devices;
pub mod map;
pub mod stop;
mod vcpu;

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hv::{GuestMemory, GuestRam, Hypervisor, IrqChip, Kicker, State, Vcpu, VcpuSeed, Vm, VmConfig};

use crate::boot;
use crate::io::event_loop::EventLoop;
use crate::io::signals::Signals;
use crate::plan::Plan;
use bus::Bus;
use devices::Devices;
use stop::{Reason, Stop};

/// Why there is no running guest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The hypervisor refused.
    #[error(transparent)]
    Hypervisor(#[from] hv::Error),
    /// The guest could not be loaded.
    #[error(transparent)]
    Boot(#[from] boot::Error),
    /// The operating system refused something else.
    #[error("{what}: {error}; {remedy}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// What the operating system said.
        error: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
}

impl Error {
    fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let remedy = "raise the limits on open files and processes (ulimit -n, ulimit -u)";
        move |error| Error::System { what, error, remedy }
    }
}

/// A VM with a guest in its memory.
#[derive(Debug)]
pub struct Machine<H: Hypervisor> {
    vm: H::Vm,
    seeds: Vec<H::Seed>,
    memory: GuestMemory,
    state: State,
}

impl<H: Hypervisor> Machine<H> {
    /// Makes a VM and loads the guest.
    ///
    /// # Errors
    /// What the hypervisor refused, and what does not fit into the guest.
    pub fn new(hypervisor: &H, plan: &Plan) -> Result<Self, Error> {
        let memory = reserve(plan.memory)?;
        let config = VmConfig::new().memory(&memory).irqchip(IrqChip::InKernel).vcpus(plan.cpus);
        let (vm, seeds) = hypervisor.create(config)?;
        let state = plan.boot.load(&memory)?.state;
        Ok(Self { vm, seeds, memory, state })
    }

    /// Starts every thread, waits until each has its vCPU, and registers lines and doorbells. If
    /// one fails, all end.
    ///
    /// # Errors
    /// What the hypervisor or the system refused.
    pub fn park(self, plan: &Plan) -> Result<Parked<H>, Error> {
        let stop = Stop::default();
        let kickers: Vec<_> = self.seeds.iter().map(VcpuSeed::kicker).collect();
        let crew = Crew::bind::<H>(self.seeds, &self.state, &stop)?;
        self.vm.ready()?;
        for note in self.vm.notes() {
            crate::info!("note: {note}");
        }
        let mut main_loop = EventLoop::new().map_err(Error::system("make an event loop"))?;
        let devices = Devices::new(&self.vm, &self.memory, plan, &stop, &mut main_loop)?;
        let mut wakes: Vec<Box<dyn Fn() + Send + Sync>> = Vec::new();
        for kicker in kickers {
            wakes.push(Box::new(move || kicker.kick()));
        }
        let waker = main_loop.waker();
        wakes.push(Box::new(move || waker.wake()));
        stop.wake_on_stop(wakes);
        Ok(Parked { crew, devices, main_loop, stop, timeout: plan.timeout, vm: self.vm })
    }
}

/// Reserves the guest's RAM.
///
/// # Errors
/// When the host has no address space for it.
pub fn reserve(memory: u64) -> hv::Result<GuestMemory> {
    let mut pieces = Vec::new();
    for range in map::ram(memory) {
        pieces.push((range.start, GuestRam::new(range.end - range.start)?));
    }
    hv::mem::memory(pieces)
}

/// The vCPU threads.
#[derive(Debug)]
struct Crew {
    threads: Vec<JoinHandle<()>>,
    /// A thread begins when it is sent the bus, and ends when the sender is gone.
    start: Vec<mpsc::Sender<Arc<Bus>>>,
}

impl Crew {
    /// One thread for each seed; returns when all vCPUs are bound and the first has its registers.
    fn bind<H: Hypervisor>(seeds: Vec<H::Seed>, state: &State, stop: &Stop) -> Result<Self, Error> {
        let (done, results) = mpsc::channel();
        let mut crew = Self { threads: Vec::new(), start: Vec::new() };
        for (id, seed) in (0..).zip(seeds) {
            let (sender, begin) = mpsc::channel::<Arc<Bus>>();
            let state = (id == 0).then(|| state.clone());
            let (done, stop) = (done.clone(), stop.clone());
            let body = move || {
                let bound = seed.bind().and_then(|mut vcpu| {
                    state.map_or(Ok(()), |state| vcpu.set_state(&state)).map(|()| vcpu)
                });
                let mut vcpu = match bound {
                    Ok(vcpu) => {
                        let _ = done.send(Ok(()));
                        vcpu
                    }
                    Err(error) => {
                        let _ = done.send(Err(error));
                        return;
                    }
                };
                drop(done);
                if let Ok(bus) = begin.recv() {
                    vcpu::run(id, &mut vcpu, &bus, &stop);
                }
            };
            let thread = std::thread::Builder::new().name(format!("vcpu{id}")).spawn(body);
            crew.threads.push(thread.map_err(Error::system("start a vCPU thread"))?);
            crew.start.push(sender);
        }
        drop(done);
        for result in results {
            result?;
        }
        Ok(crew)
    }

    fn start(&mut self, bus: &Arc<Bus>) {
        for sender in self.start.drain(..) {
            // A thread that is gone has asked for the stop already.
            let _ = sender.send(Arc::clone(bus));
        }
    }
}

impl Drop for Crew {
    /// Nobody outlives the machine.
    fn drop(&mut self) {
        self.start.clear();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                crate::warning!(
                    "a vCPU thread panicked: this is a bug in runner, please report it"
                );
            }
        }
    }
}

/// A machine whose threads all wait for one word. The fields go in order: threads end, then
/// devices, then the VM.
#[derive(Debug)]
pub struct Parked<H: Hypervisor> {
    crew: Crew,
    devices: Devices<H>,
    main_loop: EventLoop,
    stop: Stop,
    timeout: Option<Duration>,
    #[expect(dead_code, reason = "dropped behind everything that belongs to it")]
    vm: H::Vm,
}

impl<H: Hypervisor> Parked<H> {
    /// Runs the guest to its end, or to a signal's or the timeout's. Disks are flushed.
    pub fn run(mut self, signals: &Signals) -> Reason {
        let started = Instant::now();
        self.crew.start(&self.devices.bus);
        while !self.stop.requested() {
            let left = self.timeout.map(|timeout| timeout.saturating_sub(started.elapsed()));
            if left == Some(Duration::ZERO) {
                self.stop.request(Reason::TimedOut);
                break;
            }
            if let Err(error) = self.main_loop.turn(left) {
                self.stop.request(Reason::Failed(format!("wait for events: {error}")));
            }
            if let Some(signal) = signals.first() {
                self.stop.request(Reason::Signal(signal));
            }
            self.devices.serve(&mut self.main_loop);
        }
        drop(self.crew);
        if let Err(why) = self.devices.finish() {
            crate::warning!("{why}");
        }
        match self.stop.reason() {
            Some(reason) => reason.clone(),
            None => Reason::Failed("the run ended without a reason".into()),
        }
    }
}
