//! Locks on disk images: while a guest writes a disk nobody else uses it, and while a guest reads
//! one nobody writes it.
//!
//! Advisory, like all of them: they keep runner, QEMU and other programs that ask apart. Given
//! back by the kernel when the process ends, however it ends.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

use super::sys;
use crate::log::Escaped;

/// What others may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// We read: nobody else writes.
    Read,
    /// We write: nobody else does anything.
    Write,
}

/// Why a disk cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else uses it.
    #[error("{name}: in use by {holders}; {}", remedy(*.mode))]
    InUse {
        /// What was wanted of it.
        mode: Mode,
        /// The file.
        name: String,
        /// Who, as far as we may know.
        holders: Holders,
    },
    /// This process does.
    #[error(
        "{name}: two disks of this guest are this file; name it once, or read-only each time, or \
         give --ephemeral"
    )]
    Twice {
        /// The file.
        name: String,
    },
    /// The operating system said something else.
    #[error("{name}: lock it: {error}; put the file on a local disk, and run that")]
    Refused {
        /// The file.
        name: String,
        /// What it said.
        error: io::Error,
    },
}

/// What to do about a file that somebody else uses. Whoever only reads can share it.
fn remedy(mode: Mode) -> &'static str {
    match mode {
        Mode::Read => {
            "stop that first, start that with --ephemeral, too, or run a copy of the file"
        }
        Mode::Write => "stop that first, run both with --ephemeral, or run a copy of the file",
    }
}

/// A process that has a file open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its name; its own choice of bytes.
    pub name: Vec<u8>,
    /// It has a lock on the file.
    pub locks: bool,
}

/// Those who are in the way. There may be more, whom we cannot see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders(Vec<Holder>);

impl Holders {
    /// These, of whatever they hold.
    pub(super) fn new(holders: Vec<Holder>) -> Self {
        Self(holders)
    }
}

impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMED: usize = 3;
        if self.0.is_empty() {
            return f.write_str("another process");
        }
        for (index, holder) in self.0.iter().take(NAMED).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{} (pid {})", Escaped(&holder.name), holder.pid)?;
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A lock on an open file, given back when this is dropped.
#[derive(Debug)]
pub struct DiskLock {
    file: Arc<File>,
}

impl DiskLock {
    /// Locks `file`, at once or not at all. `name` is for messages. A file system that knows no
    /// locks is said on stderr, and does not stop a run.
    ///
    /// # Errors
    /// [`Error`].
    pub fn take(file: &Arc<File>, name: &str, mode: Mode) -> Result<Self, Error> {
        let name = || name.to_owned();
        match sys::lock(file, mode) {
            Ok(true) => {}
            Ok(false) => return Err(conflict(name(), mode, sys::holders(file))),
            Err(error) if unsupported(&error) => {
                let name = name();
                crate::warning!(
                    "{name}: no locks here ({error}): keep other programs away from it"
                );
            }
            Err(error) => return Err(Error::Refused { name: name(), error }),
        }
        Ok(Self { file: Arc::clone(file) })
    }
}

impl Drop for DiskLock {
    fn drop(&mut self) {
        sys::unlock(&self.file);
    }
}

/// Whether the file system, and not the file, is why there is no lock.
fn unsupported(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [libc::ENOLCK, libc::EOPNOTSUPP, libc::ENOSYS, libc::EINVAL].map(Some).contains(&code)
}

/// Who is in the way: those with locks, or else those who at least have the file open.
fn conflict(name: String, mode: Mode, mut holders: Vec<Holder>) -> Error {
    let us = std::process::id();
    if holders.iter().any(|holder| holder.locks && holder.pid == us) {
        return Error::Twice { name };
    }
    holders.retain(|holder| holder.pid != us);
    if holders.iter().any(|holder| holder.locks) {
        holders.retain(|holder| holder.locks);
    }
    Error::InUse { mode, name, holders: Holders(holders) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(pid: u32, name: &str, locks: bool) -> Holder {
        Holder { pid, name: name.into(), locks }
    }

    #[test]
    fn the_message_names_those_who_lock_rather_than_those_who_look() {
        let holders = vec![holder(7, "cp", false), holder(8, "qemu", true), holder(9, "x\n", true)];
        let text = conflict("a.img".into(), Mode::Write, holders).to_string();
        assert!(text.contains("in use by qemu (pid 8), x\\n (pid 9); stop"), "{text}");
        let text = conflict("a.img".into(), Mode::Write, vec![holder(7, "cp", false)]).to_string();
        assert!(text.contains("run both with --ephemeral, or run a copy"), "{text}");
        let text = conflict("a.img".into(), Mode::Read, vec![holder(7, "cp", false)]).to_string();
        assert!(text.contains("start that with --ephemeral, too, or run a copy"), "{text}");
        assert!(text.contains("in use by cp (pid 7);"), "{text}");
    }

    #[test]
    fn more_than_three_are_counted_and_none_is_another_process() {
        let holders = (10..15).map(|pid| holder(pid, "q", true)).collect();
        let text = conflict("a.img".into(), Mode::Write, holders).to_string();
        assert!(text.contains("q (pid 12) and 2 more; stop"), "{text}");
        let text = conflict("a.img".into(), Mode::Write, Vec::new()).to_string();
        assert!(text.contains("in use by another process;"), "{text}");
    }

    #[test]
    fn one_writer_or_any_number_of_readers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.img");
        std::fs::write(&path, [0; 4096]).unwrap();
        let open = || {
            let mut options = File::options();
            Arc::new(options.read(true).write(true).open(&path).unwrap())
        };
        let (a, b) = (open(), open());
        let take = |file: &Arc<File>, mode| DiskLock::take(file, "d.img", mode);
        {
            let _first = take(&a, Mode::Read).unwrap();
            let _second = take(&b, Mode::Read).unwrap();
            take(&open(), Mode::Write).unwrap_err();
        }
        let writer = take(&a, Mode::Write).unwrap();
        take(&b, Mode::Read).unwrap_err();
        take(&b, Mode::Write).unwrap_err();
        drop(writer);
        take(&b, Mode::Write).unwrap();
    }
}
