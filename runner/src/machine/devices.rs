//! The machine's devices: made from the plan, put on the bus, given their interrupts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hv::{Address, Doorbell, EdgeLine, GuestMemory, Hypervisor, Kind, Vm, Width};

use super::Error;
use super::bus::Bus;
use super::map::VIRTIO_WINDOW;
use super::stop::{Reason, Stop};
use crate::boot::EXIT_PORT;
use crate::devices::Interrupt;
use crate::devices::power::{ExitPort, ResetPort};
use crate::devices::serial::{self, Com1};
use crate::devices::virtio::block::Disk;
use crate::devices::virtio::mmio::{Mmio, QUEUE_NOTIFY};
use crate::devices::virtio::transport::Transport;
use crate::devices::virtio::worker::{Worker, WorkerThread};
use crate::io::console::{Stdin, Stdout};
use crate::io::event::Event;
use crate::io::event_loop::{Control, EventLoop, Token};
use crate::plan::{DiskPlan, Plan};

/// The first serial port of a PC, and its interrupt.
const COM1: u16 = 0x3f8;
const COM1_LINE: u32 = 4;
/// The keyboard controller's command port.
const RESET_PORT: u16 = 0x64;

/// Everything a guest can reach that is not RAM, and what serves it.
pub(super) struct Devices<H: Hypervisor> {
    pub(super) bus: Arc<Bus>,
    input: Option<Input>,
    disks: Option<Disks<H::Vm>>,
}

impl<H: Hypervisor> std::fmt::Debug for Devices<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Devices").field("bus", &self.bus).finish_non_exhaustive()
    }
}

/// stdin on its way to COM1.
#[derive(Debug)]
pub(super) struct Input {
    /// Paused while the guest has not read what it was given.
    token: Token,
    drained: Arc<AtomicBool>,
}

impl<H: Hypervisor> Devices<H> {
    pub(super) fn new(
        vm: &H::Vm,
        memory: &GuestMemory,
        plan: &Plan,
        stop: &Stop,
        event_loop: &mut EventLoop,
    ) -> Result<Self, Error> {
        let mut bus = Bus::default();
        let drained = Arc::new(AtomicBool::new(false));
        let com1 = {
            let stdout = Stdout::new(stop.clone()).map_err(Error::system("open the console"))?;
            let (drained, waker) = (Arc::clone(&drained), event_loop.waker());
            let on_drained = move || {
                drained.store(true, Ordering::Release);
                waker.wake();
            };
            Arc::new(Com1::new(interrupt(vm, COM1_LINE)?, stdout, Box::new(on_drained)))
        };
        bus.add(Address::Port(COM1), serial::PORTS, com1.clone());
        let exit = ExitPort::new(plan.boot.exit_code, stop.clone());
        bus.add(Address::Port(EXIT_PORT), 4, Arc::new(exit));
        bus.add(Address::Port(RESET_PORT), 1, Arc::new(ResetPort::new(stop.clone())));
        let input = connect_stdin(&com1, drained, event_loop);
        let disks = match plan.disks.is_empty() {
            true => None,
            false => Some(Disks::new(vm, memory, &plan.disks, stop, &mut bus)?),
        };
        Ok(Self { bus: Arc::new(bus), input, disks })
    }

    /// stdin, for the I/O loop to look after.
    pub(super) fn take_input(&mut self) -> Option<Input> {
        self.input.take()
    }

    /// The guest is gone: brings everything it wrote to where it belongs.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        self.disks.take().map_or(Ok(()), |mut disks| disks.worker.finish())
    }
}

/// The disks, and the thread that serves them all.
struct Disks<V: Vm> {
    worker: WorkerThread,
    #[expect(dead_code, reason = "doorbells ring for as long as these live")]
    doorbells: Vec<V::Registration>,
}

impl<V: Vm> Disks<V> {
    fn new(
        vm: &V,
        memory: &GuestMemory,
        plans: &[DiskPlan],
        stop: &Stop,
        bus: &mut Bus,
    ) -> Result<Self, Error> {
        let system = || Error::system("serve the guest's disks");
        let mut worker = Worker::new(memory.clone()).map_err(system())?;
        let mut doorbells = Vec::new();
        for plan in plans {
            let slot = plan.slot;
            let (path, len) = (plan.source.name(), plan.source.len());
            let disk = Disk::new(&plan.id, path, plan.file.clone(), len, plan.read_only);
            let identity = disk.identity();
            let mut events = Vec::new();
            for (queue, _) in (0..).zip(&identity.queues) {
                let event = Arc::new(Event::new().map_err(system())?);
                doorbells.extend(doorbell(vm, slot.base, queue, &event)?);
                events.push(event);
            }
            let (line, commands) = (interrupt(vm, slot.line)?, worker.commands());
            let transport = Transport::new(identity, memory.clone(), line, events, commands);
            let transport = Arc::new(transport);
            worker.add(Arc::clone(&transport), Box::new(disk)).map_err(system())?;
            bus.add(Address::Mmio(slot.base), VIRTIO_WINDOW, Arc::new(Mmio(transport)));
        }
        let stop = stop.clone();
        let failed = move |why| stop.request(Reason::Failed(why));
        let worker = WorkerThread::start(worker, "disk", failed).map_err(system())?;
        Ok(Self { worker, doorbells })
    }
}

/// Lets notifications of `queue` signal `event` without an exit. Where the host has no doorbells
/// the exit does it.
fn doorbell<V: Vm>(
    vm: &V,
    base: u64,
    queue: u64,
    event: &Event,
) -> Result<Option<V::Registration>, Error> {
    let at = Address::Mmio(base + QUEUE_NOTIFY);
    let bell = Doorbell { at, value: Some((Width::W4, queue)) };
    match vm.doorbell(bell, event.signal_fd()) {
        Ok(registration) => Ok(Some(registration)),
        Err(error) if error.kind == Kind::Unsupported => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Input {
    /// Reads on when the guest has taken what it was given.
    pub(super) fn serve(&mut self, event_loop: &mut EventLoop) {
        if self.drained.swap(false, Ordering::AcqRel)
            && let Err(error) = event_loop.resume(self.token)
        {
            crate::warning!("the guest gets no more input: {error}");
        }
    }
}

/// An edge line as devices know it.
fn interrupt<V: Vm>(vm: &V, line: u32) -> Result<Interrupt, Error> {
    let edge = vm.edge(line)?;
    Ok(Arc::new(move || {
        if let Err(error) = edge.pulse() {
            crate::warning!("interrupt line {line}: {error}");
        }
    }))
}

/// Feeds stdin to COM1, as fast as the guest reads. Without a stdin to wait for there is no input.
fn connect_stdin(
    com1: &Arc<Com1<Stdout>>,
    drained: Arc<AtomicBool>,
    event_loop: &mut EventLoop,
) -> Option<Input> {
    let mut stdin = Stdin::new()?;
    let handle = Arc::new(stdin.handle().ok()?);
    let com1 = Arc::clone(com1);
    let feed = move || {
        let bytes = stdin.read(com1.room());
        com1.receive(&bytes);
        // Until the guest has read it all, or, at the end of input, for good.
        Control::Pause
    };
    let token = event_loop.add(handle, feed).ok()?;
    Some(Input { token, drained })
}
