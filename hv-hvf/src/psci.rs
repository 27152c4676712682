//! What the guest asks for with HVC or SMC: the Power State Coordination Interface (Arm DEN 0022)
//! over the SMC Calling Convention (Arm DEN 0028). The framework does none of it.
//!
//! So far what a first boot with one vCPU needs, and no state: `PSCI_VERSION`, `SYSTEM_OFF`,
//! `SYSTEM_RESET`. `CPU_ON`, `CPU_OFF` and `AFFINITY_INFO` are answered with `NOT_SUPPORTED`, as is
//! everything else, so a guest stays on its first vCPU.

/// `NOT_SUPPORTED`: what an unknown function returns (DEN 0028, "Unknown Function Identifier").
const NOT_SUPPORTED: u64 = u64::MAX;
/// Version 0.2, the last that need not have `PSCI_FEATURES`.
const VERSION: u64 = 2;

/// What a call leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest goes on with this in X0.
    Return(u64),
    /// `SYSTEM_OFF`. Does not return to the guest.
    Shutdown,
    /// `SYSTEM_RESET`. Does not return to the guest.
    Reset,
}

/// The outcome of the call whose function identifier is in `x0`; only W0 counts (DEN 0028,
/// "Register use in AArch64 SMC and HVC calls").
pub fn call(x0: u64) -> Outcome {
    match x0 & 0xffff_ffff {
        0x8400_0000 => Outcome::Return(VERSION),
        0x8400_0008 => Outcome::Shutdown,
        0x8400_0009 => Outcome::Reset,
        _ => Outcome::Return(NOT_SUPPORTED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_can_ask_for_the_version_switch_itself_off_and_reset_itself() {
        assert_eq!(call(0x8400_0000), Outcome::Return(2));
        assert_eq!(call(0x8400_0008), Outcome::Shutdown);
        assert_eq!(call(0x8400_0009), Outcome::Reset);
    }

    #[test]
    fn the_upper_half_of_x0_is_no_part_of_the_identifier() {
        assert_eq!(call(0xdead_beef_8400_0008), Outcome::Shutdown);
    }

    #[test]
    fn everything_else_is_not_supported_and_harmless() {
        let cpu_on_64 = 0xc400_0003;
        let off_as_smc64 = 0xc400_0008;
        for id in [0, 1, 0x8400_0001, 0x8400_000a, cpu_on_64, off_as_smc64, 0xffff_ffff, u64::MAX] {
            assert_eq!(call(id), Outcome::Return(u64::MAX), "{id:#x}");
        }
    }
}
