//! "Global Interrupt Controller".

// UNSAFETY: C symbols with pointers are what this crate is for.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ops::Range;

use super::vm::new_object;
use super::{Refusal, broken, call, engine, require};
use crate::code::*;
use crate::state::{GicConfig, Host, Object, State};

/// `SET_SPI_NSR`, the register of the MSI frame that interrupts are written to.
const SET_SPI: u64 = 0x40;

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_gic_config_create() -> *mut c_void {
    new_object(Object::Gic(GicConfig::default()))
}

fn config(state: &mut State, config: *mut c_void) -> Result<&mut GicConfig, Refusal> {
    match state.objects.get_mut(&config.addr()) {
        Some(Object::Gic(config)) => Ok(config),
        _ => broken(HV_BAD_ARGUMENT, "not a GIC configuration"),
    }
}

/// A base address of a region with this size and alignment.
fn base(address: u64, size: usize, alignment: usize) -> Result<Option<u64>, Refusal> {
    let fits = address.checked_add(size as u64).is_some();
    if fits && address.is_multiple_of(alignment as u64) {
        return Ok(Some(address));
    }
    broken(HV_BAD_ARGUMENT, format!("base {address:#x}: a multiple of {alignment:#x} is wanted"))
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_gic_config_set_distributor_base(
    object: *mut c_void,
    address: u64,
) -> i32 {
    call("hv_gic_config_set_distributor_base", &[address], |state| {
        let base = base(address, state.host.distributor_size, state.host.distributor_alignment)?;
        config(state, object)?.distributor = base;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_gic_config_set_redistributor_base(
    object: *mut c_void,
    address: u64,
) -> i32 {
    call("hv_gic_config_set_redistributor_base", &[address], |state| {
        let Host { redistributor_region_size, redistributor_alignment, .. } = state.host;
        let base = base(address, redistributor_region_size, redistributor_alignment)?;
        config(state, object)?.redistributors = base;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_gic_config_set_msi_region_base(
    object: *mut c_void,
    address: u64,
) -> i32 {
    call("hv_gic_config_set_msi_region_base", &[address], |state| {
        let base = base(address, state.host.msi_region_size, state.host.msi_region_alignment)?;
        config(state, object)?.msi = base;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_gic_config_set_msi_interrupt_range(
    object: *mut c_void,
    first: u32,
    count: u32,
) -> i32 {
    call("hv_gic_config_set_msi_interrupt_range", &[first.into(), count.into()], |state| {
        let Host { first_spi, spis, .. } = state.host;
        match first.checked_add(count) {
            Some(end) if first >= first_spi && end <= first_spi + spis => {
                config(state, object)?.msi_range = Some((first, end));
                Ok(())
            }
            _ => broken(HV_BAD_ARGUMENT, format!("{count} INTIDs from {first} are no SPIs")),
        }
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_gic_create(object: *mut c_void) -> i32 {
    call("hv_gic_create", &[], |state| {
        let config = *config(state, object)?;
        if config.msi.is_some() != config.msi_range.is_some() {
            return broken(HV_BAD_ARGUMENT, "MSIs need a region and a range");
        }
        let mut regions = regions(&state.host, &config);
        regions.sort_unstable_by_key(|region| region.start);
        if regions.windows(2).any(|pair| pair[0].end > pair[1].start) {
            return broken(HV_BAD_ARGUMENT, format!("regions overlap: {regions:x?}"));
        }
        if !state.vcpus.is_empty() {
            return broken(HV_BUSY, "there are vCPUs already");
        }
        let Some(vm) = &mut state.vm else { return broken(HV_NO_DEVICE, "there is no VM") };
        if vm.gic.is_some() {
            return broken(HV_BUSY, "there is an interrupt controller already");
        }
        let covered = vm.maps.iter().find(|map| regions.iter().any(|region| map.overlaps(region)));
        if let Some(map) = covered {
            return broken(
                HV_BAD_ARGUMENT,
                format!("memory at IPA {:#x} is in its place", map.ipa),
            );
        }
        if let Some(machine) = &mut vm.machine {
            engine(machine.create_gic(&state.host, &config))?;
        }
        vm.gic = Some(config);
        Ok(())
    })
}

/// Where the interrupt controller's registers are. What is not said is at 0; one of them at least has to be.
pub(super) fn regions(host: &Host, config: &GicConfig) -> Vec<Range<u64>> {
    let region = |base: u64, size: usize| base..base + size as u64;
    let mut regions = vec![
        region(config.distributor.unwrap_or_default(), host.distributor_size),
        region(config.redistributors.unwrap_or_default(), host.redistributor_region_size),
    ];
    regions.extend(config.msi.map(|base| region(base, host.msi_region_size)));
    regions
}

fn gic(state: &State) -> Result<GicConfig, Refusal> {
    match state.vm.as_ref().and_then(|vm| vm.gic) {
        Some(config) => Ok(config),
        None => broken(HV_NO_DEVICE, "there is no interrupt controller"),
    }
}

fn set(state: &mut State, intid: u32, level: bool) -> Result<(), Refusal> {
    match state.vm.as_mut().and_then(|vm| vm.machine.as_mut()) {
        Some(machine) => engine(machine.set_spi(intid, level)),
        None => Ok(()),
    }
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_gic_set_spi(intid: u32, level: bool) -> i32 {
    call("hv_gic_set_spi", &[intid.into(), level.into()], |state| {
        let Host { first_spi, spis, .. } = state.host;
        let message =
            gic(state)?.msi_range.is_some_and(|(first, end)| (first..end).contains(&intid));
        if message || !(first_spi..first_spi + spis).contains(&intid) {
            return broken(HV_BAD_ARGUMENT, format!("INTID {intid} is no line"));
        }
        set(state, intid, level)
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_gic_send_msi(address: u64, intid: u32) -> i32 {
    call("hv_gic_send_msi", &[address, intid.into()], |state| {
        let config = gic(state)?;
        let message = config.msi_range.is_some_and(|(first, end)| (first..end).contains(&intid));
        if !message || config.msi.and_then(|base| base.checked_add(SET_SPI)) != Some(address) {
            // A guest programs both numbers, so this is no mistake of the backend's.
            return super::refuse(HV_BAD_ARGUMENT);
        }
        set(state, intid, true)?;
        set(state, intid, false)
    })
}

/// Answers a question about the host through `pointer`.
///
/// # Safety
/// `pointer` is null or valid for a write.
unsafe fn tell<T>(name: &'static str, pointer: *mut T, what: impl FnOnce(&Host) -> T) -> i32 {
    call(name, &[], |state| {
        require(pointer)?;
        // SAFETY: not null, so the caller vouches for it.
        unsafe { pointer.write(what(&state.host)) };
        Ok(())
    })
}

/// # Safety
/// `size` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_gic_get_distributor_size(size: *mut usize) -> i32 {
    // SAFETY: as this call's own.
    unsafe { tell("hv_gic_get_distributor_size", size, |host| host.distributor_size) }
}

/// # Safety
/// `alignment` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_gic_get_distributor_base_alignment(
    alignment: *mut usize,
) -> i32 {
    // SAFETY: as this call's own.
    unsafe {
        tell("hv_gic_get_distributor_base_alignment", alignment, |host| host.distributor_alignment)
    }
}

/// # Safety
/// `size` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_gic_get_redistributor_region_size(size: *mut usize) -> i32 {
    // SAFETY: as this call's own.
    unsafe {
        tell("hv_gic_get_redistributor_region_size", size, |host| host.redistributor_region_size)
    }
}

/// # Safety
/// `alignment` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_gic_get_redistributor_base_alignment(
    alignment: *mut usize,
) -> i32 {
    // SAFETY: as this call's own.
    unsafe {
        tell("hv_gic_get_redistributor_base_alignment", alignment, |host| {
            host.redistributor_alignment
        })
    }
}

/// # Safety
/// `size` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_gic_get_msi_region_size(size: *mut usize) -> i32 {
    // SAFETY: as this call's own.
    unsafe { tell("hv_gic_get_msi_region_size", size, |host| host.msi_region_size) }
}

/// # Safety
/// `alignment` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_gic_get_msi_region_base_alignment(alignment: *mut usize) -> i32 {
    // SAFETY: as this call's own.
    unsafe {
        tell("hv_gic_get_msi_region_base_alignment", alignment, |host| host.msi_region_alignment)
    }
}

/// # Safety
/// Both pointers are null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_gic_get_spi_interrupt_range(
    first: *mut u32,
    count: *mut u32,
) -> i32 {
    call("hv_gic_get_spi_interrupt_range", &[], |state| {
        require(first)?;
        require(count)?;
        // SAFETY: not null, so the caller vouches for them.
        unsafe {
            first.write(state.host.first_spi);
            count.write(state.host.spis);
        }
        Ok(())
    })
}

/// # Safety
/// `size` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_gic_get_redistributor_size(size: *mut usize) -> i32 {
    // SAFETY: as this call's own.
    unsafe { tell("hv_gic_get_redistributor_size", size, |_| 0x2_0000) }
}

/// # Safety
/// `intid` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_gic_get_intid(what: u32, intid: *mut u32) -> i32 {
    // SAFETY: as this call's own; the numbers are those of the interrupts themselves.
    unsafe { tell("hv_gic_get_intid", intid, |_| what) }
}

/// The controller is as new until a vCPU has run; later the stand-in cannot make it so.
#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_gic_reset() -> i32 {
    call("hv_gic_reset", &[], |state| {
        gic(state)?;
        if state.vcpus.is_empty() { Ok(()) } else { super::refuse(HV_UNSUPPORTED) }
    })
}
