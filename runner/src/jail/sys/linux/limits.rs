//! Limits of the process (setrlimit(2)).

use std::io;
use std::os::fd::AsRawFd;

use rustix::fs::{FileType, fstat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::jail::Needs;

/// A new descriptor would need a number below this, and stdin, stdout and stderr have those. poll(2)
/// waits for no more descriptors than this, and ours for two.
const DESCRIPTORS: u64 = 3;

/// Room for the record of the run.
const RECORD: u64 = 1 << 20;

/// No core dump: it would hold what a guest knows.
pub(super) fn no_core() -> io::Result<()> {
    lower_to(Resource::Core, 0)
}

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

/// Leaves the process what a run needs. A write beyond the limit on files is an error of that write:
/// `Signals` has taken SIGXFSZ over.
pub(super) fn lower(needs: Needs) -> io::Result<()> {
    no_core()?;
    // A console in a file may grow as long as whoever chose the file lets it.
    let console_in_a_file = [is_file(io::stdout()), is_file(io::stderr())].contains(&true);
    match console_in_a_file {
        true => Ok(()),
        false => lower_to(Resource::Fsize, needs.largest_file.max(RECORD)),
    }
}

fn is_file(fd: impl std::os::fd::AsFd) -> bool {
    fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

fn lower_to(resource: Resource, limit: u64) -> io::Result<()> {
    let lower = |old: Option<u64>| Some(old.map_or(limit, |old| old.min(limit)));
    let Rlimit { current, maximum } = getrlimit(resource);
    Ok(setrlimit(resource, Rlimit { current: lower(current), maximum: lower(maximum) })?)
}
