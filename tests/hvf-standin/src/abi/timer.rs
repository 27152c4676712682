//! "vCPU Management", the virtual timer.

// UNSAFETY: C symbols are what this crate is for.
#![allow(unsafe_code)]

use super::call;
use super::vcpu::own;

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
        Ok(())
    })
}
