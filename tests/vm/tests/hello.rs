//! The built-in guest, and the command lines that users of OPS know.

use super::support::files::{Folder, kernel};
use super::support::host::{accelerator, hypervisor};
use super::support::or_skip;
use super::support::program::runner;

/// What the built-in guest says of its machine.
fn greeting(memory: &str, cpus: &str) -> String {
    let accelerator = hypervisor();
    format!(
        "Hello from a unikernel!\naccelerator: {accelerator}\nmemory: {memory} MiB\ncpus: {cpus}\n"
    )
}

#[test]
fn hello_greets_and_says_what_machine_it_sees() {
    or_skip!(accelerator());
    let finished = runner(["hello"]).ends_with(0);
    assert_eq!(finished.quiet_text(), greeting("2048", "1"));
}

#[test]
fn memory_and_cpus_are_as_many_as_asked_for() {
    or_skip!(accelerator());
    let finished = runner(["-m", "64", "--cpus", "2", "hello"]).ends_with(0);
    assert_eq!(finished.quiet_text(), greeting("64", "2"));
    let finished = runner(["--memory=1G", "--smp", "4", "hello"]).ends_with(0);
    assert_eq!(finished.quiet_text(), greeting("1024", "4"));
}

#[test]
fn run_load_and_no_command_do_the_same() {
    or_skip!(accelerator());
    for args in [&["run", "hello"][..], &["load", "hello"], &["-i", "hello"]] {
        assert_eq!(runner(args).ends_with(0).quiet_text(), greeting("2048", "1"), "{args:?}");
    }
}

#[test]
fn options_may_follow_the_image() {
    or_skip!(accelerator());
    let finished = runner(["hello", "-m", "64", "--accel=kvm", "--cpus=1"]).ends_with(0);
    assert_eq!(finished.quiet_text(), greeting("64", "1"));
}

#[test]
fn the_lines_of_the_ops_documentation_boot() {
    or_skip!(accelerator());
    let folder = Folder::new();
    folder.file("config.json", r#"{"RunConfig": {"Memory": "128M"}}"#);
    let finished = runner(["run", "-v", "hello", "-c", "config.json"]).within(folder.path()).run();
    assert_eq!((finished.status, finished.text()), (Some(0), &*greeting("128", "1")));
    for line in ["run --accel hello", "run -x hello", "load -x hello", "load --accel hello"] {
        assert_eq!(runner(line.split(' ')).ends_with(0).quiet_text(), greeting("2048", "1"));
    }
}

#[test]
fn a_config_may_come_before_the_image_and_the_command_line_wins_over_it() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let config = r#"{"RunConfig": {"Memory": "128M", "CPUs": 3, "ImageName": "hello"}}"#;
    folder.file("config.json", config);
    let output = |line: &str| {
        let finished = runner(line.split(' ')).within(folder.path()).ends_with(0);
        finished.quiet_text().to_owned()
    };
    assert_eq!(output("--config config.json hello"), greeting("128", "3"));
    assert_eq!(output("-c config.json"), greeting("128", "3"));
    assert_eq!(output("-c config.json -m 96 hello"), greeting("96", "3"));
}

#[test]
fn verbose_begins_with_the_accelerator_and_describes_the_machine() {
    or_skip!(accelerator());
    let finished = runner(["-v", "hello"]).ends_with(0);
    assert_eq!(finished.text(), greeting("2048", "1"));
    let mut lines = finished.stderr.lines();
    let first = lines.next().unwrap_or_default();
    assert!(first.starts_with("accelerator: kvm (/dev/kvm, API 12, "), "{finished}");
    let console = if cfg!(target_arch = "aarch64") { "device: pl011" } else { "device: com1" };
    for wanted in ["image: hello (built in)", "entry: 0x", "cpus: 1", "memory: 0x", console] {
        assert!(lines.clone().any(|line| line.starts_with(wanted)), "{wanted}: {finished}");
    }
}

#[test]
fn as_a_cargo_runner_the_first_word_is_the_image_and_the_rest_is_the_guests() {
    or_skip!(accelerator());
    assert_eq!(runner(["--", "hello"]).ends_with(0).quiet_text(), greeting("2048", "1"));
    let kernel = kernel("exit").display().to_string();
    runner(["-m", "32", "--", &kernel, "--nocapture", "-x", "exit=7"]).ends_with(7);
}

#[test]
fn help_and_version_go_to_stdout() {
    let help = runner(["--help"]).ends_with(0);
    assert!(help.quiet_text().contains("Usage: runner [OPTIONS] IMAGE [-- ARGS...]"), "{help}");
    let version = runner(["--version"]).ends_with(0);
    assert_eq!(version.quiet_text(), format!("runner {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for command in [&["--help"][..], &["--version"], &["inspect", "hello"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(runner(command).stdout(writer).ends_with(0).stderr, "");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let doctor = runner(["doctor"]).stdout(writer).run();
    // Its verdict is its status.
    assert!(matches!(doctor.status, Some(0 | 1)) && doctor.stderr.is_empty(), "{doctor}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_behind_stdout_is_an_error_and_no_panic() {
    for command in [&["--help"][..], &["--version"], &["inspect", "hello"], &["doctor"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let why = runner(command).stdout(full).refused();
        assert!(why.contains("No space left on device"), "{why}");
    }
}
