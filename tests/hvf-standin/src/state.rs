//! The framework's state, which is the process's, and the rules that concern more than one call.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use crate::guest::{self, Ran};
use crate::script::{Reg, Step};
use crate::sys::{Machine, Processor};

pub(crate) struct Global {
    state: Mutex<State>,
    pub(crate) changed: Condvar,
}

pub(crate) static STATE: Global =
    Global { state: Mutex::new(State::new()), changed: Condvar::new() };

pub(crate) fn lock() -> MutexGuard<'static, State> {
    STATE.state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the host is like. Sizes are bytes; the values that a new session begins with are plausible
/// ones.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are those of the framework's questions")]
pub struct Host {
    pub max_vcpus: u32,
    pub max_ipa_bits: u32,
    pub default_ipa_bits: u32,
    pub distributor_size: usize,
    pub distributor_alignment: usize,
    pub redistributor_region_size: usize,
    pub redistributor_alignment: usize,
    pub msi_region_size: usize,
    pub msi_region_alignment: usize,
    pub first_spi: u32,
    pub spis: u32,
    /// System registers, by the framework's number, that ignore writes.
    pub fixed: Vec<u16>,
}

/// The framework's numbers of system registers that backends are known to write: the encoding
/// op0, op1, CRn, CRm, op2 in 2, 3, 4, 4 and 3 bits.
#[derive(Clone, Copy, Debug)]
pub struct SysReg;

#[expect(missing_docs, reason = "the names are the registers'")]
impl SysReg {
    pub const MPIDR_EL1: u16 = 0xc005;
    pub const ID_AA64PFR0_EL1: u16 = 0xc020;
    pub const ID_AA64PFR1_EL1: u16 = 0xc021;
    pub const ID_AA64DFR0_EL1: u16 = 0xc028;
    pub const ID_AA64MMFR0_EL1: u16 = 0xc038;
    pub const SCTLR_EL1: u16 = 0xc080;
    pub const TTBR0_EL1: u16 = 0xc100;
    pub const TCR_EL1: u16 = 0xc102;
    pub const CNTV_CTL_EL0: u16 = 0xdf19;
    pub const CNTV_CVAL_EL0: u16 = 0xdf1a;
    pub const SP_EL1: u16 = 0xe208;
}

/// What the ID registers of a CPU hold that has more than a VM should see: EL2, EL3, SVE, SME,
/// performance monitors, 48-bit physical addresses.
pub const ID_REGISTERS: [(u16, u64); 4] = [
    (SysReg::ID_AA64PFR0_EL1, 0x0000_0001_0011_1111),
    (SysReg::ID_AA64PFR1_EL1, 0x0000_0000_0100_0021),
    (SysReg::ID_AA64DFR0_EL1, 0x0000_0000_1030_5408),
    (SysReg::ID_AA64MMFR0_EL1, 0x0000_1000_1010_1125),
];

impl Host {
    const fn usual() -> Self {
        Self {
            max_vcpus: 64,
            max_ipa_bits: 40,
            default_ipa_bits: 36,
            distributor_size: 0x1_0000,
            distributor_alignment: 0x1_0000,
            redistributor_region_size: 64 * 0x2_0000,
            redistributor_alignment: 0x1_0000,
            msi_region_size: 0x1_0000,
            msi_region_alignment: 0x1_0000,
            first_spi: 32,
            spis: 988,
            fixed: Vec::new(),
        }
    }
}

