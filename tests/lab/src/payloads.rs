//! Kernels of Debian's other than Linux, for tests to boot as they are.

use crate::cache::Cache;
use crate::command::{self, Result};
use crate::packages::{self, Wanted};
use std::fs;
use std::path::Path;
use std::process::Command;

/// A kernel in a package.
#[derive(Debug)]
pub(crate) struct Payload {
    /// What tests call it.
    pub(crate) name: &'static str,
    pub(crate) package: Wanted,
    /// Its name in the folder `boot` there.
    pub(crate) file: &'static str,
}

impl Payload {
    /// Its bytes, unpacked where Debian packs them.
    pub(crate) fn bytes(&self, cache: &Cache, architecture: &str) -> Result<Vec<u8>> {
        let tree = packages::unpacked(cache, &self.package, architecture)?;
        let file = tree.join("boot").join(self.file);
        match file.extension().is_some_and(|ending| ending == "gz") {
            true => gunzip(&file),
            false => fs::read(&file).map_err(|e| format!("cannot read {}: {e}", file.display())),
        }
    }
}

fn gunzip(file: &Path) -> Result<Vec<u8>> {
    let mut gzip = Command::new("gzip");
    let output = gzip.args(["-d", "-c"]).arg(file).output();
    let output = output.map_err(|error| command::cannot_start(&gzip, &error))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(format!("gzip cannot unpack {}: {}", file.display(), output.status)),
    }
}
