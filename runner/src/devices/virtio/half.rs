//! 64-bit registers that drivers reach by their halves.

/// A 32-bit half of a 64-bit register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    /// Bits 0 to 31.
    Low,
    /// Bits 32 to 63.
    High,
}

impl Half {
    /// Puts `value` in place of this half of `whole`.
    pub(super) fn set(self, whole: &mut u64, value: u32) {
        let value = u64::from(value);
        *whole = match self {
            Half::Low => *whole & !0xffff_ffff | value,
            Half::High => *whole & 0xffff_ffff | value << 32,
        };
    }

    /// This half of `whole`.
    pub(super) fn of(self, whole: u64) -> u64 {
        match self {
            Half::Low => whole & 0xffff_ffff,
            Half::High => whole >> 32,
        }
    }

    /// The half that a feature selector chooses; there are two.
    pub(super) fn selected(select: u32) -> Option<Self> {
        match select {
            0 => Some(Half::Low),
            1 => Some(Half::High),
            _ => None,
        }
    }
}
