//! What only the aarch64 machine has: firmware that starts and ends processors (PSCI), and ends that
//! carry no status.

use super::support::files::{Folder, checkout, kernel};
use super::support::host::accelerator;
use super::support::or_skip;
use super::support::program::{runner, says};

#[test]
fn an_end_that_carries_no_status_is_0_and_called_unknown_on_stderr_and_in_the_report() {
    or_skip!(accelerator());
    for (guest, reason, how) in
        [("off", "shutdown", "switched itself off"), ("reset", "reset", "reset itself")]
    {
        let folder = Folder::new();
        let runner = runner(["--report", "r.json"]).arg(kernel(guest));
        let finished = runner.within(folder.path()).ends_with(0);
        assert_eq!(finished.text(), "running\n");
        let sentence =
            format!("the guest {how}, which carries no status: 0 says no more than that");
        assert_eq!(finished.stderr.trim_end(), format!("runner: {sentence}"), "{finished}");
        let report = std::fs::read_to_string(folder.path().join("r.json")).unwrap();
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!((&report["status"], &report["status_of"]), (&0.into(), &"unknown".into()));
        assert_eq!((&report["reason"], &report["message"]), (&reason.into(), &sentence.into()));
    }
}

#[test]
fn a_second_processor_is_started_by_psci_and_its_status_is_the_guests() {
    or_skip!(accelerator());
    runner(["--cpus", "2"]).arg(kernel("second_cpu")).ends_with(7);
}

#[test]
fn a_guest_that_halts_for_good_is_found_out_whatever_it_halts_by() {
    or_skip!(accelerator());
    // A WFI with interrupts masked, and a branch to itself; the other processors are off.
    for guest in ["halt", "spin"] {
        let finished =
            runner(["--cpus", "3", "--timeout", "60s"]).arg(kernel(guest)).ends_with(126);
        assert_eq!(finished.text(), "running\n");
        assert!(
            finished.stderr.starts_with("runner: every vCPU has halted with interrupts off, "),
            "{finished}"
        );
    }
}

#[test]
fn images_of_unikraft_and_osv_stand_where_they_have_to_and_have_their_command_lines() {
    or_skip!(accelerator());
    for (guest, words, text, system) in [
        ("unikraft", "a -- b", "unikraft.bin a -- b\n", "system: Unikraft\n"),
        ("unikraft", "", "unikraft.bin\n", "entry: 0x400fffc0, Linux arm64 protocol\n"),
        ("osv", "/hello.so a", "/hello.so a\n", "system: OSv\n"),
        ("osv", "", "/built-in.so\n", "entry: 0x40080000, Linux arm64 protocol\n"),
    ] {
        let file = checkout().join(format!("tests/guests/aarch64/systems/{guest}.bin"));
        let finished = runner(["-v", "-m", "32", "--append", words]).arg(file).ends_with(0);
        assert_eq!(finished.text(), text);
        says(&finished.stderr, &[system]);
    }
}

#[test]
fn a_plan_names_the_devices_and_the_device_tree() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let disk = folder.file("disk", "x".repeat(512));
    let finished = runner(["-v", "--disk"]).arg(disk).arg("hello").ends_with(0);
    for line in [
        "entry: 0x40200b20, Linux arm64 protocol",
        "device: pl011, 0x9000000-0x9000fff, line 33: the console",
        "device: pl031, 0x9010000-0x9010fff: the clock",
        "devices announced by the device tree",
        "device: disk0, virtio-mmio 0xa000000, line 48",
    ] {
        assert!(finished.stderr.contains(line), "{line}: {finished}");
    }
}
