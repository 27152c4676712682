//! Hosts that lack something: the accelerator, the right to use it, descriptors, memory.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use serde_json::Value;

use super::support::files::{Folder, kernel};
use super::support::host::accelerator;
use super::support::or_skip;
use super::support::program::{Runner, runner, says};

/// Starts `run` where `mount` has changed the file systems, which nobody else sees.
fn behind(mount: &str, run: Runner) -> Result<Runner, String> {
    let flags = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let tried = Command::new("unshare").args([flags, "sh", "-c", mount]).output();
    match tried {
        Ok(output) if output.status.success() => {}
        Ok(output) => return Err(format!("unshare: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => return Err(format!("unshare: {error}")),
    }
    let script = format!("{mount} && exec \"$@\"");
    Ok(run.by(["unshare", flags, "sh", "-c", &script, "sh"]))
}

/// Keeps `run`, which an ordinary user starts, from /dev/kvm.
fn denied(run: Runner) -> Result<Runner, String> {
    let device = std::fs::metadata("/dev/kvm").map_err(|error| format!("/dev/kvm: {error}"))?;
    if !rustix::process::geteuid().is_root() {
        // The console is root's, who is nobody in a namespace that only has this user.
        return behind("mount --bind /dev/console /dev/kvm", run);
    }
    match device.mode() & 0o006 {
        0 => Ok(run),
        _ => Err("everybody may open /dev/kvm here".to_owned()),
    }
}

/// `run` with no QEMU in its `PATH`.
fn without_qemu(run: Runner) -> Runner {
    run.by(["sh", "-c", "PATH=/nonexistent; export PATH; exec \"$@\"", "sh"])
}

/// The package with software emulation, as Debian calls it.
const EMULATION: &str = match cfg!(target_arch = "x86_64") {
    true => "qemu-system-x86",
    false => "qemu-system-arm",
};

const NO_DEV: &str = "mount -t tmpfs none /dev";

#[test]
fn a_missing_dev_kvm_is_named_with_the_package_that_does_without() {
    let why = or_skip!(behind(NO_DEV, without_qemu(runner(["hello"])))).refused();
    says(&why, &["/dev/kvm", EMULATION, "runner doctor"]);
    let why = or_skip!(behind(NO_DEV, runner(["--accel=kvm", "hello"]))).refused();
    says(&why, &["/dev/kvm", "runner doctor"]);
}

#[test]
fn doctor_fails_where_dev_kvm_is_missing() {
    let finished = or_skip!(behind(NO_DEV, runner(["doctor"]))).run();
    assert!(finished.status != Some(0) && finished.quiet_text().contains("fail"), "{finished}");
    assert!(finished.text().contains("/dev/kvm"), "{finished}");
}

#[test]
fn a_user_who_may_not_open_dev_kvm_is_told_the_command_that_helps() {
    let folder = Folder::new();
    let hello = runner(["hello"]).by_ordinary_user(&folder);
    let why = or_skip!(denied(without_qemu(hello))).refused();
    says(&why, &["/dev/kvm", EMULATION, "runner doctor"]);
    let hello = runner(["--accel=kvm", "hello"]).by_ordinary_user(&folder);
    let why = or_skip!(denied(hello)).refused();
    says(&why, &["--accel=kvm", "/dev/kvm", "sudo ", "runner doctor"]);
}

#[test]
fn a_mistake_is_answered_alone_on_a_host_without_kvm() {
    let folder = Folder::new();
    let image = folder.file("text", "no image");
    let why = or_skip!(denied(runner([image]).by_ordinary_user(&folder))).refused();
    says(&why, &["its format is unknown"]);
}

#[test]
fn doctor_answers_programs_with_the_same_verdict() {
    let finished = runner(["doctor", "--json"]).run();
    let answer: Value = serde_json::from_str(finished.quiet_text()).unwrap();
    assert_eq!(answer["usable"] == true, finished.status == Some(0), "{finished}");
    let checks = answer["checks"].as_array().unwrap();
    let failed = checks.iter().any(|check| check["verdict"] == "fail");
    assert_eq!(failed, answer["usable"] == false, "{finished}");
    let text = runner(["doctor"]).run();
    assert_eq!(text.status, finished.status, "{text}");
}

#[test]
fn a_host_that_runs_guests_is_usable_to_doctor() {
    or_skip!(accelerator());
    runner(["hello", "--accel=kvm"]).ends_with(0);
    runner(["doctor"]).ends_with(0);
}

#[test]
fn a_limit_on_descriptors_is_an_error_with_what_to_do_or_does_not_matter() {
    or_skip!(accelerator());
    for (network, most) in [("none", 40), ("user", 60)] {
        let mut refused = 0;
        for limit in 4..most {
            let script = format!("ulimit -n {limit}; exec \"$@\"");
            let run = runner(["--accel=auto", "-m", "32", "--net", network]).arg(kernel("reset"));
            let finished = run.by(["sh", "-c", &script, "sh"]).run();
            // It takes as many to do without an accelerator, which nobody has asked for.
            assert!(!finished.stderr.contains("emulation"), "{limit}: {finished}");
            match finished.status {
                Some(0) => assert_eq!(finished.text_of_reset(), "running\n"),
                Some(125) => {
                    refused += 1;
                    assert_eq!(finished.stderr.lines().count(), 1, "{limit}: {finished}");
                    says(&finished.stderr, &["os error 24"]);
                }
                _ => panic!("{limit}: {finished}"),
            }
        }
        let few = most - 8;
        assert!((2..few).contains(&refused), "{network}: {refused} limits were too low");
    }
}

#[test]
fn a_limit_on_address_space_is_an_error_that_says_how_much_was_wanted() {
    or_skip!(accelerator());
    let script = "ulimit -v 1000000; exec \"$@\"";
    let why = runner(["-m", "2G", "hello"]).by(["sh", "-c", script, "sh"]).refused();
    says(&why, &["2147483648 bytes", "ask for less"]);
}
