//! The framework's calls behind safe functions: the one module that reaches Hypervisor.framework.
//!
//! Names, order and rules are those of Apple's documentation ("Hypervisor", Apple silicon). A VM
//! keeps the RAM that is mapped into it, a vCPU keeps its VM, and neither leaves its bounds.

// UNSAFETY: the framework is a C library. Whoever defines its symbols is the framework: Apple's on
// macOS, a stand-in in tests.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use applevisor_sys as hvf;
use applevisor_sys::{hv_reg_t, hv_return_t, hv_sys_reg_t};
use hv::arch::aarch64::gic;
use hv::{Error, Kind, Result, Slot};

use crate::errors;
use crate::gic::{Demand, Demands};

/// Host addresses, guest addresses and lengths are multiples of this many bytes.
pub(crate) const GRANULE: u64 = 16 << 10;

fn check(op: &'static str, code: hv_return_t) -> Result<()> {
    match code {
        0 => Ok(()),
        code => Err(errors::error(op, code.cast_unsigned())),
    }
}

/// A value that the call `op` hands out through a pointer.
fn ask<T: Default>(op: &'static str, call: impl FnOnce(*mut T) -> hv_return_t) -> Result<T> {
    let mut value = T::default();
    check(op, call(&raw mut value))?;
    Ok(value)
}

/// A configuration object, released when dropped.
struct Object(*mut c_void);

impl Object {
    fn new(op: &'static str, raw: *mut c_void) -> Result<Self> {
        if raw.is_null() {
            return Err(Error::new(op, Kind::Exhausted, "no object"));
        }
        Ok(Self(raw))
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: the framework handed out the object to us, and nobody else releases it.
        unsafe { hvf::os_release(self.0) }
    }
}

/// How many bits guest physical addresses can have.
pub(crate) fn max_ipa_bits() -> Result<u32> {
    // SAFETY: the pointer is to a variable that outlives the call.
    ask("hv_vm_config_get_max_ipa_size", |bits| unsafe { hvf::hv_vm_config_get_max_ipa_size(bits) })
}

/// How many vCPUs a VM can have.
pub(crate) fn max_vcpus() -> Result<u32> {
    // SAFETY: the pointer is to a variable that outlives the call.
    ask("hv_vm_get_max_vcpu_count", |count| unsafe { hvf::hv_vm_get_max_vcpu_count(count) })
}

/// The process's VM, with the RAM that is mapped into it.
#[derive(Debug)]
pub(crate) struct Vm {
    slots: Mutex<Vec<Slot>>,
}

impl Vm {
    /// Creates the VM with guest physical addresses of `ipa_bits` bits.
    pub(crate) fn create(ipa_bits: u8) -> Result<Arc<Self>> {
        // SAFETY: the call takes nothing.
        let config = Object::new("hv_vm_config_create", unsafe { hvf::hv_vm_config_create() })?;
        // SAFETY: the configuration is live.
        check("hv_vm_config_set_ipa_size", unsafe {
            hvf::hv_vm_config_set_ipa_size(config.0, u32::from(ipa_bits))
        })
        .map_err(|error| error.at(format!("{ipa_bits} bits")))?;
        // SAFETY: the configuration is live; the call keeps no reference that we would free.
        check("hv_vm_create", unsafe { hvf::hv_vm_create(config.0) })?;
        Ok(Arc::new(Self { slots: Mutex::default() }))
    }

