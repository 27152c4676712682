//! What is in a virtio device's BAR (virtio 1.2 §4.1.4.3 to §4.1.4.6): common configuration, ISR status,
//! the device's own configuration, a notification address for each queue, and MSI-X's tables. Each has
//! a page of its own.

use hv::Width;

use super::signals::{Signals, Source};
use crate::devices::virtio::half::Half;
use crate::devices::virtio::queue::Registers as Queue;
use crate::devices::virtio::transport::Transport;

/// Bytes of the BAR.
pub const BAR_LEN: u32 = 0x8000;
/// Where each part begins, and the bytes of the common configuration.
pub(super) const COMMON: u64 = 0;
pub(super) const COMMON_LEN: u32 = 0x40;
pub(super) const ISR: u64 = 0x1000;
pub(super) const DEVICE: u64 = 0x2000;
pub(super) const DEVICE_LEN: u32 = 0x1000;
pub(super) const NOTIFY: u64 = 0x3000;
pub(super) const TABLE: u64 = 0x4000;
pub(super) const PENDING: u64 = 0x5000;
const PAGE: u64 = 0x1000;
/// Bytes from one queue's notification address to the next one's.
pub(super) const NOTIFY_STEP: u32 = 4;

/// Where in the BAR a queue is notified: the place of its doorbell.
pub fn notify_offset(queue: u64) -> u64 {
    NOTIFY.saturating_add(queue.saturating_mul(NOTIFY_STEP.into()))
}

/// Fields of the common configuration by the names of §4.1.4.3, with their widths.
mod field {
    use hv::Width::{self, W1, W2, W4};

    pub(super) type Field = (u64, Width);
    pub(super) const DEVICE_FEATURE_SELECT: Field = (0x00, W4);
    pub(super) const DEVICE_FEATURE: Field = (0x04, W4);
    pub(super) const DRIVER_FEATURE_SELECT: Field = (0x08, W4);
    pub(super) const DRIVER_FEATURE: Field = (0x0c, W4);
    pub(super) const CONFIG_MSIX_VECTOR: Field = (0x10, W2);
    pub(super) const NUM_QUEUES: Field = (0x12, W2);
    /// Inside of the field before, where no driver may read a byte; Nanos does, of any device without
    /// MSI-X, for the ISR status, which the legacy interface has there (`VIRTIO_PCI_ISR`).
    pub(super) const NANOS_ISR: Field = (0x13, W1);
    pub(super) const DEVICE_STATUS: Field = (0x14, W1);
    pub(super) const CONFIG_GENERATION: Field = (0x15, W1);
    pub(super) const QUEUE_SELECT: Field = (0x16, W2);
    pub(super) const QUEUE_SIZE: Field = (0x18, W2);
    pub(super) const QUEUE_MSIX_VECTOR: Field = (0x1a, W2);
    pub(super) const QUEUE_ENABLE: Field = (0x1c, W2);
    pub(super) const QUEUE_NOTIFY_OFF: Field = (0x1e, W2);
    pub(super) const QUEUE_DESC: u64 = 0x20;
    pub(super) const QUEUE_DRIVER: u64 = 0x28;
    pub(super) const QUEUE_DEVICE: u64 = 0x30;
}

/// The registers.
#[derive(Debug)]
pub(super) struct Registers<'d> {
    pub(super) transport: &'d Transport,
    pub(super) signals: &'d Signals,
}

