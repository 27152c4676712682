//! "Virtual CPU Management", what guests seldom need: interrupts without a controller, debugging, vector
//! registers, how long a vCPU ran.

// UNSAFETY: C symbols with pointers are what this crate is for.
#![allow(unsafe_code)]

use super::vcpu::own;
use super::{Refusal, broken, call, engine, give, refuse};
use crate::code::*;

/// FIQ or IRQ.
fn interrupt(kind: u32) -> Result<usize, Refusal> {
    match kind {
        0 => Ok(0),
        1 => Ok(1),
        _ => broken(HV_BAD_ARGUMENT, format!("there is no interrupt of type {kind}")),
    }
}

/// # Safety
/// `pending` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vcpu_get_pending_interrupt(
    id: u64,
    kind: u32,
    pending: *mut bool,
) -> i32 {
    call("hv_vcpu_get_pending_interrupt", &[kind.into()], |state| {
        let found = own(state, id)?.pending[interrupt(kind)?];
        // SAFETY: as this call's own.
        unsafe { give(pending, found) }
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vcpu_set_pending_interrupt(id: u64, kind: u32, pending: bool) -> i32 {
    call("hv_vcpu_set_pending_interrupt", &[kind.into(), pending.into()], |state| {
        own(state, id)?.pending[interrupt(kind)?] = pending;
        Ok(())
    })
}

/// # Safety
/// `time` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vcpu_get_exec_time(id: u64, time: *mut u64) -> i32 {
    call("hv_vcpu_get_exec_time", &[], |state| {
        let nanoseconds = own(state, id)?.in_guest.as_nanos();
        // SAFETY: as this call's own.
        unsafe { give(time, u64::try_from(nanoseconds).unwrap_or(u64::MAX)) }
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vcpu_set_trap_debug_exceptions(id: u64, on: bool) -> i32 {
    call("hv_vcpu_set_trap_debug_exceptions", &[on.into()], |state| {
        let vcpu = own(state, id)?;
        vcpu.traps[0] = on;
        match &vcpu.processor {
            Some(processor) => engine(processor.trap_debug(on)),
            None => Ok(()),
        }
    })
}

/// # Safety
/// `on` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vcpu_get_trap_debug_exceptions(id: u64, on: *mut bool) -> i32 {
    // SAFETY: as this call's own.
    call("hv_vcpu_get_trap_debug_exceptions", &[], |state| unsafe {
        give(on, own(state, id)?.traps[0])
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vcpu_set_trap_debug_reg_accesses(id: u64, on: bool) -> i32 {
    call("hv_vcpu_set_trap_debug_reg_accesses", &[on.into()], |state| {
        own(state, id)?.traps[1] = on;
        Ok(())
    })
}

/// # Safety
/// `on` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vcpu_get_trap_debug_reg_accesses(id: u64, on: *mut bool) -> i32 {
    // SAFETY: as this call's own.
    call("hv_vcpu_get_trap_debug_reg_accesses", &[], |state| unsafe {
        give(on, own(state, id)?.traps[1])
    })
}

/// A vector register: C has it in one, and the calling convention passes numbers of this size in two.
/// The framework's documentation has a vector; the bindings that we know pass a number.
#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vcpu_set_simd_fp_reg(id: u64, register: u32, value: u128) -> i32 {
    call("hv_vcpu_set_simd_fp_reg", &[register.into()], |state| match &own(state, id)?.processor {
        Some(processor) => engine(processor.set_vector(register, value)),
        None => refuse(HV_UNSUPPORTED),
    })
}

/// # Safety
/// `value` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vcpu_get_simd_fp_reg(
    id: u64,
    register: u32,
    value: *mut u128,
) -> i32 {
    call("hv_vcpu_get_simd_fp_reg", &[register.into()], |state| {
        let found = match &own(state, id)?.processor {
            Some(processor) => engine(processor.vector(register))?,
            None => return refuse(HV_UNSUPPORTED),
        };
        // SAFETY: as this call's own.
        unsafe { give(value, found) }
    })
}
