//! The vCPU: how it becomes a thread's, what its exits leave pending, and its run.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod exits;
mod idle;

use std::collections::HashSet;
use std::sync::Arc;

use applevisor_sys::{hv_reg_t, hv_sys_reg_t};
use hv::arch::aarch64::{State as Registers, id, mpidr};
use hv::{Cause, Error, Exit, Kind, Pending, Result, Resume, State, Vcpu, VcpuSeed};

use crate::ffi;
use crate::kick::HvfKicker;
use crate::park::Park;
use crate::signals;
use crate::syndrome::{Access, Reason, SystemRegister};
use crate::vm::HvfVm;
use idle::Vtimer;

/// A vCPU that no thread has claimed.
#[derive(Debug)]
pub struct HvfSeed {
    vm: HvfVm,
    index: u32,
    park: Arc<Park>,
    kicker: HvfKicker,
    place: hv::Place,
}

impl HvfSeed {
    pub(crate) fn new(vm: &HvfVm, index: u32) -> Self {
        let park = vm.parks().of(index).map(Arc::clone).unwrap_or_default();
        let (kicker, place) = (HvfKicker::new(Arc::clone(&park)), vm.roster().place());
        Self { vm: vm.clone(), index, park, kicker, place }
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
        let Self { vm, index, park, kicker, place } = self;
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
        cpu.set_vtimer_offset(vm.clock()).map_err(name)?;
        let sctlr = cpu.system(hv_sys_reg_t::SCTLR_EL1).map_err(name)?;
        kicker.aim(Some(cpu.id()));
        place.take();
        Ok(HvfVcpu {
            kicker,
            cpu,
            index,
            on: index == 0,
            open: None,
            park,
            sent: 0,
            naps: 0,
            vtimer: Vtimer::default(),
            sctlr,
            unknown: HashSet::new(),
            vm,
            _signals: signals,
        })
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
    change(cpu, vm, ID_AA64DFR0_EL1, |host| id::dfr0(host, false))?;
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
    index: u32,
    /// By PSCI. Only its own thread changes it.
    on: bool,
    /// The access that the last exit left pending.
    open: Option<Access>,
    park: Arc<Park>,
    /// How many interrupts the VM had sent when the guest was entered.
    sent: u64,
    /// How often in a row it has waited for one in vain.
    naps: u32,
    vtimer: Vtimer,
    /// `SCTLR_EL1` as the framework has made it.
    sctlr: u64,
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

    fn write(&mut self, state: &Registers) -> Result<()> {
        for (index, x) in (0..).zip(&state.x) {
            self.cpu.set_x(index, *x)?;
        }
        self.cpu.set_system(hv_sys_reg_t::SP_EL1, state.sp_el1)?;
        self.cpu.set_register(hv_reg_t::PC, state.pc)?;
        self.cpu.set_register(hv_reg_t::CPSR, state.pstate)
    }

    fn advance(&mut self, bytes: u64) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let pc = self.cpu.register(hv_reg_t::PC)?;
        self.cpu.set_register(hv_reg_t::PC, pc.wrapping_add(bytes))
    }
}

impl Vcpu for HvfVcpu {
    fn run(&mut self, resume: Resume) -> Result<Exit> {
        self.commit(resume)?;
        loop {
            // Also what a CANCELED comes to: it is our own kick or a late echo of one.
            if self.kicker.take() {
                return Ok(Exit::Kicked);
            }
            if !self.on && !self.begin()? {
                self.park.wait();
                continue;
            }
            self.rearm_vtimer()?;
            self.sent = self.vm.parks().sent();
            let raw = match self.cpu.run() {
                Ok(raw) => raw,
                Err(error) => return self.refused(error),
            };
            match Reason::from(raw.reason) {
                Reason::Canceled => {}
                Reason::Exception => {
                    self.vtimer.progress();
                    if let Some(exit) = self.exception(raw.esr, raw.ipa)? {
                        return Ok(exit);
                    }
                }
                Reason::VtimerActivated if self.vtimer_fired()? => {}
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

    fn is_asleep(&self) -> bool {
        match self.on {
            true => self.open.is_none() && self.is_halted().unwrap_or_default(),
            false => self.vm.power().is_off(self.index),
        }
    }

    fn translate(&self, address: u64) -> Option<u64> {
        self.physical(address).ok().flatten()
    }

    fn argument(&self) -> Option<u64> {
        None
    }

    /// A processor that PSCI starts cannot do without.
    fn begin_at(&mut self, state: &State) -> Result<()> {
        if !self.on {
            let why = format!("vCPU {} waits for another to start it", self.index);
            let error = Error::new("begin_at", Kind::Unsupported, why);
            return Err(error.remedy("give the guest one CPU"));
        }
        self.set_state(state)
    }

    fn counter_hz(&self) -> Option<u64> {
        hv::arch::aarch64::counter::frequency()
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
        self.write(state)
    }
}

impl Drop for HvfVcpu {
    fn drop(&mut self) {
        // From here on kicks find nobody; the framework's vCPU goes with the field.
        self.kicker.aim(None);
    }
}
