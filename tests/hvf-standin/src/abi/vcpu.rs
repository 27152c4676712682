//! "Virtual CPU Management": creation, runs, registers.

// UNSAFETY: C symbols with pointers are what this crate is for.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::{Refusal, broken, call, engine, injected, refuse, require, settle};
use crate::code::*;
use crate::guest::{self, Ran};
use crate::script::{Reg, Step};
use crate::state::{ExitPage, Object, Registers, STATE, State, SysReg, Vcpu, lock};
use crate::sys::Processor;

/// What a reader of an exit structure finds once its vCPU is gone.
const POISON: u32 = 0xdead_beef;
const CANCELED: u32 = 0;
const VTIMER_ACTIVATED: u32 = 2;
const UNKNOWN: u32 = 3;

/// # Safety
/// Both pointers are null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vcpu_create(
    id: *mut u64,
    exit: *mut *const ExitPage,
    config: *mut c_void,
) -> i32 {
    call("hv_vcpu_create", &[], |state| {
        require(id)?;
        require(exit)?;
        if !config.is_null() && !matches!(state.objects.get(&config.addr()), Some(Object::Vcpu)) {
            return broken(HV_BAD_ARGUMENT, "not a vCPU configuration");
        }
        let Some(vm) = &mut state.vm else { return broken(HV_NO_DEVICE, "there is no VM") };
        let thread = std::thread::current().id();
        if state.vcpus.values().any(|vcpu| vcpu.thread == thread) {
            return refuse(HV_BUSY);
        }
        if state.vcpus.len() >= state.host.max_vcpus.try_into().unwrap_or(usize::MAX) {
            return refuse(HV_NO_RESOURCES);
        }
        let processor = match &mut vm.machine {
            Some(machine) => Some(engine(machine.create_vcpu())?),
            None => None,
        };
        let page = Box::leak(Box::new(ExitPage { reason: POISON, ..ExitPage::default() }));
        let page = std::ptr::from_mut(page).expose_provenance();
        let handle = state.next_vcpu;
        state.next_vcpu += 1;
        let vcpu = Vcpu {
            number: state.created,
            thread,
            processor,
            registers: Registers::new(),
            affinity_set: false,
            vtimer_masked: false,
            vtimer_offset: None,
            pending: [false; 2],
            traps: [false; 2],
            in_guest: Duration::ZERO,
            page,
            expected: None,
            cancel: false,
            parked: false,
        };
        state.created += 1;
        state.vcpus.insert(handle, vcpu);
        // SAFETY: not null, so the caller vouches for them.
        unsafe {
            id.write(handle);
            exit.write(std::ptr::with_exposed_provenance(page));
        }
        Ok(())
    })
}

