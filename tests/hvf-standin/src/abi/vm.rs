//! "Virtual Machine Management" and "Memory Management".

// UNSAFETY: C symbols with pointers are what this crate is for.
#![allow(unsafe_code)]

use std::ffi::c_void;

use super::{Refusal, broken, call, engine, refuse, require};
use crate::code::*;
use crate::state::{Engine, Map, Object, State, Vm, lock};
use crate::sys::Machine;

const GRANULE: u64 = 16 << 10;
/// Read, write, execute.
const FLAGS: u64 = 0b111;
const WRITE: u64 = 0b010;

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
pub(super) extern "C" fn hv_vm_config_create() -> *mut c_void {
    new_object(Object::Vm { ipa_bits: None })
}

/// # Safety
/// `bits` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vm_config_get_max_ipa_size(bits: *mut u32) -> i32 {
    call("hv_vm_config_get_max_ipa_size", &[], |state| {
        require(bits)?;
        // SAFETY: not null, so the caller vouches for it.
        unsafe { bits.write(state.host.max_ipa_bits) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vm_config_set_ipa_size(config: *mut c_void, bits: u32) -> i32 {
    call("hv_vm_config_set_ipa_size", &[bits.into()], |state| {
        let max = state.host.max_ipa_bits;
        match state.objects.get_mut(&config.addr()) {
            Some(Object::Vm { ipa_bits }) if (32..=max).contains(&bits) => *ipa_bits = Some(bits),
            Some(Object::Vm { .. }) => return broken(HV_BAD_ARGUMENT, format!("{bits} bits")),
            _ => return broken(HV_BAD_ARGUMENT, "not a VM configuration"),
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vm_create(config: *mut c_void) -> i32 {
    call("hv_vm_create", &[], |state| {
        let ipa_bits = match state.objects.get(&config.addr()) {
            Some(Object::Vm { ipa_bits }) => *ipa_bits,
            _ if config.is_null() => None,
            _ => return broken(HV_BAD_ARGUMENT, "not a VM configuration"),
        };
        if state.vm.is_some() {
            return refuse(HV_BUSY);
        }
        let ipa_bits = ipa_bits.unwrap_or(state.host.default_ipa_bits);
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

/// The VM and the end of a range that lies in its address space.
fn range(state: &mut State, ipa: u64, size: usize) -> Result<(&mut Vm, u64), Refusal> {
    let Some(vm) = &mut state.vm else { return broken(HV_NO_DEVICE, "there is no VM") };
    let size = size as u64;
    if !ipa.is_multiple_of(GRANULE) || !size.is_multiple_of(GRANULE) || size == 0 {
        return broken(
            HV_BAD_ARGUMENT,
            format!("IPA {ipa:#x}, size {size:#x}: not 16 KiB aligned"),
        );
    }
    match ipa.checked_add(size) {
        Some(end) if end <= 1 << vm.ipa_bits => Ok((vm, end)),
        _ => broken(HV_BAD_ARGUMENT, format!("IPA {ipa:#x}, size {size:#x}: {} bits", vm.ipa_bits)),
    }
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vm_map(
    address: *const c_void,
    ipa: u64,
    size: usize,
    flags: u64,
) -> i32 {
    call("hv_vm_map", &[ipa, size as u64, flags], |state| {
        let (vm, end) = range(state, ipa, size)?;
        if address.is_null() || !(address.addr() as u64).is_multiple_of(GRANULE) {
            return broken(HV_BAD_ARGUMENT, format!("address {address:?} is not 16 KiB aligned"));
        }
        if ipa == 0 {
            return broken(HV_BAD_ARGUMENT, "nothing can be mapped at IPA 0");
        }
        if flags & !FLAGS != 0 || flags == 0 {
            return broken(HV_BAD_ARGUMENT, format!("flags {flags:#x}"));
        }
        if vm.maps.iter().any(|map| map.ipa < end && ipa < map.end) {
            return broken(HV_ERROR, format!("IPA {ipa:#x} is mapped already"));
        }
        let (host, writable) = (address.expose_provenance(), flags & WRITE != 0);
        let map = Map { ipa, end, host, writable };
        if let Some(machine) = &mut vm.machine {
            engine(machine.map(&map))?;
        }
        vm.maps.push(map);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vm_unmap(ipa: u64, size: usize) -> i32 {
    call("hv_vm_unmap", &[ipa, size as u64], |state| {
        let (vm, end) = range(state, ipa, size)?;
        match vm.maps.iter().position(|map| (map.ipa, map.end) == (ipa, end)) {
            Some(index) => {
                if let Some(machine) = &mut vm.machine {
                    engine(machine.unmap(ipa))?;
                }
                vm.maps.remove(index);
                Ok(())
            }
            None => broken(HV_BAD_ARGUMENT, format!("IPA {ipa:#x}, size {size:#x}: not mapped so")),
        }
    })
}
