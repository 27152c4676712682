//! What only Linux tells this way.

/// RAM in bytes (sysinfo(2)).
pub(super) fn host_memory() -> Option<u64> {
    let info = rustix::system::sysinfo();
    info.totalram.checked_mul(info.mem_unit.into())
}
