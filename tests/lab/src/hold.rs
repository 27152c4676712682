//! Keeps the lab's kernel from patching its own code while tests run.
//!
//! KVM counts its users in static keys (kernel documentation, staging/static-keys): with the first
//! VM the scheduler's code is patched, with the last one it is patched back, and local APICs do the
//! same to KVM's. A CPU that runs into a place being patched finds an `int3` and tries again. QEMU 7.2
//! with one thread per CPU marks a page as holding code only after translating from it, so that CPU
//! may keep the `int3` for ever, and soon both hang in `__schedule`: about one run in three did.
//! While these vCPUs exist, which never run, no test is the first or the last user of any of the keys.

use crate::command::Result;
use kvm_ioctls::{Kvm, VcpuFd, VmFd};

/// The enable bit of IA32_APIC_BASE (Intel SDM volume 3, 11.4.3).
const APIC_ENABLED: u64 = 1 << 11;

/// Users of KVM that stay.
#[derive(Debug)]
pub(crate) struct Held {
    _vcpus: [VcpuFd; 2],
    _vms: [VmFd; 2],
}

/// Makes one vCPU without a local APIC, and one whose local APIC is off in both ways.
pub(crate) fn hold() -> Result<Held> {
    let context = |e| format!("cannot keep KVM in use: {e}");
    let kvm = Kvm::new().map_err(context)?;
    let bare = kvm.create_vm().map_err(context)?;
    let without_apic = bare.create_vcpu(0).map_err(context)?;
    let vm = kvm.create_vm().map_err(context)?;
    vm.create_irq_chip().map_err(context)?;
    let apic_off = vm.create_vcpu(0).map_err(context)?;
    let mut registers = apic_off.get_sregs().map_err(context)?;
    registers.apic_base &= !APIC_ENABLED;
    apic_off.set_sregs(&registers).map_err(context)?;
    Ok(Held { _vcpus: [without_apic, apic_off], _vms: [bare, vm] })
}
