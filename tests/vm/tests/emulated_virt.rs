//! Arm64 guests without an accelerator, in an installed QEMU, on a host of any architecture: the same
//! guests as on an accelerator, the same ends.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::support::files::{Folder, checkout, kernel_for};
use super::support::or_skip;
use super::support::program::{Finished, Runner, runner};

const QEMU: &str = "qemu-system-aarch64";

/// What every run here says first.
const NOTICE: &str = "runner: --accel=off: running in software emulation (qemu-system-aarch64 ";

fn qemu() -> Result<(), String> {
    let found = Command::new(QEMU).arg("--version").stdout(Stdio::null()).status();
    found.map(|_| ()).map_err(|error| format!("{QEMU}: {error}"))
}

fn emulated(guest: &str) -> Runner {
    runner(["--accel=off", "-m", "32"]).arg(kernel_for("aarch64", guest))
}

/// What a run said beside the one line that it is emulated.
fn said(finished: &Finished) -> &str {
    let (first, rest) = finished.stderr.split_once('\n').unwrap();
    assert!(first.starts_with(NOTICE), "{finished}");
    rest
}

fn report(folder: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(folder.join("r.json")).unwrap()).unwrap()
}

#[test]
fn hello_greets_from_an_emulated_virt_and_finds_its_processors() {
    or_skip!(qemu());
    let finished = runner(["--accel=off", "-m", "64", "--cpus", "3"]);
    let finished = finished.arg(kernel_for("aarch64", "hello")).ends_with(0);
    let greeting = "Hello from a unikernel!\naccelerator: none (QEMU's software emulation)\n\
                    memory: 64 MiB\ncpus: 3\n";
    assert_eq!((finished.text(), said(&finished)), (greeting, ""));
}

#[test]
fn the_status_of_an_emulated_arm64_guest_is_the_processs_and_called_the_guests() {
    or_skip!(qemu());
    let folder = Folder::new();
    for (exit, status) in [("0", 0), ("1", 1), ("7", 7), ("125", 125), ("255", 255), ("263", 7)] {
        let guest = emulated("exit").arg(format!("--append=exit={exit}")).arg("--report=r.json");
        let finished = guest.within(folder.path()).ends_with(status);
        assert_eq!(said(&finished), "");
        let report = report(folder.path());
        assert_eq!((&report["status"], &report["raw"]), (&status.into(), &status.into()));
        assert_eq!((&report["status_of"], &report["reason"]), (&"guest".into(), &"exit".into()));
    }
}

#[test]
fn an_emulated_end_that_carries_no_status_is_called_unknown() {
    or_skip!(qemu());
    let folder = Folder::new();
    for (guest, reason, how) in
        [("off", "shutdown", "switched itself off"), ("reset", "reset", "reset itself")]
    {
        let finished = emulated(guest).arg("--report=r.json").within(folder.path()).ends_with(0);
        assert_eq!(finished.text(), "running\n");
        let sentence =
            format!("the guest {how}, which carries no status: 0 says no more than that");
        assert_eq!(said(&finished), format!("runner: {sentence}\n"));
        let report = report(folder.path());
        assert_eq!((&report["status_of"], &report["reason"]), (&"unknown".into(), &reason.into()));
    }
}

#[test]
fn an_emulated_second_processor_is_started_by_psci() {
    or_skip!(qemu());
    emulated("second_cpu").arg("--cpus=2").ends_with(7);
}

#[test]
fn the_time_ends_an_emulated_arm64_guest_that_spins_or_halts() {
    or_skip!(qemu());
    for guest in ["spin", "halt"] {
        let finished = emulated(guest).arg("--timeout=2s").ends_with(124);
        assert_eq!(finished.text(), "running\n");
        assert_eq!(said(&finished), "runner: the time given with --timeout is over\n");
    }
}

#[test]
fn an_emulated_arm64_guest_gets_its_input() {
    or_skip!(qemu());
    // QEMU's PL011 drops what it has when the guest switches the FIFOs on: one byte, if one is there by then.
    let echoed = emulated("echo").input(b"\nto the guest\x04not this".as_slice()).ends_with(0);
    assert_eq!(echoed.text().trim_start(), "to the guest");
}

