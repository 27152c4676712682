//! A page that tells when a guest runs where nothing is.
//!
//! On a Mac an instruction that is fetched from where nothing is mapped comes out of the guest. KVM
//! gives the guest an exception of its own instead, which goes to the vectors at `VBAR_EL1`; those of a
//! guest that has set none are at 0, where nothing is either, and it would take exceptions for ever. So
//! this page lies there (nothing else can: the framework maps nothing at IPA 0), full of calls, which
//! come out.

use crate::state::Map;

use super::{Result, last};

/// HVC #0
const WORD: u32 = 0xd400_0002;
pub(super) const SIZE: u64 = 4096;
const BYTES: usize = 4096;

/// The page, which lies at IPA 0.
#[derive(Debug)]
pub(super) struct Page {
    host: usize,
}

impl Page {
    pub(super) fn new() -> Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(last("mmap"));
        }
        // SAFETY: the page is ours, aligned and this long.
        unsafe { std::slice::from_raw_parts_mut(page.cast::<u32>(), BYTES / 4) }.fill(WORD);
        Ok(Self { host: page.expose_provenance() })
    }

    pub(super) fn map(&self) -> Map {
        Map { ipa: 0, end: SIZE, host: self.host, writable: false }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours; KVM's reference to it faults for a guest that is gone.
        unsafe { libc::munmap(std::ptr::with_exposed_provenance_mut(self.host), BYTES) };
    }
}