    /// The pieces of RAM that are mapped.
    pub(crate) fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Maps `slot` and keeps it.
    pub(crate) fn map(&self, slot: Slot) -> Result<()> {
        let mut flags = hvf::HV_MEMORY_READ | hvf::HV_MEMORY_EXEC;
        if !slot.flags.read_only {
            flags |= hvf::HV_MEMORY_WRITE;
        }
        let (gpa, end, ram) = (slot.region.gpa(), slot.region.end(), slot.region.ram());
        let mut slots = self.slots();
        if slots.iter().any(|old| old.region.gpa() < end && gpa < old.region.end()) {
            return Err(Error::new("map", Kind::Busy, format!("RAM is at GPA {gpa:#x} already")));
        }
        // SAFETY: the pages are a mapping of `len` bytes that lives as long as `slot`, which is kept
        // until they are unmapped or the VM is gone. Nobody holds references to them.
        check("hv_vm_map", unsafe {
            hvf::hv_vm_map(ram.host_address().cast(), gpa, len(ram.len())?, flags)
        })
        .map_err(|error| error.at(format!("{:#x} bytes of RAM at GPA {gpa:#x}", ram.len())))?;
        slots.push(slot);
        Ok(())
    }

    /// Unmaps the RAM that begins at `gpa`.
    pub(crate) fn unmap(&self, gpa: u64) -> Result<()> {
        let mut slots = self.slots();
        let Some(index) = slots.iter().position(|slot| slot.region.gpa() == gpa) else {
            return Err(Error::new("unmap", Kind::Invalid, format!("no RAM at GPA {gpa:#x}")));
        };
        let len = slots.get(index).map_or(0, |slot| slot.region.ram().len());
        // SAFETY: takes pages away from the guest, nothing of ours.
        check("hv_vm_unmap", unsafe { hvf::hv_vm_unmap(gpa, self::len(len)?) })
            .map_err(|error| error.at(format!("RAM at GPA {gpa:#x}")))?;
        slots.swap_remove(index);
        Ok(())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // SAFETY: vCPUs hold an `Arc` of this, so none is left.
        if unsafe { hvf::hv_vm_destroy() } != 0 {
            // The guest may still have the pages: then they must stay, whoever they are lost to.
            std::mem::forget(std::mem::take(&mut *self.slots()));
        }
    }
}

fn len(bytes: u64) -> Result<usize> {
    usize::try_from(bytes).map_err(|_| Error::new("map RAM", Kind::Exhausted, "no address space"))
}

/// The VM's interrupt controller.
#[derive(Debug)]
pub(crate) struct Gic {
    demands: Demands,
    _vm: Arc<Vm>,
}

impl Gic {
    /// Creates it, where [`gic`] says; no vCPU may exist yet.
    pub(crate) fn create(vm: &Arc<Vm>) -> Result<Self> {
        let demands = demands()?;
        demands.check()?;
        // SAFETY: the call takes nothing.
        let config = Object::new("hv_gic_config_create", unsafe { hvf::hv_gic_config_create() })?;
        // SAFETY: the configuration is live.
        check("hv_gic_config_set_distributor_base", unsafe {
            hvf::hv_gic_config_set_distributor_base(config.0, gic::DISTRIBUTOR)
        })?;
        // SAFETY: the configuration is live.
        check("hv_gic_config_set_redistributor_base", unsafe {
            hvf::hv_gic_config_set_redistributor_base(config.0, gic::REDISTRIBUTORS)
        })?;
        // SAFETY: the configuration is live.
        check("hv_gic_config_set_msi_region_base", unsafe {
            hvf::hv_gic_config_set_msi_region_base(config.0, gic::MSI_FRAME)
        })?;
        // SAFETY: the configuration is live.
        check("hv_gic_config_set_msi_interrupt_range", unsafe {
            hvf::hv_gic_config_set_msi_interrupt_range(config.0, gic::FIRST_MSI, gic::MSIS)
        })?;
        // SAFETY: the configuration is live; the call keeps no reference that we would free.
        check("hv_gic_create", unsafe { hvf::hv_gic_create(config.0) })?;
        Ok(Self { demands, _vm: Arc::clone(vm) })
    }

    /// What it was checked against.
    pub(crate) fn demands(&self) -> &Demands {
        &self.demands
    }

    /// Sets a line.
    pub(crate) fn set_spi(&self, intid: u32, high: bool) -> Result<()> {
        // SAFETY: two numbers, from any thread.
        check("hv_gic_set_spi", unsafe { hvf::hv_gic_set_spi(intid, high) })
            .map_err(|error| error.at(format!("INTID {intid}")))
    }

