//! Debian's Rust for targets that no rustup component is installed for.
//!
//! Debian's security suite has a current Rust for browsers (`rustc-web`) with the sources of its
//! standard library. It is unpacked, not installed. For Apple's target the standard library is built
//! once and put where rustc looks for it; for arm64 Linux Debian has it built.

use crate::cache::Cache;
use crate::command::{self, Result};
use crate::packages::{self, THIS_MACHINES, Wanted};
use crate::workspace::Workspace;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// Debian's Rust, with the libraries that a small machine may not have.
const TOOLCHAIN: Wanted = Wanted {
    folder: "rust",
    suite: None,
    packages: &[
        "rustc-web",
        "cargo-web",
        "rust-web-clippy",
        "rust-web-src",
        "libstd-rust-web-dev:arm64",
    ],
    except: &["binutils", "gcc", "libc-dev", "libc6", "libgcc-s1", "libstdc++6"],
};

/// The unpacked packages.
#[derive(Debug)]
pub(crate) struct Toolchain {
    root: PathBuf,
}

impl Toolchain {
    /// Unpacks the toolchain if need be, and sees to it that it has `target`'s standard library.
    pub(crate) fn prepare(cache: &Cache, target: &str) -> Result<Self> {
        let toolchain = Self { root: packages::unpacked(cache, &TOOLCHAIN, THIS_MACHINES)? };
        let library = toolchain.library(target);
        if !library.is_dir() {
            println!("lab: building the standard library for {target}, once");
            toolchain.build_standard_library(target, &library)?;
        }
        Ok(toolchain)
    }

    /// Where `target`'s standard library is.
    fn library(&self, target: &str) -> PathBuf {
        self.root.join("usr/lib/rustlib").join(target).join("lib")
    }

    /// When its newest standard library came there, in seconds since 1970.
    fn built(&self) -> Result<u64> {
        let folder = self.root.join("usr/lib/rustlib");
        let context = |e| format!("cannot look at {}: {e}", folder.display());
        let mut newest = 0;
        for entry in fs::read_dir(&folder).map_err(context)? {
            let library = entry.map_err(context)?.path().join("lib");
            if library.is_dir() {
                let time = fs::metadata(&library).and_then(|metadata| metadata.modified());
                let time = time.map_err(context)?.duration_since(SystemTime::UNIX_EPOCH);
                newest = newest.max(time.map_or(0, |since| since.as_secs()));
            }
        }
        Ok(newest)
    }

    /// The workspace, and where all that is made of it with this toolchain goes: each target has a folder in there,
    /// and they share what runs here, procedural macros. cargo does not see that a standard library was
    /// built anew; what was made for another is of no use then.
    pub(crate) fn workspace(&self) -> Result<Workspace> {
        let mut workspace = Workspace::find()?;
        workspace.target.push(format!("foreign-{}", self.built()?));
        Ok(workspace)
    }

    /// Its cargo, with all that finds the rest of it, and nothing of the one that may have started us.
    pub(crate) fn cargo(&self) -> Command {
        let programs = self.root.join("usr/bin");
        let mut command = Command::new(programs.join("cargo"));
        let mut path = vec![programs.clone()];
        path.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
        if let Ok(path) = std::env::join_paths(path) {
            command.env("PATH", path);
        }
        command.env("RUSTC", programs.join("rustc"));
        command.env("LD_LIBRARY_PATH", self.root.join("usr/lib/x86_64-linux-gnu"));
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        // The same for all, or they would share nothing. Stripping for Apple's target takes a program of the
        // toolchain's that Debian has elsewhere.
        command.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_PROFILE_DEV_STRIP", "none");
        command
    }

    /// cargo builds the standard library for a crate that asks for it; the crate is empty.
    fn build_standard_library(&self, target: &str, library: &Path) -> Result<()> {
        let folder = self.root.join("build-std");
        let context = |e| format!("cannot write to {}: {e}", folder.display());
        fs::create_dir_all(folder.join("src")).map_err(context)?;
        let manifest =
            "[package]\nname = \"empty\"\nedition = \"2024\"\npublish = false\n[workspace]\n";
        fs::write(folder.join("Cargo.toml"), manifest).map_err(context)?;
        fs::write(folder.join("src/lib.rs"), "").map_err(context)?;
        let mut build = self.cargo();
        build
            .args(["build", "--quiet", "--release", "--target", target])
            // `test` is what --all-targets needs, `proc_macro` what serde's like asks for.
            .arg("-Zbuild-std=std,panic_abort,proc_macro,test")
            .env("RUSTC_BOOTSTRAP", "1")
            .env_remove("CARGO_TARGET_DIR")
            .current_dir(&folder);
        command::run(&mut build)?;
        let partial = library.with_extension("partial");
        fs::create_dir_all(&partial).map_err(context)?;
        let built = folder.join("target").join(target).join("release/deps");
        for entry in fs::read_dir(&built).map_err(context)? {
            let from = entry.map_err(context)?.path();
            if let (Some("rlib"), Some(name)) =
                (from.extension().and_then(|e| e.to_str()), from.file_name())
            {
                fs::copy(&from, partial.join(name)).map_err(context)?;
            }
        }
        fs::rename(&partial, library).map_err(context)?;
        // What is left has served: the sources are half of the cache.
        fs::remove_dir_all(&folder).map_err(context)?;
        fs::remove_dir_all(self.root.join("usr/src")).map_err(context)
    }
}
