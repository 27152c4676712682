//! Limits of the process (setrlimit(2)).

use std::io;

use rustix::fs::{FileType, fstat};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::jail::Needs;

/// Room for the record of the run.
const RECORD: u64 = 1 << 20;

/// No core dump: it would hold what a guest knows.
pub(super) fn no_core() -> io::Result<()> {
    lower_to(Resource::Core, 0)
}

/// Leaves the process what a run needs. A write beyond the limit on files is an error of that write:
/// `Signals` has taken SIGXFSZ over.
pub(super) fn lower(needs: Needs<'_>) -> io::Result<()> {
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

/// Makes the limit `limit`, for good, where it is not lower yet.
pub(super) fn lower_to(resource: Resource, limit: u64) -> io::Result<()> {
    let lower = |old: Option<u64>| Some(old.map_or(limit, |old| old.min(limit)));
    let Rlimit { current, maximum } = getrlimit(resource);
    Ok(setrlimit(resource, Rlimit { current: lower(current), maximum: lower(maximum) })?)
}
