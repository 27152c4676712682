use super::*;

/// `ESR_EL2` of class `ec` for a 32-bit instruction (IL set), as the framework hands it out.
fn esr(ec: u64, iss: u64) -> u64 {
    ec << 26 | 1 << 25 | iss
}

/// A data abort with a valid syndrome: translation fault, level 3.
fn abort(fields: u64) -> DataAbort {
    match Class::of(esr(0x24, 1 << 24 | 0x07 | fields)) {
        Class::DataAbort(abort) => abort,
        other => panic!("{other:?}"),
    }
}

fn access(fields: u64) -> Access {
    match abort(fields) {
        DataAbort::Access(access) => access,
        other => panic!("{other:?}"),
    }
}

#[test]
fn exit_reasons_are_numbers_and_unknown_ones_keep_theirs() {
    assert_eq!(Reason::from(0), Reason::Canceled);
    assert_eq!(Reason::from(1), Reason::Exception);
    assert_eq!(Reason::from(2), Reason::VtimerActivated);
    assert_eq!(Reason::from(3), Reason::Unknown(3));
    assert_eq!(Reason::from(u32::MAX), Reason::Unknown(u32::MAX));
}

#[test]
fn every_class_is_told_from_all_others() {
    for ec in 0..64u8 {
        let class = Class::of(esr(u64::from(ec), 0));
        match ec {
            0x01 => assert_eq!(class, Class::Wait(Wait::Wfi)),
            0x16 => assert_eq!(class, Class::Hvc(0)),
            0x17 => assert_eq!(class, Class::Smc(0)),
            0x18 => assert!(matches!(class, Class::System(_))),
            0x20 => assert_eq!(class, Class::InstructionAbort),
            0x24 => assert_eq!(class, Class::DataAbort(DataAbort::NoSyndrome)),
            0x3c => assert_eq!(class, Class::Breakpoint(0)),
            _ => assert_eq!(class, Class::Other(ec)),
        }
    }
}

#[test]
fn bits_above_the_class_change_nothing() {
    let iss2 = 0x1f << 32;
    assert_eq!(Class::of(esr(0x16, 7) | iss2), Class::Hvc(7));
}

#[test]
fn the_pc_stands_behind_a_hypervisor_call_and_at_everything_trapped() {
    for (ec, step) in [(0x01, 4), (0x16, 0), (0x17, 4), (0x18, 4), (0x20, 0), (0x24, 4), (0x3c, 0)]
    {
        assert_eq!(Class::of(esr(ec, 0)).pc_step(), step, "EC {ec:#x}");
    }
    assert_eq!(Class::of(esr(0x3f, 0)).pc_step(), 0);
}

#[test]
fn wait_instructions_differ_in_ti_alone() {
    let ti = |ti: u64| match Class::of(esr(0x01, 1 << 24 | 0xe << 20 | ti)) {
        Class::Wait(wait) => wait,
        other => panic!("{other:?}"),
    };
    assert_eq!([ti(0), ti(1), ti(2), ti(3)], [Wait::Wfi, Wait::Wfe, Wait::Wfit, Wait::Wfet]);
    assert_eq!([ti(0), ti(1), ti(2), ti(3)].map(Wait::for_interrupt), [true, false, true, false]);
}

#[test]
fn calls_and_breakpoints_carry_sixteen_bits() {
    assert_eq!(Class::of(esr(0x16, 0x1_abcd)), Class::Hvc(0xabcd));
    assert_eq!(Class::of(esr(0x17, 0xffff)), Class::Smc(0xffff));
    assert_eq!(Class::of(esr(0x3c, 0xf000)), Class::Breakpoint(0xf000));
}

#[test]
fn a_system_access_names_its_register_as_the_instruction_does() {
    let decode = |iss| match Class::of(esr(0x18, iss)) {
        Class::System(access) => access,
        other => panic!("{other:?}"),
    };
    // MRS x3, PMCR_EL0: op0 3, op1 3, CRn 9, CRm 12, op2 0.
    let access = decode(3 << 20 | 3 << 14 | 9 << 10 | 3 << 5 | 12 << 1 | 1);
    let register = SystemRegister { op0: 3, op1: 3, crn: 9, crm: 12, op2: 0 };
    assert_eq!(access, SystemAccess { register, rt: 3, read: true });
    assert_eq!(register.to_string(), "S3_3_C9_C12_0");
    // MSR OSLAR_EL1, xzr: op0 2, op1 0, CRn 1, CRm 0, op2 4.
    let access = decode(2 << 20 | 4 << 17 | 1 << 10 | 31 << 5);
    let register = SystemRegister { op0: 2, op1: 0, crn: 1, crm: 0, op2: 4 };
    assert_eq!(access, SystemAccess { register, rt: XZR, read: false });
}

