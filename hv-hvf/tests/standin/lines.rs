//! Interrupt lines and messages.

use hv::arch::aarch64::gic;
use hv::{EdgeLine, Hypervisor, Kind, LevelLine, VcpuSeed, Vm};
use hv_hvf::Hvf;
use hvf_standin::{Session, code};

use super::{boot, config, with_gic};

#[test]
fn an_edge_goes_up_and_down_and_a_level_stays() {
    let session = Session::begin();
    let (vm, _vcpu) = boot(with_gic());
    vm.edge(40).unwrap().pulse().unwrap();
    let level = vm.level(41).unwrap();
    level.set(true).unwrap();
    level.set(true).unwrap();
    level.set(false).unwrap();
    let calls = session.calls("hv_gic_set_spi");
    assert_eq!(calls, [[40, 1], [40, 0], [41, 1], [41, 1], [41, 0]]);
}

#[test]
fn lines_work_from_any_thread() {
    let session = Session::begin();
    let (vm, _vcpu) = boot(with_gic());
    let line = vm.edge(32).unwrap();
    std::thread::spawn(move || line.pulse().unwrap()).join().unwrap();
    assert_eq!(session.calls("hv_gic_set_spi").len(), 2);
}

#[test]
fn numbers_that_are_no_lines_are_refused_beforehand() {
    let _session = Session::begin();
    let (vm, _vcpu) = boot(with_gic());
    for line in [0, 31, 80, 143, 1020, u32::MAX] {
        assert_eq!(vm.edge(line).unwrap_err().kind, Kind::Invalid, "{line}");
        assert_eq!(vm.level(line).unwrap_err().kind, Kind::Invalid, "{line}");
    }
}

#[test]
fn messages_reach_the_frame_and_nothing_else() {
    let session = Session::begin();
    let (vm, _vcpu) = boot(with_gic());
    vm.signal_msi(gic::MSI_FRAME + 0x40, gic::FIRST_MSI).unwrap();
    assert_eq!(session.calls("hv_gic_send_msi"), [[0x0802_0040, 80]]);
    let error = vm.signal_msi(0xdead_0000, 80).unwrap_err();
    assert_eq!(error.kind, Kind::Invalid);
    assert!(error.to_string().contains("INTID 80 at GPA 0xdead0000"), "{error}");
}

#[test]
fn lines_and_messages_need_readiness_and_an_interrupt_controller() {
    let _session = Session::begin();
    let (vm, mut seeds) = Hvf::open().unwrap().create(with_gic()).unwrap();
    assert_eq!(vm.edge(40).unwrap_err().kind, Kind::Order);
    assert_eq!(vm.signal_msi(0, 80).unwrap_err().kind, Kind::Order);
    drop(seeds.pop().unwrap().bind().unwrap());
    drop((vm, seeds));
    let (vm, _vcpu) = boot(config());
    assert_eq!(vm.edge(40).unwrap_err().kind, Kind::Unsupported);
    assert_eq!(vm.level(40).unwrap_err().kind, Kind::Unsupported);
    assert_eq!(vm.signal_msi(0, 80).unwrap_err().kind, Kind::Unsupported);
}

#[test]
fn a_line_that_the_framework_refuses_is_named() {
    let session = Session::begin();
    let (vm, _vcpu) = boot(with_gic());
    let line = vm.level(50).unwrap();
    session.fail("hv_gic_set_spi", code::HV_ERROR);
    assert!(line.set(true).unwrap_err().to_string().contains("INTID 50"));
}