    /// Sends a message.
    pub(crate) fn send_msi(&self, address: u64, intid: u32) -> Result<()> {
        // SAFETY: two numbers, from any thread.
        check("hv_gic_send_msi", unsafe { hvf::hv_gic_send_msi(address, intid) })
            .map_err(|error| error.at(format!("INTID {intid} at GPA {address:#x}")))
    }
}

/// What the framework asks of the places of the controller's parts.
fn demands() -> Result<Demands> {
    let bytes = |op, call: unsafe extern "C" fn(*mut usize) -> hv_return_t| {
        // SAFETY: each call given below writes one number through its pointer.
        ask(op, |size| unsafe { call(size) }).map(|size: usize| size as u64)
    };
    let mut spis = 0;
    // SAFETY: both pointers are to variables that outlive the call.
    let first_spi = ask("hv_gic_get_spi_interrupt_range", |first| unsafe {
        hvf::hv_gic_get_spi_interrupt_range(first, &raw mut spis)
    })?;
    Ok(Demands {
        distributor: Demand {
            size: bytes("hv_gic_get_distributor_size", hvf::hv_gic_get_distributor_size)?,
            alignment: bytes(
                "hv_gic_get_distributor_base_alignment",
                hvf::hv_gic_get_distributor_base_alignment,
            )?,
        },
        redistributors: Demand {
            size: bytes(
                "hv_gic_get_redistributor_region_size",
                hvf::hv_gic_get_redistributor_region_size,
            )?,
            alignment: bytes(
                "hv_gic_get_redistributor_base_alignment",
                hvf::hv_gic_get_redistributor_base_alignment,
            )?,
        },
        msi: Demand {
            size: bytes("hv_gic_get_msi_region_size", hvf::hv_gic_get_msi_region_size)?,
            alignment: bytes(
                "hv_gic_get_msi_region_base_alignment",
                hvf::hv_gic_get_msi_region_base_alignment,
            )?,
        },
        first_spi,
        spis,
    })
}

/// What `hv_vcpu_run` left in the exit structure, as plain numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawExit {
    /// `hv_exit_reason_t`.
    pub(crate) reason: u32,
    /// `ESR_EL2`; the exception's fields mean something for reason 1 only.
    pub(crate) esr: u64,
    /// Guest physical address.
    pub(crate) ipa: u64,
}

/// A vCPU. The raw pointer keeps it on the thread that created it.
#[derive(Debug)]
pub(crate) struct Vcpu {
    id: hvf::hv_vcpu_t,
    exit: *const hvf::hv_vcpu_exit_t,
    _vm: Arc<Vm>,
}

impl Vcpu {
    /// Creates a vCPU for the calling thread.
    pub(crate) fn create(vm: &Arc<Vm>) -> Result<Self> {
        let mut exit = std::ptr::null();
        // SAFETY: the pointers are to variables that outlive the call; a null configuration is the
        // default one.
        let id = ask("hv_vcpu_create", |id| unsafe {
            hvf::hv_vcpu_create(id, &raw mut exit, std::ptr::null_mut())
        })?;
        let vcpu = Self { id, exit, _vm: Arc::clone(vm) };
        if vcpu.exit.is_null() {
            return Err(Error::new("hv_vcpu_create", Kind::Host, "no exit structure"));
        }
        Ok(vcpu)
    }

    /// The number that [`request_exit`] takes.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Runs the guest until the next exit.
    pub(crate) fn run(&mut self) -> Result<RawExit> {
        // SAFETY: the vCPU is live and this is its thread.
        check("hv_vcpu_run", unsafe { hvf::hv_vcpu_run(self.id) })?;
        // SAFETY: the framework keeps the structure as long as the vCPU lives and writes it in
        // `hv_vcpu_run` alone. The reason is its first member, read as a number, since the
        // framework may know reasons that the enum does not.
        let (reason, exception) =
            unsafe { (self.exit.cast::<u32>().read(), (&raw const (*self.exit).exception).read()) };
        Ok(RawExit { reason, esr: exception.syndrome, ipa: exception.physical_address })
    }

