//! Exits: what the caller sees, and what the registers hold when the vCPU goes on. The stand-in
//! compares them all at the next run.

use hv::arch::aarch64::State as Registers;
use hv::{Cause, Exit, Kind, Resume, State, Unhandled, Vcpu, Vm, Width};
use hvf_standin::{Reg, Session, Step, SysReg, Width as W, code, esr};
use vm_memory::{Bytes, GuestAddress};

use super::{MMIO, RAM, boot, config, end, ends, play, read, write};

fn unhandled(exit: Exit) -> Unhandled {
    match exit {
        Exit::Unhandled(unhandled) => unhandled,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_load_of_every_width_is_answered_and_the_pc_moves_on() {
    const GIVEN: u64 = 0x8182_8384_8586_8788;
    let cases = [
        (W::W1, Width::W1, 0x88),
        (W::W2, Width::W2, 0x8788),
        (W::W4, Width::W4, 0x8586_8788),
        (W::W8, Width::W8, GIVEN),
    ];
    let steps = cases.map(|(width, _, value)| Step::load(MMIO, esr::load(width, 3), 3, value));
    let (_session, _vm, mut vcpu) = play(steps.into_iter().chain([end()]));
    let mut resume = Resume::Go;
    for (_, width, _) in cases {
        assert_eq!(vcpu.run(resume).unwrap(), read(MMIO, width));
        resume = Resume::Value(GIVEN);
    }
    ends(&mut vcpu, resume);
}

#[test]
fn a_signed_load_extends_into_its_register() {
    let cases = [
        (esr::load_signed(W::W1, 5, false), 0xffff_ff80),
        (esr::load_signed(W::W2, 5, false), 0xffff_ff80),
        (esr::load_signed(W::W1, 5, true), 0xffff_ffff_ffff_ff80),
        (esr::load_signed(W::W2, 5, true), 0xffff_ffff_ffff_ff80),
        (esr::load_signed(W::W4, 5, true), 0xffff_ffff_ffff_ff80),
    ];
    let steps = cases.map(|(syndrome, value)| Step::load(MMIO + 4, syndrome, 5, value));
    let (_session, _vm, mut vcpu) = play(steps.into_iter().chain([end()]));
    let mut resume = Resume::Go;
    for _ in cases {
        assert!(matches!(vcpu.run(resume).unwrap(), Exit::Read { .. }));
        resume = Resume::Value(0xffff_ffff_ffff_ff80);
    }
    ends(&mut vcpu, resume);
}

#[test]
fn a_load_into_the_zero_register_changes_no_register() {
    let load = Step::exception(esr::load(W::W4, 31)).at(MMIO).advances();
    let (_session, _vm, mut vcpu) = play([load, end()]);
    assert_eq!(vcpu.run(Resume::Go).unwrap(), read(MMIO, Width::W4));
    ends(&mut vcpu, Resume::Value(!0));
}

#[test]
fn a_load_reaches_each_of_the_31_registers() {
    let steps =
        (0..31u8).map(|rt| Step::load(MMIO, esr::load(W::W8, rt), rt, 0x100 + u64::from(rt)));
    let (_session, _vm, mut vcpu) = play(steps.chain([end()]));
    let mut resume = Resume::Go;
    for rt in 0..31 {
        assert_eq!(vcpu.run(resume).unwrap(), read(MMIO, Width::W8));
        resume = Resume::Value(0x100 + rt);
    }
    ends(&mut vcpu, resume);
}

#[test]
fn a_store_of_every_width_writes_the_low_bytes_of_its_register() {
    const HELD: u64 = 0x8182_8384_8586_8788;
    let cases = [
        (W::W1, Width::W1, 0x88),
        (W::W2, Width::W2, 0x8788),
        (W::W4, Width::W4, 0x8586_8788),
        (W::W8, Width::W8, HELD),
    ];
    let steps = cases.map(|(width, ..)| Step::store(MMIO, esr::store(width, 30), 30, HELD));
    let (_session, _vm, mut vcpu) = play(steps.into_iter().chain([end()]));
    for (_, width, value) in cases {
        assert_eq!(vcpu.run(Resume::Go).unwrap(), write(MMIO, width, value));
    }
    ends(&mut vcpu, Resume::Go);
}

#[test]
fn a_store_to_read_only_ram_comes_out_as_a_write() {
    let store = Step::store(RAM + 8, esr::store_denied(W::W4, 1), 1, 77);
    let (_session, _vm, mut vcpu) = play([store, end()]);
    assert_eq!(vcpu.run(Resume::Go).unwrap(), write(RAM + 8, Width::W4, 77));
    ends(&mut vcpu, Resume::Go);
}

#[test]
fn a_pending_access_shows_in_no_register_until_it_is_settled() {
    let load = Step::load(MMIO, esr::load(W::W4, 2), 2, 9).has(Reg::Pc, 0x4000_8000);
    let (session, _vm, mut vcpu) = play([load, end()]);
    vcpu.run(Resume::Go).unwrap();
    assert_eq!(session.register(0, Reg::Pc), Some(0x4000_8000));
    assert_eq!(vcpu.state().unwrap_err().kind, Kind::Order);
    assert_eq!(vcpu.set_state(&Registers::default().into()).unwrap_err().kind, Kind::Order);
    assert_eq!(vcpu.settle(Resume::Go).unwrap_err().kind, Kind::Order);
    assert_eq!(vcpu.settle(Resume::Value(9)).unwrap(), None);
    let State::Aarch64(state) = vcpu.state().unwrap() else { panic!("of another architecture") };
    assert_eq!((state.pc, state.x[2]), (0x4000_8004, 9));
    ends(&mut vcpu, Resume::Go);
}

#[test]
fn a_wrong_answer_is_refused_and_leaves_the_access_open() {
    let (_session, _vm, mut vcpu) = play([Step::load(MMIO, esr::load(W::W4, 2), 2, 9), end()]);
    assert_eq!(vcpu.run(Resume::Value(1)).unwrap_err().kind, Kind::Order);
    vcpu.run(Resume::Go).unwrap();
    assert_eq!(vcpu.run(Resume::Go).unwrap_err().kind, Kind::Order);
    ends(&mut vcpu, Resume::Value(9));
    assert_eq!(vcpu.run(Resume::Value(9)).unwrap_err().kind, Kind::Order);
}

#[test]
fn an_answer_that_the_framework_did_not_take_can_be_given_again() {
    let (session, _vm, mut vcpu) = play([Step::load(MMIO, esr::load(W::W4, 2), 2, 9), end()]);
    vcpu.run(Resume::Go).unwrap();
    session.fail("hv_vcpu_set_reg", code::HV_NO_RESOURCES);
    assert_eq!(vcpu.run(Resume::Value(9)).unwrap_err().kind, Kind::Exhausted);
    session.fail("hv_vcpu_get_reg", code::HV_NO_RESOURCES);
    assert_eq!(vcpu.run(Resume::Value(9)).unwrap_err().kind, Kind::Exhausted);
    ends(&mut vcpu, Resume::Value(9));
}

#[test]
fn cache_maintenance_on_a_device_is_stepped_over() {
    let steps = [Step::exception(esr::cache_maintenance()).at(MMIO).advances(), end()];
    let (_session, _vm, mut vcpu) = play(steps);
    ends(&mut vcpu, Resume::Go);
}

#[test]
fn an_access_without_a_syndrome_ends_with_its_address_and_instruction() {
    let session = Session::begin();
    session.play(0, [Step::exception(esr::no_syndrome(false)).at(MMIO).has(Reg::Pc, RAM + 0x40)]);
    let memory = hv::mem::memory([(RAM, super::ram(1 << 20))]).unwrap();
    // LDP X0, X1, [X2]
    memory.write_obj(0xa940_0440u32, GuestAddress(RAM + 0x40)).unwrap();
    let (_vm, mut vcpu) = boot(hv::VmConfig::new().memory(&memory));
    let unhandled = unhandled(vcpu.run(Resume::Go).unwrap());
    assert_eq!(unhandled.cause, Cause::NoSyndrome);
    assert_eq!(unhandled.code, MMIO);
    let instruction = unhandled.instruction.unwrap();
    assert_eq!(instruction.pc(), RAM + 0x40);
    assert_eq!(instruction.bytes(), 0xa940_0440u32.to_le_bytes());
}

#[test]
fn with_the_mmu_on_the_instruction_is_found_by_the_guests_tables() {
    let session = Session::begin();
    let step = Step::exception(esr::no_syndrome(true)).at(MMIO).has(Reg::Pc, 0x40);
    let step = step.has(Reg::Sys(SysReg::SCTLR_EL1), 1);
    // 39-bit addresses, of which this table resolves the upper 9.
    let step = step.has(Reg::Sys(SysReg::TCR_EL1), 25);
    session.play(0, [step.has(Reg::Sys(SysReg::TTBR0_EL1), RAM + 0x4000)]);
    let memory = hv::mem::memory([(RAM, super::ram(1 << 20))]).unwrap();
    memory.write_obj(RAM | 1, GuestAddress(RAM + 0x4000)).unwrap();
    memory.write_obj(0xa940_0440u32, GuestAddress(RAM + 0x40)).unwrap();
    let (_vm, mut vcpu) = boot(hv::VmConfig::new().memory(&memory));
    let instruction = unhandled(vcpu.run(Resume::Go).unwrap()).instruction.unwrap();
    assert_eq!((instruction.pc(), instruction.bytes()), (0x40, &0xa940_0440u32.to_le_bytes()[..]));
    assert_eq!(vcpu.translate(0x4321), Some(RAM + 0x4321));
    assert_eq!(vcpu.translate(1 << 30), None);
}

#[test]
fn an_instruction_that_no_table_finds_is_known_by_its_address_alone() {
    let step = Step::exception(esr::no_syndrome(true)).at(MMIO).has(Reg::Pc, RAM);
    let (_session, _vm, mut vcpu) = play([step.has(Reg::Sys(SysReg::SCTLR_EL1), 1)]);
    let instruction = unhandled(vcpu.run(Resume::Go).unwrap()).instruction.unwrap();
    assert_eq!((instruction.pc(), instruction.bytes()), (RAM, &[][..]));
}

#[test]
fn what_nobody_can_handle_is_unhandled_by_cause() {
    const IL: u64 = 1 << 25;
    const S1PTW: u64 = 1 << 7;
    let external = esr::load(W::W4, 0) & !0x3f | 0x10;
    let cases = [
        (0x20 << 26 | IL | 0x07, Cause::NoCode, MMIO),
        (esr::no_syndrome(false) | S1PTW, Cause::NoSyndrome, MMIO),
        (esr::cache_maintenance() | S1PTW, Cause::NoSyndrome, MMIO),
        (external, Cause::Memory, MMIO),
        (0x3c << 26 | IL | 1, Cause::UnknownExit, 0x3c << 26 | IL | 1),
        (IL, Cause::UnknownExit, IL),
        (0x2f << 26 | IL, Cause::UnknownExit, 0x2f << 26 | IL),
    ];
    let steps = cases.map(|(syndrome, ..)| Step::exception(syndrome).at(MMIO).has(Reg::Pc, 0x77));
    let (_session, _vm, mut vcpu) = play(steps);
    for (_, cause, code) in cases {
        let found = unhandled(vcpu.run(Resume::Go).unwrap());
        assert_eq!((found.cause, found.code), (cause, code));
        // No RAM is there: the address is all there is.
        assert_eq!(found.instruction.map(|instruction| instruction.pc()), Some(0x77));
    }
}

#[test]
fn an_exception_class_that_nobody_knows_is_unhandled_with_its_syndrome() {
    let known = [0x01, 0x16, 0x17, 0x18, 0x20, 0x24];
    let unknown = (0..64u64).filter(|class| !known.contains(class));
    let syndromes: Vec<u64> = unknown.map(|class| class << 26 | 0x123_4567).collect();
    let steps = syndromes.iter().map(|syndrome| Step::exception(*syndrome).has(Reg::Pc, RAM));
    let (_session, _vm, mut vcpu) = play(steps);
    for syndrome in syndromes {
        let found = unhandled(vcpu.run(Resume::Go).unwrap());
        assert_eq!((found.cause, found.code), (Cause::UnknownExit, syndrome));
        let instruction = found.instruction.unwrap();
        assert_eq!((instruction.pc(), instruction.bytes()), (RAM, &[0; 4][..]));
    }
}

#[test]
fn exit_reasons_that_nobody_knows_are_unhandled_with_their_number() {
    let (_session, _vm, mut vcpu) = play([3, 4, u32::MAX].map(Step::exit));
    for reason in [3, 4, u32::MAX] {
        let found = unhandled(vcpu.run(Resume::Go).unwrap());
        assert_eq!((found.cause, found.code), (Cause::UnknownExit, u64::from(reason)));
    }
}

#[test]
fn registers_that_cannot_be_run_are_no_error_of_the_host() {
    let (session, _vm, mut vcpu) = play([end()]);
    session.fail("hv_vcpu_run", code::HV_ILLEGAL_GUEST_STATE);
    assert_eq!(unhandled(vcpu.run(Resume::Go).unwrap()).cause, Cause::EntryFailed);
    session.fail("hv_vcpu_run", code::HV_ERROR);
    assert_eq!(vcpu.run(Resume::Go).unwrap_err().kind, Kind::Host);
    ends(&mut vcpu, Resume::Go);
}

#[test]
fn system_registers_left_to_us_read_their_value_and_ignore_writes() {
    let oslsr = [2, 0, 1, 1, 4];
    let oslar = [2, 0, 1, 0, 4];
    let pmccntr = [3, 3, 9, 13, 0];
    let steps = [
        Step::exception(esr::mrs(4, oslsr)).has(Reg::X(4), 77).then(Reg::X(4), 8).advances(),
        Step::exception(esr::msr(4, oslar)).advances(),
        Step::exception(esr::mrs(4, pmccntr)).then(Reg::X(4), 0).advances(),
        Step::exception(esr::mrs(31, pmccntr)).advances(),
        end(),
    ];
    let (_session, vm, mut vcpu) = play(steps);
    ends(&mut vcpu, Resume::Go);
    assert_eq!(vm.notes(), [""; 0]);
}

#[test]
fn a_register_that_nobody_knows_is_noted_once() {
    let unknown = [3, 1, 15, 2, 0];
    let steps = [
        Step::exception(esr::mrs(4, unknown)).has(Reg::X(4), 77).then(Reg::X(4), 0).advances(),
        Step::exception(esr::msr(5, unknown)).advances(),
        end(),
    ];
    let (_session, vm, mut vcpu) = play(steps);
    ends(&mut vcpu, Resume::Go);
    let notes = vm.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("S3_1_C15_C2_0"), "{notes:?}");
}

#[test]
fn a_guest_cannot_fill_memory_with_notes() {
    let mrs = |crm: u8, op2: u8| Step::exception(esr::mrs(31, [3, 1, 15, crm, op2])).advances();
    let steps = (0..16).flat_map(|crm| (0..8).map(move |op2| mrs(crm, op2)));
    let (_session, vm, mut vcpu) = play(steps.chain([end()]));
    ends(&mut vcpu, Resume::Go);
    assert_eq!(vm.notes().len(), 32);
}

#[test]
fn a_run_before_the_vm_is_ready_is_refused() {
    use hv::{Hypervisor, VcpuSeed};
    let _session = Session::begin();
    let (vm, mut seeds) = hv_hvf::Hvf::open().unwrap().create(config()).unwrap();
    assert_eq!(vm.ready().unwrap_err().kind, Kind::Order);
    let mut vcpu = seeds.pop().unwrap().bind().unwrap();
    assert_eq!(vcpu.run(Resume::Go).unwrap_err().kind, Kind::Order);
}
