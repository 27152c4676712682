//! Model-specific registers a guest may count on at its first instruction. A host which refuses one
//! still gives the others, and none is worth failing for.

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

/// IA32_MISC_ENABLE: fast string operations, as firmware leaves it (Intel SDM volume 4, 1A0H).
const MISC_ENABLE: (u32, u64, &str) = (0x1a0, 1, "IA32_MISC_ENABLE");

/// IA32_MTRR_DEF_TYPE: MTRRs on, write-back by default (Intel SDM volume 3A, 12.11.2.1); a guest
/// that finds them off takes its memory for uncacheable.
const MTRR_DEF_TYPE: (u32, u64, &str) = (0x2ff, 1 << 11 | 6, "IA32_MTRR_DEF_TYPE");

/// Sets them and names those the host refused.
pub(super) fn apply(fd: &VcpuFd) -> Vec<String> {
    set_each(fd, &[MISC_ENABLE, MTRR_DEF_TYPE])
}

fn set_each(fd: &VcpuFd, msrs: &[(u32, u64, &str)]) -> Vec<String> {
    let (mut refused, mut left) = (Vec::new(), msrs.iter());
    while !left.as_slice().is_empty() {
        // KVM sets them in order, up to the first one that it refuses.
        let set = set(fd, left.as_slice());
        if let Some((index, _, name)) = left.nth(set) {
            refused.push(format!("the host refused MSR {name} ({index:#x})"));
        }
    }
    refused
}

/// Sets as many as KVM takes, and says how many those are.
fn set(fd: &VcpuFd, msrs: &[(u32, u64, &str)]) -> usize {
    let entry = |(index, data, _): &(u32, u64, &str)| kvm_msr_entry {
        index: *index,
        data: *data,
        ..Default::default()
    };
    let entries: Vec<_> = msrs.iter().map(entry).collect();
    Msrs::from_entries(&entries).map_or(0, |msrs| fd.set_msrs(&msrs).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::x86_64::tests::vcpu;

    #[test]
    fn an_msr_that_the_host_refuses_is_named_and_the_others_are_set() {
        let Some((_kvm, _vm, fd)) = vcpu() else { return };
        let unknown = (0x1234_5678, 1, "IA32_NONE");
        for all in [[unknown, MISC_ENABLE, MTRR_DEF_TYPE], [MISC_ENABLE, unknown, MTRR_DEF_TYPE]] {
            let refused = set_each(&fd, &all);
            assert_eq!(refused, ["the host refused MSR IA32_NONE (0x12345678)"]);
        }
    }
}
