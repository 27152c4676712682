//! Other programs: started, checked, and named when they fail.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::process::{Command, Stdio};

/// A failure is one sentence for whoever started the lab; nothing matches on it.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// Everything here is made of programs for x86_64 Linux.
pub(crate) fn require_x86_64_linux() -> Result<()> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Ok(()),
        (os, arch) => Err(format!("the labs run on Linux on x86_64, and this is {os} on {arch}")),
    }
}

/// Runs `command` with our stdout and stderr; an error names it unless it ends with status 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|e| cannot_start(command, &e))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed: {status}", line(command))) }
}

/// Runs `command` and returns its stdout; its stderr is quoted only when it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| cannot_start(command, &e))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "`{}` failed: {}\n{}",
            line(command),
            output.status,
            stderr.trim_end()
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether `program` can be found on the PATH.
pub(crate) fn exists(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Why `command` did not even start.
pub(crate) fn cannot_start(command: &Command, error: &std::io::Error) -> String {
    format!("cannot start `{}`: {error}", command.get_program().display())
}

/// The command as one would type it, without quoting: for messages only.
fn line(command: &Command) -> String {
    let mut line = command.get_program().display().to_string();
    for argument in command.get_args().map(OsStr::display) {
        let _ = write!(line, " {argument}");
    }
    line
}
