//! Calls that come out: KVM's filter of SMCCC functions (kernel documentation
//! `virt/kvm/devices/vm.rst`, KVM_ARM_VM_SMCCC_CTRL; Linux 6.4).

use hv::{Error, Kind, Result};
use kvm_bindings::{
    KVM_ARM_VM_SMCCC_CTRL, KVM_ARM_VM_SMCCC_FILTER, KVM_CAP_COUNTER_OFFSET, kvm_device_attr,
    kvm_smccc_filter, kvm_smccc_filter_action_KVM_SMCCC_FILTER_FWD_TO_USER,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

use super::registers;

/// Whether there is such a filter. Only a VM could tell, and one would take milliseconds; this
/// ability came in the same version of Linux. [`show_hypercalls`] has the last word.
pub(crate) fn can_show_hypercalls(kvm: &Kvm) -> bool {
    kvm.check_extension_raw(KVM_CAP_COUNTER_OFFSET.into()) > 0
}

/// Has the guest's calls of `functions` come out.
pub(crate) fn show_hypercalls(vm: &VmFd, functions: &[u32]) -> Result<()> {
    for function in functions {
        let filter = kvm_smccc_filter {
            base: *function,
            nr_functions: 1,
            action: u8::try_from(kvm_smccc_filter_action_KVM_SMCCC_FILTER_FWD_TO_USER)
                .unwrap_or(u8::MAX),
            ..Default::default()
        };
        let attribute = kvm_device_attr {
            group: KVM_ARM_VM_SMCCC_CTRL,
            attr: KVM_ARM_VM_SMCCC_FILTER.into(),
            addr: (&raw const filter).expose_provenance() as u64,
            flags: 0,
        };
        vm.set_device_attr(&attribute).map_err(|error| {
            let refused = Error::errno("KVM_SET_DEVICE_ATTR", error.errno());
            let named = refused.at(format!("a filter that shows hypercall {function:#x}"));
            match error.errno() {
                libc::ENXIO => named.kind(Kind::Unsupported),
                libc::EEXIST => named.kind(Kind::Invalid).remedy("ask for each function once"),
                _ => named,
            }
        })?;
    }
    Ok(())
}

/// What a guest passes with a call.
pub(crate) fn arguments(fd: &VcpuFd) -> Option<[u64; 2]> {
    Some([registers::x(fd, 1).ok()?, registers::x(fd, 2).ok()?])
}
