//! What a hypervisor on this host can do, asked once when it is opened (contract 7).

use crate::arch::Arch;

/// The abilities of an opened hypervisor. What is `false` here answers `Unsupported`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    /// The architecture of its guests.
    pub arch: Arch,
    /// One line about it: the device node and API version, or the framework and its version.
    pub description: String,
    /// The most vCPUs a VM can have.
    pub max_vcpus: u32,
    /// Guest physical addresses have this many bits.
    pub address_bits: u8,
    /// RAM is mapped in multiples of this many bytes.
    pub granule: u64,
    /// Writes to an address can signal a file descriptor without leaving the guest's run.
    pub doorbell: bool,
    /// Message-signalled interrupts can be sent.
    pub msi: bool,
    /// RAM can record which pages were written.
    pub dirty_log: bool,
    /// RAM can be read-only for the guest.
    pub read_only_ram: bool,
    /// Functions that the guest calls can come out as exits.
    pub hypercalls: bool,
    /// A VM can have a PC's interval timer.
    pub interval_timer: bool,
    /// What guests find where arm64's performance monitors are.
    pub monitors: Monitors,
}

/// What guests find where arm64's performance monitors are (PMUv3; DDI 0487, chapter D13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Monitors {
    /// Nothing: instructions that use their registers are undefined.
    Absent,
    /// In every VM registers that stop nobody, and `ID_AA64DFR0_EL1.PMUVer` says that nothing counts.
    Inert,
    /// Counters, in a VM that [asks](crate::VmConfig::monitors) for them; in others nothing.
    Counting,
}

impl Caps {
    /// The first address that guests cannot have.
    pub fn address_space(&self) -> u64 {
        1u64.checked_shl(u32::from(self.address_bits)).unwrap_or(u64::MAX)
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        crate::script::Script::caps_for(Arch::X86_64)
    }
}