    /// Reads X`index`; 31 is zero.
    pub(crate) fn x(&self, index: u8) -> Result<u64> {
        X.get(usize::from(index)).map_or(Ok(0), |register| self.register(*register))
    }

    /// Writes X`index`; 31 discards.
    pub(crate) fn set_x(&mut self, index: u8, value: u64) -> Result<()> {
        X.get(usize::from(index)).map_or(Ok(()), |register| self.set_register(*register, value))
    }

    pub(crate) fn register(&self, register: hv_reg_t) -> Result<u64> {
        // SAFETY: the vCPU is live and this is its thread; the pointer outlives the call.
        ask("hv_vcpu_get_reg", |value| unsafe { hvf::hv_vcpu_get_reg(self.id, register, value) })
            .map_err(|error| error.at(format!("{register:?}")))
    }

    pub(crate) fn set_register(&mut self, register: hv_reg_t, value: u64) -> Result<()> {
        // SAFETY: the vCPU is live and this is its thread.
        check("hv_vcpu_set_reg", unsafe { hvf::hv_vcpu_set_reg(self.id, register, value) })
            .map_err(|error| error.at(format!("{register:?} = {value:#x}")))
    }

    pub(crate) fn system(&self, register: hv_sys_reg_t) -> Result<u64> {
        // SAFETY: the vCPU is live and this is its thread; the pointer outlives the call.
        ask("hv_vcpu_get_sys_reg", |value| unsafe {
            hvf::hv_vcpu_get_sys_reg(self.id, register, value)
        })
        .map_err(|error| error.at(format!("{register:?}")))
    }

    pub(crate) fn set_system(&mut self, register: hv_sys_reg_t, value: u64) -> Result<()> {
        // SAFETY: the vCPU is live and this is its thread.
        check("hv_vcpu_set_sys_reg", unsafe { hvf::hv_vcpu_set_sys_reg(self.id, register, value) })
            .map_err(|error| error.at(format!("{register:?} = {value:#x}")))
    }

    /// Lets the virtual timer fire again after an exit for it.
    pub(crate) fn unmask_vtimer(&mut self) -> Result<()> {
        // SAFETY: the vCPU is live and this is its thread.
        check("hv_vcpu_set_vtimer_mask", unsafe { hvf::hv_vcpu_set_vtimer_mask(self.id, false) })
    }

    /// Sets the guest's counter `offset` behind the host's.
    pub(crate) fn set_vtimer_offset(&mut self, offset: u64) -> Result<()> {
        // SAFETY: the vCPU is live and this is its thread.
        check("hv_vcpu_set_vtimer_offset", unsafe {
            hvf::hv_vcpu_set_vtimer_offset(self.id, offset)
        })
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        // SAFETY: the vCPU is live and this is its thread; the exit structure is not read again.
        // A failure leaves a vCPU that nobody can run, and a VM that says so when it is destroyed.
        unsafe { hvf::hv_vcpu_destroy(self.id) };
    }
}

/// Makes the vCPU `id` leave the guest, now or as soon as it enters. From any thread.
pub(crate) fn request_exit(id: u64) -> Result<()> {
    // SAFETY: the pointer is to one id; the framework refuses one that is stale.
    check("hv_vcpus_exit", unsafe { hvf::hv_vcpus_exit(&raw const id, 1) })
}

/// X0 to X30.
const X: [hv_reg_t; 31] = {
    use hv_reg_t::*;
    [
        X0, X1, X2, X3, X4, X5, X6, X7, X8, X9, X10, X11, X12, X13, X14, X15, X16, X17, X18, X19,
        X20, X21, X22, X23, X24, X25, X26, X27, X28, X29, X30,
    ]
};
