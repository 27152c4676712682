//! aarch64: the registers a boot protocol sets (Arm ARM DDI 0487, B1.2 and C5.2), and what every
//! backend has to make the same for its guests.

pub mod counter;
pub mod gic;
mod halt;
pub mod id;
mod walk;

pub use halt::is_halted;
pub use walk::Translation;

/// `PSTATE` for EL1 with its own stack pointer and all interrupts masked: D, A, I, F set, M = EL1h.
pub const PSTATE_EL1H_MASKED: u64 = 0x3c5;

/// `MPIDR_EL1.RES1`.
const MPIDR_RES1: u64 = 1 << 31;

/// The affinity of vCPU `index`: what PSCI's `CPU_ON` names it by, and a device tree's
/// `/cpus/cpu@N`. Sixteen to a cluster, since a GICv3 addresses SGIs so (Arm IHI 0069,
/// `ICC_SGI1R_EL1.TargetList`). KVM gives them out itself, in this order; other backends follow it.
pub fn affinity(index: u32) -> u64 {
    let [low, middle, high, _] = (index >> 4).to_le_bytes();
    let affinity = [(index & 0xf).to_le_bytes()[0], low, middle, 0];
    u64::from(u32::from_le_bytes(affinity)) | u64::from(high) << 32
}

/// `MPIDR_EL1` of vCPU `index`.
pub fn mpidr(index: u32) -> u64 {
    MPIDR_RES1 | affinity(index)
}

/// The registers of an aarch64 vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// General-purpose registers X0 to X30.
    pub x: [u64; 31],
    /// The stack pointer of EL1.
    pub sp_el1: u64,
    /// The program counter.
    pub pc: u64,
    /// `PSTATE` in the layout of `SPSR_EL1`.
    pub pstate: u64,
}

impl State {
    /// EL1, MMU off, interrupts masked, at `entry`, with `x0` holding the device tree or whatever
    /// the protocol puts there.
    pub fn el1(entry: u64, x0: u64) -> Self {
        let mut state = Self { pc: entry, pstate: PSTATE_EL1H_MASKED, ..Self::default() };
        state.x[0] = x0;
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinities_are_sixteen_to_a_cluster_and_all_different() {
        assert_eq!(mpidr(0), 0x8000_0000);
        assert_eq!(mpidr(15), 0x8000_000f);
        assert_eq!(mpidr(16), 0x8000_0100);
        assert_eq!(mpidr(16 * 256), 0x8001_0000);
        assert_eq!(mpidr(16 << 16), 0x1_8000_0000);
        assert_eq!(affinity(17), 0x101);
    }
}
