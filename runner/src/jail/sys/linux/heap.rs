//! The C library's heap.

// UNSAFETY: a setting of the C library's has no safe interface.
#![allow(unsafe_code)]

/// Has all threads share one heap. glibc would make one for each thread at its first allocation
/// (mallopt(3), `M_ARENA_MAX`): six system calls and some pages, and later calls of mprotect(2), which
/// so is on no list. Ours allocate little and seldom. For a process with one thread.
pub(super) fn share() {
    #[cfg(target_env = "gnu")] // others have one heap
    // SAFETY: it is the only thread; a setting that is not known is refused.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
