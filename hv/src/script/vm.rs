//! The scripted VM: RAM, lines and doorbells that keep the contract and a record.

use std::fs::File;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Event, Op, Script, Shared};
use crate::arch::Arch;
use crate::caps::Caps;
use crate::config::{IrqChip, Slot, check_slot};
use crate::error::{Error, Kind, Result};
use crate::exit::{Address, Width};
use crate::roster::Roster;
use crate::traits::{Doorbell, EdgeLine, LevelLine, Vm};

/// A scripted VM.
#[derive(Clone, Debug)]
pub struct ScriptVm(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    script: Script,
    irqchip: IrqChip,
    roster: Roster,
    slots: Mutex<Vec<Slot>>,
    bells: Mutex<Vec<(u64, Doorbell, File)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ScriptVm {
    pub(super) fn new(script: Script, slots: Vec<Slot>, irqchip: IrqChip, roster: Roster) -> Self {
        let (slots, bells) = (Mutex::new(slots), Mutex::default());
        Self(Arc::new(Inner { script, irqchip, roster, slots, bells }))
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0.script.shared
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.0.roster
    }

    pub(super) fn arch(&self) -> Arch {
        self.0.script.caps.arch
    }

    /// Signals the doorbell that takes this write, if there is one.
    pub(super) fn ring(&self, at: Address, width: Width, value: u64) -> bool {
        for (_, bell, file) in lock(&self.0.bells).iter_mut() {
            if bell.at == at && bell.value.is_none_or(|wanted| wanted == (width, value)) {
                // An eventfd or pipe that is full has been rung already.
                let _ = file.write_all(&1u64.to_ne_bytes());
                return true;
            }
        }
        false
    }

    fn line(&self, op: Op, name: &'static str) -> Result<()> {
        self.shared().check(op)?;
        self.0.roster.require_ready(name)?;
        match self.0.irqchip {
            IrqChip::InKernel => Ok(()),
            IrqChip::None => Err(Error::new(name, Kind::Unsupported, "the VM has no irqchip")),
        }
    }
}

/// A line that records its pulses.
#[derive(Debug)]
pub struct ScriptEdge(ScriptVm, u32);

impl EdgeLine for ScriptEdge {
    fn pulse(&self) -> Result<()> {
        self.0.shared().check(Op::Pulse)?;
        self.0.shared().record(Event::Pulsed(self.1));
        Ok(())
    }
}

/// A line that records its levels.
#[derive(Debug)]
pub struct ScriptLevel(ScriptVm, u32);

impl LevelLine for ScriptLevel {
    fn set(&self, high: bool) -> Result<()> {
        self.0.shared().check(Op::Set)?;
        self.0.shared().record(Event::Set(self.1, high));
        Ok(())
    }
}

/// A doorbell that rings as long as this lives.
#[derive(Debug)]
pub struct ScriptRegistration(ScriptVm, u64);

impl Drop for ScriptRegistration {
    fn drop(&mut self) {
        lock(&self.0.0.bells).retain(|(id, ..)| *id != self.1);
    }
}

impl Vm for ScriptVm {
    type Edge = ScriptEdge;
    type Level = ScriptLevel;
    type Registration = ScriptRegistration;

    fn ready(&self) -> Result<()> {
        self.shared().check(Op::Ready)?;
        self.0.roster.declare_ready()
    }

    fn caps(&self) -> &Caps {
        &self.0.script.caps
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    fn edge(&self, line: u32) -> Result<ScriptEdge> {
        self.line(Op::Edge, "edge")?;
        Ok(ScriptEdge(self.clone(), line))
    }

    fn level(&self, line: u32) -> Result<ScriptLevel> {
        self.line(Op::Level, "level")?;
        Ok(ScriptLevel(self.clone(), line))
    }

    fn signal_msi(&self, address: u64, data: u32) -> Result<()> {
        self.line(Op::SignalMsi, "signal_msi")?;
        if !self.0.script.caps.msi {
            return Err(Error::new("signal_msi", Kind::Unsupported, "the script has none"));
        }
        self.shared().record(Event::Msi(address, data));
        Ok(())
    }

    fn doorbell(&self, bell: Doorbell, fd: BorrowedFd<'_>) -> Result<ScriptRegistration> {
        self.shared().check(Op::Doorbell)?;
        self.0.roster.require_ready("doorbell")?;
        if !self.0.script.caps.doorbell {
            return Err(Error::new("doorbell", Kind::Unsupported, "the script has none"));
        }
        let fd = fd
            .try_clone_to_owned()
            .map_err(|error| Error::errno("dup", error.raw_os_error().unwrap_or(0)))?;
        let mut bells = lock(&self.0.bells);
        let id = bells.last().map_or(0, |(id, ..)| id + 1);
        bells.push((id, bell, fd.into()));
        Ok(ScriptRegistration(self.clone(), id))
    }

    fn map(&self, slot: Slot) -> Result<()> {
        self.shared().check(Op::Map)?;
        check_slot(&slot, &self.0.script.caps)?;
        let mut slots = lock(&self.0.slots);
        let (start, end) = (slot.region.gpa(), slot.region.end());
        if slots.iter().any(|old| old.region.gpa() < end && start < old.region.end()) {
            return Err(Error::new("map", Kind::Busy, format!("RAM is at GPA {start:#x} already")));
        }
        slots.push(slot);
        Ok(())
    }

    fn unmap(&self, gpa: u64) -> Result<()> {
        self.shared().check(Op::Unmap)?;
        let mut slots = lock(&self.0.slots);
        let before = slots.len();
        slots.retain(|slot| slot.region.gpa() != gpa);
        if slots.len() == before {
            return Err(Error::new("unmap", Kind::Invalid, format!("no RAM at GPA {gpa:#x}")));
        }
        Ok(())
    }

    fn dirty(&self, gpa: u64) -> Result<Vec<u64>> {
        self.shared().check(Op::Dirty)?;
        let slots = lock(&self.0.slots);
        let logged = |slot: &&Slot| slot.region.gpa() == gpa && slot.flags.log_dirty;
        let Some(slot) = slots.iter().find(logged) else {
            return Err(Error::new("dirty", Kind::Invalid, format!("no log at GPA {gpa:#x}")));
        };
        let words = slot.region.ram().len().div_ceil(4096 * 64);
        Ok((0..words).map(|_| 0).collect())
    }
}
