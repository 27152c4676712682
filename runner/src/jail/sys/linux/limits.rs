//! The limit on descriptors (setrlimit(2)), which Linux lowers below those that are open.

use std::io;
use std::os::fd::AsRawFd;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::jail::limits::lower_to;

/// A new descriptor would need a number below this, and stdin, stdout and stderr have those. poll(2)
/// waits for no more descriptors than this, and ours for two.
const DESCRIPTORS: u64 = 3;

/// From here on so many more can be opened, as far as whoever started us allows, or none. What is open
/// stays.
pub(super) fn no_more_descriptors_than(more: u64) -> io::Result<()> {
    if more == 0 {
        return lower_to(Resource::Nofile, DESCRIPTORS);
    }
    let limit = first_free()?.saturating_add(more);
    let limit = getrlimit(Resource::Nofile).maximum.map_or(limit, |maximum| maximum.min(limit));
    Ok(setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) })?)
}

/// The lowest number that no descriptor has.
fn first_free() -> io::Result<u64> {
    let free = rustix::io::fcntl_dupfd_cloexec(io::stderr(), 0)?;
    u64::try_from(free.as_raw_fd()).map_err(io::Error::other)
}
