//! The machine's devices: made from the plan, put on the bus, given their interrupts.

use std::sync::Arc;

use hv::{EdgeLine, GuestMemory, Hypervisor, LevelLine, Vm};

use super::Error;
use super::bus::Bus;
use super::disks::Disks;
use super::fixed;
use super::hvt::{self, Ports};
use super::input::Input;
use super::lockdown::Lockdown;
use super::network::Network;
use super::stop::{Stop, Wake};
use super::threads::Traffic;
use super::virtio::Virtio;
use crate::devices::hvt::Hypercalls;
use crate::devices::{Interrupt, Level};
use crate::io::console::Stdout;
use crate::io::event::Event;
use crate::io::event_loop::EventLoop;
use crate::plan::{HvtPlan, Plan};

/// Everything a guest can reach that is not RAM, and what serves it.
pub(super) struct Devices<H: Hypervisor> {
    pub(super) bus: Arc<Bus>,
    input: Option<Input>,
    disks: Option<Disks>,
    network: Option<Network>,
    calls: Option<Arc<Hypercalls>>,
    ports: Option<Ports>,
    #[expect(dead_code, reason = "doorbells ring for as long as these live")]
    doorbells: Vec<<H::Vm as Vm>::Registration>,
}

impl<H: Hypervisor> std::fmt::Debug for Devices<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Devices").field("bus", &self.bus).finish_non_exhaustive()
    }
}

impl<H: Hypervisor> Devices<H> {
    pub(super) fn new(
        vm: &H::Vm,
        memory: &GuestMemory,
        plan: &Plan,
        stop: &Stop,
        stopped: &Arc<Event>,
        event_loop: &mut EventLoop,
        lockdown: &mut Lockdown,
    ) -> Result<Self, Error> {
        let stdout = Stdout::new(stop.clone(), Arc::clone(stopped));
        let stdout = stdout.map_err(Error::system("open the console"))?;
        if let Some(hvt) = &plan.hvt {
            return Self::of_hvt(memory, plan, hvt, stdout, stop, event_loop);
        }
        let mut bus = Bus::default();
        let (drained, on_drained) = Input::drained(event_loop.waker());
        let console = fixed::Console { stdout, drained: on_drained };
        let uart = fixed::add(vm, memory, &plan.boot, console, stop, &mut bus)?;
        let input = Input::new(uart, drained, event_loop);
        let mut virtio = Virtio::new(vm, memory, &mut bus, plan.boot.board.virtio.pci);
        let disks = match plan.disks.is_empty() {
            true => None,
            false => Some(Disks::new(&mut virtio, &plan.disks, stop, lockdown)?),
        };
        let network = plan.network.as_ref();
        let network = network.map(|plan| Network::new(&mut virtio, plan, event_loop));
        let network = network.transpose()?.flatten();
        let doorbells = virtio.complete();
        let (calls, ports) = (None, None);
        Ok(Self { bus: Arc::new(bus), input, disks, network, calls, ports, doorbells })
    }

    /// The machine of Solo5's hvt.
    fn of_hvt(
        memory: &GuestMemory,
        plan: &Plan,
        hvt: &HvtPlan,
        stdout: Stdout,
        stop: &Stop,
        event_loop: &EventLoop,
    ) -> Result<Self, Error> {
        let mut bus = Bus::default();
        let (calls, ports) = hvt::add(memory, &plan.boot, hvt, stdout, stop, event_loop, &mut bus)?;
        let bus = Arc::new(bus);
        let (doorbells, calls) = (Vec::new(), Some(calls));
        Ok(Self { bus, input: None, disks: None, network: None, doorbells, calls, ports })
    }

    /// What wakes a vCPU that waits in a device.
    pub(super) fn wake(&self) -> Option<Wake> {
        let calls = Arc::clone(self.calls.as_ref()?);
        Some(Box::new(move || calls.wake()))
    }

    /// What the I/O loop looks after.
    pub(super) fn take_traffic(&mut self) -> Traffic {
        let (input, network) = (self.input.take(), self.network.take());
        Traffic { input, network, ports: self.ports.take() }
    }

    /// The guest is gone: brings everything it wrote to where it belongs.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        self.disks.as_mut().map_or(Ok(()), Disks::finish)?;
        self.calls.as_ref().map_or(Ok(()), |calls| calls.finish())
    }
}

/// An edge line as devices know it.
pub(super) fn interrupt<V: Vm>(vm: &V, line: u32) -> Result<Interrupt, Error> {
    let edge = vm.edge(line)?;
    Ok(Arc::new(move || {
        if let Err(error) = edge.pulse() {
            crate::warning!("interrupt line {line}: {error}");
        }
    }))
}

/// A level line as devices know it.
pub(super) fn level<V: Vm>(vm: &V, line: u32) -> Result<Level, Error> {
    let level = vm.level(line)?;
    Ok(Arc::new(move |high| {
        if let Err(error) = level.set(high) {
            crate::warning!("interrupt line {line}: {error}");
        }
    }))
}
