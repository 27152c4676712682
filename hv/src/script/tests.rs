use std::io::Read;
use std::os::fd::AsFd;

use super::*;
use crate::exit::{Address, Width};
use crate::mem::GuestRam;
use crate::traits::{Doorbell, EdgeLine, Kicker, Vcpu, VcpuSeed, Vm};
use crate::{IrqChip, Kind, RamFlags};

const READ: Exit = Exit::Read { at: Address::Port(0x60), width: Width::W1 };
const WRITE: Exit = Exit::Write { at: Address::Mmio(0x1000_0000), width: Width::W4, value: 9 };

fn config() -> VmConfig {
    VmConfig::new()
        .ram(0, GuestRam::new(1 << 20).unwrap(), RamFlags::default())
        .unwrap()
        .irqchip(IrqChip::InKernel)
}

fn one(steps: impl IntoIterator<Item = Step>) -> (Script, ScriptVm, ScriptVcpu) {
    let script = Script::new(Arch::X86_64);
    script.play(0, steps);
    let (vm, mut seeds) = script.create(config()).unwrap();
    let vcpu = seeds.pop().unwrap().bind().unwrap();
    vm.ready().unwrap();
    (script, vm, vcpu)
}

#[test]
fn exits_come_in_order_and_answers_are_recorded() {
    let (script, _vm, mut vcpu) = one([Step::Exit(READ), Step::Exit(WRITE)]);
    assert_eq!(vcpu.run(Resume::Go).unwrap(), READ);
    assert_eq!(vcpu.run(Resume::Value(7)).unwrap(), WRITE);
    assert_eq!(
        script.events(),
        [Event::Resumed(0, Resume::Go), Event::Resumed(0, Resume::Value(7))]
    );
}

#[test]
fn a_wrong_answer_is_refused_and_leaves_the_access_open() {
    let (_script, _vm, mut vcpu) = one([Step::Exit(READ), Step::Exit(WRITE)]);
    vcpu.run(Resume::Go).unwrap();
    assert_eq!(vcpu.run(Resume::Go).unwrap_err().kind, Kind::Order);
    assert_eq!(vcpu.state().unwrap_err().kind, Kind::Order);
    assert_eq!(vcpu.run(Resume::Value(1)).unwrap(), WRITE);
}

#[test]
fn the_rest_of_an_instruction_comes_before_a_kick() {
    let (_script, _vm, mut vcpu) = one([Step::Exit(READ), Step::Same(WRITE), Step::Exit(READ)]);
    let kicker = {
        vcpu.run(Resume::Go).unwrap();
        vcpu.kicker()
    };
    kicker.kick();
    assert_eq!(vcpu.run(Resume::Value(1)).unwrap(), WRITE);
    assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Kicked);
    assert_eq!(vcpu.run(Resume::Go).unwrap(), READ);
}

#[test]
fn settle_hands_out_the_rest_of_an_instruction_and_then_nothing() {
    let (_script, _vm, mut vcpu) = one([Step::Exit(WRITE), Step::Same(READ), Step::Exit(WRITE)]);
    vcpu.run(Resume::Go).unwrap();
    assert_eq!(vcpu.settle(Resume::Go).unwrap(), Some(READ));
    assert_eq!(vcpu.settle(Resume::Value(0)).unwrap(), None);
    vcpu.state().unwrap();
}

#[test]
fn behind_the_end_of_the_script_a_vcpu_waits_for_a_kick() {
    let (_script, _vm, mut vcpu) = one([]);
    let kicker = vcpu.kicker();
    let thread = std::thread::spawn(move || kicker.kick());
    assert_eq!(vcpu.run(Resume::Go).unwrap(), Exit::Kicked);
    thread.join().unwrap();
}

#[test]
fn an_injected_error_comes_out_once() {
    let script = Script::new(Arch::X86_64);
    script.fail(Op::Create, Error::errno("KVM_CREATE_VM", libc::ENOMEM));
    assert_eq!(script.create(config()).unwrap_err().kind, Kind::Exhausted);
    script.create(config()).unwrap();
}

#[test]
fn one_vcpu_that_fails_to_bind_keeps_all_from_running() {
    let script = Script::new(Arch::X86_64);
    let (vm, mut seeds) = script.create(config().vcpus(2)).unwrap();
    let mut bound = seeds.pop().unwrap().bind().unwrap();
    script.fail(Op::Bind, Error::errno("KVM_CREATE_VCPU", libc::ENOMEM));
    assert!(seeds.pop().unwrap().bind().is_err());
    assert_eq!(vm.ready().unwrap_err().kind, Kind::Order);
    assert_eq!(bound.run(Resume::Go).unwrap_err().kind, Kind::Order);
}

#[test]
fn a_doorbell_takes_its_writes_and_no_others_until_it_is_dropped() {
    let other = Exit::Write { at: Address::Mmio(0x1000_0000), width: Width::W4, value: 1 };
    let (_script, vm, mut vcpu) = one([WRITE, other, WRITE].map(Step::Exit));
    let (mut reader, writer) = std::io::pipe().unwrap();
    let bell = Doorbell { at: Address::Mmio(0x1000_0000), value: Some((Width::W4, 9)) };
    let registration = vm.doorbell(bell, writer.as_fd()).unwrap();
    assert_eq!(vcpu.run(Resume::Go).unwrap(), other);
    let mut count = [0; 8];
    reader.read_exact(&mut count).unwrap();
    drop(registration);
    assert_eq!(vcpu.run(Resume::Go).unwrap(), WRITE);
}

#[test]
fn lines_need_readiness_and_an_irqchip() {
    let script = Script::new(Arch::X86_64);
    let (vm, mut seeds) = script.create(config()).unwrap();
    assert_eq!(vm.edge(4).unwrap_err().kind, Kind::Order);
    let _vcpu = seeds.pop().unwrap().bind().unwrap();
    vm.ready().unwrap();
    vm.edge(4).unwrap().pulse().unwrap();
    assert_eq!(script.events(), [Event::Pulsed(4)]);
    let (vm, mut seeds) = script.create(config().irqchip(IrqChip::None)).unwrap();
    let _vcpu = seeds.pop().unwrap().bind().unwrap();
    vm.ready().unwrap();
    assert_eq!(vm.edge(4).unwrap_err().kind, Kind::Unsupported);
}
