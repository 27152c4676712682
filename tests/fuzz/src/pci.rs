//! Two disks on the PCI bus and one worker: configuration space by memory and by ports, the window of the
//! BARs, MSI-X, in any order, at any address and width. Whatever is done, a BAR is found at home when it
//! is put there, a masked vector sends nothing, and the device can be reset and works after that.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hv::{Address, Arch, GuestMemory, GuestRam, Width};
use runner::devices::pci::bus::{ECAM, Ecam, PORTS, PciBus, Ports, Window};
use runner::devices::pci::host::HostBridge;
use runner::devices::pci::msix::Msix;
use runner::devices::virtio::block::Disk;
use runner::devices::virtio::pci::{BAR_LEN, Signals, VirtioPci, vectors};
use runner::devices::virtio::transport::Transport;
use runner::devices::virtio::worker::Worker;
use runner::io::event::Event;
use runner::machine::bus::Bus;
use runner::machine::map::Board;
use runner::machine::slot::{Place, VirtioBus};
use vm_memory::{Bytes, GuestAddress};

use super::input::Input;

const RAM: u64 = 0x2_0000;
const LEN: usize = 4 * 512;
const ACTIONS: usize = 256;

/// Registers of configuration space, and of the BAR (virtio 1.2 §4.1.4.3).
const COMMAND: u64 = 0x04;
const BAR: u64 = 0x10;
const MSIX_CONTROL: u64 = 0x42;
const STATUS: u64 = 0x14;

/// The guest's queue.
const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const HEADER: u64 = 0x4000;
const DATA: u64 = 0x5000;

/// A list of actions.
pub fn pci(data: &[u8]) {
    let mut input = Input(data);
    let mut machine = Machine::new();
    for _ in 0..ACTIONS {
        if input.is_empty() {
            break;
        }
        machine.act(&mut input);
    }
    for disk in 0..2 {
        machine.check(disk);
    }
    machine.worker.finish().expect("a flush");
}

struct Machine {
    bus: Bus,
    worker: Worker,
    memory: GuestMemory,
    /// Configuration space and home of each disk.
    places: Vec<(u64, u64)>,
    ecam: u64,
    messages: Arc<AtomicU32>,
}

impl Machine {
    fn new() -> Self {
        let ram = GuestRam::new(RAM).expect("128 KiB");
        let memory = hv::mem::memory([(0, ram)]).expect("one piece");
        let mut worker = Worker::new(memory.clone()).expect("an event loop");
        let (mut pci, mut places) = (PciBus::default(), Vec::new());
        let messages = Arc::new(AtomicU32::new(0));
        let slots = Board::of(Arch::X86_64).virtio;
        for (slot, id) in slots.on(VirtioBus::Pci).zip(["disk0", "disk1"]) {
            let mut file = tempfile::tempfile().expect("a temporary file");
            file.write_all(&[0x5a; LEN]).expect("2 KiB");
            let disk = Disk::new(id, "fuzz", Arc::new(file), LEN as u64, false);
            let identity = disk.identity();
            let sent = Arc::clone(&messages);
            let send = move |_, _| {
                sent.fetch_add(1, Ordering::Relaxed);
            };
            let msix = Msix::new(vectors(&identity), Arc::new(send));
            let signals = Signals::new(1, Some(msix), Arc::new(|_| ()));
            let transport = Arc::new(Transport::new(
                identity,
                memory.clone(),
                signals.clone(),
                vec![Arc::new(Event::new().expect("an event"))],
                worker.commands(),
            ));
            worker.add(Arc::clone(&transport), Box::new(disk)).expect("room for a device");
            let Place::Pci { device, bar, .. } = slot.place else { continue };
            pci.add(device, Arc::new(VirtioPci::new(transport, signals, bar, 12)));
            places.push((slots.pci.ecam + u64::from(device) * 0x8000, u64::from(bar)));
        }
        pci.add(0, Arc::new(HostBridge::default()));
        let (pci, host, mut bus) = (Arc::new(pci), slots.pci, Bus::default());
        bus.add(Address::Mmio(host.ecam), ECAM, Arc::new(Ecam(Arc::clone(&pci))));
        let window = Window { bus: Arc::clone(&pci), base: host.window.into() };
        bus.add(Address::Mmio(window.base), host.window_len.into(), Arc::new(window));
        bus.add(Address::Port(0xcf8), PORTS, Arc::new(Ports::new(pci)));
        Self { bus, worker, memory, places, ecam: host.ecam, messages }
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let action = input.byte();
        let (config, home) = self.places[usize::from(action >> 7)];
        match action % 10 {
            0 => {
                let (at, width) = (self.address(input), input.width());
                self.bus.write(at, width, input.long() & width.mask());
            }
            1 => {
                let (at, width) = (self.address(input), input.width());
                assert_eq!(self.bus.read(at, width) & !width.mask(), 0);
            }
            2 => self.write(config + BAR, Width::W4, u64::from(input.word())),
            // Onto a home, its own or the other's.
            3 => {
                let other = self.places[usize::from(input.byte() % 2)].1;
                self.write(config + BAR, Width::W4, other);
            }
            4 => self.write(config + COMMAND, Width::W2, u64::from(input.byte() % 8)),
            5 => self.write(config + MSIX_CONTROL, Width::W2, u64::from(input.byte()) << 8),
            // The way into the BAR by configuration space: its registers, then its window.
            6 => {
                let register = u64::from(input.byte() % 24);
                self.write(config + 0x90 + register, input.width(), input.long());
            }
            7 => {
                let at = home + 0x4000 + u64::from(input.byte() % 48);
                self.write(at, input.width(), input.long());
            }
            8 => {
                let at = u64::from(input.word()) % (RAM - 8);
                let bytes = input.bytes::<8>();
                self.memory.write_slice(&bytes, GuestAddress(at)).expect("RAM");
            }
            _ => self.turn(),
        }
    }

