//! Puts virtio devices where they stand: on the bus or on the PCI bus, with their interrupts and
//! doorbells.

use std::sync::Arc;

use hv::{Address, Doorbell, GuestMemory, Kind, Vm, Width};

use super::Error;
use super::bus::Bus;
use super::devices::{interrupt, level};
use super::lines::Lines;
use super::slot::{PciHost, Place, VIRTIO_WINDOW, VirtioSlot};
use crate::devices::pci::bus::{ECAM, Ecam, PORTS, PciBus, Ports, Window};
use crate::devices::pci::host::HostBridge;
use crate::devices::pci::msix::{Messages, Msix};
use crate::devices::virtio::interrupts::Interrupts;
use crate::devices::virtio::mmio::{Mmio, QUEUE_NOTIFY};
use crate::devices::virtio::pci::{Signals, VirtioPci, notify_offset, vectors};
use crate::devices::virtio::transport::{Identity, RESET_PATIENCE, Transport};
use crate::devices::virtio::worker::Commands;
use crate::io::event::Event;

/// The machine's virtio devices while they are made.
pub(super) struct Virtio<'m, V: Vm> {
    pub(super) vm: &'m V,
    pub(super) memory: &'m GuestMemory,
    bus: &'m mut Bus,
    host: PciHost,
    pci: PciBus,
    lines: Lines,
    doorbells: Vec<V::Registration>,
}

/// What a driver reaches of a device.
struct Half {
    identity: Identity,
    /// Notifications of its queues signal these, one for each.
    events: Vec<Arc<Event>>,
    commands: Commands,
}

impl<'m, V: Vm> Virtio<'m, V> {
    /// No device yet. Those on `host` will be on a bus of their own.
    pub(super) fn new(vm: &'m V, memory: &'m GuestMemory, bus: &'m mut Bus, host: PciHost) -> Self {
        let (pci, lines) = (PciBus::default(), Lines::default());
        Self { vm, memory, bus, host, pci, lines, doorbells: Vec::new() }
    }

    /// The part of a device that vCPUs reach, in `slot`. Notifications of its queues signal `events`,
    /// one for each.
    pub(super) fn place(
        &mut self,
        slot: VirtioSlot,
        identity: Identity,
        events: Vec<Arc<Event>>,
        commands: Commands,
    ) -> Result<Arc<Transport>, Error> {
        let half = Half { identity, events, commands };
        match slot.place {
            Place::Mmio { base, line } => self.place_mmio(base, line, half),
            Place::Pci { device, bar, line } => self.place_pci(device, bar, line, half),
        }
    }

    fn place_mmio(&mut self, base: u64, line: u32, half: Half) -> Result<Arc<Transport>, Error> {
        for (queue, event) in (0..).zip(&half.events) {
            let at = Address::Mmio(base.saturating_add(QUEUE_NOTIFY));
            self.doorbell(Doorbell { at, value: Some((Width::W4, queue)) }, event)?;
        }
        let line = interrupt(self.vm, line)?;
        let transport = self.transport(half, Arc::new(move || line()));
        let registers = Arc::new(Mmio(Arc::clone(&transport)));
        self.bus.add(Address::Mmio(base), VIRTIO_WINDOW, registers);
        Ok(transport)
    }

    /// The doorbells are for the BAR's home. Where the guest has moved it away, the exit does their work.
    fn place_pci(
        &mut self,
        device: u8,
        bar: u32,
        line: u32,
        half: Half,
    ) -> Result<Arc<Transport>, Error> {
        for (queue, event) in (0..).zip(&half.events) {
            let at = Address::Mmio(u64::from(bar).saturating_add(notify_offset(queue)));
            // Every queue has an address of its own, and what is written there is of no interest.
            self.doorbell(Doorbell { at, value: None }, event)?;
        }
        let vm = self.vm;
        let pin = self.lines.share(line, || level(vm, line))?;
        let vectors = vectors(&half.identity);
        // Where the board and the host can send them.
        let messages_are_sent = self.host.msi && vm.caps().msi;
        let msix = messages_are_sent.then(|| Msix::new(vectors, messages(vm)));
        let signals = Signals::new(half.identity.queues.len(), msix, pin);
        let transport = self.transport(half, Arc::clone(&signals) as Arc<dyn Interrupts>);
        // What a guest reads in its register for the line is for the guest alone.
        let line = u8::try_from(line).unwrap_or(u8::MAX);
        let function = VirtioPci::new(Arc::clone(&transport), signals, bar, line);
        self.pci.add(device, Arc::new(function));
        Ok(transport)
    }

