//! What a VM is made of, as data: RAM, interrupt controller, number of vCPUs.
//!
//! Every backend needs the same list in an order of its own (KVM: memory slots before the irqchip
//! before vCPUs, or each slot waits for an RCU grace period; Hypervisor.framework: the GIC before
//! any vCPU). So the caller describes and [`Hypervisor::create`](crate::Hypervisor::create)
//! orders, and the description is checked once, here.

use std::sync::Arc;

use crate::caps::{Caps, Monitors};
use crate::error::{Error, Kind, Result};
use crate::mem::{GuestMemory, GuestRam, Region};

const OP: &str = "describe the VM";

/// How the guest may use a piece of RAM, and what is recorded about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RamFlags {
    /// Guest writes come out as [`Exit::Write`](crate::Exit::Write) and change nothing.
    pub read_only: bool,
    /// Written pages are recorded for [`Vm::dirty`](crate::Vm::dirty).
    pub log_dirty: bool,
}

/// A piece of guest RAM with its flags.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Where it is and what backs it.
    pub region: Region,
    /// How it is mapped.
    pub flags: RamFlags,
}

/// Who emulates the interrupt controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IrqChip {
    /// Nobody: a halted vCPU comes out as [`Exit::Halted`](crate::Exit::Halted), and there are no
    /// lines.
    #[default]
    None,
    /// The host's kernel: x86 IOAPIC, PIC and local APICs; arm64 GICv3.
    InKernel,
}

/// The description of a VM.
#[derive(Clone, Debug)]
pub struct VmConfig {
    slots: Vec<Slot>,
    irqchip: IrqChip,
    vcpus: u32,
    hypercalls: Vec<u32>,
    interval_timer: bool,
    monitors: bool,
}

impl Default for VmConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl VmConfig {
    /// One vCPU, no RAM, no interrupt controller.
    pub fn new() -> Self {
        Self {
            slots: Vec::new(),
            irqchip: IrqChip::None,
            vcpus: 1,
            hypercalls: Vec::new(),
            interval_timer: false,
            monitors: false,
        }
    }

    /// Adds RAM at `gpa` (a multiple of 4 KiB; of 16 KiB on macOS).
    ///
    /// # Errors
    /// `Invalid` when it reaches past the end of the address space.
    pub fn ram(mut self, gpa: u64, ram: Arc<GuestRam>, flags: RamFlags) -> Result<Self> {
        self.slots.push(Slot { region: Region::new(gpa, ram)?, flags });
        Ok(self)
    }

    /// Adds every region of `memory`, writable.
    #[must_use]
    pub fn memory(mut self, memory: &GuestMemory) -> Self {
        use vm_memory::GuestMemoryBackend;
        let flags = RamFlags::default();
        self.slots.extend(memory.iter().map(|region| Slot { region: region.clone(), flags }));
        self
    }

    /// Chooses the interrupt controller.
    #[must_use]
    pub fn irqchip(mut self, irqchip: IrqChip) -> Self {
        self.irqchip = irqchip;
        self
    }

    /// Sets the number of vCPUs, from 1 to [`Caps::max_vcpus`](crate::Caps::max_vcpus).
    #[must_use]
    pub fn vcpus(mut self, vcpus: u32) -> Self {
        self.vcpus = vcpus;
        self
    }

    /// Asks that a guest's call of `function` (arm64: `HVC` with it in W0) comes out as
    /// [`Exit::Hypercall`](crate::Exit::Hypercall). Only numbers that the SMC Calling Convention (Arm
    /// DEN 0028) has no fast calls for, below 0x8000_0000: PSCI and its like are answered inside.
    #[must_use]
    pub fn hypercall(mut self, function: u32) -> Self {
        self.hypercalls.push(function);
        self
    }

    /// Adds a PC's interval timer: an Intel 8254 at ports 0x40 to 0x43 whose counter 0 is the irqchip's line
    /// 0, and port 0x61, by which counter 2 is started and looked at. Guests that know no younger timer need
    /// it. It takes [`IrqChip::InKernel`].
    #[must_use]
    pub fn interval_timer(mut self) -> Self {
        self.interval_timer = true;
        self
    }

    /// Gives arm64's processors their performance monitors (PMUv3), for guests that set them up without
    /// looking whether there are any: with counters, which say that they have counted too far by PPI 7
    /// (INTID 23, as on QEMU's `virt`), where the host [has them](Monitors::Counting), and without where
    /// it [has registers](Monitors::Inert). Others are better off without: what they count is the
    /// host's processor. It takes [`IrqChip::InKernel`].
    #[must_use]
    pub fn monitors(mut self) -> Self {
        self.monitors = true;
        self
    }

