use super::*;

const CPU_OFF: u64 = 0x8400_0002;
const CPU_ON_32: u64 = 0x8400_0003;
const CPU_ON: u64 = 0xc400_0003;
const AFFINITY_INFO: u64 = 0xc400_0004;
const FEATURES: u64 = 0x8400_000a;
const ENTRY: u64 = 0x4008_0000;
const CONTEXT: u64 = 0x0123_4567_89ab_cdef;

const SUCCESS: u64 = 0;
const NOT_SUPPORTED: u64 = u64::MAX;
const INVALID_PARAMETERS: u64 = NOT_SUPPORTED - 1;
const ALREADY_ON: u64 = NOT_SUPPORTED - 3;
const ON_PENDING: u64 = NOT_SUPPORTED - 4;
const INVALID_ADDRESS: u64 = NOT_SUPPORTED - 8;

/// Calls as vCPU 0, where there is RAM below 4 GiB.
fn ask(power: &Power, registers: [u64; 4]) -> Outcome {
    call(registers, 0, power, |pc| pc < 1 << 32)
}

#[track_caller]
fn returns(power: &Power, registers: [u64; 4], value: u64) {
    assert_eq!(ask(power, registers), Outcome::Return(value), "{registers:x?}");
}

fn cpu_on(power: &Power, target: u64) -> Outcome {
    ask(power, [CPU_ON, target, ENTRY, CONTEXT])
}

#[test]
fn versions_are_one_point_one_and_nothing_migrates() {
    let power = Power::new(1);
    returns(&power, [0x8400_0000, 0, 0, 0], 0x1_0001);
    returns(&power, [0x8000_0000, 0, 0, 0], 0x1_0001);
    returns(&power, [0x8400_0006, 0, 0, 0], 2);
}

#[test]
fn a_guest_can_switch_itself_off_and_reset_itself() {
    let power = Power::new(1);
    assert_eq!(ask(&power, [0x8400_0008, 0, 0, 0]), Outcome::Shutdown);
    assert_eq!(ask(&power, [0x8400_0009, 0, 0, 0]), Outcome::Reset);
}

#[test]
fn the_upper_half_of_x0_is_no_part_of_the_identifier() {
    assert_eq!(ask(&Power::new(1), [0xdead_beef_8400_0008, 0, 0, 0]), Outcome::Shutdown);
}

#[test]
fn everything_else_is_not_supported_and_harmless() {
    let power = Power::new(2);
    let known = |id: u64| {
        matches!(id, 0x8000_0000 | 0x8000_0001)
            || matches!(id, 0x8400_0000..=0x8400_0004 | 0x8400_0006 | 0x8400_0008..=0x8400_000a)
            || matches!(id, 0xc400_0001 | 0xc400_0003 | 0xc400_0004)
    };
    let ranges = [0..0x40, 0x8000_0000..0x8000_8000, 0x8400_0000..0x8400_0040];
    let more = [0xc400_0000..0xc400_0040, 0x8600_0000..0x8600_0100, 0xffff_fff0..0x1_0000_0000];
    for id in ranges.into_iter().chain(more).flatten().filter(|id| !known(*id)) {
        returns(&power, [id, 1, ENTRY, 0], NOT_SUPPORTED);
    }
    returns(&power, [u64::MAX; 4], NOT_SUPPORTED);
    assert!(power.is_off(1) && !power.is_off(0));
}

#[test]
fn features_are_what_there_is() {
    let power = Power::new(1);
    let there = [
        0x8400_0000,
        0x8400_0001,
        0xc400_0001,
        CPU_OFF,
        CPU_ON_32,
        CPU_ON,
        0x8400_0004,
        AFFINITY_INFO,
        0x8400_0006,
        0x8400_0008,
        0x8400_0009,
        FEATURES,
        0x8000_0000,
    ];
    for id in there {
        returns(&power, [FEATURES, id, 0, 0], SUCCESS);
        returns(&power, [FEATURES, id | 1 << 32, 0, 0], SUCCESS);
    }
    // MIGRATE, SYSTEM_RESET2, CPU_OFF as SMC64, SMCCC_ARCH_FEATURES.
    for id in [0x8400_0005, 0x8400_0012, 0xc400_0002, 0x8000_0001, 0, u64::MAX] {
        returns(&power, [FEATURES, id, 0, 0], NOT_SUPPORTED);
    }
    let arch_features = |id| ask(&power, [0x8000_0001, id, 0, 0]);
    assert_eq!(arch_features(0x8000_0000), Outcome::Return(SUCCESS));
    assert_eq!(arch_features(0x8000_0001), Outcome::Return(SUCCESS));
    assert_eq!(arch_features(0x8000_8000), Outcome::Return(NOT_SUPPORTED));
    assert_eq!(arch_features(0x8400_0000), Outcome::Return(NOT_SUPPORTED));
}

#[test]
fn a_cpu_is_switched_on_once_with_its_entry_and_context() {
    let power = Power::new(2);
    assert_eq!(cpu_on(&power, 1), Outcome::Start(1));
    assert_eq!(cpu_on(&power, 1), Outcome::Return(ON_PENDING));
    assert_eq!(power.take(1), Some(Entry { pc: ENTRY, context: CONTEXT }));
    assert_eq!(power.take(1), None);
    assert_eq!(cpu_on(&power, 1), Outcome::Return(ALREADY_ON));
    assert_eq!(cpu_on(&power, 0), Outcome::Return(ALREADY_ON));
}

