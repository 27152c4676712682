//! Where a hostile guest finds things on x86_64.

use super::script::Script;

/// RAM begins here.
pub(super) const RAM: u64 = 0;
/// The first virtio-mmio device.
pub(super) const DEVICE: u64 = 0xfeb0_0000;
/// The BAR of the first device on PCI.
pub(super) const BAR: u64 = 0xc000_0000;
/// PCI's configuration space.
pub(super) const ECAM: u64 = 0xe000_0000;
/// The first of the interrupt controllers' registers: local APIC and IOAPIC.
pub(super) const CONTROLLERS: [u64; 2] = [0xfee0_0000, 0xfec0_0000];

/// Sends a byte to the console, COM1.
pub(super) fn says(script: Script, byte: u8) -> Script {
    script.output(1, 0x3f8, byte.into())
}
