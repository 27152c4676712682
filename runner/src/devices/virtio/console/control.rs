//! Messages about ports, both ways (virtio 1.2 §5.3.6.2): `struct virtio_console_control`.

/// Bytes of a message, without what some have behind it.
pub(super) const LEN: usize = 8;

/// The driver can have messages.
pub(super) const DEVICE_READY: u16 = 0;
/// There is a port.
pub(super) const PORT_ADD: u16 = 1;
/// The driver has one.
pub(super) const PORT_READY: u16 = 3;
/// A port is a console.
pub(super) const CONSOLE_PORT: u16 = 4;
/// A console has another size: columns, then rows. Linux up to 6.14 takes the first for the rows.
pub(super) const RESIZE: u16 = 5;
/// One side has opened a port, or closed it.
pub(super) const PORT_OPEN: u16 = 6;
/// What a port is called.
pub(super) const PORT_NAME: u16 = 7;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The port.
    pub(super) id: u32,
    /// What has happened.
    pub(super) event: u16,
    /// 1 for yes, mostly.
    pub(super) value: u16,
}

impl Message {
    pub(super) fn read([i0, i1, i2, i3, e0, e1, v0, v1]: [u8; LEN]) -> Self {
        Self {
            id: u32::from_le_bytes([i0, i1, i2, i3]),
            event: u16::from_le_bytes([e0, e1]),
            value: u16::from_le_bytes([v0, v1]),
        }
    }

    /// Its bytes, and those behind it.
    pub(super) fn with(self, more: &[u8]) -> Vec<u8> {
        let (id, event, value) =
            (self.id.to_le_bytes(), self.event.to_le_bytes(), self.value.to_le_bytes());
        [&id[..], &event, &value, more].concat()
    }
}
