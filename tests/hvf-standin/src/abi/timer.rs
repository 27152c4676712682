//! "vCPU Management", the virtual timer.

// UNSAFETY: C symbols with pointers are what this crate is for.
#![allow(unsafe_code)]

use super::vcpu::own;
use super::{call, engine, give};

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vcpu_set_vtimer_mask(id: u64, masked: bool) -> i32 {
    call("hv_vcpu_set_vtimer_mask", &[masked.into()], |state| {
        let vcpu = own(state, id)?;
        vcpu.vtimer_masked = masked;
        vcpu.processor.iter().for_each(|processor| processor.mask_vtimer(masked));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vcpu_set_vtimer_offset(id: u64, offset: u64) -> i32 {
    call("hv_vcpu_set_vtimer_offset", &[offset], |state| {
        own(state, id)?.vtimer_offset = Some(offset);
        match state.vm.as_mut().and_then(|vm| vm.machine.as_mut()) {
            Some(machine) => engine(machine.set_counter_offset(offset)),
            None => Ok(()),
        }
    })
}

/// # Safety
/// `offset` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vcpu_get_vtimer_offset(id: u64, offset: *mut u64) -> i32 {
    // SAFETY: as this call's own.
    call("hv_vcpu_get_vtimer_offset", &[], |state| unsafe {
        give(offset, own(state, id)?.vtimer_offset.unwrap_or(0))
    })
}

/// # Safety
/// `masked` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vcpu_get_vtimer_mask(id: u64, masked: *mut bool) -> i32 {
    // SAFETY: as this call's own.
    call("hv_vcpu_get_vtimer_mask", &[], |state| unsafe {
        give(masked, own(state, id)?.vtimer_masked)
    })
}
