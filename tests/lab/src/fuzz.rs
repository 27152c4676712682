//! `lab fuzz`: every fuzz target for some time, on the stable compiler (tests/fuzz/README.md).
//!
//! What a run finds without breaking anything goes into a folder of its own; the corpus in the
//! checkout is read and not written.

use crate::cache::Cache;
use crate::command::{self, Result};
use crate::workspace::{Workspace, cargo};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where cargo-fuzz comes from when the machine has none.
const CARGO_FUZZ: &str = "0.13.2";

/// A minute of each is for finding what is new; what a corpus finds takes a second.
pub(crate) const DEFAULT_SECONDS: u32 = 60;

/// Runs each target that has `filter` in its name for `seconds`.
pub(crate) fn run(seconds: u32, filter: &str) -> Result<()> {
    command::require_x86_64_linux()?;
    let workspace = Workspace::find()?;
    let folder = workspace.root.join("tests/fuzz");
    let targets: Vec<_> =
        targets(&folder)?.into_iter().filter(|name| name.contains(filter)).collect();
    if targets.is_empty() {
        return Err(format!("no fuzz target has `{filter}` in its name"));
    }
    let output = workspace.target.join("fuzz");
    build(&folder, &output)?;
    println!("lab: {} fuzz targets, {seconds} s each", targets.len());
    let mut failed = Vec::new();
    for name in &targets {
        let target = Target { name, folder: &folder, output: &output };
        match target.run(seconds) {
            Ok(done) => println!("fuzz {name} ... ok ({done})"),
            Err(why) => {
                println!("fuzz {name} ... FAILED: {why}");
                failed.push(name.as_str());
            }
        }
    }
    println!("{} passed, {} failed", targets.len() - failed.len(), failed.len());
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("these targets failed: {}", failed.join(", "))),
    }
}

/// The targets, by their files.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.join("fuzz_targets");
    let context = |e| format!("cannot read {}: {e}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).map_err(context)? {
        let path = entry.map_err(context)?.path();
        names.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Builds all targets, without a sanitizer: the stable compiler has none, and what is attacked has
/// no `unsafe`.
fn build(folder: &Path, output: &Path) -> Result<()> {
    let mut command = Command::new(cargo_fuzz()?);
    command.args(["fuzz", "build", "-s", "none", "--fuzz-dir"]).arg(folder);
    command.arg("--target-dir").arg(output);
    // As cargo itself calls it; and without what `cargo run` set for us.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command::run(&mut command)
}

/// cargo-fuzz: the machine's, or ours, which is installed once.
fn cargo_fuzz() -> Result<PathBuf> {
    if command::exists("cargo-fuzz") {
        return Ok("cargo-fuzz".into());
    }
    let cache = Cache::open()?;
    let root = cache.dir().join(format!("cargo-fuzz-{CARGO_FUZZ}"));
    let program = root.join("bin/cargo-fuzz");
    if !program.is_file() {
        println!("lab: installing cargo-fuzz {CARGO_FUZZ}");
        let mut install = cargo();
        install.args(["install", "--quiet", "--locked", "--version", CARGO_FUZZ]);
        command::run(install.arg("--root").arg(&root).arg("cargo-fuzz"))?;
    }
    Ok(program)
}

/// A target that is built.
struct Target<'a> {
    name: &'a str,
    folder: &'a Path,
    output: &'a Path,
}

impl Target<'_> {
    /// Runs it; what it did, in words.
    fn run(&self, seconds: u32) -> Result<String> {
        let program = self.output.join("x86_64-unknown-linux-gnu/release").join(self.name);
        let found = self.output.join("found").join(self.name);
        let artifacts = self.folder.join("artifacts").join(self.name);
        for folder in [&found, &artifacts] {
            let context = |e| format!("cannot make {}: {e}", folder.display());
            fs::create_dir_all(folder).map_err(context)?;
        }
        let mut command = Command::new(program);
        command
            .arg(format!("-max_total_time={seconds}"))
            .args(["-max_len=8192", "-rss_limit_mb=512", "-timeout=5", "-print_final_stats=1"])
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg(&found)
            .arg(self.folder.join("corpus").join(self.name))
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null());
        let output = command.output().map_err(|e| command::cannot_start(&command, &e))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            let from = said.lines().count().saturating_sub(60);
            let last: Vec<_> = said.lines().skip(from).collect();
            return Err(format!(
                "{}; the input is in {}\n{}",
                output.status,
                artifacts.display(),
                last.join("\n")
            ));
        }
        let executions = statistic(&said, "number_of_executed_units")?;
        let per_second = statistic(&said, "average_exec_per_sec")?;
        let memory = statistic(&said, "peak_rss_mb")?;
        Ok(format!("{executions} executions, {per_second} a second, {memory} MiB at most"))
    }
}

/// A number that libFuzzer prints at its end: `stat::NAME: NUMBER`.
fn statistic(said: &str, name: &str) -> Result<u64> {
    said.lines()
        .filter_map(|line| line.strip_prefix("stat::")?.strip_prefix(name)?.strip_prefix(':'))
        .find_map(|number| number.trim().parse().ok())
        .ok_or_else(|| format!("libFuzzer did not print {name}: did it run at all?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libfuzzers_numbers_are_found_by_name() {
        let said = "#2\tDONE\nstat::number_of_executed_units: 61234\nstat::peak_rss_mb:      41\n";
        assert_eq!(statistic(said, "number_of_executed_units"), Ok(61_234));
        assert_eq!(statistic(said, "peak_rss_mb"), Ok(41));
        assert!(statistic(said, "average_exec_per_sec").unwrap_err().contains("did it run"));
    }
}
