//! aarch64: what a VM needs before its vCPUs, and the vCPUs' features and registers (api.rst, where it
//! says arm64, and `virt/kvm/devices/` beside it).

mod gic;
mod hypercalls;
mod ids;
mod monitors;
mod registers;

use std::ops::Range;

use hv::arch::aarch64::{gic as layout, mpidr};
use hv::{Arch, Error, IrqChip, Kind, Result};
use kvm_bindings::{
    KVM_ARM_IRQ_TYPE_SHIFT, KVM_ARM_IRQ_TYPE_SPI, KVM_ARM_VCPU_PMU_V3, KVM_ARM_VCPU_POWER_OFF,
    KVM_ARM_VCPU_PSCI_0_2, KVM_CAP_ARM_NISV_TO_USER, kvm_enable_cap, kvm_vcpu_init,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd, VmFd};

use crate::error::call;

pub(crate) use gic::Controller;
pub(crate) use hypercalls::{arguments, can_show_hypercalls, show_hypercalls};
pub(crate) use monitors::monitors;
pub(crate) use registers::{
    allow_vectors, argument, counter_hz, is_asleep, pc, set_state, state, translate,
};

pub(crate) const ARCH: Arch = Arch::Aarch64;

/// The bytes of an instruction, at most.
pub(crate) const INSTRUCTION: usize = 4;

/// GICv3's SPIs, as many as QEMU's machine `virt` has.
pub(crate) const LINES: Range<u32> = 32..288;

/// How many vCPUs a VM can have of the `most` that KVM makes: each needs its redistributor.
pub(crate) fn max_vcpus(most: u32) -> u32 {
    most.min(layout::MAX_VCPUS)
}

/// Messages need an ITS, which we do not make.
pub(crate) const HAS_MSI: bool = false;

/// What to do without /dev/kvm.
pub(crate) const NO_DEVICE: &str = "boot a kernel with CONFIG_KVM from firmware that starts it at \
                                    EL2, or see `runner doctor` for what hides it";

/// Refuses a KVM that lacks what everything here builds on.
pub(crate) fn require(kvm: &Kvm) -> Result<()> {
    let missing = |name, from| {
        Err(Error::new("KVM_CHECK_EXTENSION", Kind::Unsupported, name)
            .remedy(format!("a newer kernel is needed ({from} or later)")))
    };
    let needed = [
        (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
        (Cap::OneReg, "KVM_CAP_ONE_REG"),
        (Cap::ArmPsci02, "KVM_CAP_ARM_PSCI_0_2"),
        (Cap::DeviceCtrl, "KVM_CAP_DEVICE_CTRL"),
        (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
    ];
    if let Some((_, name)) = needed.into_iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
        return missing(name, "4.12");
    }
    // Without it KVM_RUN fails with ENOSYS at a guest's LDP to a device, and nobody knows where.
    if kvm.check_extension_raw(KVM_CAP_ARM_NISV_TO_USER.into()) <= 0 {
        return missing("KVM_CAP_ARM_NISV_TO_USER", "5.5");
    }
    Ok(())
}

/// Guest physical address bits. kvm-ioctls creates VMs with as many; a kernel that does not say has 40.
pub(crate) fn address_bits(kvm: &Kvm) -> u8 {
    match u8::try_from(kvm.get_host_ipa_limit()) {
        Ok(0) | Err(_) => 40,
        Ok(bits) => bits,
    }
}

/// What must be there before memory and vCPUs.
pub(crate) fn prepare(vm: &VmFd) -> Result<()> {
    let cap = kvm_enable_cap { cap: KVM_CAP_ARM_NISV_TO_USER, ..Default::default() };
    call("KVM_ENABLE_CAP", vm.enable_cap(&cap))
        .map_err(|error| error.at("accesses without syndrome"))
}

/// It is a PC's.
pub(crate) fn has_interval_timer(_kvm: &Kvm) -> bool {
    false
}

/// None is asked for, since none can be had.
pub(crate) fn create_interval_timer(_vm: &VmFd) -> Result<()> {
    Ok(())
}

/// What KVM_IRQ_LINE calls the SPI `line` (api.rst 4.25).
pub(crate) const fn irq(line: u32) -> u32 {
    KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | line
}

/// What every vCPU of a VM is given, asked of the host once.
#[derive(Clone, Debug)]
pub(crate) struct VcpuSetup {
    /// The processor that KVM makes best here.
    target: u32,
    gic: bool,
    monitors: bool,
    address_bits: u8,
}

impl VcpuSetup {
    pub(crate) fn new(kvm: &Kvm, vm: &VmFd, irqchip: IrqChip, _vcpus: u32) -> Result<Self> {
        let mut init = kvm_vcpu_init::default();
        call("KVM_ARM_PREFERRED_TARGET", vm.get_preferred_target(&mut init))?;
        let gic = irqchip == IrqChip::InKernel;
        Ok(Self { target: init.target, gic, monitors: false, address_bits: address_bits(kvm) })
    }

    /// The same, with performance monitors.
    pub(crate) fn with_monitors(self) -> Self {
        Self { monitors: true, ..self }
    }

    /// Initializes the vCPU: PSCI in the kernel, powered off but for the first. Says what the host
    /// refused and the guest can do without.
    pub(crate) fn apply(&self, fd: &VcpuFd, id: u32) -> Result<Vec<String>> {
        let mut init = kvm_vcpu_init { target: self.target, ..Default::default() };
        let off = if id == 0 { 0 } else { 1 << KVM_ARM_VCPU_POWER_OFF };
        let counts = if self.monitors { 1 << KVM_ARM_VCPU_PMU_V3 } else { 0 };
        init.features[0] = 1 << KVM_ARM_VCPU_PSCI_0_2 | off | counts;
        let named = |error: Error| error.at(format!("vCPU {id}"));
        call("KVM_ARM_VCPU_INIT", fd.vcpu_init(&init)).map_err(named)?;
        let affinity = registers::system(fd, registers::MPIDR_EL1)?;
        if affinity != mpidr(id) {
            let why = format!("vCPU {id} has MPIDR {affinity:#x}, not {:#x}", mpidr(id));
            return Err(Error::new("KVM_ARM_VCPU_INIT", Kind::Unsupported, why)
                .remedy("please report it with the version of the kernel"));
        }
        if self.monitors {
            monitors::finish(fd).map_err(named)?;
        }
        ids::apply(fd, self.gic, self.monitors, self.address_bits)
    }
}