/// A configuration object.
#[derive(Debug)]
pub(crate) enum Object {
    Vm { ipa_bits: Option<u32>, el2: bool },
    Vcpu,
    Gic(GicConfig),
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GicConfig {
    pub(crate) distributor: Option<u64>,
    pub(crate) redistributors: Option<u64>,
    pub(crate) msi: Option<u64>,
    pub(crate) msi_range: Option<(u32, u32)>,
}

#[derive(Debug)]
pub(crate) struct Map {
    pub(crate) ipa: u64,
    pub(crate) end: u64,
    /// The host address of its first byte.
    pub(crate) host: usize,
    pub(crate) writable: bool,
}

impl Map {
    pub(crate) fn overlaps(&self, region: &Range<u64>) -> bool {
        self.ipa < region.end && region.start < self.end
    }
}

#[derive(Debug)]
pub(crate) struct Vm {
    /// What runs its guest, where that is a real CPU.
    pub(crate) machine: Option<Machine>,
    pub(crate) ipa_bits: u32,
    pub(crate) maps: Vec<Map>,
    pub(crate) gic: Option<GicConfig>,
}

/// A vCPU's registers: X0 to X30, PC, FPCR, FPSR, CPSR in the framework's order, then the system's.
#[derive(Clone, Debug)]
pub(crate) struct Registers {
    pub(crate) general: [u64; 35],
    pub(crate) system: BTreeMap<u16, u64>,
}

impl Registers {
    /// All 0 but for the ID registers.
    pub(crate) fn new() -> Self {
        Self { general: [0; 35], system: ID_REGISTERS.into_iter().collect() }
    }

    pub(crate) const PC: usize = 31;
    pub(crate) const CPSR: usize = 34;

    fn index(register: Reg) -> Result<usize, u16> {
        match register {
            Reg::X(index) => Ok(index.into()),
            Reg::Pc => Ok(Self::PC),
            Reg::Fpcr => Ok(32),
            Reg::Fpsr => Ok(33),
            Reg::Cpsr => Ok(Self::CPSR),
            Reg::Sys(number) => Err(number),
        }
    }

    pub(crate) fn get(&self, register: Reg) -> u64 {
        match Self::index(register) {
            Ok(index) => self.general[index],
            Err(number) => self.system.get(&number).copied().unwrap_or(0),
        }
    }

    pub(crate) fn set(&mut self, register: Reg, value: u64) {
        match Self::index(register) {
            Ok(index) => self.general[index] = value,
            Err(number) => {
                self.system.insert(number, value);
            }
        }
    }
}

/// `hv_vcpu_exit_t` (Apple's documentation): the reason, then syndrome, virtual and physical
/// address.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct ExitPage {
    pub(crate) reason: u32,
    pub(crate) syndrome: u64,
    pub(crate) virtual_address: u64,
    pub(crate) physical_address: u64,
}

#[derive(Debug)]
pub(crate) struct Vcpu {
    /// As which it was created in this VM, from 0.
    pub(crate) number: usize,
    pub(crate) thread: ThreadId,
    pub(crate) processor: Option<Arc<Processor>>,
    pub(crate) registers: Registers,
    pub(crate) affinity_set: bool,
    pub(crate) vtimer_masked: bool,
    /// Once the backend has said how far the guest's counter is behind the host's.
    pub(crate) vtimer_offset: Option<u64>,
    /// FIQ and IRQ that the next run delivers.
    pub(crate) pending: [bool; 2],
    /// Debug exceptions and accesses to debug registers come out.
    pub(crate) traps: [bool; 2],
    pub(crate) in_guest: Duration,
    /// Where its exit structure is; kept for ever, so that a late read finds poison.
    pub(crate) page: usize,
    /// What the general registers must be at the next run.
    pub(crate) expected: Option<[u64; 35]>,
    pub(crate) cancel: bool,
    pub(crate) parked: bool,
}

impl Vcpu {
    pub(crate) fn get(&self, register: Reg) -> Result<u64, String> {
        match &self.processor {
            Some(processor) => processor.get(register),
            None => Ok(self.registers.get(register)),
        }
    }

    pub(crate) fn set(&mut self, register: Reg, value: u64) -> Result<(), String> {
        match &self.processor {
            Some(processor) => processor.set(register, value)?,
            None => self.registers.set(register, value),
        }
        Ok(())
    }
}

/// Steps without an end.
pub(crate) struct Endless(pub(crate) Box<dyn FnMut() -> Step + Send>);

impl std::fmt::Debug for Endless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Endless")
    }
}

