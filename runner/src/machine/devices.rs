//! The machine's devices: made from the plan, put on the bus, given their interrupts.

use std::sync::Arc;

use hv::{EdgeLine, GuestMemory, Hypervisor, LevelLine, Vm};

use super::Error;
use super::bus::Bus;
use super::console::Ends;
use super::disks::Disks;
use super::fixed;
use super::hvt;
use super::input::Input;
use super::lockdown::Lockdown;
use super::network::Network;
use super::served::Station;
use super::shares::share;
use super::stop::{Stop, Wake};
use super::threads::Traffic;
use super::uhyve::Uhyve;
use super::virtio::Virtio;
use crate::devices::hvt::Hypercalls;
use crate::devices::uart::{Drained, Uart};
use crate::devices::virtio::worker::WorkerThread;
use crate::devices::{Interrupt, Level, together};
use crate::io::console::{Shared, Stdout};
use crate::io::event::Event;
use crate::io::event_loop::EventLoop;
use crate::plan::{DeviceKind, DevicePlan, HvtPlan, Plan};

/// Everything a guest can reach that is not RAM, and what serves it.
pub(super) struct Devices<H: Hypervisor> {
    pub(super) bus: Arc<Bus>,
    traffic: Traffic,
    disks: Option<Disks>,
    shares: Vec<WorkerThread>,
    calls: Option<Arc<Hypercalls>>,
    uhyve: Option<Uhyve>,
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
        let stdout = Shared::new(stdout).map_err(Error::system("open the console"))?;
        let mut bus = Bus::default();
        let (drained, on_drained) = Input::drained(event_loop.waker());
        // There is one stdin, and who asks for the virtio console wants it there.
        let is_console = |device: &DevicePlan| matches!(&device.kind, DeviceKind::Console(plan) if plan.is_console);
        let (to_uart, to_virtio): (Drained, _) = match plan.devices.iter().any(is_console) {
            true => (Box::new(|| ()), Some(on_drained)),
            false => (on_drained, None),
        };
        let ends = Ends::new(stdout.clone(), to_virtio)?;
        let (uhyve, uart) = match &plan.uhyve {
            Some(uhyve) => {
                let into = (&mut bus, &mut *lockdown);
                (Some(Uhyve::new(memory, &plan.boot, uhyve, stdout, stop, into)?), None)
            }
            None => {
                let console = fixed::Console { stdout, drained: to_uart };
                (None, Some(fixed::add(vm, memory, &plan.boot, console, stop, &mut bus)?))
            }
        };
        let keyboard = ends.keyboard.clone().map(|keyboard| keyboard as Arc<dyn Uart>);
        let input = keyboard.or(uart).and_then(|uart| Input::new(uart, drained, event_loop));
        let mut virtio = Virtio::new(vm, memory, &mut bus, plan.boot.board.virtio.pci);
        let disks = match plan.disks.is_empty() {
            true => None,
            false => Some(Disks::new(&mut virtio, &plan.disks, stop, lockdown)?),
        };
        let network = plan.network.as_ref();
        let network = network.map(|plan| Network::new(&mut virtio, plan, event_loop));
        let network = network.transpose()?.flatten();
        let (mut stations, mut shares) = (Vec::new(), Vec::new());
        for device in &plan.devices {
            stations.extend(Station::new(&mut virtio, device, &ends, event_loop)?);
            if let DeviceKind::Share(plan) = &device.kind {
                shares.push(share(&mut virtio, device, plan, stop, lockdown)?);
            }
        }
        let doorbells = virtio.complete();
        let traffic = Traffic { input, network, stations, ports: None };
        Ok(Self { bus: Arc::new(bus), traffic, disks, shares, calls: None, uhyve, doorbells })
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
        let traffic = Traffic { ports, ..Traffic::default() };
        let (bus, calls) = (Arc::new(bus), Some(calls));
        let (shares, doorbells) = (Vec::new(), Vec::new());
        Ok(Self { bus, traffic, disks: None, shares, calls, uhyve: None, doorbells })
    }

    /// What wakes a vCPU that waits in a device.
    pub(super) fn wake(&self) -> Option<Wake> {
        if let Some(uhyve) = &self.uhyve {
            let calls = uhyve.calls();
            return Some(Box::new(move || calls.wake()));
        }
        let calls = Arc::clone(self.calls.as_ref()?);
        Some(Box::new(move || calls.wake()))
    }

    /// What the I/O loop looks after.
    pub(super) fn take_traffic(&mut self) -> Traffic {
        std::mem::take(&mut self.traffic)
    }

    /// The guest is gone: brings everything it wrote to where it belongs.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        let disks = self.disks.iter_mut().map(Disks::finish);
        let shares = self.shares.iter_mut().map(WorkerThread::finish);
        let calls = self.calls.iter().map(|calls| calls.finish());
        let uhyve = self.uhyve.iter_mut().map(Uhyve::finish);
        together(disks.chain(shares).chain(calls).chain(uhyve))
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
