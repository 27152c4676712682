//! Guest RAM: the one module of `hv` that touches the operating system (contract 6).
//!
//! RAM is reserved, never touched: the kernel hands out zeroed pages as the guest reaches them, so
//! a large guest starts as fast as a small one. It is read and written through `vm-memory`'s
//! volatile accessors only, since the guest writes it at the same time.

// UNSAFETY: reserving address space is a raw mmap, and vm-memory takes the pages as a pointer.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;

use vm_memory::bitmap::BS;
use vm_memory::guest_memory::Result as MemoryResult;
use vm_memory::region::{GuestMemoryRegionBytes, GuestRegionCollection};
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion, GuestUsize,
    MemoryRegionAddress, VolatileSlice,
};

use crate::error::{Error, Kind, Result};
use sys::{GIVE_BACK, SMALL_PAGES};

#[cfg_attr(target_os = "linux", path = "sys/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "sys/macos.rs")]
mod sys;

/// RAM reservations are aligned to this many bytes: a 2 MiB page of x86_64 and arm64, and a
/// multiple of Apple silicon's 16 KiB granule.
pub const ALIGNMENT: usize = 2 << 20;

/// All of a guest's RAM, by guest physical address.
pub type GuestMemory = GuestRegionCollection<Region>;

/// A run of zeroed host pages for a guest, unmapped when the last reference goes.
#[derive(Debug)]
pub struct GuestRam {
    /// What was reserved: the RAM, and what was needed to align it. Nobody touches the rest.
    reserved: (NonNull<u8>, usize),
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the pages belong to no thread; all access goes through volatile or atomic operations.
unsafe impl Send for GuestRam {}
// SAFETY: as above.
unsafe impl Sync for GuestRam {}

impl GuestRam {
    /// Reserves `len` bytes, a multiple of 4 KiB and not 0. Costs no memory until touched.
    ///
    /// # Errors
    /// `Invalid` for another length, `Exhausted` when the host has no address space left.
    pub fn new(len: u64) -> Result<Arc<Self>> {
        const OP: &str = "reserve guest RAM";
        if len == 0 || !len.is_multiple_of(4096) {
            let why = format!("{len} bytes are not a multiple of 4 KiB");
            return Err(Error::new(OP, Kind::Invalid, why));
        }
        let too_large = || Error::new(OP, Kind::Exhausted, format!("{len} bytes"));
        let len = usize::try_from(len).map_err(|_| too_large())?;
        let padded = len.checked_add(ALIGNMENT).ok_or_else(too_large)?;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing of ours.
        let raw = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                padded,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if raw == libc::MAP_FAILED {
            return Err(Error::last_errno(OP).at(format!("{len} bytes")));
        }
        let reserved = NonNull::new(raw.cast::<u8>());
        let reserved = reserved.ok_or_else(|| Error::new(OP, Kind::Host, "mapped at 0"))?;
        // SAFETY: what is skipped is less than ALIGNMENT, and the mapping is longer than that.
        let base = unsafe { reserved.add(reserved.align_offset(ALIGNMENT)) };
        let ram = Self { reserved: (reserved, padded), base, len };
        ram.keep_out_of_core_dumps();
        Ok(Arc::new(ram))
    }

    /// Length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "RAM is never empty")]
    pub fn len(&self) -> u64 {
        self.len as u64
    }

    /// The host address of the first byte, for the call that gives the pages to a hypervisor.
    /// Valid as long as this `GuestRam` is; never to be dereferenced.
    pub fn host_address(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// A guest's secrets have no business in our core file. Advice: where the system cannot do it,
    /// the core is larger and nothing else changes.
    fn keep_out_of_core_dumps(&self) {
        #[cfg(target_os = "linux")] // macOS has no such advice
        // SAFETY: the range is our own mapping; the advice changes no contents.
        unsafe {
            libc::madvise(self.reserved.0.as_ptr().cast(), self.reserved.1, libc::MADV_DONTDUMP);
        }
    }
}

impl Drop for GuestRam {
    fn drop(&mut self) {
        let (start, len) = self.reserved;
        // SAFETY: the mapping was made here, whole pages of it, and nothing refers to it any more.
        unsafe { libc::munmap(start.as_ptr().cast(), len) };
    }
}

/// RAM at its place in the guest.
#[derive(Clone, Debug)]
pub struct Region {
    gpa: u64,
    ram: Arc<GuestRam>,
}

impl Region {
    /// `ram` at guest physical address `gpa`.
    ///
    /// # Errors
    /// `Invalid` when it would reach past the end of the address space.
    pub fn new(gpa: u64, ram: Arc<GuestRam>) -> Result<Self> {
        match gpa.checked_add(ram.len()) {
            Some(_) => Ok(Self { gpa, ram }),
            None => Err(Error::new("place guest RAM", Kind::Invalid, format!("at {gpa:#x}"))),
        }
    }

