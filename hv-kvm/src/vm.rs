//! A KVM virtual machine: memory slots, interrupt lines, doorbells.

// UNSAFETY: KVM takes guest RAM as a raw host address, and file descriptors are handed on raw.
#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hv::{
    Address, Caps, Doorbell, EdgeLine, Error, IrqChip, Kind, LevelLine, Result, Roster, Slot, Vm,
    Width, check_slot,
};
use kvm_bindings::{
    KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, kvm_msi, kvm_userspace_memory_region,
};
use kvm_ioctls::{IoEventAddress, NoDatamatch, VcpuFd, VmFd};
use vm_memory::{ByteValued, Bytes, GuestMemoryRegion, MemoryRegionAddress};
use vmm_sys_util::eventfd::EventFd;

use crate::arch;
use crate::error::{call, call_at};

/// A KVM virtual machine.
#[derive(Clone, Debug)]
pub struct KvmVm(Arc<Inner>);

/// The fields go in order: KVM lets go of the RAM before it is unmapped.
#[derive(Debug)]
struct Inner {
    fd: VmFd,
    caps: Caps,
    irqchip: IrqChip,
    controller: OnceLock<arch::Controller>,
    roster: Roster,
    notes: Mutex<Vec<String>>,
    /// RAM by slot number; `None` is a number that is free.
    slots: Mutex<Vec<Option<Slot>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl KvmVm {
    /// In the order that starts fastest: an irqchip or doorbell makes every later memory slot wait
    /// for an RCU grace period, so all RAM comes first, and doorbells come after
    /// [`Vm::ready`].
    pub(crate) fn create(
        kvm: &kvm_ioctls::Kvm,
        caps: Caps,
        slots: Vec<Slot>,
        irqchip: IrqChip,
        roster: Roster,
    ) -> Result<Self> {
        let fd = loop {
            match kvm.create_vm() {
                Err(error) if error.errno() == libc::EINTR => {}
                result => break call("KVM_CREATE_VM", result)?,
            }
        };
        arch::prepare(&fd)?;
        let (notes, table) = (Mutex::default(), Mutex::default());
        let controller = OnceLock::new();
        let vm = Inner { fd, caps, irqchip, controller, roster, notes, slots: table };
        let vm = Self(Arc::new(vm));
        for slot in slots {
            vm.insert(slot)?;
        }
        Ok(vm)
    }

    /// Creates the interrupt controller that the description asks for, and all that has to come between
    /// it and its end: `vcpus`.
    pub(crate) fn create_irqchip<T>(&self, vcpus: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.0.irqchip {
            IrqChip::InKernel => {
                let controller = arch::Controller::create(&self.0.fd)?;
                let vcpus = vcpus()?;
                controller.finish()?;
                // It is the first.
                let _ = self.0.controller.set(controller);
                Ok(vcpus)
            }
            IrqChip::None => vcpus(),
        }
    }

    pub(crate) fn fd(&self) -> &VmFd {
        &self.0.fd
    }

    pub(crate) fn roster(&self) -> &Roster {
        &self.0.roster
    }

    pub(crate) fn create_vcpu(&self, id: u32) -> Result<VcpuFd> {
        crate::vcpu::create(&self.0.fd, id)
    }

    /// Keeps what the host refused and the VM can do without.
    pub(crate) fn note(&self, note: String) {
        let mut notes = lock(&self.0.notes);
        if !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// What guest RAM has at `gpa`, as far as all of it is RAM.
    pub(crate) fn read<T: ByteValued>(&self, gpa: u64) -> Option<T> {
        let slots = lock(&self.0.slots);
        let regions = slots.iter().flatten().map(|slot| &slot.region);
        let region = regions.into_iter().find(|r| r.gpa() <= gpa && gpa < r.end())?;
        region.read_obj(MemoryRegionAddress(gpa - region.start_addr().0)).ok()
    }

    /// Gives `slot` to KVM under the first free number.
    fn insert(&self, slot: Slot) -> Result<()> {
        let mut slots = lock(&self.0.slots);
        let number = slots.iter().position(Option::is_none).unwrap_or(slots.len());
        let gpa = slot.region.gpa();
        let mut flags = 0;
        if slot.flags.read_only {
            flags |= KVM_MEM_READONLY;
        }
        if slot.flags.log_dirty {
            flags |= KVM_MEM_LOG_DIRTY_PAGES;
        }
        let ram = slot.region.ram();
        self.set_region(number, flags, gpa, ram.len(), ram.host_address().addr() as u64)?;
        match slots.get_mut(number) {
            Some(free) => *free = Some(slot),
            None => slots.push(Some(slot)),
        }
        Ok(())
    }

    /// KVM_SET_USER_MEMORY_REGION; `len` 0 removes. Callers keep the RAM in the slot table for as
    /// long as KVM knows it.
    fn set_region(&self, number: usize, flags: u32, gpa: u64, len: u64, host: u64) -> Result<()> {
        let region = kvm_userspace_memory_region {
            slot: u32::try_from(number).unwrap_or(u32::MAX),
            flags,
            guest_phys_addr: gpa,
            memory_size: len,
            userspace_addr: host,
        };
        // SAFETY: the pages at `host` belong to a GuestRam that the slot table keeps until KVM has
        // let go of them, and that everyone accesses as volatile.
        let result = unsafe { self.0.fd.set_user_memory_region(region) };
        call_at("KVM_SET_USER_MEMORY_REGION", result, || format!("{len:#x} bytes at GPA {gpa:#x}"))
    }

    /// Refuses what needs a VM that is ready and has an irqchip.
    fn line(&self, op: &'static str) -> Result<()> {
        self.0.roster.require_ready(op)?;
        match self.0.irqchip {
            IrqChip::InKernel => Ok(()),
            IrqChip::None => Err(Error::new(op, Kind::Unsupported, "the VM has no irqchip")),
        }
    }

    fn numbered_line(&self, op: &'static str, line: u32) -> Result<()> {
        self.line(op)?;
        if arch::LINES.contains(&line) {
            Ok(())
        } else {
            Err(Error::new(op, Kind::Invalid, format!("no line {line}")))
        }
    }
}

/// The slot whose RAM begins at `gpa`, and its number.
fn slot_at(slots: &[Option<Slot>], op: &'static str, gpa: u64) -> Result<(usize, Slot)> {
    let here = |(number, slot): (usize, &Option<Slot>)| {
        slot.as_ref().filter(|slot| slot.region.gpa() == gpa).map(|slot| (number, slot.clone()))
    };
    slots
        .iter()
        .enumerate()
        .find_map(here)
        .ok_or_else(|| Error::new(op, Kind::Invalid, format!("no RAM begins at GPA {gpa:#x}")))
}

impl Vm for KvmVm {
    type Edge = KvmEdge;
    type Level = KvmLevel;
    type Registration = KvmRegistration;

    fn ready(&self) -> Result<()> {
        self.0.roster.declare_ready()
    }

    fn caps(&self) -> &Caps {
        &self.0.caps
    }

    fn notes(&self) -> Vec<String> {
        lock(&self.0.notes).clone()
    }

    fn edge(&self, line: u32) -> Result<KvmEdge> {
        self.numbered_line("KVM_IRQ_LINE", line)?;
        Ok(KvmEdge { line: KvmLevel { vm: self.clone(), line }, turn: Mutex::new(()) })
    }

    fn level(&self, line: u32) -> Result<KvmLevel> {
        self.numbered_line("KVM_IRQ_LINE", line)?;
        if let Some(controller) = self.0.controller.get() {
            controller.make_level(line)?;
        }
        Ok(KvmLevel { vm: self.clone(), line })
    }

    fn signal_msi(&self, address: u64, data: u32) -> Result<()> {
        self.line("KVM_SIGNAL_MSI")?;
        if !self.0.caps.msi {
            return Err(Error::new("KVM_SIGNAL_MSI", Kind::Unsupported, ""));
        }
        let [b0, b1, b2, b3, b4, b5, b6, b7] = address.to_le_bytes();
        let msi = kvm_msi {
            address_lo: u32::from_le_bytes([b0, b1, b2, b3]),
            address_hi: u32::from_le_bytes([b4, b5, b6, b7]),
            data,
            ..Default::default()
        };
        // 0 and above: delivered, or blocked by the guest, which is its own affair.
        call("KVM_SIGNAL_MSI", self.0.fd.signal_msi(msi)).map(|_delivered| ())
    }

    fn doorbell(&self, bell: Doorbell, fd: BorrowedFd<'_>) -> Result<KvmRegistration> {
        self.0.roster.require_ready("KVM_IOEVENTFD")?;
        if !self.0.caps.doorbell {
            return Err(Error::new("KVM_IOEVENTFD", Kind::Unsupported, ""));
        }
        let fd = fd
            .try_clone_to_owned()
            .map_err(|error| Error::errno("dup", error.raw_os_error().unwrap_or(0)))?;
        // SAFETY: the descriptor was just duplicated, and nobody else owns the duplicate.
        let fd = unsafe { EventFd::from_raw_fd(fd.into_raw_fd()) };
        self.ioeventfd(bell, &fd, true)?;
        Ok(KvmRegistration { vm: self.clone(), bell, fd })
    }

    fn map(&self, slot: Slot) -> Result<()> {
        check_slot(&slot, &self.0.caps)?;
        self.insert(slot)
    }

    fn unmap(&self, gpa: u64) -> Result<()> {
        let mut slots = lock(&self.0.slots);
        let (number, _) = slot_at(&slots, "unmap", gpa)?;
        self.set_region(number, 0, gpa, 0, 0)?;
        if let Some(slot) = slots.get_mut(number) {
            *slot = None;
        }
        Ok(())
    }

    fn dirty(&self, gpa: u64) -> Result<Vec<u64>> {
        const OP: &str = "KVM_GET_DIRTY_LOG";
        let (number, slot) = slot_at(&lock(&self.0.slots), OP, gpa)?;
        if !slot.flags.log_dirty {
            let why = format!("writes to the RAM at GPA {gpa:#x} are not recorded");
            return Err(Error::new(OP, Kind::Invalid, why));
        }
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let len = usize::try_from(slot.region.ram().len()).unwrap_or(usize::MAX);
        call(OP, self.0.fd.get_dirty_log(number, len))
    }
}

impl KvmVm {
    /// Adds or removes a doorbell. KVM takes a width only along with a value.
    fn ioeventfd(&self, bell: Doorbell, fd: &EventFd, add: bool) -> Result<()> {
        let at = match bell.at {
            Address::Port(port) => IoEventAddress::Pio(port.into()),
            Address::Mmio(gpa) => IoEventAddress::Mmio(gpa),
        };
        let [b0, b1, b2, b3, ..] = bell.value.unwrap_or((Width::W1, 0)).1.to_le_bytes();
        let vm = &self.0.fd;
        macro_rules! change {
            ($value:expr) => {
                match add {
                    true => vm.register_ioevent(fd, &at, $value),
                    false => vm.unregister_ioevent(fd, &at, $value),
                }
            };
        }
        let result = match bell.value {
            None => change!(NoDatamatch),
            Some((Width::W1, _)) => change!(b0),
            Some((Width::W2, _)) => change!(u16::from_le_bytes([b0, b1])),
            Some((Width::W4, _)) => change!(u32::from_le_bytes([b0, b1, b2, b3])),
            Some((Width::W8, value)) => change!(value),
        };
        call_at("KVM_IOEVENTFD", result, || format!("{bell:?}"))
    }
}

/// An edge-triggered line, raised and lowered by two calls. An irqfd would take one, but KVM hands that
/// of an IOAPIC's pin to a thread of the kernel's (virt/kvm/eventfd.c, `irqfd_wakeup`), and the guest
/// waits for two threads to be scheduled instead of one.
#[derive(Debug)]
pub struct KvmEdge {
    line: KvmLevel,
    /// A line that is high has no edge for another.
    turn: Mutex<()>,
}

impl EdgeLine for KvmEdge {
    fn pulse(&self) -> Result<()> {
        let _turn = lock(&self.turn);
        self.line.set(true)?;
        self.line.set(false)
    }
}

/// A level-triggered line.
#[derive(Debug)]
pub struct KvmLevel {
    vm: KvmVm,
    line: u32,
}

impl LevelLine for KvmLevel {
    fn set(&self, high: bool) -> Result<()> {
        call("KVM_IRQ_LINE", self.vm.0.fd.set_irq_line(arch::irq(self.line), high))
    }
}

/// A doorbell that rings as long as this lives.
#[derive(Debug)]
pub struct KvmRegistration {
    vm: KvmVm,
    bell: Doorbell,
    fd: EventFd,
}

impl Drop for KvmRegistration {
    fn drop(&mut self) {
        // Fails only for a doorbell that is not registered, and ours is.
        let _ = self.vm.ioeventfd(self.bell, &self.fd, false);
    }
}
