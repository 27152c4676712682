//! Data of the guest's that is gathered before it is written to a socket. A guest without segmentation
//! offload sends packets of 1,460 bytes, a batch at a time, and one call writes what one flow has sent
//! in the batch. It is also where data lies still while its checksum is verified: guest memory does
//! not.

use crate::net::frame::Bytes;

/// The largest segment, and what is gathered before one.
const SIZE: usize = 128 << 10;

/// Bytes of one flow.
#[derive(Debug)]
pub(super) struct Stage {
    bytes: Box<[u8]>,
    len: usize,
    /// Behind those: copied, and not accepted yet.
    copied: usize,
    slot: Option<usize>,
}

impl Stage {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; SIZE].into(), len: 0, copied: 0, slot: None }
    }

    /// Whether `len` bytes of the flow at `slot` can be added.
    pub(super) fn takes(&self, slot: Option<usize>, len: usize) -> bool {
        let end = self.len.saturating_add(len);
        end <= SIZE && (self.len == 0 || self.slot == slot)
    }

    /// Whether it has bytes of the flow at `slot`.
    pub(super) fn has(&self, slot: usize) -> bool {
        self.len > 0 && self.slot == Some(slot)
    }

    /// Copies bytes to look at.
    pub(super) fn copy(&mut self, bytes: Bytes<'_>) {
        let spare = self.bytes.get_mut(self.len..).unwrap_or_default();
        self.copied = bytes.copy_to(spare);
    }

    /// The bytes copied last.
    pub(super) fn copied(&self) -> &[u8] {
        let end = self.len.saturating_add(self.copied);
        self.bytes.get(self.len..end).unwrap_or_default()
    }

    /// Of the bytes copied last, `len` behind the first `skip` are the next of the flow at `slot`.
    pub(super) fn accept(&mut self, slot: usize, skip: usize, len: usize) {
        let start = self.len.saturating_add(skip);
        let end = start.saturating_add(len);
        if skip > 0 && end <= SIZE {
            self.bytes.copy_within(start..end, self.len);
        }
        self.slot = Some(slot);
        self.len = self.len.saturating_add(len).min(SIZE);
        self.copied = 0;
    }

    /// Whose bytes it has, and the bytes.
    pub(super) fn bytes(&self) -> Option<(usize, &[u8])> {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        self.slot.filter(|_| !bytes.is_empty()).map(|slot| (slot, bytes))
    }

    pub(super) fn clear(&mut self) {
        (self.len, self.copied, self.slot) = (0, 0, None);
    }
}
