//! What a virtio device is.

use hv::Width;

/// What a device is, for its whole life.
#[derive(Debug)]
pub struct Identity {
    /// What messages call it.
    pub name: String,
    /// Device type (§5).
    pub device: u32,
    /// Everything offered to the driver.
    pub features: u64,
    /// The most entries of each queue.
    pub queues: Vec<u16>,
    /// The device's configuration space.
    pub config: Vec<u8>,
}

impl Identity {
    /// Reads the configuration space: any width, anywhere; what is not there reads as 0.
    pub fn read_config(&self, offset: u64, width: Width) -> u64 {
        let mut bytes = [0; 8];
        let offset = usize::try_from(offset).ok();
        let present = offset.and_then(|offset| self.config.get(offset..));
        for (byte, value) in bytes.iter_mut().take(width.bytes()).zip(present.unwrap_or_default()) {
            *byte = *value;
        }
        u64::from_le_bytes(bytes)
    }
}
