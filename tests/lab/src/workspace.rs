//! The checkout, and where what is made of it goes.

use crate::command::{self, Result};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where sources are and where binaries go.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// The lab's own part of the target folder: its flags differ from a usual build's.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// The workspace this program was built from.
    pub(crate) fn find() -> Result<Self> {
        #[derive(Deserialize)]
        struct Metadata {
            workspace_root: PathBuf,
            target_directory: PathBuf,
        }
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let json = command::output(
            cargo()
                .args(["metadata", "--no-deps", "--format-version=1", "--manifest-path"])
                .arg(manifest),
        )?;
        let metadata: Metadata = serde_json::from_str(&json)
            .map_err(|e| format!("unexpected answer from `cargo metadata`: {e}"))?;
        Ok(Self { root: metadata.workspace_root, target: metadata.target_directory.join("lab") })
    }

    /// Where the machines of the lab `name`, and their guests, have their files.
    pub(crate) fn machines(&self, name: &str) -> Result<PathBuf> {
        let folder = self.target.join("machines").join(name);
        fs::create_dir_all(&folder)
            .map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
        Ok(folder)
    }

    /// The sources as they are here: tests name fixtures and documents by paths into the checkout.
    pub(crate) fn checkout(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            let context = |e| format!("cannot read {}: {e}", folder.display());
            for entry in fs::read_dir(&folder).map_err(context)? {
                let entry = entry.map_err(context)?;
                let name = entry.file_name();
                let kind = entry.file_type().map_err(context)?;
                if name == "target" || name.as_encoded_bytes().starts_with(b".") {
                    continue;
                } else if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    files.push(entry.path());
                }
            }
        }
        files.sort();
        Ok(files)
    }
}

/// cargo as it was before `cargo run` set variables for us that change what it builds.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // These would replace the flags given with --config.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}
