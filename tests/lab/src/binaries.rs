//! What goes into the lab: test binaries, the shipped `runner` and the lab itself, all linked
//! statically, because the lab has no libraries.

use crate::command::{self, Result};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The one target of the x86_64 lab.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A libtest program and the tests in it.
#[derive(Debug)]
pub(crate) struct TestBinary {
    /// `package` for unit tests of its library, otherwise `package/target`.
    pub(crate) label: String,
    pub(crate) executable: PathBuf,
    /// The package's folder, in which cargo would run it.
    pub(crate) directory: PathBuf,
    pub(crate) tests: Vec<String>,
}

/// Where sources are and where binaries go.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// The lab's own part of the target folder: its flags differ from a usual build's.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// The workspace this program was built from.
    pub(crate) fn find() -> Result<Self> {
        #[derive(Deserialize)]
        struct Metadata {
            workspace_root: PathBuf,
            target_directory: PathBuf,
        }
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let json = command::output(
            cargo()
                .args(["metadata", "--no-deps", "--format-version=1", "--manifest-path"])
                .arg(manifest),
        )?;
        let metadata: Metadata = serde_json::from_str(&json)
            .map_err(|e| format!("unexpected answer from `cargo metadata`: {e}"))?;
        Ok(Self { root: metadata.workspace_root, target: metadata.target_directory.join("lab") })
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
                    tests: list_tests(&artifact.executable)?,
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

    /// Builds `runner` as it ships, with the command that the README gives.
    pub(crate) fn shipped_runner(&self) -> Result<PathBuf> {
        let mut command = cargo();
        command.arg("static");
        self.one_program(command)
    }

    /// Builds this program for the inside of the lab.
    pub(crate) fn agent(&self) -> Result<PathBuf> {
        let mut command = self.cargo_static("build");
        command.args(["--package", env!("CARGO_PKG_NAME")]);
        self.one_program(command)
    }

    /// Builds what compares networks.
    pub(crate) fn net_bench(&self) -> Result<PathBuf> {
        let mut command = self.cargo_static("bench");
        command.args(["--no-run", "--package=bench", "--bench=net"]);
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
        let mut command = cargo();
        command
            .args([subcommand, "--target", TARGET])
            .arg("--config=build.rustflags=['-Ctarget-feature=+crt-static']")
            // They are packed and copied at each run: a tenth of the size, and panics still say
            // where they come from.
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_PROFILE_DEV_STRIP", "symbols");
        command
    }

    /// Carries out a build; the programs that came of it.
    pub(crate) fn build(&self, mut command: Command) -> Result<Vec<Artifact>> {
        command
            .args(["--message-format=json-render-diagnostics", "--target-dir"])
            .arg(&self.target)
            .current_dir(&self.root)
            .stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| command::cannot_start(&command, &e))?;
        let mut artifacts = Vec::new();
        for line in
            child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines())
        {
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
}

/// cargo as it was before `cargo run` set variables for us that change what it builds.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // These would replace the flags given with --config.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

/// A program that cargo built.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Artifact {
    pub(crate) label: String,
    pub(crate) executable: PathBuf,
    directory: PathBuf,
    test: bool,
}

/// Reads one of cargo's JSON messages (The Cargo Book, External tools).
fn artifact(line: &str) -> Result<Option<Artifact>> {
    #[derive(Deserialize)]
    struct Message {
        reason: String,
        package_id: Option<String>,
        manifest_path: Option<PathBuf>,
        executable: Option<PathBuf>,
        target: Option<Target>,
        profile: Option<Profile>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
    }
    #[derive(Deserialize)]
    struct Profile {
        test: bool,
    }
    let message: Message = serde_json::from_str(line)
        .map_err(|e| format!("unexpected message from cargo: {e}: {line}"))?;
    let (
        "compiler-artifact",
        Some(package_id),
        Some(manifest),
        Some(executable),
        Some(target),
        Some(profile),
    ) = (
        message.reason.as_str(),
        message.package_id,
        message.manifest_path,
        message.executable,
        message.target,
        message.profile,
    )
    else {
        return Ok(None);
    };
    let package = package_name(&package_id);
    let label = match target.kind.first().map(String::as_str) {
        Some("test") => format!("{package}/{}", target.name),
        Some(kind @ ("bin" | "example" | "bench")) => format!("{package}/{kind}/{}", target.name),
        _ => package.to_owned(),
    };
    let directory = manifest.parent().unwrap_or(Path::new("/")).to_owned();
    Ok(Some(Artifact { label, executable, directory, test: profile.test }))
}

/// The name in a package id, which is left out where it is the folder's (Package ID
/// Specifications): `path+file:///ws/hv#0.1.0`, `path+file:///ws/tests/vm#vm-tests@0.1.0`.
fn package_name(id: &str) -> &str {
    let (url, fragment) = id.rsplit_once('#').unwrap_or((id, ""));
    match fragment.split_once('@') {
        Some((name, _)) => name,
        None => url.rsplit('/').next().unwrap_or(url),
    }
}

/// The tests in a binary, as it lists them here on the host.
fn list_tests(executable: &Path) -> Result<Vec<String>> {
    let text = command::output(Command::new(executable).args(["--list", "--format", "terse"]))?;
    let tests = parse_list(&text);
    let distinct: BTreeSet<_> = tests.iter().collect();
    if distinct.len() != tests.len() {
        return Err(format!("{} lists a test twice", executable.display()));
    }
    Ok(tests)
}

fn parse_list(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_about_a_test_binary_gives_its_label_and_folder() {
        let line = r#"{"reason":"compiler-artifact","package_id":"path+file:///ws/hv-kvm#0.1.0",
            "manifest_path":"/ws/hv-kvm/Cargo.toml","target":{"kind":["test"],"name":"conformance"},
            "profile":{"test":true},"executable":"/t/conformance-1"}"#;
        let expected = Artifact {
            label: "hv-kvm/conformance".to_owned(),
            executable: "/t/conformance-1".into(),
            directory: "/ws/hv-kvm".into(),
            test: true,
        };
        assert_eq!(artifact(line).unwrap(), Some(expected));
    }

    #[test]
    fn a_library_and_a_program_of_one_name_have_two_labels() {
        let label = |kind: &str| {
            let line = format!(
                r#"{{"reason":"compiler-artifact","package_id":"path+file:///ws/runner#0.1.0",
                "manifest_path":"/ws/runner/Cargo.toml","target":{{"kind":["{kind}"],"name":"runner"}},
                "profile":{{"test":true}},"executable":"/t/runner-1"}}"#
            );
            artifact(&line).unwrap().unwrap().label
        };
        assert_eq!(label("lib"), "runner");
        assert_eq!(label("bin"), "runner/bin/runner");
    }

    #[test]
    fn other_messages_are_passed_over() {
        assert_eq!(artifact(r#"{"reason":"build-finished","success":true}"#).unwrap(), None);
        assert!(artifact("not json").unwrap_err().contains("not json"));
    }

    #[test]
    fn a_package_id_names_the_package() {
        assert_eq!(package_name("path+file:///ws/hv#0.1.0"), "hv");
        assert_eq!(package_name("path+file:///ws/tests/vm#vm-tests@0.1.0"), "vm-tests");
    }

    #[test]
    fn a_list_holds_tests_and_not_benchmarks() {
        assert_eq!(parse_list("a::b: test\nc: benchmark\n\n"), ["a::b"]);
    }
}
