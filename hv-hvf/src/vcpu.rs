//! The vCPU: its exits, what they leave pending, and what interrupts it.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use applevisor_sys::{hv_reg_t, hv_sys_reg_t};
use hv::arch::aarch64::{State as Registers, id, mpidr};
use hv::{
    Address, Arch, Cause, Error, Exit, Instruction, Kicker, Kind, OsCode, Pending, Result, Resume,
    State, Unhandled, Vcpu, VcpuSeed,
};

use crate::errors::code;
use crate::ffi;
use crate::psci::{self, Outcome};
use crate::signals;
use crate::syndrome::{Access, Class, DataAbort, Reason, SystemAccess, SystemRegister};
use crate::sysreg;
use crate::vm::HvfVm;

/// `SCTLR_EL1.M`: the guest's MMU is on.
const SCTLR_MMU: u64 = 1;
/// A timer that fires this often without any other exit in between is the framework's doing.
const MAX_VTIMER_EXITS: u32 = 1000;

/// The sticky bit, and the vCPU to throw out of the guest once there is one.
#[derive(Clone, Debug, Default)]
pub struct HvfKicker(Arc<Kick>);

#[derive(Debug, Default)]
struct Kick {
    kicked: AtomicBool,
    /// Absent before `bind()` and after the vCPU is gone. Held while the framework is called, so
    /// that the vCPU is not destroyed at that moment.
    vcpu: Mutex<Option<u64>>,
}

impl HvfKicker {
    fn vcpu(&self) -> MutexGuard<'_, Option<u64>> {
        self.0.vcpu.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> bool {
        self.0.kicked.swap(false, Ordering::AcqRel)
    }
}

impl Kicker for HvfKicker {
    fn kick(&self) {
        self.0.kicked.store(true, Ordering::Release);
        if let Some(id) = *self.vcpu() {
            // The id is live, so this cannot fail; the bit is set whatever happens.
            let _ = ffi::request_exit(id);
        }
    }
}

/// A vCPU that no thread has claimed.
#[derive(Debug)]
pub struct HvfSeed {
    vm: HvfVm,
    index: u32,
    kicker: HvfKicker,
    place: hv::Place,
}

impl HvfSeed {
    pub(crate) fn new(vm: &HvfVm, index: u32) -> Self {
        let place = vm.roster().place();
        Self { vm: vm.clone(), index, kicker: HvfKicker::default(), place }
    }
}

impl VcpuSeed for HvfSeed {
    type Vcpu = HvfVcpu;
    type Kicker = HvfKicker;

    fn kicker(&self) -> HvfKicker {
        self.kicker.clone()
    }

    /// Also blocks signals for this thread, until the vCPU is dropped.
    fn bind(self) -> Result<HvfVcpu> {
        let Self { vm, index, kicker, place } = self;
        let name = |error: Error| {
            let context = match error.context.as_str() {
                "" => format!("vCPU {index}"),
                context => format!("vCPU {index}: {context}"),
            };
            error.at(context)
        };
        let signals = signals::Blocked::all()?;
        let mut cpu = ffi::Vcpu::create(vm.framework()).map_err(name)?;
        identify(&mut cpu, &vm, index).map_err(name)?;
        *kicker.vcpu() = Some(cpu.id());
        place.take();
        Ok(HvfVcpu { kicker, cpu, open: None, unknown: HashSet::new(), vm, _signals: signals })
    }
}

/// Gives the vCPU its affinity, by which the interrupt controller knows it, and takes from its ID
/// registers what the VM does not have.
fn identify(cpu: &mut ffi::Vcpu, vm: &HvfVm, index: u32) -> Result<()> {
    use hv_sys_reg_t::*;
    let (gic, bits) = (vm.has_gic(), vm.address_bits());
    if write(cpu, MPIDR_EL1, mpidr(index))?.is_some() && index > 0 {
        return Err(fixed("MPIDR_EL1, so vCPUs cannot be told apart"));
    }
    let pfr0 = change(cpu, vm, ID_AA64PFR0_EL1, |host| id::pfr0(host, gic))?;
    if gic && !id::has_gic(pfr0) {
        return Err(fixed("ID_AA64PFR0_EL1, so guests cannot find the interrupt controller"));
    }
    change(cpu, vm, ID_AA64PFR1_EL1, id::pfr1)?;
    change(cpu, vm, ID_AA64DFR0_EL1, id::dfr0)?;
    change(cpu, vm, ID_AA64MMFR0_EL1, |host| id::mmfr0(host, bits))?;
    Ok(())
}

fn fixed(what: &str) -> Error {
    Error::new("hv_vcpu_set_sys_reg", Kind::Unsupported, format!("macOS does not change {what}"))
        .remedy("please report it with the version of macOS")
}