#[test]
fn an_emulated_arm64_guest_writes_its_disk_unless_it_is_read_only_or_ephemeral() {
    or_skip!(qemu());
    let folder = Folder::new();
    let path = folder.file("d.img", [0x5a; 4096]);
    let with = |mode: &str| emulated("disk").arg(format!("--disk={}{mode}", path.display()));
    assert_eq!(said(&with(",ro").ends_with(32)), "");
    assert_eq!(said(&with("").arg("--ephemeral").ends_with(0)), "");
    assert_eq!(fs::read(&path).unwrap(), [0x5a; 4096]);
    assert_eq!(said(&with("").ends_with(0)), "");
    let mut written = [0x5a; 4096];
    written[512..1024].copy_from_slice(&b"runner!\n".repeat(64));
    assert_eq!(fs::read(&path).unwrap(), written);
}

#[test]
fn semihosting_gives_an_emulated_guest_its_status_and_no_file_of_the_hosts() {
    or_skip!(qemu());
    for jail in ["on", "off"] {
        let folder = Folder::new();
        folder.file("kept", "as it was");
        let guest = emulated("semihosting").arg(format!("--jail={jail}"));
        let finished = guest.within(folder.path()).ends_with(7);
        assert_eq!((finished.text(), said(&finished)), ("running\nasked\n", ""));
        assert_eq!(fs::read(folder.path().join("kept")).unwrap(), b"as it was");
        assert!(!folder.path().join("made").exists(), "--jail={jail}: the guest made a file");
    }
}

#[test]
fn images_that_want_to_stand_close_to_the_beginning_of_ram_do_so_in_software_emulation() {
    or_skip!(qemu());
    for (guest, words, text) in [
        ("unikraft", "a -- b", "unikraft.bin a -- b\n"),
        ("osv", "/hello.so a", "/hello.so a\n"),
        ("osv", "", "/built-in.so\n"),
    ] {
        let file = checkout().join(format!("tests/guests/aarch64/systems/{guest}.bin"));
        let runner = runner(["--accel=off", "-m", "32", "--append", words]).arg(file);
        assert_eq!(runner.ends_with(0).text(), text);
    }
}

#[test]
fn more_than_qemus_virt_has_room_for_is_refused() {
    or_skip!(qemu());
    let refused = |args: [&str; 2]| {
        runner(["--accel=off"].into_iter().chain(args)).arg(kernel_for("aarch64", "hello")).run()
    };
    let finished = refused(["-m", "3073"]);
    assert_eq!(finished.status, Some(125));
    assert_eq!(
        said(&finished),
        "runner: 3073 MiB, where QEMU's virt has room for 3072: ask for less (-m)\n"
    );
    let finished = refused(["--cpus", "124"]);
    assert_eq!(
        said(&finished),
        "runner: 124 CPUs, where QEMU's virt allows 123: ask for fewer (--cpus)\n"
    );
}

#[test]
fn an_image_for_another_architecture_is_emulated_only_when_that_is_asked_for() {
    let host = std::env::consts::ARCH;
    let other = if host == "aarch64" { "x86_64" } else { "aarch64" };
    let image = kernel_for(other, "hello");
    let why = runner([] as [&str; 0]).arg(&image).refused();
    let sentence = format!(
        "{}: an image for {other}, and this machine is {host}: build it for {host}, or run it in \
         software emulation (--accel=off)",
        image.display()
    );
    assert!(why.contains(&sentence), "{why}");
    if Path::new("/dev/kvm").exists() {
        runner(["--accel=kvm"]).arg(&image).refused();
    }
}

#[test]
fn a_kernel_for_another_machine_than_its_image_is_refused() {
    let image = kernel_for("x86_64", "hello");
    let kernel = kernel_for("aarch64", "hello");
    let why = runner(["--accel=off", "--kernel"]).arg(&kernel).arg(&image).refused();
    assert!(
        why.contains("is for aarch64, and") && why.contains("use one that is for x86_64"),
        "{why}"
    );
}
