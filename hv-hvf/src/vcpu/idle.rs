//! A vCPU that does not run: it is off, it waits for an interrupt, or its timer has fired.

use applevisor_sys::hv_sys_reg_t;
use hv::arch::aarch64::State as Registers;
use hv::{Exit, Result};

use super::HvfVcpu;
use crate::{sys, timer};

/// `SCTLR_EL1`: MMU, data cache and instruction cache are on.
const SCTLR_M_C_I: u64 = 1 << 0 | 1 << 2 | 1 << 12;
/// One time of the timer's is told this often at most, with no other exit in between.
const MAX_VTIMER_EXITS: u32 = 1000;

/// What the virtual timer's exits have left.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Vtimer {
    /// The framework has masked it, and it must be unmasked when it asserts nothing any more.
    masked: bool,
    /// `CNTV_CVAL_EL0` at the last exit, and how many exits there were for it.
    fired: (u64, u32),
}

impl Vtimer {
    /// The guest has come to another exit.
    pub(super) fn progress(&mut self) {
        self.fired.1 = 0;
    }
}

impl HvfVcpu {
    /// Begins where `CPU_ON` says, if it has been called; its registers are then as after a reset
    /// (DEN 0022, "Initial core state").
    pub(super) fn begin(&mut self) -> Result<bool> {
        let Some(entry) = self.vm.power().take(self.index) else { return Ok(false) };
        self.cpu.set_system(hv_sys_reg_t::SCTLR_EL1, self.sctlr & !SCTLR_M_C_I)?;
        self.cpu.set_system(hv_sys_reg_t::CNTV_CTL_EL0, 0)?;
        self.write(&Registers::el1(entry.pc, entry.context))?;
        self.on = true;
        Ok(true)
    }

    /// WFI. With an interrupt controller the framework waits by itself (ASSUMPTIONS.md, A3); should
    /// the wait be left to us, it lasts to the timer's time, an interrupt or a kick. Interrupts between
    /// vCPUs and those that are pending already we cannot see, so it never lasts long: the architecture
    /// lets it end at any time.
    pub(super) fn wait_for_interrupt(&mut self) -> Result<Option<Exit>> {
        if !self.vm.has_gic() {
            return Ok(Some(Exit::Halted));
        }
        let ctl = self.cpu.system(hv_sys_reg_t::CNTV_CTL_EL0)?;
        let cval = self.cpu.system(hv_sys_reg_t::CNTV_CVAL_EL0)?;
        let due = timer::due(ctl, cval, sys::counter(), self.vm.clock(), sys::hertz());
        let in_vain = timer::wait(due, self.naps).is_some_and(|longest| {
            let woken = self.vm.parks().await_interrupt(&self.park, self.sent, longest);
            !woken && longest == timer::nap(self.naps)
        });
        self.naps = if in_vain { self.naps.saturating_add(1) } else { 0 };
        Ok(None)
    }

    /// The virtual timer has fired, and the framework has masked it. Whether the guest can go on.
    ///
    /// With an interrupt controller the framework is to deliver the timer itself and tell nobody, so it
    /// is unmasked at once; there might be no later exit to do it at. The same time told for ever is an
    /// end. Without one there is nobody to deliver it to, and it stays masked until the guest has
    /// switched it off or set it anew.
    pub(super) fn vtimer_fired(&mut self) -> Result<bool> {
        let cval = self.cpu.system(hv_sys_reg_t::CNTV_CVAL_EL0)?;
        let times = match self.vtimer.fired {
            (before, times) if before == cval => times.saturating_add(1),
            _ => 1,
        };
        self.vtimer.fired = (cval, times);
        if self.vm.has_gic() {
            self.cpu.unmask_vtimer()?;
        } else {
            self.vtimer.masked = true;
        }
        Ok(times <= MAX_VTIMER_EXITS)
    }

    /// Unmasks the timer once it asserts nothing.
    pub(super) fn rearm_vtimer(&mut self) -> Result<()> {
        if self.vtimer.masked && !timer::asserted(self.cpu.system(hv_sys_reg_t::CNTV_CTL_EL0)?) {
            self.cpu.unmask_vtimer()?;
            self.vtimer = Vtimer::default();
        }
        Ok(())
    }
}
