//! `lab lints`: every crate linted for targets that are not this machine's, with Debian's Rust.
//!
//! Nothing is linked here: clippy does all that `cargo check` does, and its own lints.

use crate::cache::Cache;
use crate::command::{self, Result};
use crate::toolchain::Toolchain;

/// What runner is for, beside this machine.
pub(crate) const TARGETS: [&str; 2] = ["aarch64-apple-darwin", "aarch64-unknown-linux-gnu"];

/// Lints all crates for each of `targets`, at once: what one compiler does last, it does alone.
pub(crate) fn lint(targets: &[&str]) -> Result<()> {
    command::require_x86_64_linux()?;
    let cache = Cache::open()?;
    let mut toolchain = None;
    for target in targets {
        toolchain = Some(Toolchain::prepare(&cache, target)?);
    }
    let toolchain = toolchain.ok_or("no target to lint for")?;
    let workspace = toolchain.workspace()?;
    let mut clippy = toolchain.cargo();
    clippy.args(["clippy", "--workspace", "--all-targets"]);
    clippy.args(targets.iter().flat_map(|target| ["--target", target]));
    clippy
        .arg("--target-dir")
        .arg(&workspace.target)
        .args(["--", "-D", "warnings"])
        .current_dir(&workspace.root);
    command::run(&mut clippy)?;
    println!("lab: all crates are clean for {}", targets.join(" and "));
    Ok(())
}