/// The vCPU `id`, for a call from its own thread.
pub(super) fn own(state: &mut State, id: u64) -> Result<&mut Vcpu, Refusal> {
    match state.vcpus.get_mut(&id) {
        None => broken(HV_BAD_ARGUMENT, format!("there is no vCPU {id}")),
        Some(vcpu) if vcpu.thread != std::thread::current().id() => {
            broken(HV_BAD_ARGUMENT, format!("vCPU {id} belongs to another thread"))
        }
        Some(vcpu) => Ok(vcpu),
    }
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vcpu_destroy(id: u64) -> i32 {
    call("hv_vcpu_destroy", &[], |state| {
        let page = own(state, id)?.page;
        write_exit(page, &Step::exit(POISON));
        state.vcpus.remove(&id);
        Ok(())
    })
}

fn write_exit(page: usize, step: &Step) {
    let page: *mut ExitPage = std::ptr::with_exposed_provenance_mut(page);
    let exit = ExitPage {
        reason: step.reason,
        syndrome: step.syndrome,
        virtual_address: step.seen_at.unwrap_or(!step.ipa),
        physical_address: step.ipa,
    };
    // SAFETY: the page was leaked for this vCPU; by the rule of threads nobody reads it now.
    unsafe { page.write(exit) };
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vcpu_run(id: u64) -> i32 {
    const NAME: &str = "hv_vcpu_run";
    let mut state = lock();
    let code = match injected(&mut state, NAME) {
        Some(code) => code,
        None => match check_run(&mut state, id) {
            Err(refusal) => settle(&mut state, NAME, refusal),
            Ok(()) => {
                state.took(NAME, &[]);
                let processor = state.vcpus.get(&id).and_then(|vcpu| vcpu.processor.clone());
                drop(state);
                match processor.map(|processor| run(id, &processor)) {
                    Some(Err(why)) => settle(&mut lock(), NAME, why),
                    Some(Ok(())) => HV_SUCCESS,
                    None => {
                        enter(id);
                        HV_SUCCESS
                    }
                }
            }
        },
    };
    code.cast_signed()
}

/// The rules of a run, and whether the backend did what the last step wanted.
fn check_run(state: &mut State, id: u64) -> Result<(), Refusal> {
    // The framework bears it; a backend should not.
    if takes_signals() && !crate::is_foreign() {
        return broken(HV_ERROR, "this thread takes signals: a run could end for one");
    }
    let gic = state.vm.as_ref().is_some_and(|vm| vm.gic.is_some());
    // As it was written: of a vCPU that runs nothing can be asked.
    let affinity = |vcpu: &Vcpu| vcpu.registers.get(Reg::Sys(SysReg::MPIDR_EL1));
    let vcpu = own(state, id)?;
    if gic && !vcpu.affinity_set {
        return broken(HV_ERROR, "MPIDR_EL1 was not set, and there is an interrupt controller");
    }
    let (mine, offset) = (affinity(vcpu), vcpu.vtimer_offset);
    let (number, found) = (vcpu.number, vcpu.registers.general);
    if let Some(expected) = vcpu.expected.take()
        && let Some(difference) = difference(&expected, &found)
    {
        return broken(HV_ERROR, format!("vCPU {number}: {difference}"));
    }
    // The framework bears this, too: the guest's clock is as old as the host's then.
    if offset.is_none() && !crate::is_foreign() {
        return broken(
            HV_ERROR,
            "nobody has said when the clock began (hv_vcpu_set_vtimer_offset)",
        );
    }
    let twins = state.vcpus.values().filter(|vcpu| affinity(vcpu) == mine).count();
    if state.vcpus.values().any(|vcpu| vcpu.vtimer_offset != offset) {
        return broken(HV_ERROR, "the clocks of the vCPUs differ (hv_vcpu_set_vtimer_offset)");
    }
    if gic && twins != 1 {
        return broken(HV_ERROR, format!("{twins} vCPUs have MPIDR_EL1 {mine:#x}"));
    }
    match state.vm.as_mut().and_then(|vm| vm.machine.as_mut()) {
        Some(machine) => engine(machine.start()),
        None => Ok(()),
    }
}

/// Says which register is not what the script wants it to be.
fn difference(expected: &[u64; 35], found: &[u64; 35]) -> Option<String> {
    let index = (0..expected.len()).find(|index| expected[*index] != found[*index])?;
    let name = match index {
        Registers::PC => "PC".into(),
        32 => "FPCR".into(),
        33 => "FPSR".into(),
        Registers::CPSR => "CPSR".into(),
        _ => format!("X{index}"),
    };
    let (expected, found) = (expected[index], found[index]);
    Some(format!("{name} is {found:#x} where the last exit should have left {expected:#x}"))
}

/// Whether this thread could be interrupted by a signal.
fn takes_signals() -> bool {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the mask is only read, into a set of ours.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), set.as_mut_ptr());
        [libc::SIGINT, libc::SIGTERM, libc::SIGUSR1]
            .into_iter()
            .any(|signal| libc::sigismember(set.as_ptr(), signal) == 0)
    }
}

/// Runs the guest on a real CPU, with the state unlocked.
fn run(id: u64, processor: &Processor) -> Result<(), Refusal> {
    let memory = |at, bytes| {
        let state = lock();
        state.vm.as_ref().and_then(|vm| guest::peek(&vm.maps, at, bytes))
    };
    let pending = lock().vcpus.get(&id).map_or([false; 2], |vcpu| vcpu.pending);
    let begin = Instant::now();
    let step = engine(processor.run(pending, &memory))?;
    if let Some(vcpu) = lock().vcpus.get_mut(&id) {
        vcpu.in_guest += begin.elapsed();
        // They are for one run.
        vcpu.pending = [false; 2];
        vcpu.vtimer_masked |= step.reason == VTIMER_ACTIVATED;
        write_exit(vcpu.page, &step);
    }
    Ok(())
}

