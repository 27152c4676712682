//! Registers, one at a time (api.rst 4.68 and 4.69, "arm64 registers are mapped using the lower 32 bits").

use std::mem::offset_of;

use hv::arch::aarch64::{State as ArmState, Translation, is_halted};
use hv::{Error, Kind, Result, State};
use kvm_bindings::{
    KVM_MP_STATE_STOPPED, KVM_REG_ARM_CORE, KVM_REG_ARM64, KVM_REG_ARM64_SYSREG, KVM_REG_SIZE_U64,
    kvm_regs, user_pt_regs,
};
use kvm_ioctls::VcpuFd;

use crate::error::call_at;

/// KVM's number for a register of 64 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Register(u64);

/// One that is not a system register, by its place in `struct kvm_regs`, in words of 32 bits.
const fn core_register(offset: usize) -> Register {
    Register(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE as u64 | (offset as u64 / 4))
}

/// A system register by its encoding (DDI 0487, "AArch64 System Register Descriptions").
pub(super) const fn system_register(op0: u64, op1: u64, crn: u64, crm: u64, op2: u64) -> Register {
    let encoding = op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2;
    Register(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM64_SYSREG as u64 | encoding)
}

const USER: usize = offset_of!(kvm_regs, regs);
const PC: Register = core_register(USER + offset_of!(user_pt_regs, pc));
const PSTATE: Register = core_register(USER + offset_of!(user_pt_regs, pstate));
const SP_EL1: Register = core_register(offset_of!(kvm_regs, sp_el1));

pub(super) const MPIDR_EL1: Register = system_register(3, 0, 0, 0, 5);
const SCTLR_EL1: Register = system_register(3, 0, 1, 0, 0);
const TTBR0_EL1: Register = system_register(3, 0, 2, 0, 0);
const TTBR1_EL1: Register = system_register(3, 0, 2, 0, 1);
const TCR_EL1: Register = system_register(3, 0, 2, 0, 2);

/// X0 to X30.
const fn general(index: usize) -> Register {
    core_register(USER + offset_of!(user_pt_regs, regs) + 8 * index)
}

fn get(fd: &VcpuFd, register: Register) -> Result<u64> {
    let mut bytes = [0; 8];
    let result = fd.get_one_reg(register.0, &mut bytes);
    call_at("KVM_GET_ONE_REG", result, || format!("{:#x}", register.0))?;
    Ok(u64::from_le_bytes(bytes))
}

pub(super) fn set(fd: &VcpuFd, register: Register, value: u64) -> Result<()> {
    let result = fd.set_one_reg(register.0, &value.to_le_bytes());
    call_at("KVM_SET_ONE_REG", result, || format!("{:#x} = {value:#x}", register.0))?;
    Ok(())
}

pub(super) fn system(fd: &VcpuFd, register: Register) -> Result<u64> {
    get(fd, register)
}

/// Lets EL1 use floating point and vectors (`CPACR_EL1.FPEN`), as a kernel would itself.
pub(crate) fn allow_vectors(fd: &VcpuFd) -> Result<()> {
    const CPACR_EL1: Register = system_register(3, 0, 1, 0, 2);
    const FPEN: u64 = 0b11 << 20;
    set(fd, CPACR_EL1, FPEN)
}

/// Xn.
pub(super) fn x(fd: &VcpuFd, index: usize) -> Result<u64> {
    get(fd, general(index))
}

pub(crate) fn pc(fd: &VcpuFd) -> Option<u64> {
    get(fd, PC).ok()
}

/// Whether a vCPU is powered off, or in a loop that it does not leave; `read` gives 4 bytes of RAM. One
/// that waits in a WFI looks to KVM like one that runs.
pub(crate) fn is_asleep(fd: &VcpuFd, read: impl Fn(u64) -> Option<u32>) -> bool {
    let off = fd.get_mp_state().is_ok_and(|state| state.mp_state == KVM_MP_STATE_STOPPED);
    let half = |gpa| read(gpa).map(u64::from);
    let entry = |gpa: u64| Some(half(gpa)? | half(gpa.checked_add(4)?)? << 32);
    let word = |address| read(translate(fd, address, entry)?);
    let halted = |pc| get(fd, PSTATE).is_ok_and(|pstate| is_halted(pc, pstate, word));
    off || pc(fd).is_some_and(halted)
}

/// A write brings all of it.
pub(crate) fn argument(_fd: &VcpuFd) -> Option<u64> {
    None
}

/// The system counter's frequency, which KVM leaves to guests as it is.
pub(crate) fn counter_hz(_fd: &VcpuFd) -> Option<u64> {
    hv::arch::aarch64::counter::frequency()
}

/// The guest physical address behind a virtual one; `read` gives 8 bytes of RAM.
pub(crate) fn translate(
    fd: &VcpuFd,
    address: u64,
    read: impl Fn(u64) -> Option<u64>,
) -> Option<u64> {
    let translation = Translation {
        sctlr_el1: system(fd, SCTLR_EL1).ok()?,
        tcr_el1: system(fd, TCR_EL1).ok()?,
        ttbr0_el1: system(fd, TTBR0_EL1).ok()?,
        ttbr1_el1: system(fd, TTBR1_EL1).ok()?,
    };
    translation.translate(address, read)
}

pub(crate) fn state(fd: &VcpuFd) -> Result<State> {
    let mut state = ArmState {
        sp_el1: get(fd, SP_EL1)?,
        pc: get(fd, PC)?,
        pstate: get(fd, PSTATE)?,
        ..ArmState::default()
    };
    for (index, x) in state.x.iter_mut().enumerate() {
        *x = self::x(fd, index)?;
    }
    Ok(state.into())
}

pub(crate) fn set_state(fd: &VcpuFd, state: &State) -> Result<()> {
    let State::Aarch64(state) = state else {
        let why = format!("{} registers for aarch64", state.arch());
        return Err(Error::new("set_state", Kind::Invalid, why));
    };
    for (index, x) in state.x.iter().enumerate() {
        set(fd, general(index), *x)?;
    }
    set(fd, SP_EL1, state.sp_el1)?;
    set(fd, PC, state.pc)?;
    set(fd, PSTATE, state.pstate)
}
