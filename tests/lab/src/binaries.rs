//! What cargo says of the programs that it builds, and what a test binary says of its tests.

use crate::command::Result;
use serde::Deserialize;
use std::path::{Path, PathBuf};

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

/// A program that cargo built.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Artifact {
    pub(crate) label: String,
    pub(crate) executable: PathBuf,
    pub(crate) directory: PathBuf,
    pub(crate) test: bool,
}

/// Reads one of cargo's JSON messages (The Cargo Book, External tools).
pub(crate) fn artifact(line: &str) -> Result<Option<Artifact>> {
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

/// The tests of a binary in its own list.
pub(crate) fn parse_list(text: &str) -> Vec<String> {
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
