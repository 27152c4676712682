//! A device's configuration space (virtio 1.2 §2.5): bytes that the device may change, and of which its
//! driver may write a part.

use std::ops::Range;

use hv::Width;

use super::identity::Identity;
use crate::devices::state::Refused;

/// The bytes, and how often the device has changed them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConfigSpace {
    bytes: Vec<u8>,
    writable: Range<usize>,
    generation: u32,
}

impl ConfigSpace {
    /// As the device has it at power-on.
    pub(super) fn new(identity: &Identity) -> Self {
        let (bytes, writable) = (identity.config.clone(), identity.writable.clone());
        Self { bytes, writable, generation: 0 }
    }

    /// Changes with every change of the device's, so that a driver sees that it has read a part of the
    /// one state and a part of the other (§2.5.1).
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// The bytes as they are.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads any width, anywhere; what is not there reads as 0.
    pub(super) fn read(&self, offset: u64, width: Width) -> u64 {
        let mut bytes = [0; 8];
        let offset = usize::try_from(offset).ok();
        let present = offset.and_then(|offset| self.bytes.get(offset..));
        for (byte, value) in bytes.iter_mut().take(width.bytes()).zip(present.unwrap_or_default()) {
            *byte = *value;
        }
        u64::from_le_bytes(bytes)
    }

    /// The driver writes any width, anywhere; only what is its to write changes.
    pub(super) fn write(&mut self, offset: u64, width: Width, value: u64) {
        let Ok(offset) = usize::try_from(offset) else { return };
        let writable = self.writable.clone();
        for (at, byte) in (offset..usize::MAX).zip(value.to_le_bytes()).take(width.bytes()) {
            if let Some(place) = self.bytes.get_mut(at).filter(|_| writable.contains(&at)) {
                *place = byte;
            }
        }
    }

    /// The bytes as they were, and how often the device had changed them; `changing` are those that it may
    /// change.
    ///
    /// # Errors
    /// [`Refused`]: the device has others where neither side can change them.
    pub(super) fn restore(
        &mut self,
        bytes: &[u8],
        generation: u32,
        changing: &Range<usize>,
    ) -> Result<(), Refused> {
        let same = bytes.len() == self.bytes.len()
            && bytes.iter().zip(&self.bytes).enumerate().all(|(at, (saved, own))| {
                saved == own || self.writable.contains(&at) || changing.contains(&at)
            });
        let why = "the device says something else of itself: give it the same file, size, name or address";
        Refused::unless(same, "config", why)?;
        self.bytes.copy_from_slice(bytes);
        self.generation = generation;
        Ok(())
    }

    /// The device changes what is at `offset`. Returns whether that was something else.
    pub(super) fn set(&mut self, offset: usize, bytes: &[u8]) -> bool {
        let end = offset.saturating_add(bytes.len());
        match self.bytes.get_mut(offset..end) {
            Some(place) if place != bytes => {
                place.copy_from_slice(bytes);
                self.generation = self.generation.wrapping_add(1);
                true
            }
            _ => false,
        }
    }
}
