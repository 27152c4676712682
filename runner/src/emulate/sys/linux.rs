//! What only Linux does this way.

use std::fs::File;
use std::io;

use rustix::fs::MemfdFlags;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// An empty file without a name, which is gone when nobody has it open any more: memory.
pub(in crate::emulate) fn scratch_file() -> io::Result<File> {
    Ok(rustix::fs::memfd_create("runner", MemfdFlags::CLOEXEC)?.into())
}

/// Has the kernel kill the calling process, a fresh child, when its parent `parent` ends however
/// it may (prctl(2), `PR_SET_PDEATHSIG`). Allocates nothing and takes no lock.
pub(in crate::emulate) fn end_with_parent(parent: u32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before that.
    match getppid().is_some_and(|now| u32::try_from(now.as_raw_pid()) == Ok(parent)) {
        true => Ok(()),
        false => Err(io::ErrorKind::Interrupted.into()),
    }
}
