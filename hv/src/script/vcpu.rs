//! The scripted vCPU and what kicks it.

use std::marker::PhantomData;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::{Event, Op, Step};
use crate::arch::{Arch, State};
use crate::error::{Error, Kind, Result};
use crate::exit::{Exit, Resume};
use crate::pending::Pending;
use crate::roster::{Place, Roster};
use crate::script::vm::ScriptVm;
use crate::traits::{Kicker, Vcpu, VcpuSeed};

/// The sticky bit, and where an idle vCPU waits for it.
#[derive(Clone, Debug, Default)]
pub struct ScriptKicker(Arc<(Mutex<bool>, Condvar)>);

impl ScriptKicker {
    fn take(&self) -> bool {
        std::mem::take(&mut *self.0.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn wait(&self) {
        let mut kicked = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*kicked {
            kicked = self.0.1.wait(kicked).unwrap_or_else(PoisonError::into_inner);
        }
        *kicked = false;
    }
}

impl Kicker for ScriptKicker {
    fn kick(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }
}

/// A scripted vCPU that no thread has claimed.
#[derive(Debug)]
pub struct ScriptSeed {
    vm: ScriptVm,
    id: u32,
    kicker: ScriptKicker,
    place: Place,
}

impl ScriptSeed {
    pub(super) fn new(vm: &ScriptVm, id: u32) -> Self {
        Self { vm: vm.clone(), id, kicker: ScriptKicker::default(), place: vm.roster().place() }
    }
}

impl VcpuSeed for ScriptSeed {
    type Vcpu = ScriptVcpu;
    type Kicker = ScriptKicker;

    fn kicker(&self) -> ScriptKicker {
        self.kicker.clone()
    }

    fn bind(self) -> Result<ScriptVcpu> {
        self.vm.shared().check(Op::Bind)?;
        let state = match self.vm.arch() {
            Arch::X86_64 => State::X86_64(Default::default()),
            Arch::Aarch64 => State::Aarch64(Default::default()),
        };
        Ok(ScriptVcpu {
            vm: self.vm,
            id: self.id,
            kicker: self.kicker,
            roster: self.place.take(),
            pending: Pending::Nothing,
            state,
            not_send: PhantomData,
        })
    }
}

/// A scripted vCPU on its thread.
#[derive(Debug)]
pub struct ScriptVcpu {
    vm: ScriptVm,
    id: u32,
    kicker: ScriptKicker,
    roster: Roster,
    pending: Pending,
    state: State,
    not_send: PhantomData<*const ()>,
}

impl ScriptVcpu {
    /// Commits what is pending.
    fn commit(&mut self, resume: Resume) -> Result<()> {
        self.roster.require_ready("run")?;
        self.pending.check(resume)?;
        self.vm.shared().check(Op::Run)?;
        self.vm.shared().record(Event::Resumed(self.id, resume));
        self.pending = Pending::Nothing;
        Ok(())
    }

    /// The next step that `wanted` accepts. Writes that a doorbell takes never come out.
    fn next(&mut self, wanted: fn(&Step) -> bool) -> Option<Exit> {
        loop {
            let step = {
                let mut inner = self.vm.shared().lock();
                let steps = inner.steps.get_mut(&self.id)?;
                if !wanted(steps.front()?) {
                    return None;
                }
                steps.pop_front()?
            };
            let (Step::Exit(exit) | Step::Same(exit)) = step;
            if let Exit::Write { at, width, value } = exit
                && self.vm.ring(at, width, value)
            {
                continue;
            }
            self.pending = Pending::after(&exit);
            return Some(exit);
        }
    }
}

impl Vcpu for ScriptVcpu {
    fn run(&mut self, resume: Resume) -> Result<Exit> {
        if let Some(exit) = self.settle(resume)? {
            return Ok(exit);
        }
        if self.kicker.take() {
            return Ok(Exit::Kicked);
        }
        match self.next(|_| true) {
            Some(exit) => Ok(exit),
            None => {
                self.kicker.wait();
                Ok(Exit::Kicked)
            }
        }
    }

    fn settle(&mut self, resume: Resume) -> Result<Option<Exit>> {
        let midway = self.pending != Pending::Nothing;
        self.commit(resume)?;
        Ok(if midway { self.next(|step| matches!(step, Step::Same(_))) } else { None })
    }

    /// A script never halts.
    fn is_asleep(&self) -> bool {
        false
    }

    /// Scripts have no page tables.
    fn translate(&self, address: u64) -> Option<u64> {
        Some(address)
    }

    /// Scripts have no registers that change.
    fn argument(&self) -> Option<u64> {
        match &self.state {
            State::X86_64(state) => Some(state.regs.rdi),
            State::Aarch64(_) => None,
        }
    }

    fn begin_at(&mut self, state: &State) -> Result<()> {
        self.set_state(state)
    }

    /// A script counts in nanoseconds.
    fn counter_hz(&self) -> Option<u64> {
        Some(1_000_000_000)
    }

    fn state(&self) -> Result<State> {
        self.pending.require_settled("state")?;
        self.vm.shared().check(Op::State)?;
        Ok(self.state.clone())
    }

    fn set_state(&mut self, state: &State) -> Result<()> {
        self.pending.require_settled("set_state")?;
        self.vm.shared().check(Op::SetState)?;
        if state.arch() != self.vm.arch() {
            let why = format!("{} registers for {}", state.arch(), self.vm.arch());
            return Err(Error::new("set_state", Kind::Invalid, why));
        }
        self.state = state.clone();
        self.vm.shared().record(Event::StateSet(self.id, Box::new(state.clone())));
        Ok(())
    }
}

impl Drop for ScriptVcpu {
    fn drop(&mut self) {
        self.vm.shared().record(Event::Dropped(self.id));
    }
}

#[cfg(test)]
impl ScriptVcpu {
    pub(super) fn kicker(&self) -> ScriptKicker {
        self.kicker.clone()
    }
}
