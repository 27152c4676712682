//! `lab darwin`: what can be known about macOS without a Mac. Every crate is linted, `runner` and
//! hv-hvf's tests are linked against what macOS 15 has, and what macOS alone compiles is counted.

mod allowed;
mod framework;
mod lines;
mod link;
mod macho;
mod predicate;
mod source;

use crate::cache::Cache;
use crate::command::{self, Result};
use crate::foreign;
use crate::toolchain::Toolchain;
use crate::workspace::Workspace;

const TARGET: &str = "aarch64-apple-darwin";

/// All of it, what takes least first.
pub(crate) fn run() -> Result<()> {
    command::require_x86_64_linux()?;
    let workspace = Workspace::find()?;
    lines::check(&workspace.root)?;
    foreign::lint(&[TARGET])?;
    let toolchain = Toolchain::prepare(&Cache::open()?, TARGET)?;
    link::run(&toolchain, &toolchain.workspace()?)
}
