//! virtio over PCI (virtio 1.2 §4.1; modern interface only): a function whose BAR 0 has a device's
//! registers, over the same [`Transport`] as virtio-mmio.
//!
//! A guest that takes the bus-master bit away gets no messages until it gives it back. Requests that are
//! under way end, and further ones are served: with respect to its queues a device is stopped by a reset
//! and by nothing else.

mod capabilities;
mod registers;
mod signals;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hv::Width;
use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_ids::{VIRTIO_ID_BLOCK, VIRTIO_ID_NET};

use self::capabilities::Places;
use self::registers::Registers;
pub use self::registers::{BAR_LEN, notify_offset};
pub use self::signals::Signals;
use super::transport::{Identity, Transport};
use crate::devices::pci::config::{
    self, BAR, COMMAND, COMMAND_BUS_MASTER, COMMAND_INTX_DISABLE, Config,
};
use crate::devices::pci::msix::{Msix, MsixState};
use crate::devices::pci::{Function, merge};
use crate::devices::state::Refused;

/// Red Hat's, whose virtio devices are (§4.1.2).
const VENDOR: u16 = 0x1af4;
/// Of a modern device: this and its type.
const DEVICE: u16 = 0x1040;
/// No address: the BAR is switched off.
const OFF: u64 = u64::MAX;

/// A device.
#[derive(Debug)]
pub struct VirtioPci {
    transport: Arc<Transport>,
    signals: Arc<Signals>,
    config: Mutex<Config>,
    places: Places,
    /// Where the BAR is, for whoever looks without the lock.
    bar: AtomicU64,
}

/// What is kept of a virtio device on PCI beside what is kept of any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciState {
    /// What the guest has written into the configuration space, by registers.
    pub config: BTreeMap<u16, u32>,
    /// Which vectors the device has.
    pub vectors: VectorsState,
    /// MSI-X, where there is such.
    pub msix: Option<MsixState>,
}

/// The vectors of a device's interrupts; 0xffff is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorsState {
    /// Its configuration's.
    pub config: u16,
    /// Its queues'.
    pub queues: Vec<u16>,
}

/// Vectors of a device: one for each queue and one for its configuration.
#[must_use]
pub fn vectors(identity: &Identity) -> usize {
    identity.queues.len().saturating_add(1)
}

fn identity(device: u32) -> config::Identity {
    let device = u16::try_from(device).unwrap_or_default();
    let class = match u32::from(device) {
        VIRTIO_ID_NET => [0x02, 0x00, 0],
        VIRTIO_ID_BLOCK => [0x01, 0x80, 0],
        _ => [0xff, 0, 0],
    };
    config::Identity {
        vendor: VENDOR,
        device: DEVICE.saturating_add(device),
        class,
        // A modern device's is 1 or more, its subsystem's ID 0x40 or more (§4.1.2.1).
        revision: 1,
        subsystem: (VENDOR, device.saturating_add(0x40)),
    }
}

impl VirtioPci {
    /// The function of `transport`, its BAR at `bar`, its pin on `line`; `signals` are the transport's
    /// interrupts.
    pub fn new(transport: Arc<Transport>, signals: Arc<Signals>, bar: u32, line: u8) -> Self {
        let device = transport.identity();
        let mut config = Config::new(identity(device.device)).with_bar(bar, BAR_LEN, line);
        let vectors = signals.msix.as_ref().map(Msix::vectors);
        let places = capabilities::add(&mut config, device, vectors);
        let bar = AtomicU64::new(config.bar().unwrap_or(OFF));
        Self { transport, signals, config: Mutex::new(config), places, bar }
    }

    fn lock(&self) -> MutexGuard<'_, Config> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the function is while no vCPU runs.
    pub fn describe(&self) -> PciState {
        PciState {
            config: self.lock().written(),
            vectors: self.signals.vectors(),
            msix: self.signals.msix.as_ref().map(Msix::describe),
        }
    }

    /// Makes it what another one was. This comes before the same with its device, which may have something
    /// to say at once.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn restore(&self, saved: &PciState) -> Result<(), Refused> {
        let mut config = self.lock();
        config.restore(&saved.config)?;
        self.signals.restore(&saved.vectors).map_err(|error| error.within("vectors"))?;
        match (&self.signals.msix, &saved.msix) {
            (Some(msix), Some(saved)) => {
                msix.restore(saved).map_err(|error| error.within("msix"))?
            }
            (None, None) => {}
            (own, _) => {
                let why = if own.is_some() { "the machine has it" } else { "the machine has none" };
                return Err(Refused::new("msix", why));
            }
        }
        self.apply(&config);
        Ok(())
    }

    fn registers(&self) -> Registers<'_> {
        Registers { transport: &self.transport, signals: &self.signals }
    }

    /// Has everything follow what is in the configuration space. The lock is held, so that the last
    /// write is what everything follows.
    fn apply(&self, config: &Config) {
        self.bar.store(config.bar().unwrap_or(OFF), Ordering::Release);
        let command = config.get(COMMAND);
        if let Some(at) = self.places.msix {
            let [_, _, low, high] = config.get(at).to_le_bytes();
            let control = u16::from_le_bytes([low, high]);
            self.signals.control(control, command & COMMAND_BUS_MASTER != 0);
        }
        self.signals.disable_pin(command & COMMAND_INTX_DISABLE != 0);
        self.transport.settle();
    }

    /// The driver reads the window by which configuration space leads into the BAR.
    fn read_window(&self) -> u32 {
        let target = self.places.target(&self.lock());
        let read = |(offset, width)| self.registers().read(offset, width);
        u32::try_from(target.map_or(0, read)).unwrap_or_default()
    }

    fn write_window(&self, lane: u32, width: Width, value: u32) {
        let config = self.lock();
        let target = self.places.target(&config);
        drop(config);
        if let Some((offset, target)) = target {
            let value = u64::from(merge(0, lane, width, value)) & target.mask();
            self.registers().write(offset, target, value);
        }
    }
}

impl Function for VirtioPci {
    fn read_config(&self, register: u16, width: Width) -> u32 {
        if self.places.is_window(register) {
            let lane = u32::from(register % 4).saturating_mul(8);
            let value = self.read_window().checked_shr(lane).unwrap_or_default();
            return value & u32::try_from(width.mask()).unwrap_or(u32::MAX);
        }
        if register & !3 != COMMAND {
            return self.lock().read(register, width);
        }
        // With MSI-X a function has no pin (PCI Local Bus 3.0, 6.8.2).
        let pending = !self.signals.are_messages() && self.transport.interrupt_status() != 0;
        let mut config = self.lock();
        config.set_pending(pending);
        config.read(register, width)
    }

    fn write_config(&self, register: u16, width: Width, value: u32) {
        if self.places.is_window(register) {
            return self.write_window(u32::from(register % 4), width, value);
        }
        let mut config = self.lock();
        config.write(register, width, value);
        let word = register & !3;
        if word == COMMAND || word == BAR || Some(word) == self.places.msix {
            self.apply(&config);
        }
    }

    fn bar(&self) -> Option<(u64, u64)> {
        let bar = self.bar.load(Ordering::Acquire);
        (bar != OFF).then_some((bar, BAR_LEN.into()))
    }

    fn read(&self, offset: u64, width: Width) -> u64 {
        self.registers().read(offset, width)
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        self.registers().write(offset, width, value);
    }
}