    /// Checks the description against what the hypervisor can do, and takes it apart.
    ///
    /// # Errors
    /// `Invalid` for RAM that overlaps, is misaligned or absent, for 0 vCPUs, for hypercalls that
    /// cannot be had, and for an interval timer or performance monitors without an irqchip; `Unsupported` for what
    /// [`Caps`] rules out; `Exhausted` for more vCPUs than there can be.
    pub fn check(mut self, caps: &Caps) -> Result<Parts> {
        if self.slots.is_empty() {
            return Err(Error::new(OP, Kind::Invalid, "it has no RAM"));
        }
        if self.vcpus == 0 {
            return Err(Error::new(OP, Kind::Invalid, "it has no vCPU"));
        }
        if self.vcpus > caps.max_vcpus {
            let why = format!("{} vCPUs, where this host allows {}", self.vcpus, caps.max_vcpus);
            return Err(Error::new(OP, Kind::Exhausted, why).remedy("ask for fewer CPUs"));
        }
        self.slots.sort_by_key(|slot| slot.region.gpa());
        for pair in self.slots.windows(2) {
            if let [low, high] = pair
                && low.region.end() > high.region.gpa()
            {
                let why = format!("RAM overlaps at GPA {:#x}", high.region.gpa());
                return Err(Error::new(OP, Kind::Invalid, why));
            }
        }
        for slot in &self.slots {
            check_slot(slot, caps)?;
        }
        check_hypercalls(&self.hypercalls, caps)?;
        self.check_extras(caps)?;
        let Self { slots, irqchip, vcpus, hypercalls, interval_timer, monitors } = self;
        Ok(Parts { slots, irqchip, vcpus, hypercalls, interval_timer, monitors })
    }

    /// Checks what few guests have.
    fn check_extras(&self, caps: &Caps) -> Result<()> {
        let monitors = caps.monitors != Monitors::Absent;
        let extras = [
            (self.interval_timer, caps.interval_timer, "interval timer"),
            (self.monitors, monitors, "performance monitors (PMUv3)"),
        ];
        for (_, there, what) in extras.into_iter().filter(|(asked, ..)| *asked) {
            if !there {
                return Err(Error::new(OP, Kind::Unsupported, format!("no {what}")));
            }
            if self.irqchip == IrqChip::None {
                return Err(Error::new(OP, Kind::Invalid, format!("{what} without an irqchip")));
            }
        }
        Ok(())
    }
}

/// Checks one piece of RAM, also one that is mapped later.
///
/// # Errors
/// As [`VmConfig::check`].
pub fn check_slot(slot: &Slot, caps: &Caps) -> Result<()> {
    let (gpa, end) = (slot.region.gpa(), slot.region.end());
    if !gpa.is_multiple_of(caps.granule) || !end.is_multiple_of(caps.granule) {
        let why = format!("RAM at GPA {gpa:#x} is not aligned to {} bytes", caps.granule);
        return Err(Error::new(OP, Kind::Invalid, why));
    }
    if end > caps.address_space() {
        let why = format!("RAM up to GPA {end:#x} where guests have {} bits", caps.address_bits);
        return Err(Error::new(OP, Kind::Unsupported, why).remedy("ask for less memory"));
    }
    if slot.flags.log_dirty && !caps.dirty_log {
        return Err(Error::new(OP, Kind::Unsupported, "no log of written pages"));
    }
    if slot.flags.read_only && !caps.read_only_ram {
        return Err(Error::new(OP, Kind::Unsupported, "no read-only RAM"));
    }
    Ok(())
}

/// The lowest function of the SMC Calling Convention's fast calls.
const FAST_CALLS: u32 = 0x8000_0000;

fn check_hypercalls(functions: &[u32], caps: &Caps) -> Result<()> {
    if !functions.is_empty() && !caps.hypercalls {
        return Err(Error::new(OP, Kind::Unsupported, "no exits for hypercalls"));
    }
    match functions.iter().find(|function| **function >= FAST_CALLS) {
        None => Ok(()),
        Some(function) => {
            let why = format!("hypercall {function:#x} is a fast call, which is answered inside");
            Err(Error::new(OP, Kind::Invalid, why))
        }
    }
}

