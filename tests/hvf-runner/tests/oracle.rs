//! The backend for Linux as the oracle of the one for macOS: the same image has the same console, the
//! same end and, vCPU by vCPU, the same exits with the same answers on both. The one for macOS runs
//! over the stand-in for Apple's framework, so this is for an aarch64 Linux with KVM: the lab.

// Clippy knows tests by #[test] and #[cfg(test)], and all of this is one.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use guests::aarch64::kernels;
use tempfile::TempDir;

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    status: Option<i32>,
    console: String,
    /// What runner said.
    stderr: String,
    /// By vCPU.
    exits: Vec<Vec<String>>,
}

/// Why this machine cannot compare, if it cannot.
fn cannot() -> Option<String> {
    if std::env::consts::ARCH != "aarch64" {
        return Some("the stand-in runs guests on an aarch64 KVM".to_owned());
    }
    let opened = fs::File::options().read(true).write(true).open("/dev/kvm");
    opened.err().map(|error| format!("/dev/kvm: {error}"))
}

/// Runs the image with `args` over one of the backends. A disk of a fixed content is `DISK` among them.
fn run(backend: &str, image: Option<&[u8]>, cpus: usize, args: &[&str]) -> Run {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let image = image.map_or(PathBuf::from("hello"), |bytes| file("image", bytes));
    let disk = file("disk", &[0x5a; 4096]).display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_traced-runner"));
    command.env("TRACED_OVER", backend).env("TRACED_INTO", folder.path());
    command.env("HOME", "/nonexistent").env_remove("OPS_HOME");
    command.args(["--jail=off", "--timeout=60s", "--cpus", &cpus.to_string()]);
    command.args(args.iter().map(|word| word.replace("DISK", &disk))).arg(image);
    let output = command.output().unwrap();
    let exits = |id| fs::read_to_string(folder.path().join(format!("vcpu{id}"))).unwrap();
    let here = folder.path().display().to_string();
    Run {
        status: output.status.code(),
        console: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).replace(&here, ""),
        exits: (0..cpus).map(exits).map(|exits| seen(&exits)).collect(),
    }
}

/// The lines of a record. How often a register is polled is the host's speed, and so is what it said
/// meanwhile: of reads of the same register, one behind the other, it is the last that counts.
fn seen(record: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut events = record.lines().peekable();
    while let Some(event) = events.next() {
        if event.starts_with("read ") && lines.last().is_some_and(|last| last.starts_with(event)) {
            lines.pop();
        }
        let answer = events.next_if(|next| next.starts_with("answer "));
        lines.push([event, answer.unwrap_or_default()].join(" "));
    }
    lines
}

/// Runs it over both, compares, and gives what both did.
fn same(image: Option<&[u8]>, cpus: usize, args: &[&str]) -> Run {
    let [native, hvf] = ["native", "hvf"].map(|backend| run(backend, image, cpus, args));
    for (id, (oracle, other)) in native.exits.iter().zip(&hvf.exits).enumerate() {
        let differs = oracle.iter().zip(other).position(|(oracle, other)| oracle != other);
        let at = differs.unwrap_or(oracle.len().min(other.len()));
        assert_eq!(oracle.get(at), other.get(at), "vCPU {id}, exit {at}: {native:#?} {hvf:#?}");
    }
    assert_eq!(native, hvf);
    native
}

macro_rules! or_skip {
    () => {
        if let Some(why) = cannot() {
            println!("skipped: {why}");
            return;
        }
    };
}

#[test]
fn of_reads_of_one_register_the_last_counts_and_of_writes_each() {
    let record = "read 0x10 4\nanswer 0x1\nread 0x10 4\nanswer 0x1\nread 0x10 4\nanswer 0x0\n\
                  read 0x100 4\nanswer 0x0\nwrite 0x8 4 0x1\nwrite 0x8 4 0x1\nread 0x10 4\n";
    let write = "write 0x8 4 0x1 ";
    let expected =
        ["read 0x10 4 answer 0x0", "read 0x100 4 answer 0x0", write, write, "read 0x10 4 "];
    assert_eq!(seen(record), expected);
}

#[test]
fn every_micro_guest_has_the_same_console_end_and_exits() {
    or_skip!();
    for (image, cpus, args, status) in [
        (kernels::EXIT, 1, &["--append", "exit=7"][..], 7),
        (kernels::OFF, 1, &[], 0),
        (kernels::RESET, 1, &[], 0),
        (kernels::SECOND_CPU, 2, &[], 7),
        (kernels::FLOOD, 1, &["--append", "line=20"], 0),
        (kernels::DISK, 1, &["--disk=DISK"], 0),
        (kernels::DISK, 1, &["--disk=DISK,ro"], 32),
        (kernels::DISK_LAST_WRITE, 1, &["--disk=DISK"], 0),
        (kernels::DISK_LOOP, 1, &["--disk=DISK"], 0),
    ] {
        let run = same(Some(image), cpus, args);
        assert_eq!(run.status, Some(status), "{run:#?}");
        assert!(run.exits.iter().any(|exits| !exits.is_empty()), "{run:#?}");
    }
}

/// What the console's data register and its line say.
const WRITTEN: &str = "write 0x9000000 ";

/// Without the line that names the hypervisor, which the guest asks of it, and its exits.
fn unnamed(mut run: Run) -> Run {
    const LINE: &str = "accelerator: ";
    let lines = run.console.lines().filter(|line| !line.starts_with(LINE));
    run.console = lines.collect::<Vec<_>>().join("\n");
    let mut text = String::new();
    run.exits[0].retain(|exit| {
        if let Some(byte) = exit.strip_prefix(WRITTEN) {
            let (_, value) = byte.trim().split_once(" 0x").unwrap();
            let byte = char::from(u8::from_str_radix(value, 16).unwrap());
            if byte == '\n' { text.clear() } else { text.push(byte) }
        }
        !text.starts_with(LINE)
    });
    run
}

#[test]
fn hello_on_one_and_four_processors_differs_in_the_hypervisors_name_alone() {
    or_skip!();
    for cpus in [1, 4] {
        let [native, hvf] = ["native", "hvf"].map(|backend| run(backend, None, cpus, &[]));
        assert_ne!(native.console, hvf.console);
        assert!(native.exits[0].iter().any(|exit| exit.starts_with(WRITTEN)), "{native:#?}");
        let [native, hvf] = [native, hvf].map(unnamed);
        assert!(native.console.ends_with(&format!("cpus: {cpus}")), "{native:#?}");
        assert_eq!(native, hvf);
    }
}