impl Registers<'_> {
    /// Reads; what is not there reads as 0.
    pub(super) fn read(&self, offset: u64, width: Width) -> u64 {
        let inner = offset % PAGE;
        match offset.saturating_sub(inner) {
            COMMON => self.read_common(inner, width),
            ISR if inner == 0 => self.take_isr(),
            DEVICE => self.transport.read_config(inner, width),
            TABLE => self.signals.msix.as_ref().map_or(0, |msix| msix.read_table(inner, width)),
            PENDING => self.signals.msix.as_ref().map_or(0, |msix| msix.read_pending(inner, width)),
            _ => 0,
        }
    }

    /// Writes.
    pub(super) fn write(&self, offset: u64, width: Width, value: u64) {
        let inner = offset % PAGE;
        match offset.saturating_sub(inner) {
            COMMON if width == Width::W8 => {
                self.write_common(inner, Width::W4, value & 0xffff_ffff);
                self.write_common(inner.saturating_add(4), Width::W4, value >> 32);
            }
            COMMON => self.write_common(inner, width, value),
            DEVICE => self.transport.write_config(inner, width, value),
            // Whatever is written there, the address says which queue it is about.
            NOTIFY if inner.is_multiple_of(NOTIFY_STEP.into()) => {
                self.transport.notify(inner / 4);
            }
            TABLE => {
                if let Some(msix) = &self.signals.msix {
                    msix.write_table(inner, width, value);
                }
            }
            _ => {}
        }
    }

    /// Reading it clears it, and with it the pin. With MSI-X on, its bits are set as without: bit 1 has to be
    /// (§4.1.4.5.1), bit 0 may, and drivers do not look at it then (§4.1.4.5.2).
    fn take_isr(&self) -> u64 {
        self.transport.acknowledge(u32::MAX).into()
    }

    /// The vector register of the queue that is selected.
    fn selected(&self) -> Source {
        Source::Queue(self.transport.selected_queue())
    }

    /// What `get` says of the queue that is selected; 0 of one that does not exist.
    fn of_queue(&self, get: impl FnOnce(&Queue) -> u64) -> u64 {
        self.transport.queue().as_ref().map_or(0, get)
    }

    fn read_common(&self, offset: u64, width: Width) -> u64 {
        let transport = self.transport;
        match (offset, width) {
            field::DEVICE_FEATURE_SELECT => transport.selected_device_features().into(),
            field::DEVICE_FEATURE => transport.device_features(),
            field::DRIVER_FEATURE_SELECT => transport.selected_driver_features().into(),
            field::DRIVER_FEATURE => transport.driver_features(),
            field::CONFIG_MSIX_VECTOR => self.signals.vector(Source::Config).into(),
            field::NUM_QUEUES => transport.identity().queues.len() as u64,
            field::NANOS_ISR if !self.signals.are_messages() => self.take_isr(),
            field::DEVICE_STATUS => transport.status().into(),
            // Its lowest byte: a driver compares, and asks again.
            field::CONFIG_GENERATION => u64::from(transport.config_generation()) & 0xff,
            field::QUEUE_SELECT => transport.selected_queue().into(),
            field::QUEUE_SIZE => self.of_queue(|queue| queue.size.into()),
            field::QUEUE_MSIX_VECTOR => self.signals.vector(self.selected()).into(),
            field::QUEUE_ENABLE => self.of_queue(|queue| queue.ready.into()),
            field::QUEUE_NOTIFY_OFF => self.of_queue(|_| transport.selected_queue().into()),
            (at, Width::W8) => {
                let half = |at| self.read_common(at, Width::W4);
                half(at.saturating_add(4)) << 32 | half(at)
            }
            (at, Width::W4) => {
                let Some(half) = half(at) else { return 0 };
                self.of_queue(|queue| match at & !7 {
                    field::QUEUE_DESC => half.of(queue.descriptors),
                    field::QUEUE_DRIVER => half.of(queue.available),
                    field::QUEUE_DEVICE => half.of(queue.used),
                    _ => 0,
                })
            }
            _ => 0,
        }
    }

    fn write_common(&self, offset: u64, width: Width, value: u64) {
        let transport = self.transport;
        let Ok(value) = u32::try_from(value) else { return };
        match (offset, width) {
            field::DEVICE_FEATURE_SELECT => transport.select_device_features(value),
            field::DRIVER_FEATURE_SELECT => transport.select_driver_features(value),
            field::DRIVER_FEATURE => transport.set_driver_features(value),
            field::CONFIG_MSIX_VECTOR => self.set_vector(Source::Config, value),
            field::DEVICE_STATUS => {
                if value == 0 {
                    self.signals.reset();
                }
                // A driver looks until it reads 0 (§4.1.4.3.2), so nobody waits here.
                transport.set_status(value);
            }
            field::QUEUE_SELECT => transport.select_queue(value),
            field::QUEUE_SIZE => transport.write_queue(|queue| queue.size = value),
            field::QUEUE_MSIX_VECTOR => self.set_vector(self.selected(), value),
            // A driver cannot take it back (§4.1.4.3.2).
            field::QUEUE_ENABLE if value == 1 => transport.write_queue(|queue| queue.ready = true),
            (at, Width::W4) => {
                let Some(half) = half(at) else { return };
                transport.write_queue(|queue| match at & !7 {
                    field::QUEUE_DESC => half.set(&mut queue.descriptors, value),
                    field::QUEUE_DRIVER => half.set(&mut queue.available, value),
                    field::QUEUE_DEVICE => half.set(&mut queue.used, value),
                    _ => {}
                });
            }
            _ => {}
        }
    }

    fn set_vector(&self, source: Source, vector: u32) {
        if let Ok(vector) = u16::try_from(vector) {
            self.signals.set_vector(source, vector);
        }
    }
}

/// Which half of a 64-bit field is at `offset`.
fn half(offset: u64) -> Option<Half> {
    match offset % 8 {
        0 => Some(Half::Low),
        4 => Some(Half::High),
        _ => None,
    }
}