    /// Mostly in a BAR's home or in configuration space, sometimes a port, sometimes anywhere.
    fn address(&self, input: &mut Input<'_>) -> Address {
        let (config, home) = self.places[usize::from(input.byte() % 2)];
        match input.byte() % 8 {
            0 => Address::Mmio(input.long()),
            1 => Address::Port(0xcf0 + u16::from(input.byte() % 24)),
            2 => Address::Mmio(self.ecam + u64::from(input.word()) % (ECAM + 16)),
            3 | 4 => Address::Mmio(config + u64::from(input.byte())),
            5 => Address::Mmio(home + u64::from(input.word()) % (2 * u64::from(BAR_LEN))),
            _ => Address::Mmio(home + u64::from(input.byte() % 0x48)),
        }
    }

    fn write(&mut self, at: u64, width: Width, value: u64) {
        self.bus.write(Address::Mmio(at), width, value & width.mask());
    }

    fn turn(&mut self) {
        self.worker.turn(Some(Duration::ZERO)).expect("a turn");
    }

    /// With every BAR at home the disk can be reset, starts, and reads a sector; nothing is sent while all
    /// vectors are masked.
    fn check(&mut self, disk: usize) {
        for (config, home) in self.places.clone() {
            self.write(config + BAR, Width::W4, home);
            self.write(config + COMMAND, Width::W2, 0x406);
            self.write(config + MSIX_CONTROL, Width::W2, 0xc000);
        }
        let sent = self.messages.load(Ordering::Relaxed);
        let (_, home) = self.places[disk];
        let status = |machine: &Self| machine.bus.read(Address::Mmio(home + STATUS), Width::W1);
        self.write(home + STATUS, Width::W1, 0);
        self.turn();
        assert_eq!(status(self), 0, "the device was reset");
        for (at, value) in [(DESCRIPTORS, 16u64), (AVAILABLE, 4096), (USED, 4096)] {
            let zeros = vec![0; usize::try_from(value).expect("small")];
            self.memory.write_slice(&zeros, GuestAddress(at)).expect("RAM");
        }
        for (register, width, value) in [
            (STATUS, Width::W1, 1),
            (STATUS, Width::W1, 3),
            (0x08, Width::W4, 1),
            (0x0c, Width::W4, 1),
            (0x08, Width::W4, 0),
            (0x0c, Width::W4, 0),
            (STATUS, Width::W1, 0xb),
            (0x16, Width::W2, 0),
            (0x18, Width::W2, 4),
            (0x1a, Width::W2, 1),
            (0x20, Width::W8, DESCRIPTORS),
            (0x28, Width::W8, AVAILABLE),
            (0x30, Width::W8, USED),
            (0x1c, Width::W2, 1),
            (STATUS, Width::W1, 0xf),
        ] {
            self.write(home + register, width, value);
        }
        assert_eq!(status(self), 0xf, "the device started");
        let mut chain = Vec::new();
        for (at, len, flags, next) in
            [(HEADER, 16u32, 1u16, 1u16), (DATA, 512, 3, 2), (HEADER + 16, 1, 2, 0)]
        {
            chain.extend(at.to_le_bytes());
            chain.extend(len.to_le_bytes());
            chain.extend(flags.to_le_bytes());
            chain.extend(next.to_le_bytes());
        }
        let write =
            |at, bytes: &[u8]| self.memory.write_slice(bytes, GuestAddress(at)).expect("RAM");
        write(DESCRIPTORS, &chain);
        write(HEADER, &[0; 16]);
        write(AVAILABLE, &[0, 0, 1, 0, 0, 0]);
        self.write(home + 0x3000, Width::W2, 0);
        self.turn();
        self.turn();
        let used: u16 = self.memory.read_obj(GuestAddress(USED + 2)).expect("RAM");
        assert_eq!(used, 1, "the request was served");
        assert_eq!(self.messages.load(Ordering::Relaxed), sent, "a masked vector");
    }
}
