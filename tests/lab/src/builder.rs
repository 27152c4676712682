//! Builds what goes into a lab: test binaries, the shipped `runner` and the lab itself, all linked
//! statically, because the lab has no libraries.

use crate::architecture::{Compiler, Cross};
use crate::binaries::{Artifact, TestBinary, artifact, parse_list};
use crate::cache::Cache;
use crate::command::{self, Result};
use crate::packages;
use crate::toolchain::Toolchain;
use crate::workspace::{Workspace, cargo};
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// cargo for one target.
#[derive(Debug)]
pub(crate) struct Builder {
    workspace: Workspace,
    compiler: &'static Compiler,
    /// Where this machine's own Rust does not build for it.
    cross: Option<(&'static Cross, Toolchain)>,
}

impl Builder {
    /// With everything that it takes to build for `compiler`'s target.
    pub(crate) fn new(
        workspace: &Workspace,
        cache: &Cache,
        compiler: &'static Compiler,
    ) -> Result<Self> {
        let cross = match &compiler.cross {
            None => None,
            Some(cross) => {
                for needed in [cross.linker, cross.libc, cross.starter] {
                    packages::ensure_installed(needed)?;
                }
                Some((cross, Toolchain::prepare(cache, compiler.target)?))
            }
        };
        Ok(Self { workspace: workspace.clone(), compiler, cross })
    }

    /// cargo, with the compiler and the linker for the target.
    pub(crate) fn cargo(&self) -> Command {
        let Some((cross, toolchain)) = &self.cross else { return cargo() };
        let mut command = toolchain.cargo();
        // The Cargo Book, Environment Variables: CARGO_TARGET_<triple>_LINKER.
        let target = self.compiler.target.replace('-', "_").to_uppercase();
        command.env(format!("CARGO_TARGET_{target}_LINKER"), cross.linker.name);
        command
    }

    /// Builds the tests that each of `selections` (arguments of `cargo test`) names; returns them
    /// and the programs they may start.
    pub(crate) fn tests(&self, selections: &[&[&str]]) -> Result<(Vec<TestBinary>, Vec<PathBuf>)> {
        let mut tests = Vec::new();
        let mut programs = Vec::new();
        for selection in selections {
            let mut command = self.cargo_static("test");
            command.arg("--no-run").args(*selection);
            let (more_tests, more_programs) = self.build_tests(command)?;
            tests.extend(more_tests);
            programs.extend(more_programs);
        }
        tests.sort_by(|a, b| a.label.cmp(&b.label));
        Ok((tests, programs))
    }

    /// Carries out a `cargo test --no-run`: the tests, and the programs they may start.
    pub(crate) fn build_tests(&self, command: Command) -> Result<(Vec<TestBinary>, Vec<PathBuf>)> {
        let mut tests = Vec::new();
        let mut programs = Vec::new();
        for artifact in self.build(command)? {
            if artifact.test {
                tests.push(TestBinary {
                    tests: self.list_tests(&artifact.executable)?,
                    label: artifact.label,
                    executable: artifact.executable,
                    directory: artifact.directory,
                });
            } else {
                programs.push(artifact.executable);
            }
        }
        Ok((tests, programs))
    }

    /// Builds `runner`: the one that `words` are cargo's for, or the one that ships.
    pub(crate) fn runner(&self, words: Option<&[&str]>) -> Result<PathBuf> {
        let mut command;
        match words {
            Some(words) => {
                command = self.cargo_static("build");
                command.args(words);
            }
            None => {
                command = self.cargo();
                command.args(self.compiler.ships);
            }
        }
        self.one_program(command)
    }

    /// Builds this program for the inside of the lab.
    pub(crate) fn agent(&self) -> Result<PathBuf> {
        let mut command = self.cargo_static("build");
        command.args(["--package", env!("CARGO_PKG_NAME")]);
        self.one_program(command)
    }

    /// Builds what compares guests, a benchmark of `tests/bench`.
    pub(crate) fn bench(&self, name: &str) -> Result<PathBuf> {
        let mut command = self.cargo_static("bench");
        command.args(["--no-run", "--package=bench", "--bench", name]);
        self.one_program(command)
    }

    /// Builds what talks in a guest.
    pub(crate) fn peer(&self) -> Result<PathBuf> {
        let mut command = self.cargo_static("build");
        command.args(["--package", "peer", "--bin", "peer"]);
        self.one_program(command)
    }

    fn one_program(&self, command: Command) -> Result<PathBuf> {
        match self.build(command)?.as_slice() {
            [artifact] => Ok(artifact.executable.clone()),
            other => Err(format!("expected one program from the build, got {other:?}")),
        }
    }

    fn cargo_static(&self, subcommand: &str) -> Command {
        let mut command = self.cargo();
        command
            .args([subcommand, "--target", self.compiler.target])
            .arg("--config=build.rustflags=['-Ctarget-feature=+crt-static']")
            // They are packed and copied at each run: a tenth of the size, and panics still say
            // where they come from.
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_PROFILE_DEV_STRIP", "symbols");
        command
    }

    fn build(&self, command: Command) -> Result<Vec<Artifact>> {
        carry_out(&self.workspace, command)
    }

    /// The tests in a binary, as it lists them here on the host.
    fn list_tests(&self, executable: &Path) -> Result<Vec<String>> {
        let mut command = match &self.cross {
            Some((cross, _)) => {
                let mut starter = Command::new(cross.starter.name);
                starter.arg(executable);
                starter
            }
            None => Command::new(executable),
        };
        let text = command::output(command.args(["--list", "--format", "terse"]))?;
        let tests = parse_list(&text);
        let distinct: BTreeSet<_> = tests.iter().collect();
        if distinct.len() != tests.len() {
            return Err(format!("{} lists a test twice", executable.display()));
        }
        Ok(tests)
    }
}

/// Carries out a build; the programs that came of it.
pub(crate) fn carry_out(workspace: &Workspace, mut command: Command) -> Result<Vec<Artifact>> {
    command
        .args(["--message-format=json-render-diagnostics", "--target-dir"])
        .arg(&workspace.target)
        .current_dir(&workspace.root)
        .stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|e| command::cannot_start(&command, &e))?;
    let mut artifacts = Vec::new();
    for line in child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
        let line = line.map_err(|e| format!("cannot read cargo's messages: {e}"))?;
        artifacts.extend(artifact(&line)?);
    }
    let status = child.wait().map_err(|e| format!("cannot wait for cargo: {e}"))?;
    if status.success() {
        Ok(artifacts)
    } else {
        Err(format!("the build for the lab failed: {status}"))
    }
}
