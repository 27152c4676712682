//! Configurations of VMs and vCPUs.

// UNSAFETY: C symbols with pointers are what this crate is for.
#![allow(unsafe_code)]

use std::ffi::c_void;

use super::vm::new_object;
use super::{Refusal, broken, call, give};
use crate::code::*;
use crate::state::{ID_REGISTERS, Object, State, SysReg};

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vm_config_create() -> *mut c_void {
    new_object(Object::Vm { ipa_bits: None, el2: false })
}

/// The address bits and EL2 of a VM's configuration.
fn config(
    state: &mut State,
    config: *mut c_void,
) -> Result<(&mut Option<u32>, &mut bool), Refusal> {
    match state.objects.get_mut(&config.addr()) {
        Some(Object::Vm { ipa_bits, el2 }) => Ok((ipa_bits, el2)),
        _ => broken(HV_BAD_ARGUMENT, "not a VM configuration"),
    }
}

/// # Safety
/// `bits` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vm_config_get_max_ipa_size(bits: *mut u32) -> i32 {
    // SAFETY: as this call's own.
    call("hv_vm_config_get_max_ipa_size", &[], |state| unsafe {
        give(bits, state.host.max_ipa_bits)
    })
}

/// # Safety
/// `bits` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vm_config_get_default_ipa_size(bits: *mut u32) -> i32 {
    // SAFETY: as this call's own.
    call("hv_vm_config_get_default_ipa_size", &[], |state| unsafe {
        give(bits, state.host.default_ipa_bits)
    })
}

/// Any number of bits up to the host's most; what VM there can be shows when it is created.
#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vm_config_set_ipa_size(object: *mut c_void, bits: u32) -> i32 {
    call("hv_vm_config_set_ipa_size", &[bits.into()], |state| {
        let max = state.host.max_ipa_bits;
        let (ipa_bits, _) = config(state, object)?;
        if bits > max {
            return broken(HV_UNSUPPORTED, format!("{bits} bits"));
        }
        *ipa_bits = Some(bits);
        Ok(())
    })
}

/// # Safety
/// `bits` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vm_config_get_ipa_size(
    object: *mut c_void,
    bits: *mut u32,
) -> i32 {
    call("hv_vm_config_get_ipa_size", &[], |state| {
        let default = state.host.default_ipa_bits;
        let found = config(state, object)?.0.unwrap_or(default);
        // SAFETY: as this call's own.
        unsafe { give(bits, found) }
    })
}

/// # Safety
/// `supported` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vm_config_get_el2_supported(supported: *mut bool) -> i32 {
    // SAFETY: as this call's own.
    call("hv_vm_config_get_el2_supported", &[], |_| unsafe { give(supported, false) })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vm_config_set_el2_enabled(object: *mut c_void, enabled: bool) -> i32 {
    call("hv_vm_config_set_el2_enabled", &[enabled.into()], |state| {
        *config(state, object)?.1 = enabled;
        Ok(())
    })
}

/// # Safety
/// `enabled` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vm_config_get_el2_enabled(
    object: *mut c_void,
    enabled: *mut bool,
) -> i32 {
    call("hv_vm_config_get_el2_enabled", &[], |state| {
        let found = *config(state, object)?.1;
        // SAFETY: as this call's own.
        unsafe { give(enabled, found) }
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vcpu_config_create() -> *mut c_void {
    new_object(Object::Vcpu)
}

fn vcpu_config(state: &State, config: *mut c_void) -> Result<(), Refusal> {
    match state.objects.get(&config.addr()) {
        Some(Object::Vcpu) => Ok(()),
        _ => broken(HV_BAD_ARGUMENT, "not a vCPU configuration"),
    }
}

/// # Safety
/// `value` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vcpu_config_get_feature_reg(
    config: *mut c_void,
    register: u32,
    value: *mut u64,
) -> i32 {
    // ID_AA64DFR0 and 1, ISAR0 and 1, MMFR0 to 2, PFR0 and 1, CTR_EL0, CLIDR_EL1, DCZID_EL0.
    let number = match register {
        0 => SysReg::ID_AA64DFR0_EL1,
        4 => SysReg::ID_AA64MMFR0_EL1,
        7 => SysReg::ID_AA64PFR0_EL1,
        8 => SysReg::ID_AA64PFR1_EL1,
        _ => 0,
    };
    call("hv_vcpu_config_get_feature_reg", &[register.into()], |state| {
        vcpu_config(state, config)?;
        if register > 11 {
            return broken(HV_BAD_ARGUMENT, format!("there is no feature register {register}"));
        }
        let found = ID_REGISTERS.into_iter().find(|(id, _)| *id == number);
        // SAFETY: as this call's own.
        unsafe { give(value, found.map_or(0, |(_, value)| value)) }
    })
}

/// # Safety
/// `values` is null or valid for writes of eight numbers.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vcpu_config_get_ccsidr_el1_sys_reg_values(
    config: *mut c_void,
    kind: u32,
    values: *mut [u64; 8],
) -> i32 {
    call("hv_vcpu_config_get_ccsidr_el1_sys_reg_values", &[kind.into()], |state| {
        vcpu_config(state, config)?;
        // SAFETY: as this call's own.
        unsafe { give(values, [0; 8]) }
    })
}
