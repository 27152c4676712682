//! The framework's numbers of registers in KVM's (Linux, Documentation/virt/kvm/api.rst 4.68,
//! KVM_SET_ONE_REG; asm/kvm.h).

use kvm_bindings::{
    KVM_REG_ARM_CORE, KVM_REG_ARM64, KVM_REG_SIZE_U32, KVM_REG_SIZE_U64, KVM_REG_SIZE_U128,
};

use crate::script::Reg;

/// `struct kvm_regs` counts in words of four bytes.
const fn core(offset: u64) -> u64 {
    KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE as u64 | (offset / 4)
}

const fn system(number: u16) -> u64 {
    /// KVM_REG_ARM64_SYSREG.
    const SYSREG: u64 = 0x0013 << 16;
    KVM_REG_ARM64 | KVM_REG_SIZE_U64 | SYSREG | number as u64
}

pub(super) const SP_EL0: u64 = core(31 * 8);
pub(super) const PC: u64 = core(32 * 8);
pub(super) const PSTATE: u64 = core(33 * 8);
pub(super) const SP_EL1: u64 = core(34 * 8);
pub(super) const ELR_EL1: u64 = core(35 * 8);
pub(super) const SPSR_EL1: u64 = core(36 * 8);
/// Behind five SPSRs, aligned to 16 bytes.
const VREGS: u64 = 336;
const STATUS: u64 = VREGS + 32 * 16;

pub(super) const SCTLR_EL1: u64 = system(0xc080);
pub(super) const TTBR0_EL1: u64 = system(0xc100);
pub(super) const TTBR1_EL1: u64 = system(0xc101);
pub(super) const TCR_EL1: u64 = system(0xc102);
pub(super) const ESR_EL1: u64 = system(0xc290);
pub(super) const VBAR_EL1: u64 = system(0xc600);

/// X0 to X30.
pub(super) fn x(index: u8) -> u64 {
    core(u64::from(index) * 8)
}

/// Q0 to Q31.
pub(super) fn q(index: u32) -> u64 {
    KVM_REG_ARM64
        | KVM_REG_SIZE_U128
        | u64::from(KVM_REG_ARM_CORE)
        | ((VREGS + u64::from(index) * 16) / 4)
}

/// KVM's number of `register`.
pub(super) fn number(register: Reg) -> u64 {
    let status =
        |offset| KVM_REG_ARM64 | KVM_REG_SIZE_U32 | u64::from(KVM_REG_ARM_CORE) | (offset / 4);
    match register {
        Reg::X(index) => x(index),
        Reg::Pc => PC,
        Reg::Cpsr => PSTATE,
        Reg::Fpsr => status(STATUS),
        Reg::Fpcr => status(STATUS + 4),
        // Some that KVM does not count among the system registers, though they are.
        Reg::Sys(0xc208) => SP_EL0,
        Reg::Sys(0xe208) => SP_EL1,
        Reg::Sys(0xc201) => ELR_EL1,
        Reg::Sys(0xc200) => SPSR_EL1,
        // CNTV_CVAL_EL0: KVM has the numbers of it and of CNTVCT_EL0 the wrong way round.
        Reg::Sys(0xdf1a) => system(0xdf02),
        Reg::Sys(number) => system(number),
    }
}

/// How many bytes a register of this number has.
pub(super) fn bytes(number: u64) -> usize {
    1 << (number >> 52 & 0xf)
}
