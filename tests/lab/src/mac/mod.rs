//! `lab mac`: for the first person with a Mac. Builds, signs, asks `doctor`, runs guests, the conformance
//! suite and the whole-VM tests over Apple's framework, settles what it can of `hv-hvf/ASSUMPTIONS.md`, and
//! writes a report. It needs Rust, and Apple's command line tools, and no lab.
//!
//! Whatever fails or hangs, the rest goes on: the report is for those who have no Mac.

mod assumptions;
mod report;
mod step;

use crate::binaries::parse_list;
use crate::builder::carry_out;
use crate::command::{self, Result};
use crate::workspace::{Workspace, cargo};
use report::Report;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use step::{Done, Step};

const BUILD: Duration = Duration::from_secs(30 * 60);
const SUITE: Duration = Duration::from_secs(20 * 60);
/// What takes milliseconds when it works.
const GUEST: Duration = Duration::from_secs(60);

/// Does all of it and writes the report to `file`. `stand_in`: what can be done without a Mac.
pub(crate) fn run(stand_in: bool, file: Option<PathBuf>) -> Result<()> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    require_a_mac(stand_in, os, arch)?;
    let workspace = Workspace::find()?;
    let text = read(&workspace.root.join("hv-hvf/ASSUMPTIONS.md"))?;
    let assumptions = assumptions::parse(&text)?;
    let mut steps = Vec::new();
    for step in if stand_in { over_the_stand_in(&workspace) } else { on_a_mac(&workspace) } {
        steps.push(show(step));
    }
    let tests = match programs(&workspace) {
        Ok(Tests { program, names }) => {
            let (signer, folder) = (signer(&workspace, stand_in), workspace.root.join("hv-hvf"));
            let each = |name| show(test(signer.as_deref(), &folder, &program, name));
            let mut tests: Vec<Done> = names.into_iter().map(each).collect();
            if !stand_in {
                tests.extend(without_entitlement(&folder, &program));
            }
            tests
        }
        Err(why) => {
            println!("lab: the assumptions' tests are not there: {why}");
            Vec::new()
        }
    };
    let machine = machine(os, arch);
    let (steps, tests, assumptions) = (&steps[..], &tests[..], &assumptions[..]);
    let report = Report { machine: &machine, stand_in, steps, tests, assumptions };
    let file = file.unwrap_or_else(|| workspace.target.with_file_name("mac-report.md"));
    fs::write(&file, report.markdown())
        .map_err(|e| format!("cannot write to {}: {e}", file.display()))?;
    let [confirmed, refuted, open] = report.count();
    println!("lab: assumptions: {confirmed} confirmed, {refuted} refuted, {open} open");
    let what_for =
        if stand_in { "it shows nothing of Apple's framework" } else { "please send it" };
    println!("lab: everything is in {}: {what_for}", file.display());
    match report.is_good() && !tests.is_empty() {
        true => Ok(()),
        false => Err("not all went well: the report says what".to_owned()),
    }
}

fn require_a_mac(stand_in: bool, os: &str, arch: &str) -> Result<()> {
    match (stand_in, os, arch) {
        (true, ..) | (false, "macos", "aarch64") => Ok(()),
        (false, "macos", _) => Err(format!(
            "this is a program for {arch}: on a Mac with Apple silicon build it for aarch64 (`rustup default \
             stable-aarch64-apple-darwin`); an Intel Mac has no accelerator for runner"
        )),
        _ => Err(format!(
            "this is {os} on {arch}, and a Mac with Apple silicon is wanted; `--stand-in` tries out what it can"
        )),
    }
}

/// Shows a step while it is run.
fn show(step: Step) -> Done {
    println!("lab: {} ...", step.name);
    let done = step::run(step);
    println!("lab: {}: {} ({:.1} s)", done.name, done.outcome(), done.took.as_secs_f32());
    done
}

/// The steps on a Mac, in their order.
fn on_a_mac(workspace: &Workspace) -> Vec<Step> {
    let runner = workspace.target.with_file_name("release/runner");
    let runner = |words: &[&str]| {
        let mut command = Command::new(&runner);
        command.args(words);
        command
    };
    vec![
        step("build", BUILD, cargo_in(workspace, &["build", "--release", "--package=runner"])),
        step("doctor without the entitlement", GUEST, denied(&workspace.target)),
        step("doctor --sign", GUEST, runner(&["doctor", "--sign"])),
        step("hello", GUEST, runner(&["-v", "--accel=hvf", "hello"])),
        step(
            "hello in the jail, assumption_29",
            GUEST,
            runner(&["-v", "--accel=hvf", "--jail=strict", "hello"]),
        ),
        step("hello without a jail", GUEST, runner(&["--accel=hvf", "--jail=off", "hello"])),
        step("hello, four CPUs", GUEST, runner(&["-v", "--accel=hvf", "--cpus=4", "hello"])),
        step("conformance", SUITE, tests_in(workspace, &["--package=hv-hvf", "--test=framework"])),
        step("hv-hvf over the stand-in", SUITE, tests_in(workspace, &["--package=hv-hvf"])),
        step("unit tests of runner", SUITE, tests_in(workspace, &["--package=runner", "--lib"])),
        step("whole VMs", SUITE, tests_in(workspace, &["--package=runner", "--test=vm"])),
    ]
}

/// What any machine can do of it.
fn over_the_stand_in(workspace: &Workspace) -> Vec<Step> {
    let suite = ["--package=hv-hvf", "--test=conformance"];
    vec![step("conformance", SUITE, tests_in(workspace, &suite))]
}

/// A program that is signed for nothing has to be told HV_DENIED. It is a copy: a second run finds the program
/// signed already.
const DENIED: &str = r#"
cp "$0" "$0.plain" && codesign --sign - --force "$0.plain" || exit 2
"$0.plain" doctor | tee /dev/stderr | grep -q HV_DENIED
status=$?
rm -f "$0.plain"
exit $status
"#;

