//! The way to a device over PCI, for a driver that knows virtio-mmio's registers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use Width::{W1, W2, W4};
use hv::Width;

use super::super::pci::{PciState, Signals, VirtioPci, vectors};
use super::super::transport::{Identity, Transport};
use super::reg;
use crate::devices::pci::Function as _;
use crate::devices::pci::msix::Msix;
use crate::devices::state::Refused;

const BASE: u32 = 0xc000_8000;
const LINE: u8 = 33;

/// The parts of the BAR, and the queue's vector in the common configuration (§4.1.4.3).
const ISR: u64 = 0x1000;
const OWN: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;
const TABLE: u64 = 0x4000;
const VECTOR: u64 = 0x1a;

pub(super) struct Function {
    function: VirtioPci,
    messages: bool,
}

/// Interrupts that are counted, whatever their kind, and their count.
pub(super) fn signals(identity: &Identity, messages: bool) -> (Arc<Signals>, Arc<AtomicU32>) {
    let count = Arc::new(AtomicU32::new(0));
    let (sent, raised) = (Arc::clone(&count), Arc::clone(&count));
    let send = Arc::new(move |_, _| {
        sent.fetch_add(1, Ordering::SeqCst);
    });
    let pin = Arc::new(move |high| {
        raised.fetch_add(u32::from(high), Ordering::SeqCst);
    });
    let msix = messages.then(|| Msix::new(vectors(identity), send));
    (Signals::new(identity.queues.len(), msix, pin), count)
}

impl Function {
    /// With its messages switched on, where it has them.
    pub(super) fn new(transport: Arc<Transport>, signals: Arc<Signals>) -> Self {
        let messages = signals.msix.is_some();
        let function = VirtioPci::new(transport, signals, BASE, LINE);
        Self { function, messages }
    }

    /// As a driver does it before it starts a device.
    fn switch_messages_on(&self) {
        for vector in 0..8 {
            self.function.write(TABLE + 16 * vector, W4, 0xfee0_0000);
            self.function.write(TABLE + 16 * vector + 8, W4, 0x50 + vector);
            self.function.write(TABLE + 16 * vector + 12, W4, 0);
        }
        let msix = self.function.read_config(0x34, W1);
        self.function.write_config(u16::try_from(msix).unwrap() + 2, W2, 0x8000);
        self.function.write_config(4, W2, 6);
    }

    pub(super) fn mask_messages(&self, masked: bool) {
        let msix = self.function.read_config(0x34, W1);
        let control = if masked { 0xc000 } else { 0x8000 };
        self.function.write_config(u16::try_from(msix).unwrap() + 2, W2, control);
    }

    /// Gives the queue that is selected a vector: its number and 1.
    pub(super) fn set_vector(&self) {
        if self.messages {
            let queue = self.read(reg::QUEUE_SEL);
            if queue == 0 {
                self.switch_messages_on();
            }
            self.function.write(VECTOR, W2, queue + 1);
        }
    }

    pub(super) fn read(&self, register: u64) -> u64 {
        let (at, width) = place(register);
        self.function.read(at, width)
    }

    pub(super) fn write(&self, register: u64, value: u64) {
        match register {
            reg::QUEUE_NOTIFY => self.function.write(NOTIFY + 4 * value, W2, value),
            register => {
                let (at, width) = place(register);
                self.function.write(at, width, value);
            }
        }
    }

    pub(super) fn describe(&self) -> PciState {
        self.function.describe()
    }

    pub(super) fn restore(&self, saved: &PciState) -> Result<(), Refused> {
        self.function.restore(saved)
    }
}

/// Where in the BAR a register is.
fn place(register: u64) -> (u64, Width) {
    match register {
        reg::DEVICE_FEATURES_SEL => (0x00, W4),
        reg::DEVICE_FEATURES => (0x04, W4),
        reg::DRIVER_FEATURES_SEL => (0x08, W4),
        reg::DRIVER_FEATURES => (0x0c, W4),
        reg::STATUS => (0x14, W1),
        reg::QUEUE_SEL => (0x16, W2),
        reg::QUEUE_NUM => (0x18, W2),
        reg::QUEUE_READY => (0x1c, W2),
        reg::INTERRUPT_STATUS => (ISR, W1),
        0x80..=0x84 => (register - reg::QUEUE_DESC + 0x20, W4),
        0x90..=0x94 => (register - reg::QUEUE_DRIVER + 0x28, W4),
        0xa0..=0xa4 => (register - reg::QUEUE_DEVICE + 0x30, W4),
        reg::CONFIG.. => (register - reg::CONFIG + OWN, W4),
        other => panic!("{other:#x} is not to be found on PCI"),
    }
}
