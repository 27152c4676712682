//! The backend over a scripted stand-in for Hypervisor.framework: what it asks of the framework,
//! in which order, and what it makes of exits.

// clippy knows #[test] functions as tests, and not what they share.
#![allow(clippy::unwrap_used, clippy::panic)]
// UNSAFETY: the processor time of a thread is asked through libc.
#![allow(unsafe_code)]

mod calls;
mod exits;
mod idle;
mod kicks;
mod lines;
mod vcpus;
mod vms;

use std::sync::Arc;

use hv::{
    Address, Exit, GuestRam, Hypervisor, IrqChip, RamFlags, Resume, Vcpu, VcpuSeed, Vm, VmConfig,
    Width,
};
use hv_hvf::{Hvf, HvfVcpu, HvfVm};
use hvf_standin::{Session, Step, Width as W, esr};

/// Where RAM is.
const RAM: u64 = 0x4000_0000;
/// Where none is.
const MMIO: u64 = 0x1000_0000;

fn ram(len: u64) -> Arc<GuestRam> {
    GuestRam::new(len).unwrap()
}

fn config() -> VmConfig {
    VmConfig::new().ram(RAM, ram(1 << 20), RamFlags::default()).unwrap()
}

fn with_gic() -> VmConfig {
    config().irqchip(IrqChip::InKernel)
}

/// A VM of `config` with one vCPU, bound and ready.
fn boot(config: VmConfig) -> (HvfVm, HvfVcpu) {
    let (vm, mut seeds) = Hvf::open().unwrap().create(config).unwrap();
    let vcpu = seeds.pop().unwrap().bind().unwrap();
    vm.ready().unwrap();
    (vm, vcpu)
}

/// The same without an interrupt controller, playing `steps`.
fn play(steps: impl IntoIterator<Item = Step>) -> (Session, HvfVm, HvfVcpu) {
    let session = Session::begin();
    session.play(0, steps);
    let (vm, vcpu) = boot(config());
    (session, vm, vcpu)
}

fn read(at: u64, width: Width) -> Exit {
    Exit::Read { at: Address::Mmio(at), width }
}

fn write(at: u64, width: Width, value: u64) -> Exit {
    Exit::Write { at: Address::Mmio(at), width, value }
}

/// Ends a script: the guest writes, so that the step before is checked.
fn end() -> Step {
    Step::exception(esr::store(W::W1, 31)).at(MMIO + 0xff8).advances()
}

fn ends(vcpu: &mut HvfVcpu, resume: Resume) {
    assert_eq!(vcpu.run(resume).unwrap(), write(MMIO + 0xff8, Width::W1, 0));
}