/// Changes an ID register where it needs a change, and notes when the framework does not keep it:
/// most guests live with a feature too many. Gives what the register holds then.
fn change(
    cpu: &mut ffi::Vcpu,
    vm: &HvfVm,
    register: hv_sys_reg_t,
    to: impl Fn(u64) -> u64,
) -> Result<u64> {
    let host = cpu.system(register)?;
    let wanted = to(host);
    if wanted == host {
        return Ok(host);
    }
    let Some(kept) = write(cpu, register, wanted)? else { return Ok(wanted) };
    vm.note(format!("macOS keeps {register:?} at {kept:#x} where the VM wants {wanted:#x}"));
    Ok(kept)
}

/// Writes a system register and reads it back: what it holds instead, if it does not hold it.
fn write(cpu: &mut ffi::Vcpu, register: hv_sys_reg_t, wanted: u64) -> Result<Option<u64>> {
    cpu.set_system(register, wanted)?;
    let kept = cpu.system(register)?;
    Ok((kept != wanted).then_some(kept))
}

/// A vCPU on its thread.
#[derive(Debug)]
pub struct HvfVcpu {
    kicker: HvfKicker,
    cpu: ffi::Vcpu,
    /// The access that the last exit left pending.
    open: Option<Access>,
    /// System registers that nobody emulates and the guest has used.
    unknown: HashSet<SystemRegister>,
    vm: HvfVm,
    _signals: signals::Blocked,
}

impl HvfVcpu {
    fn pending(&self) -> Pending {
        match self.open {
            None => Pending::Nothing,
            Some(access) if access.write => Pending::Write,
            Some(access) => Pending::Read(access.width),
        }
    }

    /// Commits what is pending: the loaded register, then the program counter. Every step can be
    /// made again, so a failure in between leaves the access as it was.
    fn commit(&mut self, resume: Resume) -> Result<()> {
        self.vm.roster().require_ready("run")?;
        let value = self.pending().check(resume)?;
        let Some(access) = self.open else { return Ok(()) };
        if !access.write {
            self.cpu.set_x(access.rt, access.loaded(value))?;
        }
        self.advance(4)?;
        self.open = None;
        Ok(())
    }

    fn advance(&mut self, bytes: u64) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let pc = self.cpu.register(hv_reg_t::PC)?;
        self.cpu.set_register(hv_reg_t::PC, pc.wrapping_add(bytes))
    }

    /// What an exception means to the caller; nothing when it was dealt with here.
    fn exception(&mut self, esr: u64, ipa: u64) -> Result<Option<Exit>> {
        let class = Class::of(esr);
        match class {
            Class::DataAbort(DataAbort::Access(access)) => {
                return self.access(access, ipa).map(Some);
            }
            Class::DataAbort(DataAbort::NoSyndrome) => {
                return self.unhandled(Cause::NoSyndrome, ipa).map(Some);
            }
            Class::DataAbort(DataAbort::External) => {
                return self.unhandled(Cause::Memory, ipa).map(Some);
            }
            Class::InstructionAbort => return self.unhandled(Cause::Instruction, esr).map(Some),
            Class::Breakpoint(_) | Class::Other(_) => {
                return self.unhandled(Cause::UnknownExit, esr).map(Some);
            }
            Class::DataAbort(DataAbort::CacheMaintenance)
            | Class::Wait(_)
            | Class::Hvc(_)
            | Class::Smc(_)
            | Class::System(_) => {}
        }
        self.advance(class.pc_step())?;
        match class {
            Class::Wait(wait) if wait.for_interrupt() && !self.vm.has_gic() => {
                return Ok(Some(Exit::Halted));
            }
            // With a GIC the framework parks a WFI itself. Should one come out all the same, the
            // architecture lets it end at any time.
            Class::Wait(_) => std::thread::yield_now(),
            Class::Hvc(_) | Class::Smc(_) => return self.call(),
            Class::System(access) => self.system(access)?,
            _ => {}
        }
        Ok(None)
    }

    fn access(&mut self, access: Access, ipa: u64) -> Result<Exit> {
        let (at, width) = (Address::Mmio(ipa), access.width);
        let exit = if access.write {
            Exit::Write { at, width, value: access.stored(self.cpu.x(access.rt)?) }
        } else {
            Exit::Read { at, width }
        };
        self.open = Some(access);
        Ok(exit)
    }

    fn call(&mut self) -> Result<Option<Exit>> {
        match psci::call(self.cpu.x(0)?) {
            Outcome::Return(value) => self.cpu.set_x(0, value).map(|()| None),
            Outcome::Shutdown => Ok(Some(Exit::Shutdown)),
            Outcome::Reset => Ok(Some(Exit::Reset)),
        }
    }

    fn system(&mut self, access: SystemAccess) -> Result<()> {
        let answer = sysreg::answer(access.register);
        // Said once for each register: an exit may not cost an allocation.
        if !answer.known && self.unknown.insert(access.register) {
            self.vm.note(format!(
                "the guest uses system register {}, which nobody emulates: it reads 0 and ignores \
                 writes",
                access.register
            ));
        }
        if access.read { self.cpu.set_x(access.rt, answer.value) } else { Ok(()) }
    }

    /// The guest stands where we can do nothing; the report gets as much as can be read.
    fn unhandled(&self, cause: Cause, code: u64) -> Result<Exit> {
        let pc = self.cpu.register(hv_reg_t::PC)?;
        let mut bytes = [0; 4];
        // With the MMU on, the program counter is no physical address.
        let flat = self.cpu.system(hv_sys_reg_t::SCTLR_EL1)? & SCTLR_MMU == 0;
        let known = if flat { self.vm.peek(pc, &mut bytes) } else { None };
        let bytes: &[u8] = if known.is_some() { &bytes } else { &[] };
        let instruction = Some(Instruction::new(Arch::Aarch64, pc, bytes));
        Ok(Exit::Unhandled(Unhandled { cause, code, instruction }))
    }

    /// The exit for a run that the framework refused, where there is one.
    fn refused(&self, error: Error) -> Result<Exit> {
        match error.os_code {
            Some(OsCode::Hv(raw)) if raw == code::HV_ILLEGAL_GUEST_STATE => {
                self.unhandled(Cause::EntryFailed, u64::from(raw))
            }
            _ => Err(error),
        }
    }
}

