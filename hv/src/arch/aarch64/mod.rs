//! aarch64: the registers a boot protocol sets (Arm ARM DDI 0487, B1.2 and C5.2).

pub mod gic;

/// `PSTATE` for EL1 with its own stack pointer and all interrupts masked: D, A, I, F set, M = EL1h.
pub const PSTATE_EL1H_MASKED: u64 = 0x3c5;

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
