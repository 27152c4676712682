//! The hypervisor, its VM and its interrupt lines.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hv::arch::aarch64::gic;
use hv::{
    Arch, Caps, Doorbell, EdgeLine, Error, HostReport, Hypervisor, IrqChip, Kind, LevelLine,
    Monitors, Parts, Result, Roster, Slot, Vm, VmConfig, check_slot,
};
use vm_memory::{Bytes, GuestMemoryRegion, MemoryRegionAddress};

use crate::ffi;
use crate::host;
use crate::park::Parks;
use crate::psci::Power;
use crate::sys;
use crate::vcpu::{HvfSeed, HvfVcpu};

/// How many sentences a VM keeps in [`Vm::notes`].
const MAX_NOTES: usize = 32;

/// Hypervisor.framework on this Mac.
#[derive(Clone, Debug)]
pub struct Hvf {
    caps: Caps,
}

impl Hypervisor for Hvf {
    type Vm = HvfVm;
    type Seed = HvfSeed;
    type Vcpu = HvfVcpu;

    const NAME: &'static str = "hvf";

    fn probe() -> HostReport {
        host::report(&sys::facts())
    }

    /// Asks the framework for its limits. Whether this program may create a VM (its entitlement)
    /// shows in [`Hypervisor::create`] only.
    fn open() -> Result<Self> {
        let facts = sys::facts();
        if let Some(error) = host::obstacle(&facts) {
            return Err(error);
        }
        let bits = ffi::max_ipa_bits()?;
        let caps = Caps {
            arch: Arch::Aarch64,
            description: host::description(&facts),
            max_vcpus: ffi::max_vcpus()?,
            address_bits: u8::try_from(bits).map_err(|_| {
                Error::new("hv_vm_config_get_max_ipa_size", Kind::Host, format!("{bits} bits"))
            })?,
            granule: ffi::GRANULE,
            doorbell: false,
            msi: true,
            dirty_log: false,
            read_only_ram: true,
            hypercalls: true,
            interval_timer: false,
            // `crate::sysreg` answers for them.
            monitors: Monitors::Inert,
        };
        Ok(Self { caps })
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn describe(&self) -> String {
        format!("{}, guest code runs on the CPU", self.caps.description)
    }

    fn create(&self, config: VmConfig) -> Result<(HvfVm, Vec<HvfSeed>)> {
        let Parts { slots, irqchip, vcpus, hypercalls, .. } = config.check(&self.caps)?;
        for slot in &slots {
            check_place(slot, irqchip)?;
        }
        let framework = ffi::Vm::create(self.caps.address_bits)?;
        for slot in slots {
            framework.map(slot)?;
        }
        let gic = match irqchip {
            IrqChip::None => None,
            IrqChip::InKernel => Some(ffi::Gic::create(&framework)?),
        };
        let vm = HvfVm(Arc::new(Inner {
            gic,
            framework,
            roster: Roster::new(vcpus),
            power: Power::new(vcpus),
            parks: Parks::new(vcpus),
            clock: sys::counter(),
            hypercalls,
            caps: self.caps.clone(),
            notes: Mutex::default(),
        }));
        let seeds = (0..vcpus).map(|index| HvfSeed::new(&vm, index)).collect();
        Ok((vm, seeds))
    }
}

/// Checks what only this framework minds about a piece of RAM.
fn check_place(slot: &Slot, irqchip: IrqChip) -> Result<()> {
    let (gpa, end) = (slot.region.gpa(), slot.region.end());
    let refuse = |why: String| Err(Error::new("place guest RAM", Kind::Invalid, why));
    if gpa == 0 {
        return refuse("Hypervisor.framework maps nothing at GPA 0".into());
    }
    if irqchip == IrqChip::InKernel && gpa < gic::END && end > gic::DISTRIBUTOR {
        return refuse(format!("RAM at GPA {gpa:#x} covers the interrupt controller"));
    }
    Ok(())
}

/// The process's virtual machine.
#[derive(Clone, Debug)]
pub struct HvfVm(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    gic: Option<ffi::Gic>,
    framework: Arc<ffi::Vm>,
    roster: Roster,
    power: Power,
    parks: Parks,
    /// The host's counter when the VM was made: 0 for the guest, as on KVM.
    clock: u64,
    hypercalls: Vec<u32>,
    caps: Caps,
    notes: Mutex<Vec<String>>,
}

impl HvfVm {
    pub(crate) fn framework(&self) -> &Arc<ffi::Vm> {
        &self.0.framework
    }

    pub(crate) fn roster(&self) -> &Roster {
        &self.0.roster
    }

    pub(crate) fn has_gic(&self) -> bool {
        self.0.gic.is_some()
    }

    pub(crate) fn address_bits(&self) -> u8 {
        self.0.caps.address_bits
    }

    /// Which vCPUs are on.
    pub(crate) fn power(&self) -> &Power {
        &self.0.power
    }

    /// Where vCPUs wait.
    pub(crate) fn parks(&self) -> &Parks {
        &self.0.parks
    }

    /// Wakes vCPU `cpu`, which is off.
    pub(crate) fn wake(&self, cpu: u32) {
        if let Some(park) = self.0.parks.of(cpu) {
            park.wake();
        }
    }

