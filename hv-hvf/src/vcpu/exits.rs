//! What the vCPU's exits come to: an exit for the caller, or something that is done here.

use hv::arch::aarch64::{Translation, is_halted};
use hv::{Address, Arch, Cause, Error, Exit, Instruction, OsCode, Result, Unhandled};

use applevisor_sys::{hv_reg_t, hv_sys_reg_t};

use super::HvfVcpu;
use crate::errors::code;
use crate::psci::{self, Outcome};
use crate::syndrome::{Access, Class, DataAbort, SystemAccess};
use crate::{sys, sysreg};

/// How many registers that nobody emulates a vCPU remembers, to name each of them once.
const MAX_UNKNOWN: usize = 32;
/// `NOT_SUPPORTED`, as an X register holds it.
const NOT_SUPPORTED: u64 = u64::MAX;

impl HvfVcpu {
    /// What an exception means to the caller; nothing when it was dealt with here.
    pub(super) fn exception(&mut self, esr: u64, ipa: u64) -> Result<Option<Exit>> {
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
            Class::InstructionAbort => return self.unhandled(Cause::NoCode, ipa).map(Some),
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
            Class::Wait(wait) if wait.for_interrupt() => return self.wait_for_interrupt(),
            // For an event, which only another vCPU can send and nobody sees.
            Class::Wait(_) => std::thread::yield_now(),
            // As on KVM: what HVC has for an immediate does not matter.
            Class::Hvc(_) => return self.hypercall(),
            Class::Smc(0) => return self.call(),
            Class::Smc(_) => self.cpu.set_x(0, NOT_SUPPORTED)?,
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

    /// A call that the VM was asked to show comes out; all others are the firmware's.
    fn hypercall(&mut self) -> Result<Option<Exit>> {
        let cpu = &self.cpu;
        let function = psci::low(cpu.x(0)?);
        if self.vm.shows(function) {
            return Ok(Some(Exit::Hypercall { function, args: [cpu.x(1)?, cpu.x(2)?] }));
        }
        self.call()
    }

    fn call(&mut self) -> Result<Option<Exit>> {
        let cpu = &self.cpu;
        let registers = [cpu.x(0)?, cpu.x(1)?, cpu.x(2)?, cpu.x(3)?];
        let vm = &self.vm;
        match psci::call(registers, self.index, vm.power(), |pc| vm.is_ram(pc)) {
            Outcome::Return(value) => self.cpu.set_x(0, value)?,
            Outcome::Start(cpu) => {
                self.cpu.set_x(0, 0)?;
                self.vm.wake(cpu);
            }
            Outcome::Standby => {
                self.cpu.set_x(0, 0)?;
                return self.wait_for_interrupt();
            }
            Outcome::Off => self.on = false,
            Outcome::Shutdown => return Ok(Some(Exit::Shutdown)),
            Outcome::Reset => return Ok(Some(Exit::Reset)),
        }
        Ok(None)
    }

    fn system(&mut self, access: SystemAccess) -> Result<()> {
        let count = sys::counter().wrapping_sub(self.vm.clock());
        let answer = sysreg::answer(access.register, count);
        // Said once for each register, and not for more than a person would read: neither memory
        // nor an exit's time is the guest's to spend.
        let new = !answer.known
            && self.unknown.len() < MAX_UNKNOWN
            && self.unknown.insert(access.register);
        if new {
            self.vm.note(format!(
                "the guest uses system register {}, which nobody emulates: it reads 0 and ignores \
                 writes",
                access.register
            ));
        }
        if access.read { self.cpu.set_x(access.rt, answer.value) } else { Ok(()) }
    }

    /// The guest stands where we can do nothing; the report gets as much as can be read.
    pub(super) fn unhandled(&self, cause: Cause, code: u64) -> Result<Exit> {
        let pc = self.cpu.register(hv_reg_t::PC)?;
        let mut bytes = [0; 4];
        let known = self.physical(pc)?.and_then(|gpa| self.vm.peek(gpa, &mut bytes));
        let bytes: &[u8] = if known.is_some() { &bytes } else { &[] };
        let instruction = Some(Instruction::new(Arch::Aarch64, pc, bytes));
        Ok(Exit::Unhandled(Unhandled { cause, code, instruction }))
    }

    /// Whether the guest is in a loop that it does not leave.
    pub(super) fn is_halted(&self) -> Result<bool> {
        let pc = self.cpu.register(hv_reg_t::PC)?;
        let pstate = self.cpu.register(hv_reg_t::CPSR)?;
        let word = |address| {
            let mut word = [0; 4];
            self.vm.peek(self.physical(address).ok()??, &mut word)?;
            Some(u32::from_le_bytes(word))
        };
        Ok(is_halted(pc, pstate, word))
    }

    /// Where the guest's address `address` lies, as far as its tables say.
    pub(super) fn physical(&self, address: u64) -> Result<Option<u64>> {
        let translation = Translation {
            sctlr_el1: self.cpu.system(hv_sys_reg_t::SCTLR_EL1)?,
            tcr_el1: self.cpu.system(hv_sys_reg_t::TCR_EL1)?,
            ttbr0_el1: self.cpu.system(hv_sys_reg_t::TTBR0_EL1)?,
            ttbr1_el1: self.cpu.system(hv_sys_reg_t::TTBR1_EL1)?,
        };
        let entry = |gpa| {
            let mut entry = [0; 8];
            self.vm.peek(gpa, &mut entry).map(|()| u64::from_le_bytes(entry))
        };
        Ok(translation.translate(address, entry))
    }

    /// The exit for a run that the framework refused, where there is one.
    pub(super) fn refused(&self, error: Error) -> Result<Exit> {
        match error.os_code {
            Some(OsCode::Hv(raw)) if raw == code::HV_ILLEGAL_GUEST_STATE => {
                self.unhandled(Cause::EntryFailed, u64::from(raw))
            }
            _ => Err(error),
        }
    }
}
