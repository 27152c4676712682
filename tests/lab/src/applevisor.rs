//! `lab applevisor`: the tests of crates.io's `applevisor`, somebody else's reading of Apple's documents, over
//! our stand-in for the framework, in the lab for arm64 (`tests/hvf-standin/DIFFERENCES.md`).
//!
//! The crate is cargo's to download, and is copied into the target folder: the stand-in has the framework's
//! symbols only for programs that name it.

use crate::architecture::{AARCH64, Architecture, Choice, Set};
use crate::command::{self, Result};
use crate::lab;
use crate::workspace::{Workspace, cargo};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the copy is, in the checkout.
const COPY: &str = "target/lab/applevisor/copy";

/// The package that asks cargo for the crate.
const WANTED: &str = "[package]\nname = \"wanted\"\nedition = \"2024\"\n\
    [lib]\npath = \"lib.rs\"\n[dependencies]\napplevisor = \"=1.0.0\"\n[workspace]\n";

/// What goes behind its manifest. The stand-in is in the checkout that the copy is below.
const BESIDES: &str =
    "\n[dev-dependencies.hvf-standin]\npath = \"../../../../tests/hvf-standin\"\n\n[workspace]\n";

/// The lab for arm64 with nothing but these tests.
static LAB: Architecture = Architecture { sets: &[TESTS], gates: &[], ..AARCH64 };

const TESTS: Set = Set {
    name: "",
    // With what macOS 15 brought they do not link: they use more of the interrupt controller than any
    // backend here.
    tests: &[&[
        "--manifest-path=target/lab/applevisor/copy/Cargo.toml",
        "--lib",
        "--no-default-features",
        "--features=macos-13-0",
    ]],
    choice: Choice::AllBut {
        these: &[(
            "applevisor::vcpu::tests::create_and_use_a_vcpu_configuration",
            "it has room for one number where the framework writes eight",
        )],
        yet: &[],
    },
    runner: None,
    // Each test is a process, and does not know the stand-in.
    environment: &[("HVF_STANDIN", "foreign")],
    skips: &[],
};

/// Runs those that have `filter` in their names.
pub(crate) fn run(filter: &str) -> Result<()> {
    let workspace = Workspace::find()?;
    let copy = workspace.root.join(COPY);
    take(&source(&copy)?, &copy)?;
    lab::run(&LAB, filter)
}

/// Where cargo keeps the crate.
fn source(copy: &Path) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        manifest_path: PathBuf,
    }
    let wanted = copy.with_file_name("wanted");
    let manifest = wanted.join("Cargo.toml");
    make(&wanted)?;
    write(&manifest, WANTED)?;
    write(&wanted.join("lib.rs"), "")?;
    let asked = ["metadata", "--format-version=1", "--manifest-path"];
    let json = command::output(cargo().args(asked).arg(&manifest))?;
    let metadata: Metadata = serde_json::from_str(&json)
        .map_err(|e| format!("unexpected answer from `cargo metadata`: {e}"))?;
    let found = metadata.packages.into_iter().find(|package| package.name == "applevisor");
    let manifest = found.map(|package| package.manifest_path);
    let folder = manifest.as_deref().and_then(Path::parent).map(Path::to_owned);
    folder.ok_or_else(|| "cargo has no applevisor".to_owned())
}

/// Copies it, with the stand-in named in it.
fn take(from: &Path, to: &Path) -> Result<()> {
    let sources = to.join("src");
    make(&sources)?;
    let read = |path: PathBuf| {
        fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))
    };
    write(&to.join("Cargo.toml"), &(read(from.join("Cargo.toml"))? + BESIDES))?;
    // Its documentation, which the sources include.
    write(&to.join("README.md"), &read(from.join("README.md"))?)?;
    let folder = from.join("src");
    let entries = fs::read_dir(&folder);
    let entries = entries.map_err(|e| format!("cannot read {}: {e}", folder.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let mut text = read(path.clone())?;
        if path.ends_with("lib.rs") {
            text.push_str("\n#[cfg(test)]\nextern crate hvf_standin as _;\n");
        }
        write(&sources.join(path.file_name().unwrap_or_default()), &text)?;
    }
    Ok(())
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
}
