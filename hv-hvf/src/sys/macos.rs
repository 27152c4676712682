//! macOS on Apple silicon: sysctl(3), and the counter that guests' timers count by.

// UNSAFETY: sysctl values and the counter are reached through libc only, its frequency by an
// instruction.
#![allow(unsafe_code)]

use std::ffi::CStr;

use crate::host::Facts;

/// Asks the kernel.
pub(crate) fn facts() -> Facts {
    Facts::Mac {
        version: text(c"kern.osproductversion"),
        cpu: text(c"machdep.cpu.brand_string"),
        hv_support: number(c"kern.hv_support").map(|value| value != 0),
        in_vm: number(c"kern.hv_vmm_present").is_some_and(|value| value != 0),
    }
}

unsafe extern "C" {
    /// libSystem's; what Apple's documentation of `hv_vcpu_set_vtimer_offset` counts by.
    safe fn mach_absolute_time() -> u64;
}

/// The counter.
pub(crate) fn counter() -> u64 {
    mach_absolute_time()
}

/// How often it counts in a second.
pub(crate) fn hertz() -> u64 {
    let hertz;
    // SAFETY: reads a register that macOS lets programs read, and nothing else.
    unsafe {
        std::arch::asm!("mrs {}, cntfrq_el0", out(reg) hertz, options(nomem, nostack, preserves_flags));
    }
    hertz
}

/// The value of the sysctl `name` in `buffer`: how many bytes it has.
fn read(name: &CStr, buffer: &mut [u8]) -> Option<usize> {
    let mut len = buffer.len();
    // SAFETY: the kernel writes at most `len` bytes to the buffer, and how many it wrote to `len`.
    let failed = unsafe {
        libc::sysctlbyname(
            name.as_ptr(),
            buffer.as_mut_ptr().cast(),
            &raw mut len,
            std::ptr::null_mut(),
            0,
        )
    };
    (failed == 0).then_some(len)
}

fn number(name: &CStr) -> Option<i32> {
    let mut buffer = [0; size_of::<i32>()];
    (read(name, &mut buffer)? == buffer.len()).then(|| i32::from_ne_bytes(buffer))
}

fn text(name: &CStr) -> Option<String> {
    let mut buffer = [0; 256];
    let len = read(name, &mut buffer)?;
    let text = CStr::from_bytes_until_nul(buffer.get(..len)?).ok()?;
    Some(text.to_string_lossy().into_owned())
}
