//! What a guest must not touch: memory that it may only read, and all addresses and ports that are nobody's.

use std::ops::Range;

use hv::Address;

use crate::devices::hypercall::Violation;
use crate::machine::bus::Stray;
use crate::machine::stop::Stop;

/// Ends the run at any access that no device has an answer for.
#[derive(Debug)]
pub struct Guard {
    /// Memory that the guest cannot write.
    read_only: Vec<Range<u64>>,
    stop: Stop,
}

impl Guard {
    /// A guard of both address spaces. Of what is `read_only` the writes alone come here.
    pub fn new(read_only: Vec<Range<u64>>, stop: Stop) -> Self {
        Self { read_only, stop }
    }
}

impl Stray for Guard {
    fn stray(&self, at: Address, write: bool) {
        let ports = "invalid guest port access";
        let memory = "invalid guest mmio access";
        let protected = |gpa: u64| self.read_only.iter().any(|range| range.contains(&gpa));
        let (what, at, why) = match (at, write) {
            (Address::Port(port), false) => ("a read of port", port.into(), ports),
            (Address::Port(port), true) => ("a write to port", port.into(), ports),
            (Address::Mmio(gpa), true) if protected(gpa) => {
                ("a write to read-only memory at", gpa, "host/guest translation fault")
            }
            (Address::Mmio(gpa), false) => ("a read of no memory at", gpa, memory),
            (Address::Mmio(gpa), true) => ("a write to no memory at", gpa, memory),
        };
        self.stop.request(Violation::Access { what, at, why }.into());
    }
}
