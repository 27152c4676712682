//! Linux: see madvise(2).

/// The pages go at once; who touches one finds zeros.
pub(crate) const GIVE_BACK: libc::c_int = libc::MADV_DONTNEED;

/// Pages of the smallest size alone, also where the system would give 2 MiB at the first touch.
pub(crate) const SMALL_PAGES: Option<libc::c_int> = Some(libc::MADV_NOHUGEPAGE);

#[cfg(test)]
mod tests {
    use crate::mem::{GuestRam, in_small_pages, memory};
    use vm_memory::{GuestAddress, GuestMemoryBackend as _};

    /// What the kernel knows of the mapping that begins at `start` (proc(5), `VmFlags`).
    fn flags(start: usize) -> Option<String> {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let own = maps.split_once(&format!("{start:x}-"))?.1;
        own.lines().find_map(|line| line.strip_prefix("VmFlags:")).map(str::to_owned)
    }

    #[test]
    fn what_is_used_here_and_there_has_no_huge_pages_and_what_is_behind_it_may() {
        const HALF: usize = 4 << 20;
        let ram = GuestRam::new(2 * HALF as u64).unwrap();
        let start = ram.host_address().addr();
        let memory = memory([(0, ram)]).unwrap();
        in_small_pages(&memory.get_slice(GuestAddress(0), HALF).unwrap());
        let Some(first) = flags(start) else {
            println!("skipped: this kernel shows no flags of mappings");
            return;
        };
        assert!(first.contains(" nh"), "{first}");
        assert!(flags(start + HALF).is_some_and(|rest| !rest.contains(" nh")));
    }
}
