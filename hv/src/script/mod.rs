//! A hypervisor that plays a script: exits come from a list, errors are injected by operation, and
//! everything the caller did is recorded. It keeps the contract to the letter, so that what is
//! written against the traits can be tested on any machine.

mod vcpu;
mod vm;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use vcpu::{ScriptKicker, ScriptSeed, ScriptVcpu};
pub use vm::{ScriptEdge, ScriptLevel, ScriptRegistration, ScriptVm};

use crate::arch::{Arch, State};
use crate::caps::{Caps, Monitors};
use crate::config::{Parts, VmConfig};
use crate::error::{Error, Result};
use crate::exit::{Exit, Resume};
use crate::host::{Check, HostReport};
use crate::roster::Roster;
use crate::traits::Hypervisor;

/// One entry of a vCPU's script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new instruction exits.
    Exit(Exit),
    /// A further access of the instruction before: it comes out even while a kick waits.
    Same(Exit),
}

/// The operations that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the contract's operations")]
pub enum Op {
    Create,
    Bind,
    Ready,
    Run,
    State,
    SetState,
    Edge,
    Level,
    Pulse,
    Set,
    SignalMsi,
    Doorbell,
    Map,
    Unmap,
    Dirty,
}

/// Something the caller did to the VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A vCPU was resumed.
    Resumed(u32, Resume),
    /// A vCPU's registers were written.
    StateSet(u32, Box<State>),
    /// An edge line was pulsed.
    Pulsed(u32),
    /// A level line was set.
    Set(u32, bool),
    /// A message-signalled interrupt: address, data.
    Msi(u64, u32),
    /// A vCPU was dropped.
    Dropped(u32),
}

/// The scripted hypervisor. Clones share the script and the record.
#[derive(Clone, Debug)]
pub struct Script {
    caps: Caps,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    steps: HashMap<u32, VecDeque<Step>>,
    failures: HashMap<Op, VecDeque<Error>>,
    events: Vec<Event>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The failure that was ordered for `op`, if one is due.
    fn check(&self, op: Op) -> Result<()> {
        match self.lock().failures.get_mut(&op).and_then(VecDeque::pop_front) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn record(&self, event: Event) {
        self.lock().events.push(event);
    }
}

impl Script {
    /// An empty script for guests of `arch`: every vCPU waits until it is kicked.
    pub fn new(arch: Arch) -> Self {
        Self { caps: Self::caps_for(arch), shared: Arc::default() }
    }

    /// The same with other abilities.
    #[must_use]
    pub fn with_caps(mut self, caps: Caps) -> Self {
        self.caps = caps;
        self
    }

    /// Adds to the script of vCPU `vcpu`. Behind its end the vCPU waits until it is kicked, as one
    /// does that halted under an in-kernel irqchip.
    pub fn play(&self, vcpu: u32, steps: impl IntoIterator<Item = Step>) {
        self.shared.lock().steps.entry(vcpu).or_default().extend(steps);
    }

    /// Makes the next call of `op` fail with `error`.
    pub fn fail(&self, op: Op, error: Error) {
        self.shared.lock().failures.entry(op).or_default().push_back(error);
    }

    /// What the caller did so far, in order.
    pub fn events(&self) -> Vec<Event> {
        self.shared.lock().events.clone()
    }

    /// Everything there is to offer.
    pub fn caps_for(arch: Arch) -> Caps {
        Caps {
            arch,
            description: "a script".into(),
            max_vcpus: 64,
            address_bits: 48,
            granule: 4096,
            doorbell: true,
            msi: true,
            dirty_log: true,
            read_only_ram: true,
            hypercalls: arch == Arch::Aarch64,
            interval_timer: arch == Arch::X86_64,
            monitors: match arch {
                Arch::X86_64 => Monitors::Absent,
                Arch::Aarch64 => Monitors::Counting,
            },
        }
    }
}

impl Hypervisor for Script {
    type Vm = ScriptVm;
    type Seed = ScriptSeed;
    type Vcpu = ScriptVcpu;

    const NAME: &'static str = "script";

    fn probe() -> HostReport {
        HostReport { checks: vec![Check::ok("script", "a script runs anywhere")] }
    }

    fn open() -> Result<Self> {
        Ok(Self::new(Arch::HOST.unwrap_or(Arch::X86_64)))
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn describe(&self) -> String {
        self.caps.description.clone()
    }

    fn create(&self, config: VmConfig) -> Result<(ScriptVm, Vec<ScriptSeed>)> {
        self.shared.check(Op::Create)?;
        let Parts { slots, irqchip, vcpus, .. } = config.check(&self.caps)?;
        let vm = ScriptVm::new(self.clone(), slots, irqchip, Roster::new(vcpus));
        let seeds = (0..vcpus).map(|id| ScriptSeed::new(&vm, id)).collect();
        Ok((vm, seeds))
    }
}

#[cfg(test)]
mod tests;
