//! The machine: RAM, boot data, devices, vCPU threads, from a plan to a stop.
//!
//! Four states, each a type: a [`Machine`] has a VM and a loaded guest; a [`Parked`] one has every
//! thread bound and waiting, its lines and doorbells registered, and needs nothing more from the
//! system; a [`Locked`] one has every thread in the jail; running it ends in a [`Reason`].

pub mod bus;
mod console;
mod devices;
mod disks;
mod dump;
mod fixed;
mod hvt;
mod input;
mod lines;
pub(crate) mod lockdown;
pub mod map;
mod network;
mod served;
mod shares;
pub mod slot;
pub mod stop;
mod threads;
mod uhyve;
mod vcpu;
mod virtio;
mod watch;

use std::ops::Range;
use std::sync::Arc;

use hv::{
    Arch, GuestMemory, GuestRam, Hypervisor, IrqChip, Kicker, Monitors, State, Vcpu, VcpuSeed, Vm,
    VmConfig,
};

use crate::boot::{self, Platform};
use crate::devices::semihosting::SYS_EXIT;
use crate::family::Family;
use crate::io::event::Event;
use crate::io::event_loop::EventLoop;
use crate::io::signals::Signals;
use crate::jail::{self, Jail, Role};
use crate::plan::Plan;
use devices::Devices;
use lockdown::Lockdown;
use map::Board;
use stop::{Reason, Stop};
use threads::{Crew, Duty, IoThread};
use watch::Watch;

/// Why there is no running guest.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The hypervisor refused.
    #[error(transparent)]
    Hypervisor(#[from] hv::Error),
    /// The guest could not be loaded.
    #[error(transparent)]
    Boot(#[from] boot::Error),
    /// There is no jail.
    #[error(transparent)]
    Jail(#[from] jail::Error),
    /// A thread did not say what became of it.
    #[error("a thread ended before the guest began: this is a bug in runner, please report it")]
    Thread,
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
        let board = plan.boot.board;
        runs_on(hypervisor, board)?;
        let (memory, config) = match &plan.hvt {
            Some(_) => {
                let parts = hvt::Memory::new(&plan.boot, plan.memory, hypervisor.caps());
                let memory = reserve_at(&parts.ram)?;
                let config = parts.config(&memory)?;
                (memory, config)
            }
            None => {
                let memory = reserve(board, plan.memory)?;
                let config = VmConfig::new().memory(&memory).irqchip(IrqChip::InKernel);
                let config = with_own_hardware(config, hypervisor, plan.boot.family)?;
                (memory, with_calls(config.vcpus(plan.cpus), hypervisor, board))
            }
        };
        let (vm, seeds) = hypervisor.create(config)?;
        let state = plan.boot.load(&memory, Platform::Hypervisor)?.state;
        Ok(Self { vm, seeds, memory, state })
    }

    /// Binds every vCPU to its thread, the first one to this, and registers lines and doorbells. If
    /// one fails, all end. The process is in `jail`, and so are the threads, as soon as they have all
    /// they need.
    ///
    /// # Errors
    /// What the hypervisor or the system refused.
    pub fn park(mut self, plan: &Plan, signals: Signals, jail: Jail) -> Result<Parked<H>, Error> {
        let (stop, watch) = (Stop::default(), Arc::new(Watch::default()));
        let mut lockdown = Lockdown::new(jail, plan.main_role());
        let mut event_loop = EventLoop::new().map_err(Error::system("make an event loop"))?;
        signals.wake(&mut event_loop).map_err(Error::system("wait for signals"))?;
        let role = Role::of_loop(plan.has_network(), plan.vsock().is_some());
        let io = IoThread::spawn(lockdown.place(role))?;
        let stopped = Arc::new(Event::new().map_err(Error::system("make an event"))?);
        let mut wakes = wakes(&self.seeds, &event_loop, &stopped);
        watch.kick_with(self.seeds.iter().map(kick).collect());
        let mut seeds = self.seeds.drain(..);
        let first = seeds.next();
        let state = |id| plan.boot.state_of(&self.state, id);
        let crew = Crew::spawn(seeds, state, &stop, &watch, &mut lockdown)?;
        let vcpu = match first {
            Some(seed) => seed.bind()?,
            None => return Err(no_vcpu().into()),
        };
        let vcpu = with_state(vcpu, &self.state)?;
        plan.boot.complete(&self.memory, vcpu.counter_hz(), fixed::wall_clock())?;
        crew.await_bound()?;
        self.vm.ready()?;
        let noted = note(&self.vm, 0);
        let devices = Devices::new(
            &self.vm,
            &self.memory,
            plan,
            &stop,
            &stopped,
            &mut event_loop,
            &mut lockdown,
        )?;
        wakes.extend(devices.wake());
        stop.wake_on_stop(wakes);
        let timeout = plan.timeout;
        let duty = Duty { event_loop, signals, timeout, stop: stop.clone(), watch: watch.clone() };
        let (vm, memory) = (self.vm, self.memory);
        let locked = Locked { vcpu, crew, io, duty, devices, stop, watch, vm, noted, memory };
        Ok(Parked { locked, lockdown })
    }
}

/// What wakes everybody who waits: a kick for each vCPU, `stopped` for those that wait in a device,
/// and the I/O loop.
fn wakes<S: VcpuSeed>(
    seeds: &[S],
    event_loop: &EventLoop,
    stopped: &Arc<Event>,
) -> Vec<stop::Wake> {
    let mut wakes: Vec<stop::Wake> = seeds.iter().map(kick).collect();
    let stopped = Arc::clone(stopped);
    wakes.push(Box::new(move || stopped.signal()));
    let waker = event_loop.waker();
    wakes.push(Box::new(move || waker.wake()));
    wakes
}

fn kick<S: VcpuSeed>(seed: &S) -> stop::Wake {
    let kicker = seed.kicker();
    Box::new(move || kicker.kick())
}

fn with_state<V: Vcpu>(mut vcpu: V, state: &State) -> hv::Result<V> {
    vcpu.set_state(state).map(|()| vcpu)
}

/// Prints what the VM does without, but for the first `printed`; how many there are. A guest may bring
/// more while it runs.
fn note(vm: &impl Vm, printed: usize) -> usize {
    let notes = vm.notes();
    for note in notes.iter().skip(printed) {
        crate::info!("note: {note}");
    }
    notes.len()
}

fn no_vcpu() -> hv::Error {
    hv::Error::new("create", hv::Kind::Host, "the hypervisor made no vCPU")
}

/// Adds what only guests of some kinds have.
///
/// # Errors
/// For a guest that cannot do without what the host does not have.
fn with_own_hardware<H: Hypervisor>(
    mut config: VmConfig,
    hypervisor: &H,
    family: &Family,
) -> hv::Result<VmConfig> {
    if family.interval_timer {
        config = config.interval_timer();
    }
    if family.monitors {
        if hypervisor.caps().monitors == Monitors::Absent {
            let why = "performance monitors (PMUv3), which Hermit's kernel sets up behind its loader: this host \
                       gives guests none";
            let error = hv::Error::new("create", hv::Kind::Unsupported, why);
            return Err(error.remedy("give runner the unikernel itself, without its loader"));
        }
        config = config.monitors();
    }
    Ok(config)
}

/// Has the hypercalls of `board`'s guests come out, where that can be.
fn with_calls<H: Hypervisor>(config: VmConfig, hypervisor: &H, board: &Board) -> VmConfig {
    match board.arch {
        Arch::X86_64 => config,
        Arch::Aarch64 if hypervisor.caps().hypercalls => config.hypercall(SYS_EXIT),
        Arch::Aarch64 => {
            crate::info!(
                "note: this host shows no hypercalls (Linux has since 6.4): no guest ends with a status"
            );
            config
        }
    }
}

/// Whether `hypervisor` runs the guests that `board` is for.
fn runs_on<H: Hypervisor>(hypervisor: &H, board: &Board) -> hv::Result<()> {
    let (has, wanted) = (hypervisor.caps().arch, board.arch);
    if has == wanted {
        return Ok(());
    }
    let why = format!("an image for {wanted}, and guests here are {has}");
    let error = hv::Error::new("create", hv::Kind::Unsupported, why);
    Err(error.remedy(format!("build the image for {has}")))
}

/// Reserves the guest's RAM, as `board` has it.
///
/// # Errors
/// When the host has no address space for it.
pub fn reserve(board: &Board, memory: u64) -> hv::Result<GuestMemory> {
    reserve_at(&board.ram(memory))
}

fn reserve_at(ram: &[Range<u64>]) -> hv::Result<GuestMemory> {
    let mut pieces = Vec::new();
    for range in ram {
        pieces.push((range.start, GuestRam::new(range.end - range.start)?));
    }
    hv::mem::memory(pieces)
}

/// A machine whose threads all wait for one word.
pub struct Parked<H: Hypervisor> {
    locked: Locked<H>,
    lockdown: Lockdown,
}

impl<H: Hypervisor> std::fmt::Debug for Parked<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parked").field("lockdown", &self.lockdown).finish_non_exhaustive()
    }
}

