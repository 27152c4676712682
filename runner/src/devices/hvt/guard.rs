//! What a guest must not touch: memory that it may only read, and all addresses and ports that are nobody's.

use hv::Width;

use super::Violation;
use crate::machine::bus::Device;
use crate::machine::stop::Stop;

/// Ends the run at any access.
#[derive(Debug)]
pub struct Guard {
    /// Where it stands.
    base: u64,
    kind: Kind,
    stop: Stop,
}

/// What is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// I/O ports without a device.
    Ports,
    /// Addresses without memory.
    Nowhere,
    /// Memory to be read.
    ReadOnly,
}

impl Guard {
    /// A guard from `base` on.
    pub fn new(base: u64, kind: Kind, stop: Stop) -> Self {
        Self { base, kind, stop }
    }

    fn accessed(&self, offset: u64, reads: bool) {
        let (what, why) = match (self.kind, reads) {
            (Kind::Ports, true) => ("a read of port", "invalid guest port access"),
            (Kind::Ports, false) => ("a write to port", "invalid guest port access"),
            (Kind::Nowhere, true) => ("a read of no memory at", "invalid guest mmio access"),
            (Kind::Nowhere, false) => ("a write to no memory at", "invalid guest mmio access"),
            (Kind::ReadOnly, true) => ("a read of memory at", "host/guest translation fault"),
            (Kind::ReadOnly, false) => {
                ("a write to read-only memory at", "host/guest translation fault")
            }
        };
        let at = self.base.saturating_add(offset);
        self.stop.request(Violation::Access { what, at, why }.into());
    }
}

impl Device for Guard {
    fn read(&self, offset: u64, _width: Width) -> u64 {
        self.accessed(offset, true);
        0
    }

    fn write(&self, offset: u64, _width: Width, _value: u64) {
        self.accessed(offset, false);
    }
}
