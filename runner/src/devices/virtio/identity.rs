//! What a virtio device is.

use std::ops::Range;

/// What a device is, for its whole life.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What messages call it.
    pub name: String,
    /// Device type (§5).
    pub device: u32,
    /// Everything offered to the driver.
    pub features: u64,
    /// The most entries of each queue.
    pub queues: Vec<u16>,
    /// The device's configuration space at power-on.
    pub config: Vec<u8>,
    /// The bytes of it that the driver may write.
    pub writable: Range<usize>,
}