    /// How far the guest's counter is behind the host's, on all vCPUs.
    pub(crate) fn clock(&self) -> u64 {
        self.0.clock
    }

    /// Whether a guest's call of `function` comes out.
    pub(crate) fn shows(&self, function: u32) -> bool {
        self.0.hypercalls.contains(&function)
    }

    /// Whether an instruction can be at `gpa`.
    pub(crate) fn is_ram(&self, gpa: u64) -> bool {
        let slots = self.0.framework.slots();
        slots.iter().any(|slot| slot.region.gpa() <= gpa && gpa < slot.region.end())
    }

    /// Reads guest RAM for a report, as far as it is RAM.
    pub(crate) fn peek(&self, gpa: u64, bytes: &mut [u8]) -> Option<()> {
        let slots = self.0.framework.slots();
        let region = &slots.iter().find(|slot| slot.region.gpa() <= gpa && gpa < slot.region.end());
        let region = &region.as_ref()?.region;
        let offset = gpa.checked_sub(region.start_addr().0)?;
        region.read_slice(bytes, MemoryRegionAddress(offset)).ok()
    }

    fn notes(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of something the VM does without, once. A guest may cause notes: behind the
    /// last that fits they are dropped.
    pub(crate) fn note(&self, note: String) {
        let mut notes = self.notes();
        if notes.len() < MAX_NOTES && !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// The interrupt controller, for an operation that needs a VM that is ready.
    fn gic(&self, op: &'static str) -> Result<&ffi::Gic> {
        self.0.roster.require_ready(op)?;
        let missing = || Error::new(op, Kind::Unsupported, "the VM has no irqchip");
        self.0.gic.as_ref().ok_or_else(missing)
    }

    fn line(&self, op: &'static str, intid: u32) -> Result<Line> {
        self.gic(op)?.demands().check_line(intid)?;
        Ok(Line { vm: self.clone(), intid })
    }
}

/// A line of the interrupt controller, which is known to exist.
#[derive(Debug)]
struct Line {
    vm: HvfVm,
    intid: u32,
}

impl Line {
    fn set(&self, high: bool) -> Result<()> {
        self.vm.gic("set an interrupt line")?.set_spi(self.intid, high)?;
        if high {
            self.vm.parks().interrupt();
        }
        Ok(())
    }
}

/// An edge-triggered line: a shared peripheral interrupt that the guest configures so.
#[derive(Debug)]
pub struct HvfEdge(Line);

impl EdgeLine for HvfEdge {
    fn pulse(&self) -> Result<()> {
        self.0.set(true)?;
        self.0.set(false)
    }
}

/// A level-triggered line: a shared peripheral interrupt that the guest configures so.
#[derive(Debug)]
pub struct HvfLevel(Line);

impl LevelLine for HvfLevel {
    fn set(&self, high: bool) -> Result<()> {
        self.0.set(high)
    }
}

/// The framework has no doorbells, so none can be registered.
#[derive(Clone, Copy, Debug)]
pub enum NoDoorbell {}

impl Vm for HvfVm {
    type Edge = HvfEdge;
    type Level = HvfLevel;
    type Registration = NoDoorbell;

    fn ready(&self) -> Result<()> {
        self.0.roster.declare_ready()
    }

    fn caps(&self) -> &Caps {
        &self.0.caps
    }

    /// May grow while the guest runs: it can use registers that nobody knows.
    fn notes(&self) -> Vec<String> {
        HvfVm::notes(self).clone()
    }

    fn edge(&self, line: u32) -> Result<HvfEdge> {
        self.line("edge", line).map(HvfEdge)
    }

    fn level(&self, line: u32) -> Result<HvfLevel> {
        self.line("level", line).map(HvfLevel)
    }

    /// `address` is that of the MSI frame's register `SETSPI_NSR` ([`gic::MSI_FRAME`] + 0x40),
    /// `data` an INTID from [`gic::FIRST_MSI`].
    fn signal_msi(&self, address: u64, data: u32) -> Result<()> {
        self.gic("signal_msi")?.send_msi(address, data)?;
        self.parks().interrupt();
        Ok(())
    }

    fn doorbell(&self, bell: Doorbell, _fd: BorrowedFd<'_>) -> Result<NoDoorbell> {
        self.0.roster.require_ready("doorbell")?;
        let why = format!("at {:?}: macOS shows every guest write as an exit", bell.at);
        Err(Error::new("doorbell", Kind::Unsupported, why))
    }

    fn map(&self, slot: Slot) -> Result<()> {
        check_slot(&slot, &self.0.caps)?;
        let irqchip = if self.has_gic() { IrqChip::InKernel } else { IrqChip::None };
        check_place(&slot, irqchip)?;
        self.0.framework.map(slot)
    }

    fn unmap(&self, gpa: u64) -> Result<()> {
        self.0.framework.unmap(gpa)
    }

    fn dirty(&self, gpa: u64) -> Result<Vec<u64>> {
        let why = format!("RAM at GPA {gpa:#x}: macOS keeps no log of written pages");
        Err(Error::new("dirty", Kind::Unsupported, why))
    }
}