#[test]
fn each_field_of_a_system_access_is_as_wide_as_it_is() {
    let all = SystemRegister { op0: 3, op1: 7, crn: 15, crm: 15, op2: 7 };
    let access = SystemAccess { register: all, rt: 31, read: true };
    assert_eq!(Class::of(esr(0x18, (1 << 22) - 1)), Class::System(access));
}

#[test]
fn sas_is_the_width() {
    let widths = [0, 1, 2, 3].map(|sas| access(sas << 22).width);
    assert_eq!(widths, Width::ALL);
}

#[test]
fn sse_srt_sf_and_wnr_are_one_field_each() {
    let plain = access(0);
    assert!(!plain.sign_extend && !plain.sixty_four && !plain.write);
    assert_eq!(plain.rt, 0);
    assert_eq!(access(1 << 21), Access { sign_extend: true, ..plain });
    assert_eq!(access(1 << 15), Access { sixty_four: true, ..plain });
    assert_eq!(access(1 << 6), Access { write: true, ..plain });
    for rt in 0..32u8 {
        assert_eq!(access(u64::from(rt) << 16), Access { rt, ..plain });
    }
}

#[test]
fn without_isv_no_other_field_is_believed() {
    let fields = 3 << 22 | 1 << 21 | 5 << 16 | 1 << 15 | 1 << 6 | 0x07;
    assert_eq!(Class::of(esr(0x24, fields)), Class::DataAbort(DataAbort::NoSyndrome));
}

#[test]
fn cache_maintenance_is_no_access_with_or_without_isv() {
    assert_eq!(abort(1 << 8 | 1 << 6), DataAbort::CacheMaintenance);
    let unsigned = Class::of(esr(0x24, 1 << 8 | 1 << 6 | 0x07));
    assert_eq!(unsigned, Class::DataAbort(DataAbort::CacheMaintenance));
}

#[test]
fn a_walk_of_tables_in_a_device_is_no_access_and_no_maintenance() {
    for fields in [1 << 24 | 1 << 7, 1 << 7, 1 << 8 | 1 << 7] {
        let class = Class::of(esr(0x24, fields | 0x06));
        assert_eq!(class, Class::DataAbort(DataAbort::NoSyndrome), "{fields:#x}");
    }
}

#[test]
fn bits_that_say_nothing_about_a_device_access_change_nothing() {
    // FnV, EA, VNCR, AR, and what is reserved above.
    for fields in [1 << 10, 1 << 9, 1 << 13, 1 << 14] {
        assert_eq!(access(fields), access(0), "{fields:#x}");
    }
}

#[test]
fn only_faults_of_the_map_are_device_accesses() {
    for dfsc in 0..64u64 {
        let class = Class::of(esr(0x24, 1 << 24 | dfsc));
        let external = !matches!(dfsc, 0..16 | 0x29 | 0x2b);
        assert_eq!(class == Class::DataAbort(DataAbort::External), external, "DFSC {dfsc:#x}");
    }
}

#[test]
fn a_load_extends_as_the_instruction_says() {
    let load = |width, sign_extend, sixty_four| {
        Access { width, sign_extend, rt: 0, sixty_four, write: false }.loaded(0x8182_8384_8586_8788)
    };
    // LDRB, LDRH, LDR W: zero-extended into a W register.
    assert_eq!(load(Width::W1, false, false), 0x88);
    assert_eq!(load(Width::W2, false, false), 0x8788);
    assert_eq!(load(Width::W4, false, false), 0x8586_8788);
    // LDRSB W, LDRSH W: the upper half of the register is 0.
    assert_eq!(load(Width::W1, true, false), 0xffff_ff88);
    assert_eq!(load(Width::W2, true, false), 0xffff_8788);
    // LDRSB X, LDRSH X, LDRSW.
    assert_eq!(load(Width::W1, true, true), 0xffff_ffff_ffff_ff88);
    assert_eq!(load(Width::W2, true, true), 0xffff_ffff_ffff_8788);
    assert_eq!(load(Width::W4, true, true), 0xffff_ffff_8586_8788);
    // LDR X.
    assert_eq!(load(Width::W8, false, true), 0x8182_8384_8586_8788);
}

#[test]
fn a_positive_value_is_not_extended_with_ones() {
    let load =
        Access { width: Width::W1, sign_extend: true, rt: 0, sixty_four: true, write: false };
    assert_eq!(load.loaded(0xffff_ff7f), 0x7f);
}

#[test]
fn a_store_writes_the_low_bytes_of_its_register() {
    let store = |width| {
        Access { width, sign_extend: false, rt: 0, sixty_four: true, write: true }.stored(!0)
    };
    assert_eq!(Width::ALL.map(store), [0xff, 0xffff, 0xffff_ffff, u64::MAX]);
}
