//! The interrupt controller: KVM's GICv3, where [`hv::arch::aarch64::gic`] says (kernel documentation
//! `virt/kvm/devices/arm-vgic-v3.rst`). No ITS: lines, and no messages.

use hv::arch::aarch64::gic::{DISTRIBUTOR, REDISTRIBUTORS};
use hv::{Error, Kind, Result};
use kvm_bindings::{
    KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_DEV_ARM_VGIC_GRP_CTRL,
    KVM_DEV_ARM_VGIC_GRP_NR_IRQS, KVM_VGIC_V3_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_REDIST,
    kvm_create_device, kvm_device_attr, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
};
use kvm_ioctls::{DeviceFd, VmFd};

use super::LINES;
use crate::error::call_at;

/// A GICv3 whose vCPUs are yet to come. KVM keeps the device for as long as the VM.
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
    pub(crate) fn finish(self) -> Result<()> {
        self.set::<u64>(KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, None)
    }

    fn set<T>(&self, group: u32, attr: u32, value: Option<&T>) -> Result<()> {
        let addr = value.map_or(0, |value| std::ptr::from_ref(value).expose_provenance() as u64);
        let attribute = kvm_device_attr { group, attr: attr.into(), addr, flags: 0 };
        call_at("KVM_SET_DEVICE_ATTR", self.0.set_device_attr(&attribute), || {
            format!("group {group}, attribute {attr} of the GICv3")
        })
    }
}
