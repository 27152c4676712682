//! virtio over MMIO, version 2 (virtio 1.2 §4.2): a window of registers, a device's
//! configuration space behind them.

use std::sync::Arc;

use hv::Width;
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_CONFIG, VIRTIO_MMIO_CONFIG_GENERATION, VIRTIO_MMIO_DEVICE_FEATURES,
    VIRTIO_MMIO_DEVICE_FEATURES_SEL, VIRTIO_MMIO_DEVICE_ID, VIRTIO_MMIO_DRIVER_FEATURES,
    VIRTIO_MMIO_DRIVER_FEATURES_SEL, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INTERRUPT_STATUS,
    VIRTIO_MMIO_MAGIC_VALUE, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, VIRTIO_MMIO_QUEUE_AVAIL_LOW,
    VIRTIO_MMIO_QUEUE_DESC_HIGH, VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_NOTIFY,
    VIRTIO_MMIO_QUEUE_NUM, VIRTIO_MMIO_QUEUE_NUM_MAX, VIRTIO_MMIO_QUEUE_READY,
    VIRTIO_MMIO_QUEUE_SEL, VIRTIO_MMIO_QUEUE_USED_HIGH, VIRTIO_MMIO_QUEUE_USED_LOW,
    VIRTIO_MMIO_SHM_BASE_HIGH, VIRTIO_MMIO_SHM_BASE_LOW, VIRTIO_MMIO_SHM_LEN_HIGH,
    VIRTIO_MMIO_SHM_LEN_LOW, VIRTIO_MMIO_STATUS, VIRTIO_MMIO_VENDOR_ID, VIRTIO_MMIO_VERSION,
};

use super::half::Half;
use super::transport::Transport;
use crate::machine::bus::Device;

/// "virt", little-endian.
const MAGIC: u64 = 0x7472_6976;
/// The modern interface.
const VERSION: u64 = 2;
/// "RUNR", little-endian; drivers do not look.
const VENDOR: u64 = 0x524e_5552;

/// Where a driver writes a queue's number to notify it: the place of doorbells.
pub const QUEUE_NOTIFY: u64 = VIRTIO_MMIO_QUEUE_NOTIFY as u64;

/// A device's registers.
#[derive(Debug)]
pub struct Mmio(pub Arc<Transport>);

/// The register at `offset`, if the access is what §4.2.2.2 demands: 32 bits, aligned.
fn register(offset: u64, width: Width) -> Option<u32> {
    let aligned = width == Width::W4 && offset.is_multiple_of(4);
    u32::try_from(offset).ok().filter(|_| aligned)
}

/// The offset into the configuration space, if `offset` is there.
fn config_offset(offset: u64) -> Option<u64> {
    offset.checked_sub(VIRTIO_MMIO_CONFIG.into())
}

impl Device for Mmio {
    fn read(&self, offset: u64, width: Width) -> u64 {
        if let Some(offset) = config_offset(offset) {
            return self.0.read_config(offset, width);
        }
        match register(offset, width) {
            Some(register) => self.read_register(register),
            None => 0,
        }
    }

    fn write(&self, offset: u64, width: Width, value: u64) {
        if let Some(offset) = config_offset(offset) {
            return self.0.write_config(offset, width, value);
        }
        if let Some(register) = register(offset, width)
            && let Ok(value) = u32::try_from(value)
        {
            self.write_register(register, value);
        }
    }
}

impl Mmio {
    fn read_register(&self, register: u32) -> u64 {
        let transport = &self.0;
        match register {
            VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            VIRTIO_MMIO_VERSION => VERSION,
            VIRTIO_MMIO_DEVICE_ID => transport.identity().device.into(),
            VIRTIO_MMIO_VENDOR_ID => VENDOR,
            VIRTIO_MMIO_DEVICE_FEATURES => transport.device_features(),
            VIRTIO_MMIO_QUEUE_NUM_MAX => transport.queue().map_or(0, |queue| queue.max().into()),
            VIRTIO_MMIO_QUEUE_READY => transport.queue().map_or(0, |queue| queue.ready.into()),
            VIRTIO_MMIO_INTERRUPT_STATUS => transport.interrupt_status().into(),
            VIRTIO_MMIO_STATUS => transport.status().into(),
            VIRTIO_MMIO_CONFIG_GENERATION => transport.config_generation().into(),
            // No shared memory regions: length and base read as ones.
            VIRTIO_MMIO_SHM_LEN_LOW
            | VIRTIO_MMIO_SHM_LEN_HIGH
            | VIRTIO_MMIO_SHM_BASE_LOW
            | VIRTIO_MMIO_SHM_BASE_HIGH => u32::MAX.into(),
            _ => 0,
        }
    }

    fn write_register(&self, register: u32, value: u32) {
        let transport = &self.0;
        match register {
            VIRTIO_MMIO_DEVICE_FEATURES_SEL => transport.select_device_features(value),
            VIRTIO_MMIO_DRIVER_FEATURES => transport.set_driver_features(value),
            VIRTIO_MMIO_DRIVER_FEATURES_SEL => transport.select_driver_features(value),
            VIRTIO_MMIO_QUEUE_SEL => transport.select_queue(value),
            VIRTIO_MMIO_QUEUE_NUM => transport.write_queue(|queue| queue.size = value),
            VIRTIO_MMIO_QUEUE_READY => transport.write_queue(|queue| queue.ready = value == 1),
            VIRTIO_MMIO_QUEUE_NOTIFY => transport.notify(value.into()),
            VIRTIO_MMIO_INTERRUPT_ACK => {
                transport.acknowledge(value);
            }
            VIRTIO_MMIO_STATUS => {
                transport.set_status(value);
                // Linux's driver for this transport goes on at once, and does not look (§4.2.3.1.1
                // lets it), so the write takes as long as the reset.
                if value == 0 {
                    transport.await_reset();
                }
            }
            VIRTIO_MMIO_QUEUE_DESC_LOW => {
                transport.write_queue(|queue| Half::Low.set(&mut queue.descriptors, value));
            }
            VIRTIO_MMIO_QUEUE_DESC_HIGH => {
                transport.write_queue(|queue| Half::High.set(&mut queue.descriptors, value));
            }
            VIRTIO_MMIO_QUEUE_AVAIL_LOW => {
                transport.write_queue(|queue| Half::Low.set(&mut queue.available, value));
            }
            VIRTIO_MMIO_QUEUE_AVAIL_HIGH => {
                transport.write_queue(|queue| Half::High.set(&mut queue.available, value));
            }
            VIRTIO_MMIO_QUEUE_USED_LOW => {
                transport.write_queue(|queue| Half::Low.set(&mut queue.used, value));
            }
            VIRTIO_MMIO_QUEUE_USED_HIGH => {
                transport.write_queue(|queue| Half::High.set(&mut queue.used, value));
            }
            _ => {}
        }
    }
}
