//! PCI: one bus of functions, each with its configuration space and one BAR (PCI Local Bus 3.0,
//! chapter 6; PCI Express Base 5.0, 7.2.2 for the memory-mapped configuration space).
//!
//! BARs are programmed before the guest runs, each at its home. A guest may move one; it is found where
//! it is then, as long as that is in the bus's window. An address that several BARs claim, or that is in
//! another function's home, is nobody's: nothing is ever in front of anything else, and doorbells, which
//! are registered for the homes alone, ring for nobody but their own device.

pub mod bus;
pub mod config;
pub mod host;
pub mod msix;

use hv::Width;

/// One function of the bus as guests see it. Called from every vCPU's thread.
pub trait Function: Send + Sync {
    /// Reads `width` bytes of the configuration space. They lie within four aligned ones.
    fn read_config(&self, register: u16, width: Width) -> u32;

    /// Writes them.
    fn write_config(&self, register: u16, width: Width, value: u32);

    /// Where its BAR answers now, first address and length; nothing while the guest has it switched off.
    fn bar(&self) -> Option<(u64, u64)>;

    /// Reads `width` bytes at `offset` of its BAR, inside of it.
    fn read(&self, offset: u64, width: Width) -> u64;

    /// Writes them.
    fn write(&self, offset: u64, width: Width, value: u64);
}

/// Puts the lowest bytes of `value` in place of the bytes of `register` that an access of `width` at
/// `lane` of it reaches.
#[must_use]
pub fn merge(register: u32, lane: u32, width: Width, value: u32) -> u32 {
    let shift = lane.saturating_mul(8);
    let mask = u32::try_from(width.mask()).unwrap_or(u32::MAX);
    let (mask, value) = (shifted(mask, shift), shifted(value & mask, shift));
    register & !mask | value
}

fn shifted(value: u32, bits: u32) -> u32 {
    value.checked_shl(bits).unwrap_or_default()
}
