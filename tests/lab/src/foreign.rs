//! `lab darwin` and `lab aarch64-linux`: every crate linted for a target that is not this machine's,
//! with Debian's Rust.
//!
//! Nothing is linked here: clippy does all that `cargo check` does, and its own lints.

use crate::cache::Cache;
use crate::command::{self, Result};
use crate::toolchain::Toolchain;

/// Lints all crates for `target`.
pub(crate) fn lint(target: &str) -> Result<()> {
    command::require_x86_64_linux()?;
    let toolchain = Toolchain::prepare(&Cache::open()?, target)?;
    let workspace = toolchain.workspace(target)?;
    let mut clippy = toolchain.cargo();
    clippy
        .args(["clippy", "--workspace", "--all-targets", "--target", target, "--target-dir"])
        .arg(&workspace.target)
        .args(["--", "-D", "warnings"])
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .current_dir(&workspace.root);
    command::run(&mut clippy)?;
    println!("lab: all crates are clean for {target}");
    Ok(())
}
