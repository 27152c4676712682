//! Performance monitors that count (kernel documentation `virt/kvm/devices/vcpu.rst`,
//! KVM_ARM_VCPU_PMU_V3_CTRL).

use hv::arch::aarch64::gic::MONITORS;
use hv::{Monitors, Result};
use kvm_bindings::{
    KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_INIT, KVM_ARM_VCPU_PMU_V3_IRQ, kvm_device_attr,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd};

use crate::error::call_at;

/// What this KVM has.
pub(crate) fn monitors(kvm: &Kvm) -> Monitors {
    match kvm.check_extension(Cap::ArmPmuV3) {
        true => Monitors::Counting,
        false => Monitors::Absent,
    }
}

/// Gives those of an initialized vCPU their interrupt. The controller is finished, and the vCPU has not run.
pub(super) fn finish(fd: &VcpuFd) -> Result<()> {
    // KVM reads an `int`.
    let interrupt: i32 = MONITORS.cast_signed();
    let addr = (&raw const interrupt).expose_provenance() as u64;
    set(fd, KVM_ARM_VCPU_PMU_V3_IRQ, addr)?;
    set(fd, KVM_ARM_VCPU_PMU_V3_INIT, 0)
}

fn set(fd: &VcpuFd, attr: u32, addr: u64) -> Result<()> {
    let attribute =
        kvm_device_attr { group: KVM_ARM_VCPU_PMU_V3_CTRL, attr: attr.into(), addr, flags: 0 };
    call_at("KVM_SET_DEVICE_ATTR", fd.set_device_attr(&attribute), || {
        format!("attribute {attr} of the performance monitors")
    })
}
