//! aarch64: this version cannot run guests here, and [`require`] says so before anything is made.

use std::ops::Range;

use hv::{Arch, Error, Kind, Result, State};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

pub(crate) const ARCH: Arch = Arch::Aarch64;

/// GICv3's SPIs.
pub(crate) const LINES: Range<u32> = 32..1020;

fn unsupported(op: &'static str) -> Error {
    Error::new(op, Kind::Unsupported, "hv-kvm runs guests on x86_64 hosts only in this version")
        .remedy("run it on an x86_64 machine")
}

pub(crate) fn require(_kvm: &Kvm) -> Result<()> {
    Err(unsupported("open /dev/kvm"))
}

pub(crate) fn address_bits() -> u8 {
    40
}

pub(crate) fn prepare(_vm: &VmFd) -> Result<()> {
    Ok(())
}

pub(crate) fn create_irqchip(_vm: &VmFd) -> Result<()> {
    Err(unsupported("KVM_CREATE_DEVICE"))
}

#[derive(Clone, Debug)]
pub(crate) struct VcpuSetup;

impl VcpuSetup {
    pub(crate) fn new(_kvm: &Kvm, _vcpus: u32) -> Result<Self> {
        Ok(Self)
    }

    pub(crate) fn apply(&self, _fd: &VcpuFd, _id: u32) -> Result<Vec<String>> {
        Err(unsupported("KVM_ARM_VCPU_INIT"))
    }
}

pub(crate) fn pc(_fd: &VcpuFd) -> Option<u64> {
    None
}

pub(crate) fn is_asleep(_fd: &VcpuFd) -> bool {
    false
}

pub(crate) fn translate(_fd: &VcpuFd, _address: u64) -> Option<u64> {
    None
}

pub(crate) fn state(_fd: &VcpuFd) -> Result<State> {
    Err(unsupported("KVM_GET_ONE_REG"))
}

pub(crate) fn set_state(_fd: &VcpuFd, _state: &State) -> Result<()> {
    Err(unsupported("KVM_SET_ONE_REG"))
}
