//! Two disks on the PCI bus and one worker: configuration space by memory and by ports, the window of the
//! BARs, MSI-X, beside what drivers do, in any order, at any address and width. Whatever is done, a BAR is
//! found at home when it is put there, a masked vector sends nothing, and the device can be reset and
//! works after that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hv::{Address, Arch, Width};
use runner::devices::pci::bus::{ECAM, Ecam, PORTS, PciBus, Ports, Window};
use runner::devices::pci::host::HostBridge;
use runner::devices::pci::msix::Msix;
use runner::devices::virtio::pci::{BAR_LEN, Signals, VirtioPci, notify_offset, vectors};
use runner::machine::bus::Bus;
use runner::machine::map::Board;
use runner::machine::slot::{Place, VirtioBus};

use super::disks::{Disks, Field, Registers};
use super::input::Input;

/// Registers of configuration space.
const COMMAND: u64 = 0x04;
const BAR: u64 = 0x10;
const MSIX_CONTROL: u64 = 0x42;

/// In the BAR: the selected queue's vector, and MSI-X's pending bits.
const QUEUE_VECTOR: u64 = 0x1a;
const PENDING: u64 = 0x5000;

/// A list of actions.
pub fn pci(data: &[u8]) {
    let messages = Arc::new(AtomicU32::new(0));
    let slots = Board::of(Arch::X86_64).virtio;
    let (mut disks, mut pci, mut places) = (Disks::new(), PciBus::default(), Vec::new());
    for (slot, id) in slots.on(VirtioBus::Pci).zip(["disk0", "disk1"]) {
        let Place::Pci { device, bar, .. } = slot.place else { continue };
        let sent = Arc::clone(&messages);
        let send = move |_, _| {
            sent.fetch_add(1, Ordering::Relaxed);
        };
        let mut signals = None;
        let transport = disks.add(id, |identity| {
            let msix = Msix::new(vectors(identity), Arc::new(send));
            signals.insert(Signals::new(1, Some(msix), Arc::new(|_| ()))).clone()
        });
        let signals = signals.expect("made with the transport");
        pci.add(device, Arc::new(VirtioPci::new(transport, signals, bar, 12)));
        places.push((slots.pci.ecam + u64::from(device) * 0x8000, u64::from(bar)));
    }
    pci.add(0, Arc::new(HostBridge::default()));
    let (pci, host, mut bus) = (Arc::new(pci), slots.pci, Bus::default());
    bus.add(Address::Mmio(host.ecam), ECAM, Arc::new(Ecam(Arc::clone(&pci))));
    let window = Window { bus: Arc::clone(&pci), base: host.window.into() };
    bus.add(Address::Mmio(window.base), host.window_len.into(), Arc::new(window));
    bus.add(Address::Port(0xcf8), PORTS, Arc::new(Ports::new(pci)));
    let mut functions = Functions { bus, places, ecam: host.ecam, masked: None, messages };
    disks.attack(&mut functions, Input(data));
    let sent = functions.messages.load(Ordering::Relaxed);
    assert_eq!(functions.masked, Some(sent), "a masked vector");
    for (_, home) in &functions.places {
        let pending = functions.bus.read(Address::Mmio(home + PENDING), Width::W8);
        assert_eq!(pending & 1 << 1, 1 << 1, "the queue's message is kept");
    }
}

struct Functions {
    bus: Bus,
    /// Configuration space and home of each disk.
    places: Vec<(u64, u64)>,
    ecam: u64,
    messages: Arc<AtomicU32>,
    /// Messages that were sent when all vectors were masked.
    masked: Option<u32>,
}

/// Where in the BAR a field is, and how wide (§4.1.4.3).
fn register(field: Field) -> (u64, Width) {
    match field {
        Field::Status => (0x14, Width::W1),
        Field::DeviceFeaturesSelect => (0x00, Width::W4),
        Field::DeviceFeatures => (0x04, Width::W4),
        Field::DriverFeaturesSelect => (0x08, Width::W4),
        Field::DriverFeatures => (0x0c, Width::W4),
        Field::QueueSelect => (0x16, Width::W2),
        Field::QueueSize => (0x18, Width::W2),
        Field::Descriptors => (0x20, Width::W8),
        Field::Available => (0x28, Width::W8),
        Field::Used => (0x30, Width::W8),
        Field::QueueEnable => (0x1c, Width::W2),
        Field::Notify => (notify_offset(0), Width::W2),
    }
}

impl Registers for Functions {
    fn set(&self, disk: usize, field: Field, value: u64) {
        let ((at, width), home) = (register(field), self.places[disk].1);
        if field == Field::QueueEnable {
            self.write(home + QUEUE_VECTOR, Width::W2, 1);
        }
        self.write(home + at, width, value);
    }

    fn get(&self, disk: usize, field: Field) -> u64 {
        let (at, width) = register(field);
        self.bus.read(Address::Mmio(self.places[disk].1 + at), width)
    }

    fn act(&mut self, disk: usize, input: &mut Input<'_>) {
        let (config, home) = self.places[disk];
        match input.byte() % 8 {
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
            _ => {
                let at = home + 0x4000 + u64::from(input.byte() % 48);
                self.write(at, input.width(), input.long());
            }
        }
    }

    /// Every BAR at home, every vector masked.
    fn restore(&mut self) {
        for (config, home) in &self.places {
            self.write(config + BAR, Width::W4, *home);
            self.write(config + COMMAND, Width::W2, 0x406);
            self.write(config + MSIX_CONTROL, Width::W2, 0xc000);
        }
        self.masked = Some(self.messages.load(Ordering::Relaxed));
    }
}

impl Functions {
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

    fn write(&self, at: u64, width: Width, value: u64) {
        self.bus.write(Address::Mmio(at), width, value & width.mask());
    }
}
