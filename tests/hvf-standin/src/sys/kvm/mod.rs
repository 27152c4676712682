//! Real guests: the framework's machine made of KVM's (Linux, Documentation/virt/kvm/api.rst and
//! devices/arm-vgic-v3.rst). What cannot be made the same is listed in `DIFFERENCES.md`.

// UNSAFETY: KVM is given memory by its address, and values by theirs.
#![allow(unsafe_code)]

mod exits;
mod registers;
mod trap;
mod vcpu;
mod watch;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, mpsc};

use kvm_bindings::*;
use kvm_ioctls::{Cap, DeviceFd, Kvm, VmFd};

use crate::state::{GicConfig, Host, Map};
use vcpu::Frame;
pub(crate) use vcpu::Processor;

/// Why something cannot be done.
pub(super) type Result<T> = std::result::Result<T, String>;

fn failed(what: &str) -> impl Fn(kvm_ioctls::Error) -> String + '_ {
    move |error| format!("{what}: {error}")
}

/// Whether this host has KVM for us; says in `host` what it can less than a Mac.
pub(crate) fn is_there(host: &mut Host) -> bool {
    // INTIDs to 991, the most that KVM gives.
    host.spis = 960;
    Kvm::new().is_ok()
}

/// Numbers that KVM takes through a pointer.
fn attribute<T>(group: u32, attr: u32, value: &T) -> kvm_device_attr {
    let addr = std::ptr::from_ref(value).expose_provenance() as u64;
    kvm_device_attr { group, attr: attr.into(), addr, flags: 0 }
}

#[derive(Debug)]
pub(crate) struct Machine {
    vm: Arc<VmFd>,
    /// The first address of what each slot maps; a free one has none.
    slots: Vec<Option<u64>>,
    trap: Option<trap::Page>,
    gic: Option<Gic>,
    /// How many vCPUs KVM made, and those that nobody has yet, by their numbers.
    created: u32,
    spare: BTreeMap<u32, Arc<Processor>>,
    /// What the guest's counter is behind the host's: KVM has one for all vCPUs.
    offset: u64,
}

#[derive(Debug)]
struct Gic {
    starter: Starter,
    frame: Option<Frame>,
    started: bool,
    /// Lines that were set before KVM takes any.
    early: Vec<(u32, bool)>,
}

/// Makes the interrupt controller work when the first vCPU is about to run.
///
/// On a Mac it does so by itself; here it takes an ioctl, on a thread of our own: the program may have
/// given up by then what its threads do not need with the framework.
#[derive(Debug)]
struct Starter {
    order: mpsc::Sender<()>,
    outcome: mpsc::Receiver<Result<()>>,
}

impl Starter {
    fn new(device: DeviceFd, interrupts: u32) -> Result<Self> {
        let ((order, orders), (done, outcome)) = (mpsc::channel(), mpsc::channel());
        let body = move || {
            if orders.recv() == Ok(()) {
                // Nobody waits for it if the machine is gone.
                let _ = done.send(start(&device, interrupts));
            }
        };
        let thread = std::thread::Builder::new().name("hvf-standin".into()).spawn(body);
        thread.map_err(|error| format!("a thread: {error}"))?;
        Ok(Self { order, outcome })
    }

    fn start(&self) -> Result<()> {
        self.order.send(()).map_err(|error| error.to_string())?;
        self.outcome.recv().map_err(|error| error.to_string())?
    }
}

/// Starts the controller, with all lines level-triggered until the guest says otherwise. KVM has them as
/// edges; the architecture leaves it open (IHI 0069, `GICD_ICFGR<n>`).
fn start(device: &DeviceFd, interrupts: u32) -> Result<()> {
    const GICD_ICFGR: u32 = 0xc00;
    set(device, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, &0u64)?;
    for register in 32 / 16..interrupts.div_ceil(16) {
        let levels = attribute(KVM_DEV_ARM_VGIC_GRP_DIST_REGS, GICD_ICFGR + 4 * register, &0u32);
        // Another thread is at its vCPU, which does not run yet.
        while let Err(error) = device.set_device_attr(&levels) {
            if error.errno() != libc::EBUSY {
                return Err(failed("GICD_ICFGR")(error));
            }
            std::thread::yield_now();
        }
    }
    Ok(())
}

