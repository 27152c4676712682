//! `lab uhyve`: a Hermit unikernel under runner and under crates.io's `uhyve`, in the same machine
//! (`tests/bench/benches/hermit.rs`).

use crate::architecture::X86_64;
use crate::bench;
use crate::cache::Cache;
use crate::command::{self, Result};
use crate::guest::Clock;
use crate::lab::Lab;
use crate::workspace::cargo;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The peer, as crates.io has it.
const UHYVE: &str = "0.10.0";

/// Two or three dozen runs of each.
const TIME: Duration = Duration::from_secs(10 * 60);

/// Compares them with a unikernel of our own, or with `kernel`, and prints what came of it.
pub(crate) fn run(kernel: Option<&Path>) -> Result<()> {
    let lab = Lab::prepare(&X86_64)?;
    let uhyve = installed()?;
    let program = lab.builder().bench("hermit")?;
    let mut files = lab.runner_and_guests();
    files.extend(bench::with_libraries(&uhyve)?);
    files.push(program.clone());
    let mut job = lab.program("hermit", program, TIME);
    job.environment.push(("UHYVE_BIN".to_owned(), uhyve.display().to_string()));
    if let Some(kernel) = kernel {
        let context = |e| format!("cannot read {}: {e}", kernel.display());
        let kernel = kernel.canonicalize().map_err(context)?;
        job.arguments.push(kernel.display().to_string());
        files.push(kernel);
    }
    bench::measure(&lab.guest(Clock::Host, TIME), job, &files)
}

/// uhyve, which is built once.
fn installed() -> Result<PathBuf> {
    let cache = Cache::open()?;
    let root = cache.dir().join(format!("uhyve-{UHYVE}"));
    let program = root.join("bin/uhyve");
    if !program.is_file() {
        println!("lab: building uhyve {UHYVE}");
        let mut install = cargo();
        install.args(["install", "--quiet", "--locked", "--version", UHYVE]);
        command::run(install.arg("--root").arg(&root).arg("uhyve"))?;
    }
    Ok(program)
}
