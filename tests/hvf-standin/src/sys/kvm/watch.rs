//! Sees a vCPU fall asleep without an interrupt controller.
//!
//! There a WFI comes out on a Mac, and KVM waits in the kernel. But it tells that it does, in the
//! statistics of the vCPU (api.rst 4.132, KVM_GET_STATS_FD): `blocking`.

use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::vcpu::Processor;
use super::{Result, last};

/// `_IO(KVMIO, 0xce)`.
const KVM_GET_STATS_FD: u64 = 0xaece;
/// How often it looks.
const PERIOD: Duration = Duration::from_millis(1);

/// Wakes `vcpu` whenever it sleeps, until it is gone.
pub(super) fn watch(vcpu: &Arc<Processor>) -> Result<()> {
    // SAFETY: makes a descriptor.
    let fd = unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_GET_STATS_FD) };
    if fd < 0 {
        return Err(last("KVM_GET_STATS_FD"));
    }
    // SAFETY: the descriptor is new, and nobody else's.
    let statistics = unsafe { File::from_raw_fd(fd) };
    let blocking = find(&statistics, "blocking").ok_or("KVM does not tell when a vCPU sleeps")?;
    let vcpu = Arc::downgrade(vcpu);
    std::thread::Builder::new()
        .name("hvf-standin".into())
        .spawn(move || look(&vcpu, &statistics, blocking))
        .map_err(|error| format!("a thread: {error}"))?;
    Ok(())
}

fn look(vcpu: &Weak<Processor>, statistics: &File, blocking: u64) {
    while vcpu.strong_count() > 0 {
        std::thread::sleep(PERIOD);
        let sleeps =
            word::<8>(statistics, blocking).is_some_and(|word| u64::from_le_bytes(word) != 0);
        if let Some(vcpu) = vcpu.upgrade().filter(|_| sleeps) {
            vcpu.wake();
        }
    }
}

/// Where the value of `name` is (`struct kvm_stats_header`, `struct kvm_stats_desc`).
fn find(statistics: &File, name: &str) -> Option<u64> {
    let number = |at| word::<4>(statistics, at).map(u32::from_le_bytes).map(u64::from);
    let (name_size, count) = (number(4)?, number(8)?);
    let (descriptors, data) = (number(16)?, number(20)?);
    (0..count).find_map(|index| {
        let at = descriptors + index * (16 + name_size);
        let mut found = vec![0; usize::try_from(name_size).ok()?];
        statistics.read_exact_at(&mut found, at + 16).ok()?;
        let found = found.split(|byte| *byte == 0).next()?;
        (found == name.as_bytes()).then(|| Some(data + number(at + 8)?))?
    })
}

fn word<const N: usize>(statistics: &File, at: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    statistics.read_exact_at(&mut bytes, at).ok()?;
    Some(bytes)
}
