//! Which vCPUs of a VM are on (DEN 0022, "CPU_ON", "CPU_OFF", "AFFINITY_INFO"): one state machine
//! for each, all under one lock.
//!
//! ```text
//! off ── CPU_ON by another ──▶ pending ── its thread takes the entry ──▶ on ── its own CPU_OFF ──▶ off
//! ```

use std::sync::{Mutex, MutexGuard, PoisonError};

use hv::arch::aarch64::affinity;

/// Aff3, and Aff2 to Aff0, of `MPIDR_EL1`.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// Where a vCPU begins when it is switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The program counter.
    pub pc: u64,
    /// X0.
    pub context: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    On,
    Off,
    Pending(Entry),
}

/// Why a vCPU cannot be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    On,
    Pending,
}

/// The vCPUs of one VM, by their numbers.
#[derive(Debug)]
pub struct Power(Mutex<Vec<State>>);

impl Power {
    /// `vcpus` vCPUs, of which the first is on.
    pub fn new(vcpus: u32) -> Self {
        let state = |index| if index == 0 { State::On } else { State::Off };
        Self(Mutex::new((0..vcpus).map(state).collect()))
    }

    fn states(&self) -> MutexGuard<'_, Vec<State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state of vCPU `cpu`, if there is one.
    fn change<T>(&self, cpu: u32, change: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut states = self.states();
        usize::try_from(cpu).ok().and_then(|index| states.get_mut(index)).map(change)
    }

    /// The vCPU whose affinity is `target`.
    pub(super) fn find(&self, target: u64) -> Option<u32> {
        (0..).zip(&*self.states()).map(|(cpu, _)| cpu).find(|cpu| affinity(*cpu) == target)
    }

    /// `CPU_ON`: from here on `cpu` has `entry` to [take](Power::take).
    pub(super) fn switch_on(&self, cpu: u32, entry: Entry) -> Result<(), Refusal> {
        let on = |state: &mut State| match state {
            State::On => Err(Refusal::On),
            State::Pending(_) => Err(Refusal::Pending),
            State::Off => {
                *state = State::Pending(entry);
                Ok(())
            }
        };
        self.change(cpu, on).unwrap_or(Err(Refusal::On))
    }

    /// `CPU_OFF`.
    pub(super) fn switch_off(&self, cpu: u32) {
        self.change(cpu, |state| *state = State::Off);
    }

    /// What `cpu` is to begin with, once for each time that it is switched on. It is on then.
    pub fn take(&self, cpu: u32) -> Option<Entry> {
        let take = |state: &mut State| match *state {
            State::Pending(entry) => {
                *state = State::On;
                Some(entry)
            }
            State::On | State::Off => None,
        };
        self.change(cpu, take).flatten()
    }

    /// Whether `cpu` is off and nobody has switched it on.
    pub fn is_off(&self, cpu: u32) -> bool {
        self.change(cpu, |state| *state == State::Off).unwrap_or(false)
    }

    /// `AFFINITY_INFO`: 0 when a vCPU that is meant is on, else 2 when one is to be switched on, else 1.
    /// Nothing when none is meant.
    pub(super) fn info(&self, target: u64, level: u32) -> Option<u32> {
        let mask = match level {
            0 => AFFINITY,
            1 => AFFINITY & !0xff,
            2 => AFFINITY & !0xffff,
            3 => AFFINITY & !0xff_ffff,
            _ => return None,
        };
        if target & !AFFINITY != 0 {
            return None;
        }
        let states = self.states();
        let meant = (0..).zip(&*states).filter(|(cpu, _)| affinity(*cpu) & mask == target & mask);
        let meant: Vec<&State> = meant.map(|(_, state)| state).collect();
        match () {
            () if meant.is_empty() => None,
            () if meant.contains(&&State::On) => Some(0),
            () if meant.iter().any(|state| matches!(state, State::Pending(_))) => Some(2),
            () => Some(1),
        }
    }
}

#[cfg(test)]
mod tests;
