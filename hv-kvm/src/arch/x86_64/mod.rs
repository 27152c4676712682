//! x86_64: what a VM needs before its vCPUs, and the vCPUs' CPUID, MSRs and registers.

mod cpuid;
mod msrs;
mod registers;

use std::arch::x86_64::__cpuid;
use std::ops::Range;
use std::sync::Arc;

use hv::{Arch, Error, IrqChip, Kind, Monitors, Result};
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, KVM_PIT_SPEAKER_DUMMY, kvm_pit_config};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};

use crate::error::call;

pub(crate) use registers::{argument, counter_hz, is_asleep, pc, set_state, state, translate};

pub(crate) const ARCH: Arch = Arch::X86_64;

/// The bytes of an instruction, at most.
pub(crate) const INSTRUCTION: usize = 15;

/// The IOAPIC's pins.
pub(crate) const LINES: Range<u32> = 0..24;

/// How many vCPUs a VM can have of the `most` that KVM makes: all.
pub(crate) const fn max_vcpus(most: u32) -> u32 {
    most
}

/// Local APICs take messages.
pub(crate) const HAS_MSI: bool = true;

/// What to do without /dev/kvm.
pub(crate) const NO_DEVICE: &str = "load the module (sudo modprobe kvm_intel or kvm_amd), or see \
                                    `runner doctor` for what hides it";

/// Three pages for the task state segment that Intel's real mode needs, and below them one for its
/// identity map (api.rst 4.35, 4.43): under the 4 GiB boundary, where no RAM and no device is.
const TSS_ADDRESS: usize = 0xfffb_d000;
const IDENTITY_MAP_ADDRESS: u64 = 0xfffb_c000;

/// Refuses a KVM that lacks what everything here builds on.
pub(crate) fn require(kvm: &Kvm) -> Result<()> {
    let needed = [
        (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
        (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
        (Cap::Irqfd, "KVM_CAP_IRQFD"),
        (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
        (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
        (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
    ];
    match needed.into_iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
        None => Ok(()),
        Some((_, name)) => Err(Error::new("KVM_CHECK_EXTENSION", Kind::Unsupported, name)
            .remedy("a newer kernel is needed (4.12 or later)")),
    }
}

/// Physical address bits, as the processor itself has them (AMD APM volume 3, leaf 8000_0008).
pub(crate) fn address_bits(_kvm: &Kvm) -> u8 {
    if __cpuid(0x8000_0000).eax < 0x8000_0008 {
        return 36;
    }
    let [bits, ..] = __cpuid(0x8000_0008).eax.to_le_bytes();
    bits
}

/// What must be there before memory and vCPUs. Intel needs both addresses; elsewhere they are two
/// calls that do nothing.
pub(crate) fn prepare(vm: &VmFd) -> Result<()> {
    call("KVM_SET_IDENTITY_MAP_ADDR", vm.set_identity_map_address(IDENTITY_MAP_ADDRESS))?;
    call("KVM_SET_TSS_ADDR", vm.set_tss_address(TSS_ADDRESS))
}

/// PIC, IOAPIC and a local APIC per vCPU, in the kernel.
#[derive(Debug)]
pub(crate) struct Controller;

impl Controller {
    pub(crate) fn create(vm: &VmFd) -> Result<Self> {
        call("KVM_CREATE_IRQCHIP", vm.create_irq_chip()).map(|()| Self)
    }

    /// All vCPUs have been created; each brought its local APIC along.
    pub(crate) fn finish(&self) -> Result<()> {
        Ok(())
    }

    /// What a line is, a guest says to its IOAPIC before it lets it interrupt.
    pub(crate) fn make_level(&self, _line: u32) -> Result<()> {
        Ok(())
    }
}

/// Whether [`create_interval_timer`] can make one.
pub(crate) fn has_interval_timer(kvm: &Kvm) -> bool {
    kvm.check_extension(Cap::Pit2)
}

/// An Intel 8254 in the kernel, behind line 0, and the speaker's port, by which guests start its counter 2 and
/// wait for it.
pub(crate) fn create_interval_timer(vm: &VmFd) -> Result<()> {
    let config = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
    call("KVM_CREATE_PIT2", vm.create_pit2(config))
}

/// They are arm64's.
pub(crate) fn monitors(_kvm: &Kvm) -> Monitors {
    Monitors::Absent
}

/// KVM_IRQ_LINE calls a line as we do.
pub(crate) const fn irq(line: u32) -> u32 {
    line
}

/// VMCALL is answered in the kernel.
pub(crate) fn can_show_hypercalls(_kvm: &Kvm) -> bool {
    false
}

/// None is asked for, since none can be had.
pub(crate) fn show_hypercalls(_vm: &VmFd, _functions: &[u32]) -> Result<()> {
    Ok(())
}

/// Calls that nobody asked for come without.
pub(crate) fn arguments(_fd: &VcpuFd) -> Option<[u64; 2]> {
    None
}

/// More leaves of CPUID than today's processors have, and half of what the call allows: all are made
/// room for, and copied.
const LEAVES: usize = 128;

/// What every vCPU of a VM is given, asked of the host once.
#[derive(Clone, Debug)]
pub(crate) struct VcpuSetup {
    supported: Arc<CpuId>,
    deadline_timer: bool,
    vcpus: u32,
}

impl VcpuSetup {
    pub(crate) fn new(kvm: &Kvm, _vm: &VmFd, _irqchip: IrqChip, vcpus: u32) -> Result<Self> {
        let supported = match kvm.get_supported_cpuid(LEAVES) {
            Err(error) if error.errno() == libc::E2BIG => {
                kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            }
            supported => supported,
        };
        Ok(Self {
            supported: Arc::new(call("KVM_GET_SUPPORTED_CPUID", supported)?),
            deadline_timer: kvm.check_extension(Cap::TscDeadlineTimer),
            vcpus,
        })
    }

    /// None is asked for, since none can be had.
    pub(crate) fn with_monitors(self) -> Self {
        self
    }

    /// Sets CPUID and MSRs, and says what the host refused and the guest can do without.
    pub(crate) fn apply(&self, fd: &VcpuFd, id: u32) -> Result<Vec<String>> {
        let mut refused = cpuid::apply(fd, self, id)?;
        refused.extend(msrs::apply(fd));
        Ok(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vCPU on this host's KVM, for tests that need one; without a KVM they are skipped.
    pub(super) fn vcpu() -> Option<(Kvm, VmFd, VcpuFd)> {
        let kvm = match Kvm::new() {
            Ok(kvm) => kvm,
            Err(error) => {
                println!("skipped: open /dev/kvm: {error}");
                return None;
            }
        };
        let vm = kvm.create_vm().unwrap();
        prepare(&vm).unwrap();
        let fd = vm.create_vcpu(0).unwrap();
        Some((kvm, vm, fd))
    }
}