/// What a vCPU without a script does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// It stays in the guest.
    Script,
    /// It runs what is in RAM, as far as it is known here.
    Interpreter,
    /// It is a real one.
    Machine,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) in_session: bool,
    /// What vCPUs without a script do.
    pub(crate) engine: Engine,
    pub(crate) host: Host,
    pub(crate) objects: BTreeMap<usize, Object>,
    pub(crate) next_object: usize,
    pub(crate) vm: Option<Vm>,
    pub(crate) vcpus: BTreeMap<u64, Vcpu>,
    pub(crate) next_vcpu: u64,
    pub(crate) created: usize,
    pub(crate) scripts: BTreeMap<usize, VecDeque<Step>>,
    pub(crate) endless: BTreeMap<usize, Endless>,
    pub(crate) failures: Vec<(&'static str, u32)>,
    pub(crate) calls: Vec<(&'static str, Vec<u64>)>,
    pub(crate) broken: Vec<String>,
}

impl State {
    pub(crate) const fn new() -> Self {
        Self {
            in_session: false,
            engine: Engine::Script,
            host: Host::usual(),
            objects: BTreeMap::new(),
            next_object: 0x1000,
            vm: None,
            vcpus: BTreeMap::new(),
            // Never 0 and never used twice: a stale id is always noticed.
            next_vcpu: 7,
            created: 0,
            scripts: BTreeMap::new(),
            endless: BTreeMap::new(),
            failures: Vec::new(),
            calls: Vec::new(),
            broken: Vec::new(),
        }
    }

    pub(crate) fn vcpu_created_as(&mut self, number: usize) -> Option<&mut Vcpu> {
        self.vcpus.values_mut().find(|vcpu| vcpu.number == number)
    }

    /// What the live vCPU `id` does next: its script, or its guest.
    pub(crate) fn next(&mut self, id: u64) -> Ran {
        let (Some(vcpu), Some(vm)) = (self.vcpus.get_mut(&id), &self.vm) else { return Ran::Idle };
        let number = vcpu.number;
        let step = self.scripts.get_mut(&number).and_then(VecDeque::pop_front);
        if let Some(step) = step.or_else(|| self.endless.get_mut(&number).map(|next| next.0())) {
            return Ran::Exit(step);
        }
        match self.engine {
            Engine::Script => Ran::Idle,
            // On a machine the vCPU does not come here.
            Engine::Interpreter | Engine::Machine => guest::run(&mut vcpu.registers, &vm.maps),
        }
    }

    /// Takes note of a call, for a session to ask; a run without one makes millions.
    pub(crate) fn took(&mut self, call: &'static str, args: &[u64]) {
        if self.in_session {
            self.calls.push((call, args.to_vec()));
        }
    }

    /// Takes note of a broken rule; without a session nobody would ask, so the process ends, unless it
    /// is a program that does not know of us.
    pub(crate) fn broke(&mut self, rule: String) {
        if crate::is_foreign() {
            eprintln!("hvf-standin: {rule}");
            return;
        }
        if !self.in_session {
            eprintln!("hvf-standin: {rule}");
            std::process::abort();
        }
        self.broken.push(rule);
    }

    /// What is wrong at the end of a session.
    pub(crate) fn leftovers(&mut self) -> Vec<String> {
        let mut found = std::mem::take(&mut self.broken);
        if self.vm.is_some() {
            found.push("the VM was not destroyed".into());
        }
        if !self.vcpus.is_empty() {
            found.push(format!("{} vCPUs were not destroyed", self.vcpus.len()));
        }
        if !self.objects.is_empty() {
            found.push(format!("{} objects were not released", self.objects.len()));
        }
        for (number, steps) in &self.scripts {
            if !steps.is_empty() {
                found.push(format!("{} steps of vCPU {number} were not played", steps.len()));
            }
        }
        for (call, _) in &self.failures {
            found.push(format!("{call} was to fail and was not called"));
        }
        found
    }
}
