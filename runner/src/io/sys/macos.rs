//! What only macOS tells this way.

// UNSAFETY: sysctlbyname has no safe interface.
#![allow(unsafe_code)]

/// RAM in bytes: sysctl `hw.memsize` (sysctl(3)).
pub(super) fn host_memory() -> Option<u64> {
    let mut bytes = 0u64;
    let mut len = size_of::<u64>();
    // SAFETY: the buffer is a u64 and `len` its size; nothing is set.
    let result = unsafe {
        libc::sysctlbyname(
            c"hw.memsize".as_ptr(),
            (&raw mut bytes).cast(),
            &raw mut len,
            std::ptr::null_mut(),
            0,
        )
    };
    (result == 0 && len == size_of::<u64>()).then_some(bytes)
}
