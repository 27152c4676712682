//! Where a hostile guest finds things on aarch64.

use super::script::Script;

/// RAM begins here.
pub(super) const RAM: u64 = 0x4000_0000;
/// The first virtio-mmio device.
pub(super) const DEVICE: u64 = 0x0a00_0000;
/// The BAR of the first device on PCI.
pub(super) const BAR: u64 = 0x1000_0000;
/// PCI's configuration space.
pub(super) const ECAM: u64 = 0x3f00_0000;
/// The first of the interrupt controllers' registers: distributor and redistributors.
pub(super) const CONTROLLERS: [u64; 2] = [0x0800_0000, 0x080a_0000];

/// Sends a byte to the console, a PL011.
pub(super) fn says(script: Script, byte: u8) -> Script {
    script.store(4, 0x0900_0000, byte.into())
}
