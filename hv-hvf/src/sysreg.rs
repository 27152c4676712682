//! System registers that the framework does not handle and leaves to us.
//!
//! All of them ignore writes, and read as a constant but for the physical counter, which is the virtual
//! one (as for KVM's guests). Those that guests are known to touch at boot
//! do so silently; the first access to any other one is worth a warning. Values and encodings:
//! DDI 0487, "AArch64 System Register Descriptions".

use crate::syndrome::SystemRegister;

/// `OSLSR_EL1.OSLM` = 0b10, `OSLK` = 0: the OS Lock is implemented, and open.
const OS_LOCK_OPEN: u64 = 1 << 3;

/// What a register reads as, and whether that is well known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The value a read gives.
    pub value: u64,
    /// A register guests are known to touch, for which the value is right.
    pub known: bool,
}

/// The answer for `register`, while the guest's counter stands at `count`.
pub fn answer(register: SystemRegister, count: u64) -> Answer {
    let SystemRegister { op0, op1, crn, crm, op2 } = register;
    match (op0, op1, crn, crm, op2) {
        // OSLSR_EL1.
        (2, 0, 1, 1, 4) => Answer { value: OS_LOCK_OPEN, known: true },
        // CNTPCT_EL0, CNTPCTSS_EL0.
        (3, 3, 14, 0, 1 | 5) => Answer { value: count, known: true },
        // OSLAR_EL1, OSDLR_EL1, DBGPRCR_EL1: locking and powering down debug registers.
        (2, 0, 1, 0 | 3 | 4, 4)
        // MDRAR_EL1, DBGCLAIMSET_EL1, DBGCLAIMCLR_EL1: no debug ROM, no claim tags.
        | (2, 0, 1, 0, 0)
        | (2, 0, 7, 8 | 9, 6)
        // LORSA_EL1 to LORC_EL1, LORID_EL1: no limited ordering regions.
        | (3, 0, 10, 4, _)
        // The performance monitors: ID_AA64DFR0_EL1 says there are none.
        | (3, 0, 9, 14, 1 | 2)
        | (3, 3, 9, 12..=14, _)
        | (3, 3, 14, 8..=15, _) => Answer { value: 0, known: true },
        _ => Answer { value: 0, known: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: u64 = 0x1234;

    fn register(op0: u8, op1: u8, crn: u8, crm: u8, op2: u8) -> SystemRegister {
        SystemRegister { op0, op1, crn, crm, op2 }
    }

    #[test]
    fn the_os_lock_is_there_and_open() {
        assert_eq!(answer(register(2, 0, 1, 1, 4), COUNT), Answer { value: 8, known: true });
        assert_eq!(answer(register(2, 0, 1, 0, 4), COUNT), Answer { value: 0, known: true });
    }

    #[test]
    fn the_performance_monitors_read_zero_without_a_warning() {
        for (op1, crm, op2) in [(3, 12, 0), (3, 13, 0), (3, 14, 0), (0, 14, 1), (0, 14, 2)] {
            let answer = answer(register(3, op1, 9, crm, op2), COUNT);
            assert_eq!(answer, Answer { value: 0, known: true });
        }
    }

    #[test]
    fn anything_else_reads_zero_and_is_worth_a_warning() {
        for register in [register(3, 0, 15, 2, 0), register(3, 1, 15, 0, 0)] {
            assert_eq!(answer(register, COUNT), Answer { value: 0, known: false });
        }
    }

    #[test]
    fn the_physical_counter_is_the_virtual_one() {
        for op2 in [1, 5] {
            let answer = answer(register(3, 3, 14, 0, op2), COUNT);
            assert_eq!(answer, Answer { value: COUNT, known: true });
        }
    }
}
