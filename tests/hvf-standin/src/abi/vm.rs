//! "Virtual Machine Management".

// UNSAFETY: C symbols with pointers are what this crate is for.
#![allow(unsafe_code)]

use std::ffi::c_void;

use super::{broken, call, engine, refuse, require};
use crate::code::*;
use crate::state::{Engine, Object, Vm, lock};
use crate::sys::Machine;

/// KVM makes no smaller ones.
const MIN_IPA_BITS: u32 = 32;

pub(super) fn new_object(object: Object) -> *mut c_void {
    let mut state = lock();
    state.next_object += 0x10;
    let handle = state.next_object;
    state.objects.insert(handle, object);
    std::ptr::without_provenance_mut(handle)
}

/// Releases an object; also libSystem's name for it on macOS, where this definition serves this
/// program's own calls only.
#[unsafe(no_mangle)]
pub(super) extern "C" fn os_release(object: *mut c_void) {
    let mut state = lock();
    if state.objects.remove(&object.addr()).is_none() {
        state.broke(format!("os_release: {object:?} is no live object"));
    }
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vm_create(config: *mut c_void) -> i32 {
    call("hv_vm_create", &[], |state| {
        let ipa_bits = match state.objects.get(&config.addr()) {
            Some(Object::Vm { el2: true, .. }) => return refuse(HV_UNSUPPORTED),
            Some(Object::Vm { ipa_bits, .. }) => *ipa_bits,
            _ if config.is_null() => None,
            _ => return broken(HV_BAD_ARGUMENT, "not a VM configuration"),
        };
        if state.vm.is_some() {
            return refuse(HV_BUSY);
        }
        let default = state.host.default_ipa_bits;
        let ipa_bits = ipa_bits.filter(|bits| *bits != 0).unwrap_or(default).max(MIN_IPA_BITS);
        let machine = match state.engine {
            Engine::Machine => Some(engine(Machine::create(&state.host, ipa_bits))?),
            Engine::Script | Engine::Interpreter => None,
        };
        state.created = 0;
        state.vm = Some(Vm { machine, ipa_bits, maps: Vec::new(), gic: None });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vm_destroy() -> i32 {
    call("hv_vm_destroy", &[], |state| {
        if !state.vcpus.is_empty() {
            return broken(HV_BUSY, "vCPUs are left");
        }
        match state.vm.take() {
            Some(_) => Ok(()),
            None => broken(HV_NO_DEVICE, "there is no VM"),
        }
    })
}

/// # Safety
/// `count` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vm_get_max_vcpu_count(count: *mut u32) -> i32 {
    call("hv_vm_get_max_vcpu_count", &[], |state| {
        require(count)?;
        // SAFETY: not null, so the caller vouches for it.
        unsafe { count.write(state.host.max_vcpus) };
        Ok(())
    })
}
