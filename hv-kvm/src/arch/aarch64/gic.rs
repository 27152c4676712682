//! The interrupt controller: KVM's GICv3, where [`hv::arch::aarch64::gic`] says (kernel documentation
//! `virt/kvm/devices/arm-vgic-v3.rst`). No ITS: lines, and no messages.

// UNSAFETY: KVM writes a register to an address that it is given.
#![allow(unsafe_code)]

use hv::arch::aarch64::gic::{DISTRIBUTOR, REDISTRIBUTORS};
use hv::{Error, Kind, Result};
use kvm_bindings::{
    KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_DEV_ARM_VGIC_GRP_CTRL,
    KVM_DEV_ARM_VGIC_GRP_DIST_REGS, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, KVM_VGIC_V3_ADDR_TYPE_DIST,
    KVM_VGIC_V3_ADDR_TYPE_REDIST, kvm_create_device, kvm_device_attr,
    kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
};
use kvm_ioctls::{DeviceFd, VmFd};

use super::LINES;
use crate::error::call_at;

/// The distributor's registers that say what triggers a line (IHI 0069, 12.9.9).
const GICD_ICFGR: u32 = 0xc00;

/// A GICv3. KVM keeps the device for as long as the VM.
#[derive(Debug)]
pub(crate) struct Controller(DeviceFd);

impl Controller {
    /// Creates it; vCPUs may exist, but none may have run.
    pub(crate) fn create(vm: &VmFd) -> Result<Self> {
        let mut device = kvm_create_device {
            type_: kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
            ..Default::default()
        };
        let controller = match vm.create_device(&mut device) {
            Ok(fd) => Self(fd),
            Err(error) if error.errno() == libc::ENODEV => {
                let why = "a GICv3, which guests here are given: this host has an older one";
                return Err(Error::new("KVM_CREATE_DEVICE", Kind::Unsupported, why)
                    .remedy("use a host with a GICv3 (not a Raspberry Pi 4, for instance)"));
            }
            Err(error) => return call_at("KVM_CREATE_DEVICE", Err(error), || "a GICv3".into()),
        };
        controller.set(KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, Some(&LINES.end))?;
        let places = [
            (KVM_VGIC_V3_ADDR_TYPE_DIST, DISTRIBUTOR),
            (KVM_VGIC_V3_ADDR_TYPE_REDIST, REDISTRIBUTORS),
        ];
        for (part, place) in places {
            controller.set(KVM_DEV_ARM_VGIC_GRP_ADDR, part, Some(&place))?;
        }
        Ok(controller)
    }

    /// All vCPUs have been created.
    pub(crate) fn finish(&self) -> Result<()> {
        self.set::<u64>(KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, None)
    }

    /// Makes SPI `line` level-triggered for a guest that does not say what it is: KVM has all as edges
    /// after a reset, QEMU's own controller as levels, and the architecture leaves it open (IHI 0069,
    /// `GICD_ICFGR<n>`). Once vCPUs run it is the guest's to say.
    pub(crate) fn make_level(&self, line: u32) -> Result<()> {
        // Two bits a line; the upper one is set for an edge.
        let (register, edge) = (GICD_ICFGR + line / 16 * 4, 2 << (line % 16 * 2));
        let mut lines: u32 = 0;
        let mut attribute = Self::attribute(KVM_DEV_ARM_VGIC_GRP_DIST_REGS, register, 0);
        attribute.addr = (&raw mut lines).expose_provenance() as u64;
        // SAFETY: KVM writes a distributor's register, 32 bits, to where it is told, and there they are.
        match unsafe { self.0.get_device_attr(&mut attribute) } {
            Err(error) if error.errno() == libc::EBUSY => return Ok(()),
            result => {
                call_at("KVM_GET_DEVICE_ATTR", result, || format!("{register:#x} of the GICv3"))?
            }
        }
        if lines & edge == 0 {
            return Ok(());
        }
        self.set(KVM_DEV_ARM_VGIC_GRP_DIST_REGS, register, Some(&(lines & !edge)))
    }

    fn attribute(group: u32, attr: u32, addr: u64) -> kvm_device_attr {
        kvm_device_attr { group, attr: attr.into(), addr, flags: 0 }
    }

    fn set<T>(&self, group: u32, attr: u32, value: Option<&T>) -> Result<()> {
        let addr = value.map_or(0, |value| std::ptr::from_ref(value).expose_provenance() as u64);
        let attribute = Self::attribute(group, attr, addr);
        call_at("KVM_SET_DEVICE_ATTR", self.0.set_device_attr(&attribute), || {
            format!("group {group}, attribute {attr} of the GICv3")
        })
    }
}
