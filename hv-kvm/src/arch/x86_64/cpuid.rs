//! The CPUID leaves a guest sees: what KVM supports here, made true for this VM's number of CPUs
//! (Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E; `virt/kvm/x86/cpuid.rst`).

use hv::{Error, Kind, Result};
use kvm_bindings::{CpuId, kvm_cpuid_entry2};
use kvm_ioctls::VcpuFd;

use super::VcpuSetup;
use crate::error::call_at;

/// Leaf 1 ECX: VMX. Nested guests are not offered.
const VMX: u32 = 1 << 5;
/// Leaf 1 ECX: the TSC deadline timer, which older kernels leave out of what they support.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1 ECX: a hypervisor is present.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 EDX: EBX 23:16 counts logical processors.
const HTT: u32 = 1 << 28;
/// Leaf 8000_0001 ECX: SVM. Nested guests are not offered.
const SVM: u32 = 1 << 2;

/// Gives vCPU `id` its CPUID. A host that refuses the table gets it as KVM made it, and one that
/// refuses that as well keeps its own; both are said.
pub(super) fn apply(fd: &VcpuFd, setup: &VcpuSetup, id: u32) -> Result<Vec<String>> {
    offer(fd, setup, table(setup, id), id)
}

fn offer(fd: &VcpuFd, setup: &VcpuSetup, table: CpuId, id: u32) -> Result<Vec<String>> {
    let Err(error) = fd.set_cpuid2(&table) else {
        return Ok(Vec::new());
    };
    let mut refused =
        vec![format!("the host refused our CPUID leaves ({error}): it keeps its own")];
    if let Err(error) = fd.set_cpuid2(&setup.supported) {
        refused.push(format!("the host refused the CPUID leaves it supports ({error})"));
        // Without any the guest has no long mode: that is worth failing for.
        let none = || format!("vCPU {id} has no CPUID leaves");
        let leaves = call_at("KVM_GET_CPUID2", fd.get_cpuid2(256), none)?;
        if leaves.as_slice().is_empty() {
            return Err(Error::new("KVM_SET_CPUID2", Kind::Host, none()));
        }
    }
    Ok(refused)
}

fn table(setup: &VcpuSetup, id: u32) -> CpuId {
    let mut table = CpuId::clone(&setup.supported);
    for entry in table.as_mut_slice() {
        adjust(entry, setup, id);
    }
    table
}

/// Makes one leaf true for CPU `id` of a single package with a thread per core.
fn adjust(entry: &mut kvm_cpuid_entry2, setup: &VcpuSetup, id: u32) {
    let cpus = setup.vcpus;
    let id_bits = cpus.next_power_of_two().trailing_zeros();
    match (entry.function, entry.index) {
        (1, _) => {
            entry.ebx = entry.ebx & 0x0000_ffff | cpus.min(255) << 16 | (id & 0xff) << 24;
            entry.ecx = entry.ecx & !VMX | HYPERVISOR;
            if setup.deadline_timer {
                entry.ecx |= TSC_DEADLINE;
            }
            entry.edx = if cpus > 1 { entry.edx | HTT } else { entry.edx & !HTT };
        }
        // Deterministic cache parameters: caches private to a core, cores of the package.
        (4, _) if entry.eax & 0x1f != 0 => {
            entry.eax = entry.eax & 0x0000_3fff | (cpus - 1).min(63) << 26;
        }
        // Extended topology: level 0 threads, level 1 cores.
        (0xb | 0x1f, 0) => {
            (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 1, 1 << 8, id);
        }
        (0xb | 0x1f, 1) => {
            (entry.eax, entry.ebx, entry.ecx, entry.edx) = (id_bits, cpus, 2 << 8 | 1, id);
        }
        (0xb | 0x1f, index) => {
            (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, index & 0xff, id);
        }
        (0x8000_0001, _) => entry.ecx &= !SVM,
        (0x8000_0008, _) => {
            entry.ecx = entry.ecx & !0xf0ff | (cpus - 1).min(255) | id_bits << 12;
        }
        (0x8000_001e, _) => {
            (entry.eax, entry.ebx, entry.ecx) = (id, id & 0xff, 0);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn leaf(function: u32, index: u32, vcpus: u32, id: u32) -> kvm_cpuid_entry2 {
        let all = u32::MAX;
        let mut entry = kvm_cpuid_entry2 { function, index, ..Default::default() };
        (entry.eax, entry.ebx, entry.ecx, entry.edx) = (all, all, all, all);
        let supported = Arc::new(CpuId::new(0).unwrap());
        adjust(&mut entry, &VcpuSetup { supported, deadline_timer: true, vcpus }, id);
        entry
    }

    #[test]
    fn leaf_1_carries_the_apic_id_the_number_of_cpus_and_no_vmx() {
        let entry = leaf(1, 0, 4, 3);
        assert_eq!(entry.ebx >> 16, 3 << 8 | 4);
        assert_eq!(entry.ecx & (VMX | HYPERVISOR | TSC_DEADLINE), HYPERVISOR | TSC_DEADLINE);
        assert_eq!(entry.edx & HTT, HTT);
        assert_eq!(leaf(1, 0, 1, 0).edx & HTT, 0);
    }

    #[test]
    fn the_topology_leaves_hold_every_cpu_in_one_package() {
        let cores = leaf(0xb, 1, 6, 5);
        assert_eq!((cores.eax, cores.ebx, cores.ecx, cores.edx), (3, 6, 0x201, 5));
        let end = leaf(0x1f, 2, 6, 5);
        assert_eq!((end.eax, end.ebx, end.ecx, end.edx), (0, 0, 2, 5));
    }

    #[test]
    fn nested_virtualization_is_not_offered_on_amd_either() {
        assert_eq!(leaf(0x8000_0001, 0, 1, 0).ecx & SVM, 0);
    }

    #[test]
    fn a_host_that_refuses_our_leaves_gets_its_own_and_says_so() {
        let Some((kvm, vm, fd)) = crate::arch::x86_64::tests::vcpu() else { return };
        let setup = VcpuSetup::new(&kvm, &vm, hv::IrqChip::None, 1).unwrap();
        // KVM refuses a table whose linear address width is impossible.
        let mut table = table(&setup, 0);
        for entry in table.as_mut_slice() {
            if entry.function == 0x8000_0008 {
                entry.eax = 0x3100 | (entry.eax & 0xff);
            }
        }
        let refused = offer(&fd, &setup, table, 0).unwrap();
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].contains("refused our CPUID leaves"), "{refused:?}");
    }
}
