//! The guest's ID registers by policy ([`hv::arch::aarch64::id`]): what KVM shows, without what the VM
//! does not have.

use hv::Result;
use hv::arch::aarch64::id;
use kvm_ioctls::VcpuFd;

use super::registers::{self, Register, system_register};

/// Rewrites the registers that need it. KVM takes only some changes, by its version: what it refuses
/// the guest can do without, and is said.
pub(super) fn apply(
    fd: &VcpuFd,
    gic: bool,
    monitors: bool,
    address_bits: u8,
) -> Result<Vec<String>> {
    let mut refused = Vec::new();
    let mut change = |name, register, to: &dyn Fn(u64) -> u64| {
        let host = registers::system(fd, register)?;
        let wanted = to(host);
        if wanted != host && registers::set(fd, register, wanted).is_err() {
            refused.push(format!("KVM keeps {name} at {host:#x} where the VM wants {wanted:#x}"));
        }
        Ok::<_, hv::Error>(())
    };
    change("ID_AA64PFR0_EL1", PFR0, &|host| id::pfr0(host, gic))?;
    change("ID_AA64PFR1_EL1", PFR1, &id::pfr1)?;
    change("ID_AA64DFR0_EL1", DFR0, &|host| id::dfr0(host, monitors))?;
    change("ID_AA64MMFR0_EL1", MMFR0, &|host| id::mmfr0(host, address_bits))?;
    Ok(refused)
}

const PFR0: Register = system_register(3, 0, 0, 4, 0);
const PFR1: Register = system_register(3, 0, 0, 4, 1);
const DFR0: Register = system_register(3, 0, 0, 5, 0);
const MMFR0: Register = system_register(3, 0, 0, 7, 0);
