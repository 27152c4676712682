//! vCPUs: registers, identity, threads.

use std::sync::Barrier;

use hv::arch::aarch64::State as Registers;
use hv::{Hypervisor, Kind, State, Vcpu, VcpuSeed, Vm, arch};
use hv_hvf::Hvf;
use hvf_standin::{Reg, Session, SysReg, code};

use super::{RAM, boot, config, with_gic};

fn aarch64(state: State) -> Registers {
    match state {
        State::Aarch64(state) => state,
        other => panic!("{other:?}"),
    }
}

#[test]
fn registers_come_back_as_they_were_written() {
    let session = Session::begin();
    let (_vm, mut vcpu) = boot(config());
    let mut state = Registers::el1(RAM + 0x8_0000, 0x4400_0000);
    for (index, x) in (1..).zip(&mut state.x[1..]) {
        *x = index << 32 | 5;
    }
    state.sp_el1 = RAM + 0x1000;
    vcpu.set_state(&state.clone().into()).unwrap();
    assert_eq!(aarch64(vcpu.state().unwrap()), state);
    assert_eq!(session.register(0, Reg::X(0)), Some(0x4400_0000));
    assert_eq!(session.register(0, Reg::X(30)), Some(30 << 32 | 5));
    assert_eq!(session.register(0, Reg::Pc), Some(RAM + 0x8_0000));
    assert_eq!(session.register(0, Reg::Cpsr), Some(0x3c5));
    assert_eq!(session.register(0, Reg::Sys(SysReg::SP_EL1)), Some(RAM + 0x1000));
}

#[test]
fn registers_of_another_architecture_are_refused() {
    let _session = Session::begin();
    let (_vm, mut vcpu) = boot(config());
    let state = State::X86_64(arch::x86_64::State::default());
    assert_eq!(vcpu.set_state(&state).unwrap_err().kind, Kind::Invalid);
}

#[test]
fn a_register_the_framework_refuses_is_named() {
    let session = Session::begin();
    let (_vm, mut vcpu) = boot(config());
    session.fail("hv_vcpu_set_sys_reg", code::HV_BAD_ARGUMENT);
    let error = vcpu.set_state(&Registers::default().into()).unwrap_err();
    assert_eq!(error.kind, Kind::Invalid);
    assert!(error.to_string().contains("SP_EL1"), "{error}");
    session.fail("hv_vcpu_get_reg", code::HV_ERROR);
    assert!(vcpu.state().unwrap_err().to_string().contains("PC"), "{error}");
}

#[test]
fn a_guest_sees_a_gic_where_there_is_one_and_no_feature_that_the_vm_lacks() {
    let session = Session::begin();
    let register = |number| session.register(0, Reg::Sys(number)).unwrap();
    for (config, pfr0) in [(with_gic(), 0x0111_0011), (config(), 0x0011_0011)] {
        let (vm, _vcpu) = boot(config);
        assert_eq!(register(SysReg::ID_AA64PFR0_EL1), pfr0);
        assert_eq!(register(SysReg::ID_AA64PFR1_EL1), 0x21);
        assert_eq!(register(SysReg::ID_AA64DFR0_EL1), 0x1030_5008);
        assert_eq!(register(SysReg::ID_AA64MMFR0_EL1), 0x1000_1010_1122);
        assert_eq!(register(SysReg::MPIDR_EL1), 0x8000_0000);
        assert_eq!(vm.notes(), [""; 0]);
    }
}

#[test]
fn an_id_register_that_macos_keeps_is_noted_unless_the_guest_could_not_live_with_it() {
    let session = Session::begin();
    session.host(|host| host.fixed = vec![SysReg::ID_AA64DFR0_EL1]);
    let (vm, _vcpu) = boot(with_gic());
    assert!(vm.notes()[0].contains("ID_AA64DFR0_EL1 at 0x10305408"), "{:?}", vm.notes());
    drop((vm, _vcpu));

    session.host(|host| host.fixed = vec![SysReg::ID_AA64PFR0_EL1]);
    let (vm, mut seeds) = Hvf::open().unwrap().create(with_gic()).unwrap();
    let error = seeds.pop().unwrap().bind().unwrap_err();
    assert_eq!(error.kind, Kind::Unsupported);
    assert!(error.to_string().contains("vCPU 0: macOS does not change ID_AA64PFR0_EL1"), "{error}");
    drop(vm);

    session.host(|host| host.fixed = vec![SysReg::MPIDR_EL1]);
    let (_vm, mut seeds) = Hvf::open().unwrap().create(config().vcpus(2)).unwrap();
    let error = seeds.pop().unwrap().bind().unwrap_err();
    assert!(error.to_string().contains("vCPU 1: macOS does not change MPIDR_EL1"), "{error}");
}

#[test]
fn every_vcpu_lives_on_its_own_thread_with_its_own_affinity() {
    let session = Session::begin();
    let (vm, seeds) = Hvf::open().unwrap().create(with_gic().vcpus(20)).unwrap();
    let (bound, looked) = (Barrier::new(21), Barrier::new(21));
    std::thread::scope(|scope| {
        for seed in seeds {
            let (bound, looked) = (&bound, &looked);
            scope.spawn(move || {
                let _vcpu = seed.bind().unwrap();
                bound.wait();
                looked.wait();
            });
        }
        bound.wait();
        vm.ready().unwrap();
        let affinity = |number| session.register(number, Reg::Sys(SysReg::MPIDR_EL1));
        let mut found: Vec<u64> = (0..20).filter_map(affinity).collect();
        looked.wait();
        found.sort_unstable();
        let first = (0..16u64).map(|index| 0x8000_0000 | index);
        let rest = (0..4u64).map(|index| 0x8000_0100 | index);
        let expected: Vec<u64> = first.chain(rest).collect();
        assert_eq!(found, expected);
    });
}

#[test]
fn a_vcpu_that_cannot_be_made_is_named_and_keeps_the_vm_from_being_ready() {
    let session = Session::begin();
    let (vm, mut seeds) = Hvf::open().unwrap().create(config().vcpus(2)).unwrap();
    let other = seeds.pop().unwrap();
    let vcpu = seeds.pop().unwrap().bind().unwrap();
    session.fail("hv_vcpu_create", code::HV_NO_RESOURCES);
    let error = std::thread::spawn(move || other.bind().map(drop).unwrap_err()).join().unwrap();
    assert_eq!(error.kind, Kind::Exhausted);
    assert!(error.to_string().starts_with("hv_vcpu_create: vCPU 1"), "{error}");
    assert_eq!(vm.ready().unwrap_err().kind, Kind::Order);
    drop(vcpu);
}

#[test]
fn a_second_vcpu_on_one_thread_is_an_error() {
    let _session = Session::begin();
    let (_vm, mut seeds) = Hvf::open().unwrap().create(config().vcpus(2)).unwrap();
    let _first = seeds.pop().unwrap().bind().unwrap();
    assert_eq!(seeds.pop().unwrap().bind().unwrap_err().kind, Kind::Busy);
}

#[test]
fn a_vcpu_that_was_not_finished_is_not_left_behind() {
    let session = Session::begin();
    let (_vm, mut seeds) = Hvf::open().unwrap().create(config()).unwrap();
    session.fail("hv_vcpu_set_sys_reg", code::HV_UNSUPPORTED);
    assert_eq!(seeds.pop().unwrap().bind().unwrap_err().kind, Kind::Unsupported);
    assert_eq!(session.calls("hv_vcpu_destroy").len(), 1);
}