/// Stays in the guest until the script has an exit or somebody asks for one.
fn enter(id: u64) {
    let mut state = lock();
    loop {
        // Only this thread destroys the vCPU.
        let Some(vcpu) = state.vcpus.get_mut(&id) else { return };
        vcpu.parked = false;
        if std::mem::take(&mut vcpu.cancel) {
            write_exit(vcpu.page, &Step::exit(CANCELED));
            return;
        }
        let ran = state.next(id);
        let Some(vcpu) = state.vcpus.get_mut(&id) else { return };
        match ran {
            Ran::Exit(step) => return exit(vcpu, &step),
            Ran::Unknown(what) => {
                exit(vcpu, &Step::exit(UNKNOWN));
                let rule = format!("vCPU {}: the stand-in knows no {what}", vcpu.number);
                return state.broke(rule);
            }
            // Whoever wants it out gets a turn.
            Ran::On => {
                drop(state);
                std::thread::yield_now();
                state = lock();
            }
            Ran::Idle => {
                vcpu.parked = true;
                STATE.changed.notify_all();
                state = STATE.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// The guest exits as the step says.
fn exit(vcpu: &mut Vcpu, step: &Step) {
    for (register, value) in &step.has {
        vcpu.registers.set(*register, *value);
    }
    let mut expected = vcpu.registers.clone();
    expected.general[Registers::PC] = expected.general[Registers::PC].wrapping_add(step.pc_step);
    for (register, value) in &step.then {
        expected.set(*register, *value);
    }
    vcpu.expected = step.scripted.then_some(expected.general);
    if step.reason == VTIMER_ACTIVATED {
        vcpu.vtimer_masked = true;
    }
    write_exit(vcpu.page, step);
}

/// # Safety
/// `ids` is null or valid for reads of `count` ids.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vcpus_exit(ids: *const u64, count: u32) -> i32 {
    let code = call("hv_vcpus_exit", &[], |state| {
        require(ids.cast_mut())?;
        for index in 0..count as usize {
            // SAFETY: not null, so the caller vouches for `count` ids.
            let id = unsafe { ids.add(index).read() };
            match state.vcpus.get_mut(&id) {
                // Sticky: it ends the current run or the next.
                Some(Vcpu { processor: Some(processor), .. }) => processor.cancel(),
                Some(vcpu) => vcpu.cancel = true,
                None => return broken(HV_BAD_ARGUMENT, format!("there is no vCPU {id}")),
            }
        }
        Ok(())
    });
    STATE.changed.notify_all();
    code
}

/// # Safety
/// `value` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vcpu_get_reg(id: u64, register: u32, value: *mut u64) -> i32 {
    call("hv_vcpu_get_reg", &[register.into()], |state| {
        require(value)?;
        let register = general(register)?;
        let found = engine(own(state, id)?.get(register))?;
        // SAFETY: not null, so the caller vouches for it.
        unsafe { value.write(found) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vcpu_set_reg(id: u64, register: u32, value: u64) -> i32 {
    call("hv_vcpu_set_reg", &[register.into(), value], |state| {
        let register = general(register)?;
        engine(own(state, id)?.set(register, value))
    })
}

/// A register by the framework's number: X0 to X30, PC, FPCR, FPSR, CPSR.
fn general(register: u32) -> Result<Reg, Refusal> {
    match (register, u8::try_from(register)) {
        (0..=30, Ok(index)) => Ok(Reg::X(index)),
        (31, _) => Ok(Reg::Pc),
        (32, _) => Ok(Reg::Fpcr),
        (33, _) => Ok(Reg::Fpsr),
        (34, _) => Ok(Reg::Cpsr),
        _ => broken(HV_BAD_ARGUMENT, format!("there is no register {register}")),
    }
}

/// # Safety
/// `value` is null or valid for a write.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn hv_vcpu_get_sys_reg(
    id: u64,
    register: u16,
    value: *mut u64,
) -> i32 {
    call("hv_vcpu_get_sys_reg", &[register.into()], |state| {
        require(value)?;
        let found = engine(own(state, id)?.get(Reg::Sys(register)))?;
        // SAFETY: not null, so the caller vouches for it.
        unsafe { value.write(found) };
        Ok(())
    })
}

/// The vCPU `id` becomes that of this affinity.
fn place(state: &mut State, id: u64, affinity: u64) -> Result<(), Refusal> {
    let Some(mine) = own(state, id)?.processor.take() else {
        own(state, id)?.registers.set(Reg::Sys(SysReg::MPIDR_EL1), affinity);
        return Ok(());
    };
    // Another one may have it that does not know yet what it will be.
    let is_for = |vcpu: &Vcpu| vcpu.processor.as_ref().is_some_and(|its| its.is_for(affinity));
    let holder = state.vcpus.values_mut().find(|vcpu| !vcpu.affinity_set && is_for(vcpu));
    let machine = state.vm.as_mut().and_then(|vm| vm.machine.as_mut());
    let placed = match (holder.and_then(|vcpu| vcpu.processor.as_mut()), machine) {
        (Some(its), _) => {
            engine(mine.exchange(its))?;
            std::mem::replace(its, mine)
        }
        (None, Some(machine)) => engine(machine.place(mine, affinity))?,
        (None, None) => mine,
    };
    let vcpu = own(state, id)?;
    vcpu.registers.set(Reg::Sys(SysReg::MPIDR_EL1), affinity);
    vcpu.processor = Some(placed);
    Ok(())
}

#[unsafe(no_mangle)]
pub(super) extern "C" fn hv_vcpu_set_sys_reg(id: u64, register: u16, value: u64) -> i32 {
    call("hv_vcpu_set_sys_reg", &[register.into(), value], |state| {
        let fixed = state.host.fixed.contains(&register);
        let vcpu = own(state, id)?;
        if register == SysReg::MPIDR_EL1 {
            vcpu.affinity_set = true;
        }
        if fixed {
            return Ok(());
        }
        if register == SysReg::MPIDR_EL1 {
            place(state, id, value)?;
        }
        engine(own(state, id)?.set(Reg::Sys(register), value))
    })
}