/// A checked description: slots by ascending address, none overlapping.
#[derive(Debug)]
pub struct Parts {
    /// Guest RAM.
    pub slots: Vec<Slot>,
    /// Who emulates the interrupt controller.
    pub irqchip: IrqChip,
    /// How many vCPUs, at least 1.
    pub vcpus: u32,
    /// Functions whose calls come out.
    pub hypercalls: Vec<u32>,
    /// Whether there is a PC's interval timer.
    pub interval_timer: bool,
    /// Whether processors have arm64's performance monitors, if the host has some that count.
    pub monitors: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ram() -> Arc<GuestRam> {
        GuestRam::new(1 << 20).unwrap()
    }

    fn with(gpas: &[u64]) -> VmConfig {
        gpas.iter().fold(VmConfig::new(), |config, gpa| {
            config.ram(*gpa, ram(), RamFlags::default()).unwrap()
        })
    }

    #[test]
    fn slots_come_out_in_order_of_address() {
        let parts = with(&[4 << 20, 0, 1 << 20]).check(&Caps::for_tests()).unwrap();
        let gpas: Vec<u64> = parts.slots.iter().map(|slot| slot.region.gpa()).collect();
        assert_eq!(gpas, [0, 1 << 20, 4 << 20]);
    }

    #[test]
    fn impossible_descriptions_are_refused_by_kind() {
        let caps = Caps { max_vcpus: 4, ..Caps::for_tests() };
        let kind = |config: VmConfig| config.check(&caps).unwrap_err().kind;
        assert_eq!(kind(VmConfig::new()), Kind::Invalid);
        assert_eq!(kind(with(&[0]).vcpus(0)), Kind::Invalid);
        assert_eq!(kind(with(&[0]).vcpus(5)), Kind::Exhausted);
        assert_eq!(kind(with(&[0, 0xff000])), Kind::Invalid);
        assert_eq!(kind(with(&[0x800])), Kind::Invalid);
        assert_eq!(kind(with(&[1 << 52])), Kind::Unsupported);
    }

    #[test]
    fn hypercalls_come_out_where_the_host_can_and_are_none_that_it_answers_itself() {
        let caps = Caps { hypercalls: true, ..Caps::for_tests() };
        let parts = with(&[0]).hypercall(0x18).hypercall(7).check(&caps).unwrap();
        assert_eq!(parts.hypercalls, [0x18, 7]);
        let psci = with(&[0]).hypercall(0x18).hypercall(0x8400_0000);
        assert_eq!(psci.check(&caps).unwrap_err().kind, Kind::Invalid);
        let without = Caps { hypercalls: false, ..caps };
        let refused = with(&[0]).hypercall(0x18).check(&without).unwrap_err();
        assert_eq!(refused.kind, Kind::Unsupported);
    }

    #[test]
    fn an_interval_timer_takes_an_irqchip_and_a_pc() {
        let (pc, arm) = (Caps::for_tests(), crate::script::Script::caps_for(crate::Arch::Aarch64));
        let timer = || with(&[0]).interval_timer();
        assert_eq!(timer().check(&pc).unwrap_err().kind, Kind::Invalid);
        let config = || timer().irqchip(IrqChip::InKernel);
        assert!(config().check(&pc).unwrap().interval_timer);
        assert_eq!(config().check(&arm).unwrap_err().kind, Kind::Unsupported);
    }

    #[test]
    fn performance_monitors_take_an_irqchip_and_a_host_that_has_them_in_some_way() {
        let arm = crate::script::Script::caps_for(crate::Arch::Aarch64);
        let with = || with(&[0]).monitors();
        assert_eq!(with().check(&arm).unwrap_err().kind, Kind::Invalid);
        let config = || with().irqchip(IrqChip::InKernel);
        for (monitors, refused) in [
            (Monitors::Counting, None),
            (Monitors::Inert, None),
            (Monitors::Absent, Some(Kind::Unsupported)),
        ] {
            let checked = config().check(&Caps { monitors, ..arm.clone() });
            assert_eq!(
                checked.map(|parts| parts.monitors).map_err(|error| error.kind).err(),
                refused
            );
        }
    }

    #[test]
    fn what_the_host_lacks_is_unsupported_and_not_ignored() {
        let caps = Caps { dirty_log: false, read_only_ram: false, ..Caps::for_tests() };
        for flags in [
            RamFlags { read_only: true, ..RamFlags::default() },
            RamFlags { log_dirty: true, ..RamFlags::default() },
        ] {
            let config = VmConfig::new().ram(0, ram(), flags).unwrap();
            assert_eq!(config.check(&caps).unwrap_err().kind, Kind::Unsupported);
        }
    }
}
