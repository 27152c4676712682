//! Model-specific registers a guest may count on at its first instruction. Each is set on its own,
//! so that a host which refuses one still gives the others, and none is worth failing for.

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

/// IA32_MISC_ENABLE: fast string operations, as firmware leaves it (Intel SDM volume 4, 1A0H).
const MISC_ENABLE: (u32, u64, &str) = (0x1a0, 1, "IA32_MISC_ENABLE");

/// IA32_MTRR_DEF_TYPE: MTRRs on, write-back by default (Intel SDM volume 3A, 12.11.2.1); a guest
/// that finds them off takes its memory for uncacheable.
const MTRR_DEF_TYPE: (u32, u64, &str) = (0x2ff, 1 << 11 | 6, "IA32_MTRR_DEF_TYPE");

/// Sets them and names those the host refused.
pub(super) fn apply(fd: &VcpuFd) -> Vec<String> {
    let all = [MISC_ENABLE, MTRR_DEF_TYPE];
    let refused = all.into_iter().filter(|(index, data, _)| !set(fd, *index, *data));
    refused.map(|(index, _, name)| format!("the host refused MSR {name} ({index:#x})")).collect()
}

fn set(fd: &VcpuFd, index: u32, data: u64) -> bool {
    let entry = kvm_msr_entry { index, data, ..Default::default() };
    Msrs::from_entries(&[entry]).is_ok_and(|msrs| fd.set_msrs(&msrs).is_ok_and(|set| set == 1))
}
