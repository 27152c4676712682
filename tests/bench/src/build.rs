//! Programs as they ship.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds a program with `cargo static` and gives its path.
///
/// # Errors
/// When cargo cannot be started or fails.
pub fn program(args: &[&str], program: &str) -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo).arg("static").args(args).current_dir(&root).status();
    match built {
        Ok(status) if status.success() => {
            let folder = format!("target/{}-unknown-linux-gnu/release", std::env::consts::ARCH);
            Ok(root.join(folder).join(program))
        }
        Ok(status) => Err(format!("cargo static: {status}")),
        Err(error) => Err(format!("cargo static: {error}")),
    }
}

/// The shipped runner and the floor.
///
/// # Errors
/// As [`program`].
pub fn runner_and_floor() -> Result<(PathBuf, PathBuf), String> {
    let floor = program(&["--package=bench", "--example=floor"], "examples/floor")?;
    Ok((program(&[], "runner")?, floor))
}