impl Machine {
    pub(crate) fn create(host: &Host, ipa_bits: u32) -> Result<Self> {
        let kvm = Kvm::new().map_err(failed("/dev/kvm"))?;
        if i64::from(kvm.get_host_ipa_limit()) < i64::from(host.max_ipa_bits) {
            return Err(format!("this CPU has not {} bits of address", host.max_ipa_bits));
        }
        let vm = kvm.create_vm_with_ipa_size(ipa_bits).map_err(failed("KVM_CREATE_VM"))?;
        let nisv = kvm_enable_cap { cap: KVM_CAP_ARM_NISV_TO_USER, ..kvm_enable_cap::default() };
        vm.enable_cap(&nisv).map_err(failed("KVM_CAP_ARM_NISV_TO_USER"))?;
        forward_calls(&vm)?;
        set_counter_offset(&vm, 0)?;
        let mut machine = Self {
            vm: Arc::new(vm),
            slots: Vec::new(),
            trap: None,
            gic: None,
            created: 0,
            spare: BTreeMap::new(),
            offset: 0,
        };
        let trap = trap::Page::new()?;
        machine.map(&trap.map())?;
        machine.trap = Some(trap);
        Ok(machine)
    }

    pub(crate) fn map(&mut self, map: &Map) -> Result<()> {
        let slot = match self.slots.iter().position(Option::is_none) {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        self.set_slot(slot, map.ipa, map.end - map.ipa, map.host as u64, map.writable)?;
        self.slots[slot] = Some(map.ipa);
        Ok(())
    }

    pub(crate) fn unmap(&mut self, ipa: u64) -> Result<()> {
        let slot = self.slots.iter().position(|slot| *slot == Some(ipa));
        let slot = slot.ok_or("nothing is mapped there")?;
        self.set_slot(slot, ipa, 0, 0, true)?;
        self.slots[slot] = None;
        Ok(())
    }

    fn set_slot(&self, slot: usize, ipa: u64, size: u64, host: u64, writable: bool) -> Result<()> {
        let region = kvm_userspace_memory_region {
            slot: u32::try_from(slot).map_err(|_| "too many slots")?,
            flags: if writable { 0 } else { KVM_MEM_READONLY },
            guest_phys_addr: ipa,
            memory_size: size,
            userspace_addr: host,
        };
        // SAFETY: the caller of hv_vm_map vouches for the memory until it is unmapped.
        unsafe { self.vm.set_user_memory_region(region) }
            .map_err(failed("KVM_SET_USER_MEMORY_REGION"))
    }

    pub(crate) fn create_gic(&mut self, host: &Host, config: &GicConfig) -> Result<()> {
        let mut device = kvm_create_device {
            type_: kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
            ..kvm_create_device::default()
        };
        let device = self.vm.create_device(&mut device).map_err(failed("KVM_CREATE_DEVICE"))?;
        let interrupts = host.first_spi + host.spis;
        set(&device, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &interrupts)?;
        let address = |kind, base: &u64| set(&device, KVM_DEV_ARM_VGIC_GRP_ADDR, kind, base);
        address(KVM_VGIC_V3_ADDR_TYPE_DIST, &config.distributor.unwrap_or(0))?;
        // The base with the number of redistributors in its upper bits.
        let count = (host.redistributor_region_size / 0x2_0000) as u64;
        let region = config.redistributors.unwrap_or(0) | count << 52;
        address(KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION, &region)?;
        let frame = config.msi.zip(config.msi_range).map(|(base, (first, end))| Frame {
            base,
            size: host.msi_region_size as u64,
            first,
            end,
        });
        let starter = Starter::new(device, interrupts)?;
        self.gic = Some(Gic { starter, frame, started: false, early: Vec::new() });
        Ok(())
    }

    pub(crate) fn create_vcpu(&mut self) -> Result<Arc<Processor>> {
        let vcpu = match self.spare.pop_first() {
            Some((_, vcpu)) => vcpu,
            None => self.next_vcpu()?,
        };
        vcpu.adopt()?;
        if self.gic.is_none() {
            watch::watch(&vcpu)?;
        }
        Ok(vcpu)
    }

    fn next_vcpu(&mut self) -> Result<Arc<Processor>> {
        let frame = self.gic.as_ref().and_then(|gic| gic.frame);
        let vcpu = Processor::create(&self.vm, self.created, self.gic.is_some(), frame)?;
        self.created += 1;
        Ok(vcpu)
    }

    /// The vCPU that has this affinity: `vcpu` or, with an interrupt controller, the one that KVM made
    /// for it, so that redistributors lie in the order of affinities, whoever was created first.
    pub(crate) fn place(&mut self, vcpu: Arc<Processor>, mpidr: u64) -> Result<Arc<Processor>> {
        let index = index(mpidr);
        if self.gic.is_none() || vcpu.index() == index {
            return Ok(vcpu);
        }
        if vcpu.was_written() {
            return Err("with an interrupt controller MPIDR_EL1 has to be written first".into());
        }
        self.spare.insert(vcpu.index(), vcpu);
        while self.created <= index {
            let next = self.next_vcpu()?;
            self.spare.insert(next.index(), next);
        }
        let vcpu = self.spare.remove(&index).ok_or(format!("vCPU {index} is there already"))?;
        vcpu.adopt()?;
        Ok(vcpu)
    }

    /// The first vCPU is about to run. KVM takes no more vCPUs once the controller works.
    pub(crate) fn start(&mut self) -> Result<()> {
        let Some(gic) = self.gic.as_mut().filter(|gic| !gic.started) else { return Ok(()) };
        gic.starter.start()?;
        gic.started = true;
        for (intid, level) in std::mem::take(&mut gic.early) {
            set_spi(&self.vm, intid, level)?;
        }
        Ok(())
    }

    pub(crate) fn set_counter_offset(&mut self, offset: u64) -> Result<()> {
        if self.offset != offset {
            set_counter_offset(&self.vm, offset)?;
            self.offset = offset;
        }
        Ok(())
    }

    pub(crate) fn set_spi(&mut self, intid: u32, level: bool) -> Result<()> {
        match &mut self.gic {
            Some(gic) if !gic.started => {
                gic.early.push((intid, level));
                Ok(())
            }
            _ => set_spi(&self.vm, intid, level),
        }
    }
}

/// The number of the vCPU that KVM gives this affinity (DDI 0487, `MPIDR_EL1`), 16 to a cluster.
pub(super) fn index(mpidr: u64) -> u32 {
    let [low, middle, ..] = mpidr.to_le_bytes().map(u32::from);
    low + (middle << 4)
}

fn set<T>(device: &DeviceFd, group: u32, attr: u32, value: &T) -> Result<()> {
    let what = format!("KVM_SET_DEVICE_ATTR of the GIC, {group}/{attr}");
    device.set_device_attr(&attribute(group, attr, value)).map_err(failed(&what))
}

fn set_spi(vm: &VmFd, intid: u32, level: bool) -> Result<()> {
    let irq = KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | intid;
    vm.set_irq_line(irq, level).map_err(failed("KVM_IRQ_LINE"))
}

/// Has every HVC and SMC come out, but for the calls of Arm's architecture, which KVM keeps.
fn forward_calls(vm: &VmFd) -> Result<()> {
    let ranges = [0..0x8000_0000u32, 0x8001_0000..0xc000_0000, 0xc001_0000..0xffff_ffff];
    for range in ranges {
        let filter = kvm_smccc_filter {
            base: range.start,
            nr_functions: range.end - range.start,
            action: kvm_smccc_filter_action_KVM_SMCCC_FILTER_FWD_TO_USER.to_le_bytes()[0],
            pad: [0; 15],
        };
        vm.set_device_attr(&attribute(KVM_ARM_VM_SMCCC_CTRL, KVM_ARM_VM_SMCCC_FILTER, &filter))
            .map_err(failed("KVM_ARM_VM_SMCCC_FILTER"))?;
    }
    Ok(())
}

/// Makes the guest's counter the host's minus `offset`.
fn set_counter_offset(vm: &VmFd, offset: u64) -> Result<()> {
    use std::os::fd::AsRawFd;
    /// `_IOW(KVMIO, 0xb5, struct kvm_arm_counter_offset)`.
    const KVM_ARM_SET_COUNTER_OFFSET: u64 = 0x4010_aeb5;
    if !vm.check_extension(Cap::CounterOffset) {
        return Err("Linux 6.4 or later is needed (KVM_CAP_COUNTER_OFFSET)".into());
    }
    let offset = kvm_arm_counter_offset { counter_offset: offset, reserved: 0 };
    // SAFETY: the ioctl reads the structure, which outlives the call.
    let failed =
        unsafe { libc::ioctl(vm.as_raw_fd(), KVM_ARM_SET_COUNTER_OFFSET, &raw const offset) };
    if failed == 0 { Ok(()) } else { Err(last("KVM_ARM_SET_COUNTER_OFFSET")) }
}

/// The error that the last system call left.
fn last(what: impl Display) -> String {
    format!("{what}: {}", std::io::Error::last_os_error())
}