    fn transport(&self, half: Half, interrupts: Arc<dyn Interrupts>) -> Arc<Transport> {
        let Half { identity, events, commands } = half;
        let memory = self.memory.clone();
        let transport = Transport::new(identity, memory, interrupts, events, commands);
        Arc::new(transport.patient(RESET_PATIENCE))
    }

    /// Lets writes that match `bell` signal `event` without an exit. Where the host has no doorbells
    /// the exit does it.
    fn doorbell(&mut self, bell: Doorbell, event: &Event) -> Result<(), Error> {
        match self.vm.doorbell(bell, event.signal_fd()) {
            Ok(registration) => self.doorbells.push(registration),
            Err(error) if error.kind == Kind::Unsupported => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// All devices are there: guests find those on the PCI bus, if there are any. Returns what the
    /// doorbells live for.
    pub(super) fn complete(mut self) -> Vec<V::Registration> {
        if !self.pci.is_empty() {
            self.pci.add(0, Arc::new(HostBridge::default()));
            let (pci, host) = (Arc::new(self.pci), self.host);
            self.bus.add(Address::Mmio(host.ecam), ECAM, Arc::new(Ecam(Arc::clone(&pci))));
            let window = Window { bus: Arc::clone(&pci), base: host.window.into() };
            self.bus.add(Address::Mmio(window.base), host.window_len.into(), Arc::new(window));
            if let Some(port) = host.ports {
                self.bus.add(Address::Port(port), PORTS, Arc::new(Ports::new(pci)));
            }
        }
        self.doorbells
    }
}

/// Messages to the guest.
fn messages<V: Vm>(vm: &V) -> Messages {
    let vm = vm.clone();
    Arc::new(move |address, data| {
        if let Err(error) = vm.signal_msi(address, data) {
            crate::warning!("message {data:#x} to {address:#x}: {error}");
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::virtio::COMMON_FEATURES;
    use crate::machine::map::Board;
    use crate::machine::slot::VirtioBus;
    use hv::script::Script;
    use hv::{Arch, GuestRam, Hypervisor as _, IrqChip, VcpuSeed as _, VmConfig};

    /// The IDs of the capabilities of a device on the PCI bus of a host that can send messages, or not
    /// (PCI Local Bus 3.0, 6.7).
    fn capabilities(msi: bool) -> Vec<u64> {
        let board = Board::of(Arch::X86_64);
        let memory = hv::mem::memory([(0, GuestRam::new(1 << 20).unwrap())]).unwrap();
        let caps = hv::Caps { msi, ..Script::caps_for(Arch::X86_64) };
        let config = VmConfig::new().memory(&memory).irqchip(IrqChip::InKernel).vcpus(1);
        let (vm, seeds) = Script::new(Arch::X86_64).with_caps(caps).create(config).unwrap();
        let _vcpus: Vec<_> = seeds.into_iter().map(|seed| seed.bind().unwrap()).collect();
        vm.ready().unwrap();
        let mut bus = Bus::default();
        let mut virtio = Virtio::new(&vm, &memory, &mut bus, board.virtio.pci);
        let identity = Identity {
            name: "test".into(),
            device: 42,
            features: COMMON_FEATURES,
            queues: vec![16],
            config: Vec::new(),
            writable: 0..0,
        };
        let (commands, _) = Commands::channel(Arc::new(Event::new().unwrap()));
        let slot = board.virtio.on(VirtioBus::Pci).next().unwrap();
        let events = vec![Arc::new(Event::new().unwrap())];
        virtio.place(slot, identity, events, commands).unwrap();
        virtio.complete();
        let function = board.virtio.pci.ecam + 0x8000;
        let byte = |at: u64| bus.read(Address::Mmio(function + at), Width::W1);
        let next = |at: &u64| Some(byte(at + 1)).filter(|at| *at != 0);
        let first = Some(byte(0x34)).filter(|at| *at != 0);
        std::iter::successors(first, next).map(byte).collect()
    }

    #[test]
    fn a_device_has_msix_where_the_host_can_send_messages_and_its_pin_alone_where_not() {
        let id = u64::from(crate::devices::pci::msix::CAPABILITY);
        assert!(capabilities(true).contains(&id));
        let without = capabilities(false);
        assert!(!without.is_empty() && !without.contains(&id), "{without:x?}");
    }
}
