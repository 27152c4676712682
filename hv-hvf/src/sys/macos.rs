//! macOS on Apple silicon: sysctl(3).

// UNSAFETY: sysctl values are reached through libc only.
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
