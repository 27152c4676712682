//! What exits say, and where they leave the program counter.

use crate::machine::{DEVICE, EXCEPTION, Machine, RAM, SOON};
use crate::sys::Played;

/// `hvc #0`
const HVC: u32 = 0xd400_0002;
/// `smc #0`
const SMC: u32 = 0xd400_0003;
/// `mrs x1, pmcr_el0`, a register of the performance monitors, which the guest has not
const MRS: u32 = 0xd53b_9c01;
/// `str w1, [x0, #0x124]`
const STR: u32 = 0xb901_2401;
/// `b .`
const LOOP: u32 = 0x1400_0000;

/// ESR_EL2 (Arm ARM DDI 0487, D24.2.40): the class, and IL, which all these have.
const fn esr(class: u64, iss: u64) -> u64 {
    class << 26 | 1 << 25 | iss
}

/// Of `STR`: ISV, SAS = 2, SRT = 1, WnR, DFSC = translation fault, level 3.
const STORE: u64 = esr(0x24, 1 << 24 | 2 << 22 | 1 << 16 | 1 << 6 | 0x07);

#[test]
fn assumption_4_a_call_is_behind_the_program_counter_and_a_trap_is_at_it() {
    for (instruction, class, iss, pc) in
        [(HVC, 0x16, 0, RAM + 4), (SMC, 0x17, 0, RAM), (STR, 0x24, STORE & 0x1ff_ffff, RAM)]
    {
        let Some(machine) = Machine::new(&[instruction, LOOP]) else { return };
        let ipa = if instruction == STR { DEVICE + 0x124 } else { 0 };
        machine.framework.plays(&[Played { esr: esr(class, iss), ipa, pc }]);
        let exit = machine.vcpu().run(SOON);
        assert_eq!((exit.reason, exit.class()), (EXCEPTION, class), "{instruction:#x}: {exit:x?}");
        assert_eq!(exit.pc, pc, "{instruction:#x}: {exit:x?}");
    }
}

#[test]
fn assumption_4_a_register_that_is_left_to_us_is_at_the_program_counter() {
    let Some(machine) = Machine::new(&[MRS, LOOP]) else { return };
    if machine.framework.is_kvm() {
        println!("skipped: KVM answers for all registers");
        return;
    }
    machine.framework.plays(&[Played { esr: esr(0x18, 0x30_e439), ipa: 0, pc: RAM }]);
    let exit = machine.vcpu().run(SOON);
    assert_eq!((exit.reason, exit.class(), exit.pc), (EXCEPTION, 0x18, RAM), "{exit:x?}");
}

#[test]
fn assumption_5_the_address_of_an_access_has_its_offset() {
    let Some(machine) = Machine::new(&[STR, LOOP]) else { return };
    let exit = machine.vcpu().run(SOON);
    assert_eq!((exit.reason, exit.class(), exit.ipa), (EXCEPTION, 0x24, DEVICE + 0x124));
}

#[test]
fn assumption_7_a_device_access_is_a_translation_fault_with_its_syndrome() {
    let Some(machine) = Machine::new(&[STR, LOOP]) else { return };
    let exit = machine.vcpu().run(SOON);
    // DFSC 0b0001xx; the level is the map's. Everything else is the instruction's.
    assert_eq!(exit.esr & !0x3, STORE & !0x3, "{exit:x?}");
}