impl Vcpu for HvfVcpu {
    fn run(&mut self, resume: Resume) -> Result<Exit> {
        self.commit(resume)?;
        let mut vtimer_exits = 0u32;
        loop {
            // Also what a CANCELED comes to: it is our own kick or a late echo of one.
            if self.kicker.take() {
                return Ok(Exit::Kicked);
            }
            let raw = match self.cpu.run() {
                Ok(raw) => raw,
                Err(error) => return self.refused(error),
            };
            match Reason::from(raw.reason) {
                Reason::Canceled => {}
                Reason::Exception => {
                    vtimer_exits = 0;
                    if let Some(exit) = self.exception(raw.esr, raw.ipa)? {
                        return Ok(exit);
                    }
                }
                // With a GIC the framework is to deliver the timer itself; without one there is
                // nobody to deliver it to, and it stays masked.
                Reason::VtimerActivated if vtimer_exits < MAX_VTIMER_EXITS => {
                    vtimer_exits = vtimer_exits.saturating_add(1);
                    if self.vm.has_gic() {
                        self.cpu.unmask_vtimer()?;
                    }
                }
                Reason::VtimerActivated | Reason::Unknown(_) => {
                    return self.unhandled(Cause::UnknownExit, u64::from(raw.reason));
                }
            }
        }
    }

    /// One access is all that an instruction has here, so this never returns another.
    fn settle(&mut self, resume: Resume) -> Result<Option<Exit>> {
        self.commit(resume).map(|()| None)
    }

    /// WFI ends for an interrupt that is masked, too, and the framework does not show the wait.
    fn is_asleep(&self) -> bool {
        false
    }

    fn state(&self) -> Result<State> {
        self.pending().require_settled("state")?;
        let mut state = Registers {
            sp_el1: self.cpu.system(hv_sys_reg_t::SP_EL1)?,
            pc: self.cpu.register(hv_reg_t::PC)?,
            pstate: self.cpu.register(hv_reg_t::CPSR)?,
            ..Registers::default()
        };
        for (index, x) in (0..).zip(&mut state.x) {
            *x = self.cpu.x(index)?;
        }
        Ok(state.into())
    }

    fn set_state(&mut self, state: &State) -> Result<()> {
        self.pending().require_settled("set_state")?;
        let State::Aarch64(state) = state else {
            let why = format!("{} registers for aarch64", state.arch());
            return Err(Error::new("set_state", Kind::Invalid, why));
        };
        for (index, x) in (0..).zip(&state.x) {
            self.cpu.set_x(index, *x)?;
        }
        self.cpu.set_system(hv_sys_reg_t::SP_EL1, state.sp_el1)?;
        self.cpu.set_register(hv_reg_t::PC, state.pc)?;
        self.cpu.set_register(hv_reg_t::CPSR, state.pstate)
    }
}

impl Drop for HvfVcpu {
    fn drop(&mut self) {
        // From here on kicks find nobody; the framework's vCPU goes with the field.
        *self.kicker.vcpu() = None;
    }
}