impl<H: Hypervisor> Parked<H> {
    /// Waits until every thread is in the jail, and takes this one there. From here on nothing opens
    /// a path, starts a thread or installs a handler.
    ///
    /// # Errors
    /// When the system refuses what it said it has.
    pub fn lock(self) -> Result<Locked<H>, Error> {
        self.lockdown.complete()?;
        Ok(self.locked)
    }
}

/// A parked machine in the jail. The fields go in order: vCPUs end, then devices, then the VM.
#[derive(Debug)]
pub struct Locked<H: Hypervisor> {
    vcpu: H::Vcpu,
    crew: Crew<H>,
    io: IoThread,
    duty: Duty,
    devices: Devices<H>,
    stop: Stop,
    watch: Arc<Watch>,
    vm: H::Vm,
    /// How many of the VM's notes were printed.
    noted: usize,
    memory: GuestMemory,
}

impl<H: Hypervisor> Locked<H> {
    /// Runs the guest to its end, or to a signal's or the timeout's: the first vCPU on this thread,
    /// which saves the start a change of threads. Disks are flushed. This vCPU, lines, doorbells and the
    /// VM stay until the process ends, which is next: one by one they would have to be taken back from
    /// KVM. Where `plan` has a file for it, a guest that aborts leaves its core there.
    pub fn run(mut self, plan: &Plan) -> Reason {
        self.io.begin(self.duty, self.devices.take_traffic());
        self.crew.begin(&self.devices.bus);
        vcpu::run(0, &mut self.vcpu, &self.devices.bus, &self.stop, &self.watch);
        drop(self.crew);
        drop(self.io);
        let reason = self.stop.reason().cloned();
        let reason = reason.unwrap_or(Reason::Failed("the run ended without a reason".into()));
        if let Some(dump) = plan.dump() {
            let arch = plan.boot.board.arch;
            dump::take(dump, &reason, arch, &mut self.vcpu, &self.memory);
        }
        let flushed = self.devices.finish();
        note(&self.vm, self.noted);
        std::mem::forget((self.vcpu, self.devices, self.vm, self.memory));
        match flushed {
            Ok(()) => reason,
            // A guest that ended well must not be believed when its disk did not.
            Err(why) if reason.is_success() => Reason::Failed(why),
            Err(why) => {
                crate::warning!("{why}");
                reason
            }
        }
    }
}