fn denied(target: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", DENIED]).arg(target.with_file_name("release/runner"));
    command
}

fn step(name: &str, deadline: Duration, command: Command) -> Step {
    Step { name: name.to_owned(), command, deadline }
}

fn cargo_in(workspace: &Workspace, words: &[&str]) -> Command {
    let mut command = cargo();
    command.args(words).current_dir(&workspace.root);
    command
}

fn tests_in(workspace: &Workspace, words: &[&str]) -> Command {
    let mut command = cargo_in(workspace, &["test", "--no-fail-fast"]);
    command.args(words);
    command
}

/// The tests that settle assumptions: their program, and their names.
struct Tests {
    program: PathBuf,
    names: Vec<String>,
}

fn programs(workspace: &Workspace) -> Result<Tests> {
    let mut build = cargo();
    build.args(["test", "--no-run", "--package=hv-hvf", "--test=mac"]);
    let program = carry_out(workspace, build)?.pop().ok_or("cargo built none")?.executable;
    let list = command::output(Command::new(&program).args(["--list", "--format", "terse"]))?;
    Ok(Tests { names: parse_list(&list), program })
}

/// What signs a program and runs it.
fn signer(workspace: &Workspace, stand_in: bool) -> Option<PathBuf> {
    (!stand_in).then(|| workspace.root.join("hv-hvf/sign-and-run"))
}

/// One test, in a process of its own: a VM is the process's, and a hang is the test's.
fn test(signer: Option<&Path>, folder: &Path, program: &Path, name: String) -> Step {
    let mut command = Command::new(signer.unwrap_or(program));
    if signer.is_some() {
        command.arg(program);
    }
    command.args(["--exact", &name, "--nocapture"]).current_dir(folder);
    Step { name, command, deadline: GUEST }
}

/// The one that wants a program without the entitlement: signed, since macOS runs nothing else, for
/// nothing.
fn without_entitlement(folder: &Path, program: &Path) -> Vec<Done> {
    let copy = program.with_extension("plain");
    if let Err(error) = fs::copy(program, &copy) {
        println!("lab: {}: {error}", copy.display());
        return Vec::new();
    }
    let mut sign = Command::new("codesign");
    sign.args(["--sign", "-", "--force"]).arg(&copy);
    let name = "calls::assumption_14_a_missing_entitlement_shows_when_the_vm_is_made";
    let test = test(None, folder, &copy, name.to_owned());
    let done = [step("sign a program for nothing", GUEST, sign), test].map(show);
    // It is of no more use, and in nobody's way.
    let _ = fs::remove_file(copy);
    done.into()
}

/// What this machine is.
fn machine(os: &str, arch: &str) -> Vec<String> {
    let ask = |program: &str, words: &[&str]| {
        command::output(Command::new(program).args(words))
            .map(|said| said.trim().replace('\n', ", "))
    };
    let mut lines = vec![format!("{os} on {arch}")];
    for (what, program, words) in [
        ("macOS", "sw_vers", &["-productVersion"][..]),
        ("chip", "sysctl", &["-n", "machdep.cpu.brand_string"]),
        ("kern.hv_support", "sysctl", &["-n", "kern.hv_support"]),
        ("kern.hv_vmm_present", "sysctl", &["-n", "kern.hv_vmm_present"]),
        ("memory", "sysctl", &["-n", "hw.memsize"]),
        ("Rust", "rustc", &["--version"]),
        ("commit", "git", &["describe", "--always", "--dirty"]),
    ] {
        // What a system does not tell is no line.
        lines.extend(ask(program, words).ok().map(|said| format!("{what}: {said}")));
    }
    lines
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).map_err(|e| format!("cannot read {}: {e}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_machine_is_told_what_is_wanted() {
        assert_eq!(require_a_mac(false, "macos", "aarch64"), Ok(()));
        assert_eq!(require_a_mac(true, "linux", "x86_64"), Ok(()));
        let intel = require_a_mac(false, "macos", "x86_64").unwrap_err();
        assert!(intel.contains("x86_64") && intel.contains("aarch64"), "{intel}");
        assert!(require_a_mac(false, "linux", "x86_64").unwrap_err().contains("--stand-in"));
    }

    #[test]
    fn a_program_without_the_entitlement_is_denied_or_the_step_fails() {
        let folder = std::env::temp_dir().join(format!("lab-mac-{}", std::process::id()));
        let put = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(path, mode).unwrap();
        };
        put("bin/codesign", "exit 0");
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", folder.join("bin").display());
        for (said, passes) in [("fail  HV_DENIED", true), ("ok", false)] {
            put("target/release/runner", &format!("echo '{said}'"));
            let mut command = denied(&folder.join("target/lab"));
            command.env("PATH", &path);
            let done = step::run(step("denied", GUEST, command));
            assert_eq!(done.passed(), passes, "{done:?}");
            assert!(done.said.contains(said), "{done:?}");
            let left = fs::read_dir(folder.join("target/release")).unwrap().count();
            assert_eq!(left, 1, "a copy is left");
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_test_runs_alone_and_signed_where_that_is_asked_for() {
        let words = |signer: Option<&Path>| {
            let step = test(signer, Path::new("/w"), Path::new("/t/mac"), "a::b".to_owned());
            let words = std::iter::once(step.command.get_program()).chain(step.command.get_args());
            words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words(None), "/t/mac --exact a::b --nocapture");
        let signed = "/w/sign-and-run /t/mac --exact a::b --nocapture";
        assert_eq!(words(Some(Path::new("/w/sign-and-run"))), signed);
    }
}