    /// Guest physical address of the first byte.
    pub fn gpa(&self) -> u64 {
        self.gpa
    }

    /// Guest physical address behind the last byte.
    pub fn end(&self) -> u64 {
        self.gpa.saturating_add(self.ram.len())
    }

    /// The pages.
    pub fn ram(&self) -> &Arc<GuestRam> {
        &self.ram
    }
}

impl GuestMemoryRegion for Region {
    type B = ();

    fn len(&self) -> GuestUsize {
        self.ram.len()
    }

    fn start_addr(&self) -> GuestAddress {
        GuestAddress(self.gpa)
    }

    fn bitmap(&self) -> BS<'_, Self::B> {}

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> MemoryResult<VolatileSlice<'_, BS<'_, Self::B>>> {
        let start = usize::try_from(offset.0).ok();
        let end = start.and_then(|start| start.checked_add(count));
        match (start, end) {
            (Some(start), Some(end)) if end <= self.ram.len => {
                // SAFETY: the range lies within the mapping, which lives as long as `self.ram`,
                // which the slice borrows.
                Ok(unsafe { VolatileSlice::new(self.ram.base.as_ptr().add(start), count) })
            }
            _ => Err(GuestMemoryError::InvalidBackendAddress),
        }
    }
}

impl GuestMemoryRegionBytes for Region {}

/// Puts RAM together into a guest's memory.
///
/// # Errors
/// `Invalid` when pieces overlap or there is none.
pub fn memory(pieces: impl IntoIterator<Item = (u64, Arc<GuestRam>)>) -> Result<GuestMemory> {
    let mut regions = Vec::new();
    for (gpa, ram) in pieces {
        regions.push(Region::new(gpa, ram)?);
    }
    regions.sort_by_key(Region::gpa);
    GuestMemory::from_regions(regions)
        .map_err(|error| Error::new("place guest RAM", Kind::Invalid, error.to_string()))
}

/// Gives the host back what it has for `pages`, a part of `memory`: whole pages of the host's, so that
/// what lies at the ends and shares one with something else stays. What is read there afterwards are
/// zeros, or what was there, until somebody writes. Returns how many bytes.
///
/// # Errors
/// `Invalid` for what is no part of `memory`; otherwise the operating system's.
pub fn give_back(memory: &GuestMemory, pages: &VolatileSlice<'_>) -> Result<u64> {
    const OP: &str = "give guest RAM back";
    let (start, len) = (pages.ptr_guard_mut().as_ptr(), pages.len());
    let inside = |region: &Region| {
        let offset = start.addr().checked_sub(region.ram.base.as_ptr().addr());
        let end = offset.and_then(|offset| offset.checked_add(len));
        end.is_some_and(|end| end <= region.ram.len)
    };
    if !memory.iter().any(inside) {
        return Err(Error::new(OP, Kind::Invalid, "it is none of this guest's RAM"));
    }
    // SAFETY: it only tells.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(ALIGNMENT);
    let before = start.align_offset(page).min(len);
    let whole = len.saturating_sub(before) / page * page;
    if whole == 0 {
        return Ok(0);
    }
    // SAFETY: whole pages of a mapping of ours, which lives as long as `memory`. Nobody has a reference
    // into it: its contents, which this may change, are volatile to everybody.
    let result = unsafe { libc::madvise(start.add(before).cast(), whole, GIVE_BACK) };
    match result {
        0 => Ok(whole as u64),
        _ => Err(Error::last_errno(OP).at(format!("{whole} bytes"))),
    }
}

/// Has the host give `pages`, whole ones of a guest's RAM, as they are touched and not 2 MiB at once, as Linux may: for
/// what is used here and there. Advice, as [`GuestRam`]'s: where the system cannot do it, more memory is taken and nothing
/// else changes.
pub fn in_small_pages(pages: &VolatileSlice<'_>) {
    if let Some(advice) = SMALL_PAGES {
        // SAFETY: the slice's pages are mapped for as long as it lives; the advice changes no contents.
        unsafe { libc::madvise(pages.ptr_guard_mut().as_ptr().cast(), pages.len(), advice) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Bytes;

    /// Whole pages of the host's, whatever its page size is: 64 KiB is the largest there is.
    const PAGES: usize = 64 << 10;

    #[test]
    fn what_is_given_back_is_whole_pages_and_can_be_written_again() {
        let memory = memory([(0, GuestRam::new(1 << 20).unwrap())]).unwrap();
        let all = vec![7; 1 << 20];
        memory.write_slice(&all, GuestAddress(0)).unwrap();
        let slice = |at: usize, len| memory.get_slice(GuestAddress(at as u64), len).unwrap();
        assert_eq!(give_back(&memory, &slice(0, 0)).unwrap(), 0);
        assert_eq!(give_back(&memory, &slice(1, 100)).unwrap(), 0);
        assert_eq!(give_back(&memory, &slice(PAGES, PAGES)).unwrap(), PAGES as u64);
        let given = give_back(&memory, &slice(4 * PAGES + 1, 3 * PAGES - 2)).unwrap();
        let given = usize::try_from(given).unwrap();
        assert!((PAGES..3 * PAGES).contains(&given), "{given}");
        let mut after = vec![0; 1 << 20];
        memory.read_slice(&mut after, GuestAddress(0)).unwrap();
        // Where pages go at once, they are zeros now; what shares one with others is as it was.
        let gone = |byte: &u8| *byte == 0;
        assert!(after[PAGES..2 * PAGES].iter().all(|byte| [0, 7].contains(byte)));
        assert!(after[..PAGES].iter().chain(&after[2 * PAGES..=4 * PAGES]).all(|byte| *byte == 7));
        assert_eq!(after[7 * PAGES - 1..], all[7 * PAGES - 1..]);
        let zeros = after.iter().filter(|byte| gone(byte)).count();
        assert!(zeros == 0 || zeros == PAGES + given, "{zeros}");
        memory.write_slice(&all, GuestAddress(0)).unwrap();
        memory.read_slice(&mut after, GuestAddress(0)).unwrap();
        assert!(after == all);
    }

    #[test]
    fn what_is_no_part_of_the_memory_is_not_given_back() {
        let [one, other] =
            [(); 2].map(|()| memory([(0, GuestRam::new(1 << 20).unwrap())]).unwrap());
        let mut own = vec![7; 4 * PAGES];
        for slice in [
            other.get_slice(GuestAddress(0), PAGES).unwrap(),
            VolatileSlice::from(own.as_mut_slice()),
        ] {
            assert_eq!(give_back(&one, &slice).unwrap_err().kind, Kind::Invalid);
        }
        assert!(own.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn ram_is_aligned_zeroed_and_as_long_as_asked() {
        let ram = GuestRam::new(3 << 20).unwrap();
        assert_eq!(ram.host_address().addr() % ALIGNMENT, 0);
        assert_eq!(ram.len(), 3 << 20);
        let memory = memory([(0x1000, ram)]).unwrap();
        let last = GuestAddress(0x1000 + (3 << 20) - 8);
        assert_eq!(memory.read_obj::<u64>(last).unwrap(), 0);
    }

    #[test]
    fn an_access_beyond_the_end_is_an_error() {
        let memory = memory([(0, GuestRam::new(4096).unwrap())]).unwrap();
        assert!(memory.write_obj(1u64, GuestAddress(4089)).is_err());
        assert!(memory.get_slice(GuestAddress(0), usize::MAX).is_err());
    }

    #[test]
    fn a_copy_runs_across_neighbouring_pieces() {
        let piece = || GuestRam::new(4096).unwrap();
        let memory = memory([(4096, piece()), (0, piece())]).unwrap();
        memory.write_slice(&[7; 16], GuestAddress(4088)).unwrap();
        assert_eq!(memory.read_obj::<u64>(GuestAddress(4096)).unwrap(), 0x0707_0707_0707_0707);
    }

    #[test]
    fn overlapping_pieces_odd_lengths_and_none_at_all_are_refused() {
        let piece = || GuestRam::new(8192).unwrap();
        assert_eq!(memory([(0, piece()), (4096, piece())]).unwrap_err().kind, Kind::Invalid);
        assert_eq!(memory([]).unwrap_err().kind, Kind::Invalid);
        assert_eq!(memory([(u64::MAX - 4095, piece())]).unwrap_err().kind, Kind::Invalid);
        assert_eq!(GuestRam::new(0).unwrap_err().kind, Kind::Invalid);
        assert_eq!(GuestRam::new(5000).unwrap_err().kind, Kind::Invalid);
    }

    #[test]
    fn more_than_the_address_space_is_an_error_and_not_an_abort() {
        assert_eq!(GuestRam::new(1 << 62).unwrap_err().kind, Kind::Exhausted);
        assert_eq!(GuestRam::new(!4095).unwrap_err().kind, Kind::Exhausted);
    }

    #[test]
    fn memory_outlives_whoever_reserved_it() {
        let memory = {
            let ram = GuestRam::new(4096).unwrap();
            memory([(0, ram)]).unwrap()
        };
        memory.write_obj(5u8, GuestAddress(0)).unwrap();
        assert_eq!(memory.read_obj::<u8>(GuestAddress(0)).unwrap(), 5);
    }
}
