//! Where a Solo5 unikernel's memory and registers go if it aborts (`--dumpcore` of Solo5's tender,
//! `tenders/hvt/hvt_module_dumpcore.c`): into a new file in a folder of the user's.
//!
//! In the jail no file can be made. So it is made before, and taken away again where nothing was dumped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};

use super::Error;
use crate::log::printable_path;
use crate::p9::{Folder, Unfit};
use crate::warning;

/// Bytes that are in the file before memory.
pub(crate) const HEADERS: u64 = 4096;

const REMEDY: &str = "name a folder that you can write to";

/// A file for a core dump.
#[derive(Debug)]
pub struct DumpPlan {
    folder: Folder,
    name: String,
    path: PathBuf,
    file: File,
    /// It stays.
    kept: AtomicBool,
}

impl DumpPlan {
    /// Makes it in `folder`, with the name that the tender gives it.
    pub(super) fn new(folder: &Path) -> Result<Self, Error> {
        let refused = |path: &Path, why: String| {
            let path = printable_path(path);
            Error::Asked(format!("--dumpcore={path}: {why}"))
        };
        let opened = Folder::open(folder, false);
        let opened = opened.map_err(|error| match error {
            Unfit::System(error) => refused(folder, format!("{error}; {REMEDY}")),
            Unfit::Kernels => refused(folder, error.to_string()),
        })?;
        let name = format!("core.solo5-hvt.{}", std::process::id());
        let path = folder.join(&name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&opened, &name, flags, Mode::RUSR | Mode::WUSR);
        let file = file.map_err(|errno| refused(folder, format!("{name}: {errno}; {REMEDY}")))?;
        Ok(Self { folder: opened, name, path, file: file.into(), kept: AtomicBool::new(false) })
    }

    /// The folder, out of which the file may have to be taken.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// It has all that belongs into it, and stays.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Where the file is, for a person.
    #[must_use]
    pub fn printable_path(&self) -> String {
        printable_path(&self.path)
    }

    /// Takes the file away, unless it stays.
    pub fn close(&self) {
        if self.kept.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Err(errno) = unlinkat(&self.folder, &self.name, AtFlags::empty()) {
            warning!(
                "{}: nothing was dumped, and its file stays: {errno}; remove it",
                self.printable_path()
            );
        }
    }
}

/// Of a plan that comes to nothing.
impl Drop for DumpPlan {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_stays_if_it_is_whole_and_no_other_is_ever_touched() {
        let place = tempfile::tempdir().unwrap();
        let name = format!("core.solo5-hvt.{}", std::process::id());
        let path = place.path().join(name);
        let plan = DumpPlan::new(place.path()).unwrap();
        assert_eq!(plan.printable_path(), path.display().to_string());
        assert!(path.exists());
        drop(plan);
        assert!(!path.exists());
        let plan = DumpPlan::new(place.path()).unwrap();
        plan.keep();
        plan.close();
        drop(plan);
        assert!(path.exists());
        let why = DumpPlan::new(place.path()).unwrap_err().to_string();
        assert!(why.contains("core.solo5-hvt.") && why.contains("exists"), "{why}");
        let why = DumpPlan::new(&path).unwrap_err().to_string();
        assert!(why.contains("name a folder"), "{why}");
    }
}
