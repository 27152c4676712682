//! The generic timer's frequency (Arm ARM DDI 0487, D12.1.2, "The system counter").

// UNSAFETY: a system register is read, for which there is no other way.
#![allow(unsafe_code)]

/// How often the counter counts in a second: `CNTFRQ_EL0`, which guests read as the host does.
/// `None` on another architecture.
pub fn frequency() -> Option<u64> {
    #[cfg(target_arch = "aarch64")] // no other has the register
    {
        let hz: u64;
        // SAFETY: EL0 may read the register wherever it may read the counter, which systems allow.
        unsafe {
            std::arch::asm!("mrs {hz}, cntfrq_el0", hz = out(reg) hz, options(nomem, nostack, preserves_flags));
        }
        Some(hz)
    }
    #[cfg(not(target_arch = "aarch64"))] // and there are no such guests either
    None
}
