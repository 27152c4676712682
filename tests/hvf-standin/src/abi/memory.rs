//! "Memory Management".

// UNSAFETY: C symbols with pointers are what this crate is for.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::c_void;
use std::ops::Range;

use super::gic::regions;
use super::{Refusal, broken, call, engine, give, refuse};
use crate::code::*;
use crate::state::{Map, State, Vm};

const GRANULE: u64 = 16 << 10;
/// Read, write, execute.
const FLAGS: u64 = 0b111;
const WRITE: u64 = 0b010;

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

/// Where the VM's interrupt controller is.
fn controller(state: &State) -> Vec<Range<u64>> {
    let gic = state.vm.as_ref().and_then(|vm| vm.gic);
    gic.map(|gic| regions(&state.host, &gic)).unwrap_or_default()
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vm_map(
    address: *const c_void,
    ipa: u64,
    size: usize,
    flags: u64,
) -> i32 {
    call("hv_vm_map", &[ipa, size as u64, flags], |state| {
        let taken = controller(state);
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
        let map = Map { ipa, end, host: address.expose_provenance(), writable: flags & WRITE != 0 };
        if vm.maps.iter().any(|other| map.overlaps(&(other.ipa..other.end))) {
            return broken(HV_ERROR, format!("IPA {ipa:#x} is mapped already"));
        }
        if taken.iter().any(|region| map.overlaps(region)) {
            return broken(
                HV_BAD_ARGUMENT,
                format!("IPA {ipa:#x} covers the interrupt controller"),
            );
        }
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

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vm_protect(ipa: u64, size: usize, flags: u64) -> i32 {
    call("hv_vm_protect", &[ipa, size as u64, flags], |state| {
        let (vm, end) = range(state, ipa, size)?;
        let Some(map) = vm.maps.iter_mut().find(|map| (map.ipa, map.end) == (ipa, end)) else {
            return broken(HV_BAD_ARGUMENT, format!("IPA {ipa:#x}, size {size:#x}: not mapped so"));
        };
        map.writable = flags & WRITE != 0;
        match &mut vm.machine {
            Some(machine) => engine(machine.unmap(ipa).and_then(|()| machine.map(map))),
            None => Ok(()),
        }
    })
}

fn layout(size: usize) -> Result<Layout, Refusal> {
    let granule = usize::try_from(GRANULE).unwrap_or(usize::MAX);
    match Layout::from_size_align(size, granule) {
        Ok(layout) if size > 0 && size.is_multiple_of(granule) => Ok(layout),
        _ => broken(HV_BAD_ARGUMENT, format!("{size:#x} bytes of memory")),
    }
}

/// # Safety
/// `address` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vm_allocate(
    address: *mut *mut c_void,
    size: usize,
    _flags: u64,
) -> i32 {
    call("hv_vm_allocate", &[size as u64], |_| {
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc_zeroed(layout(size)?) };
        if memory.is_null() {
            return refuse(HV_NO_RESOURCES);
        }
        // SAFETY: as this call's own.
        unsafe { give(address, memory.cast()) }
    })
}

/// # Safety
/// `address` is what [`hv_vm_allocate`] gave for `size`, and nobody uses it any more.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vm_deallocate(address: *mut c_void, size: usize) -> i32 {
    call("hv_vm_deallocate", &[size as u64], |_| {
        let layout = layout(size)?;
        // SAFETY: the caller vouches for it.
        unsafe { dealloc(address.cast(), layout) };
        Ok(())
    })
}
