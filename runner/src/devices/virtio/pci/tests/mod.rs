//! A driver that reaches a device by its function alone: configuration space, and the BAR.

mod capabilities;
mod interrupts;
mod registers;

use std::time::Duration;

use Width::{W1, W2, W4, W8};

use super::*;
use crate::devices::Level;
use crate::devices::virtio::COMMON_FEATURES;
use crate::devices::virtio::tests::{AVAILABLE, DESCRIPTORS, Nothing, Rig, SIZE, USED};

const BASE: u32 = 0xc000_8000;

/// Where the parts of the BAR are, as the capabilities say.
const ISR: u64 = 0x1000;
const OWN: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;
const TABLE: u64 = 0x4000;
const PENDING: u64 = 0x5000;

/// The common configuration by the names of §4.1.4.3.
mod common {
    pub(super) const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub(super) const DEVICE_FEATURE: u64 = 0x04;
    pub(super) const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub(super) const DRIVER_FEATURE: u64 = 0x0c;
    pub(super) const CONFIG_MSIX_VECTOR: u64 = 0x10;
    pub(super) const NUM_QUEUES: u64 = 0x12;
    pub(super) const DEVICE_STATUS: u64 = 0x14;
    pub(super) const CONFIG_GENERATION: u64 = 0x15;
    pub(super) const QUEUE_SELECT: u64 = 0x16;
    pub(super) const QUEUE_SIZE: u64 = 0x18;
    pub(super) const QUEUE_MSIX_VECTOR: u64 = 0x1a;
    pub(super) const QUEUE_ENABLE: u64 = 0x1c;
    pub(super) const QUEUE_NOTIFY_OFF: u64 = 0x1e;
    pub(super) const QUEUE_DESC: u64 = 0x20;
    pub(super) const QUEUE_DRIVER: u64 = 0x28;
    pub(super) const QUEUE_DEVICE: u64 = 0x30;
    /// The reserved part behind them.
    pub(super) const END: u64 = 0x38;
}
use common::*;

/// What came out of the device: its pin's levels, and its messages' data.
#[derive(Default)]
struct Wires {
    pin: Mutex<Vec<bool>>,
    messages: Mutex<Vec<u32>>,
}

struct Pci {
    rig: Rig,
    function: VirtioPci,
    wires: Arc<Wires>,
}

fn device(kind: u32) -> Identity {
    Identity {
        name: "test".into(),
        device: kind,
        features: COMMON_FEATURES | 1 << 5,
        queues: vec![256, 16],
        config: (1..=10).collect(),
        writable: 0..0,
    }
}

impl Pci {
    fn new() -> Self {
        Self::of(device(42), true)
    }

    fn of(identity: Identity, msi: bool) -> Self {
        let wires = Arc::new(Wires::default());
        let (pin, sent) = (Arc::clone(&wires), Arc::clone(&wires));
        let pin: Level = Arc::new(move |high| pin.pin.lock().unwrap().push(high));
        let send = Arc::new(move |_, data| sent.messages.lock().unwrap().push(data));
        let msix = msi.then(|| Msix::new(vectors(&identity), send));
        let signals = Signals::new(identity.queues.len(), msix, pin);
        let interrupts = Arc::clone(&signals) as _;
        let rig = Rig::wired(identity, Box::new(Nothing), Duration::ZERO, interrupts);
        let function = VirtioPci::new(Arc::clone(&rig.mmio.0), signals, BASE, 33);
        Self { rig, function, wires }
    }

    fn read(&self, at: u64, width: Width) -> u64 {
        self.function.read(at, width)
    }

    fn write(&self, at: u64, width: Width, value: u64) {
        self.function.write(at, width, value);
    }

    fn config(&self, register: u16) -> u32 {
        self.function.read_config(register, W4)
    }

    /// The capabilities in their order: where each is, its ID, and its virtio type.
    fn capabilities(&self) -> Vec<(u16, u8, u8)> {
        let byte = |at| u8::try_from(self.function.read_config(at, W1)).unwrap();
        let (mut found, mut at) = (Vec::new(), byte(0x34));
        while at != 0 {
            found.push((at.into(), byte(at.into()), byte(u16::from(at) + 3)));
            at = byte(u16::from(at) + 1);
        }
        found
    }

    fn virtio_capability(&self, kind: u8) -> u16 {
        let all = self.capabilities();
        all.iter().find(|(_, id, its)| (*id, *its) == (9, kind)).unwrap().0
    }

    /// Goes up to FEATURES_OK with VERSION_1 alone.
    fn negotiate(&self) {
        for (at, width, value) in [
            (DEVICE_STATUS, W1, 1),
            (DEVICE_STATUS, W1, 3),
            (DRIVER_FEATURE_SELECT, W4, 1),
            (DRIVER_FEATURE, W4, 1),
            (DRIVER_FEATURE_SELECT, W4, 0),
            (DRIVER_FEATURE, W4, 0),
            (DEVICE_STATUS, W1, 0xb),
        ] {
            self.write(at, width, value);
        }
        assert_eq!(self.read(DEVICE_STATUS, W1), 0xb);
    }

    /// Starts the device with queue 0, for which `vector` is.
    fn start(&mut self, vector: u64) {
        self.negotiate();
        for (at, width, value) in [
            (QUEUE_SELECT, W2, 0),
            (QUEUE_SIZE, W2, SIZE.into()),
            (QUEUE_MSIX_VECTOR, W2, vector),
            (QUEUE_DESC, W8, DESCRIPTORS),
            (QUEUE_DRIVER, W8, AVAILABLE),
            (QUEUE_DEVICE, W8, USED),
            (QUEUE_ENABLE, W2, 1),
            (DEVICE_STATUS, W1, 0xf),
        ] {
            self.write(at, width, value);
        }
        self.rig.turn();
        assert_eq!(self.read(DEVICE_STATUS, W1), 0xf);
    }

    /// Switches MSI-X on: vector `n` has the data 0x50 + n.
    fn with_messages(&self) {
        for vector in 0..3 {
            self.write(TABLE + 16 * vector + 8, W4, 0x50 + vector);
            self.write(TABLE + 16 * vector + 12, W4, 0);
        }
        self.control(0x8000, 0x6);
    }

    /// Writes MSI-X's control register and the command register.
    fn control(&self, control: u32, command: u32) {
        let (at, ..) = self.capabilities().into_iter().find(|(_, id, _)| *id == 0x11).unwrap();
        self.function.write_config(at + 2, W2, control);
        self.function.write_config(COMMAND, W2, command);
    }

    /// One request, served.
    fn request(&mut self) {
        self.rig.chain(&[(0x1_0000, 16, 0)]);
        self.rig.offer(0);
        self.write(NOTIFY, W2, 0);
        self.rig.turn();
    }

    fn pin(&self) -> Vec<bool> {
        std::mem::take(&mut *self.wires.pin.lock().unwrap())
    }

    fn messages(&self) -> Vec<u32> {
        std::mem::take(&mut *self.wires.messages.lock().unwrap())
    }
}