#[test]
fn a_cpu_that_is_off_can_be_switched_on_again() {
    let power = Power::new(2);
    for round in 0..3 {
        assert!(power.is_off(1));
        assert_eq!(ask(&power, [CPU_ON, 1, ENTRY, round]), Outcome::Start(1));
        assert!(!power.is_off(1));
        assert_eq!(power.take(1), Some(Entry { pc: ENTRY, context: round }));
        assert_eq!(call([CPU_OFF, 0, 0, 0], 1, &power, |_| true), Outcome::Off);
        assert_eq!(power.take(1), None);
    }
}

#[test]
fn of_smc32_only_the_lower_halves_are_arguments() {
    let power = Power::new(2);
    let upper = 0xdead_beef_0000_0000;
    let registers = [upper | CPU_ON_32, upper | 1, upper | ENTRY, CONTEXT];
    assert_eq!(ask(&power, registers), Outcome::Start(1));
    assert_eq!(power.take(1), Some(Entry { pc: ENTRY, context: CONTEXT & 0xffff_ffff }));
    returns(&power, [0x8400_0004, upper | 1, upper, 0], 0);
    // As SMC64 they are the whole registers.
    returns(&power, [AFFINITY_INFO, upper | 1, 0, 0], INVALID_PARAMETERS);
    returns(&power, [CPU_ON, upper | 1, ENTRY, 0], INVALID_PARAMETERS);
}

#[test]
fn a_cpu_there_is_not_cannot_be_switched_on() {
    let power = Power::new(18);
    // MPIDR_EL1.RES1, other bits that are no affinity, 18 and 16 as vCPUs are not numbered.
    for target in [1 << 31 | 1, 1 << 24, 1 << 40 | 1, 16, 0x102, 0x1_0000, 1 << 32, u64::MAX] {
        returns(&power, [CPU_ON, target, ENTRY, 0], INVALID_PARAMETERS);
    }
    assert_eq!(cpu_on(&power, 0x101), Outcome::Start(17));
}

#[test]
fn an_entry_that_can_hold_no_instruction_is_refused_and_changes_nothing() {
    let power = Power::new(2);
    for entry in [ENTRY | 1, ENTRY | 2, 1 << 32, u64::MAX - 3] {
        returns(&power, [CPU_ON, 1, entry, 0], INVALID_ADDRESS);
    }
    returns(&power, [CPU_ON, 9, ENTRY | 1, 0], INVALID_PARAMETERS);
    assert_eq!(power.take(1), None);
    assert!(power.is_off(1));
}

#[test]
fn the_last_cpu_can_go_off_too() {
    let power = Power::new(2);
    assert_eq!(ask(&power, [CPU_OFF, 0, 0, 0]), Outcome::Off);
    assert!(power.is_off(0) && power.is_off(1));
}

#[test]
fn a_suspend_is_a_standby_whatever_its_arguments() {
    let power = Power::new(1);
    for id in [0x8400_0001, 0xc400_0001] {
        assert_eq!(ask(&power, [id, 0, 0, 0]), Outcome::Standby);
        assert_eq!(ask(&power, [id, 1 << 16, 3, u64::MAX]), Outcome::Standby);
    }
    assert!(!power.is_off(0));
}

#[test]
fn affinity_info_tells_on_pending_and_off() {
    let power = Power::new(3);
    cpu_on(&power, 1);
    returns(&power, [AFFINITY_INFO, 0, 0, 0], 0);
    returns(&power, [AFFINITY_INFO, 1, 0, 0], 2);
    returns(&power, [AFFINITY_INFO, 2, 0, 0], 1);
    returns(&power, [AFFINITY_INFO, 3, 0, 0], INVALID_PARAMETERS);
    returns(&power, [AFFINITY_INFO, 1 << 31, 0, 0], INVALID_PARAMETERS);
    power.take(1);
    returns(&power, [AFFINITY_INFO, 1, 0, 0], 0);
}

#[test]
fn of_a_higher_level_affinity_info_tells_what_any_cpu_there_is() {
    let power = Power::new(18);
    // The first cluster has vCPU 0, which is on; the second is off, then about to be on, then on.
    returns(&power, [AFFINITY_INFO, 7, 1, 0], 0);
    returns(&power, [AFFINITY_INFO, 0x1ff, 1, 0], 1);
    cpu_on(&power, 0x101);
    returns(&power, [AFFINITY_INFO, 0x100, 1, 0], 2);
    power.take(17);
    returns(&power, [AFFINITY_INFO, 0x100, 1, 0], 0);
    returns(&power, [AFFINITY_INFO, 0x200, 1, 0], INVALID_PARAMETERS);
    ask(&power, [CPU_OFF, 0, 0, 0]);
    call([CPU_OFF, 0, 0, 0], 17, &power, |_| true);
    returns(&power, [AFFINITY_INFO, 0x200, 2, 0], 1);
    returns(&power, [AFFINITY_INFO, 0x200, 3, 0], 1);
    for level in [4, 5, u64::from(u32::MAX)] {
        returns(&power, [AFFINITY_INFO, 0, level, 0], INVALID_PARAMETERS);
    }
    // The level is a 32-bit number also as an argument of SMC64.
    returns(&power, [AFFINITY_INFO, 0, 1 << 32, 0], 1);
}
