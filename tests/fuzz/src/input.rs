//! What is left of an input, taken apart as a target wants it.

use hv::Width;

/// The rest of an input; zeros behind its end.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl Input<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let len = self.0.len().min(N);
        let (taken, rest) = self.0.split_at(len);
        bytes[..len].copy_from_slice(taken);
        self.0 = rest;
        bytes
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    pub(crate) fn one_in(&mut self, number: u8) -> bool {
        self.byte().is_multiple_of(number)
    }

    pub(crate) fn half(&mut self) -> u16 {
        u16::from_le_bytes(self.bytes())
    }

    pub(crate) fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    pub(crate) fn long(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    pub(crate) fn width(&mut self) -> Width {
        Width::ALL[usize::from(self.byte() % 4)]
    }
}
