//! cargo's runner for macOS, `sign-and-run`, with a `codesign` of our own.

// clippy knows #[test] functions as tests, and not what they share.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Appends a line to what it signs, and finds it when it is asked what is signed; `fail` makes it fail.
const CODESIGN: &str = r#"
for file; do :; done
echo "$1" >> "${0%/*}/calls"
[ ! -f "${0%/*}/fail" ] || { echo 'no tool' >&2; exit 3; }
case $1 in
    --display) grep '^# com.apple' "$file" ;;
    --sign) [ -f "$5" ] && grep -o com.apple.security.hypervisor "$5" | sed 's/^/# /' >> "$file" ;;
esac
"#;

/// A folder of its own, which looks like cargo's, with programs in it.
struct Target(PathBuf);

impl Target {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        let target = Self(folder);
        fs::create_dir_all(target.0.join("debug/deps")).unwrap();
        fs::create_dir_all(target.0.join("bin")).unwrap();
        target.put("bin/codesign", CODESIGN);
        target.put("debug/runner", "exit 9");
        target.put("debug/deps/vm-1", "echo \"$*\"; exit 7");
        target
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, program: &str) -> Output {
        let path = format!("{}:{}", self.0.join("bin").display(), std::env::var("PATH").unwrap());
        Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("sign-and-run"))
            .arg(self.0.join(program))
            .args(["two words", "--nocapture"])
            .env("PATH", path)
            .output()
            .unwrap()
    }

    fn is_signed(&self, program: &str) -> bool {
        let text = fs::read_to_string(self.0.join(program)).unwrap();
        text.ends_with("# com.apple.security.hypervisor\n")
    }

    fn files(&self) -> usize {
        let count = |folder: &str| fs::read_dir(self.0.join(folder)).unwrap().count();
        count("debug") + count("debug/deps")
    }
}

#[test]
fn a_test_is_signed_once_with_the_program_it_starts_and_keeps_words_and_status() {
    let target = Target::new("once");
    for _ in 0..2 {
        let output = target.run("debug/deps/vm-1");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "two words --nocapture\n");
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        assert!(target.is_signed("debug/deps/vm-1") && target.is_signed("debug/runner"));
    }
    let calls = fs::read_to_string(target.0.join("bin/calls")).unwrap();
    assert_eq!(calls.matches("--sign").count(), 2, "{calls}");
    assert_eq!(target.files(), 3, "something is left over");
}

#[test]
fn what_was_built_anew_is_signed_anew() {
    let target = Target::new("anew");
    target.run("debug/runner");
    assert!(target.is_signed("debug/runner"));
    target.put("debug/runner", "exit 4");
    assert_eq!(target.run("debug/runner").status.code(), Some(4));
    assert!(target.is_signed("debug/runner"));
}

#[test]
fn nothing_runs_unsigned_and_the_reason_is_said() {
    let target = Target::new("fails");
    target.put("bin/fail", "");
    let output = target.run("debug/deps/vm-1");
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no tool") && said.contains("xcode-select --install"), "{said}");
    assert_eq!(target.files(), 3, "something is left over");
}
