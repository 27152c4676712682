//! README's table of how guests end, row by row: a guest for each, its status, and what the record has of it.

use std::path::PathBuf;

use serde_json::Value;

#[cfg(target_arch = "aarch64")]
use super::support::files::kernel;
use super::support::files::{Folder, checkout};
use super::support::host::accelerator;
use super::support::or_skip;
use super::support::program::{Runner, runner};
use super::support::script::Script;

/// A guest that ends so.
struct Try {
    run: Runner,
    status: i32,
    raw: Option<u64>,
    reason: &'static str,
}

/// Of a row: which guests, and how they end.
type Row = (&'static str, &'static str, &'static str);

fn guest(path: &str) -> PathBuf {
    checkout().join("tests/guests").join(std::env::consts::ARCH).join(path)
}

/// A guest that does what words behind `--` say.
fn words(unikernel: &str, script: &Script) -> Runner {
    runner(["--report", "r.json", "-m", "16"]).arg(guest(unikernel)).arg("--").arg(script.line())
}

/// A value that the guest gave.
fn value(run: Runner, raw: u64, status: i32) -> Try {
    Try { run, status, raw: Some(raw), reason: "exit" }
}

/// An end without one.
fn without(run: Runner, status: i32, reason: &'static str) -> Try {
    Try { run, status, raw: None, reason }
}

/// The rows of both architectures.
fn everywhere(tries: &mut Vec<(Row, Try)>) {
    let start = if cfg!(target_arch = "x86_64") { 0 } else { 0x4000_0000 };
    let (hvt, hermit) = (0x20_0000, start + 0x28_0000);
    let status = Script::at(hvt).call(8, &[0, 263]);
    let nowhere = Script::at(hvt).raw(2, u64::from(u32::MAX));
    tries.push((("Solo5, hvt", "`halt`", "any"), value(words("hvt/script.elf", &status), 263, 7)));
    let what = "a write to constants, a pointer out of memory, a call that there is none of";
    let broken = without(words("hvt/script.elf", &nowhere), 126, "violation");
    tries.push((("hvt", what, "–"), broken));
    let status = Script::at(hermit).store(hermit, 263).raw(0x540, hermit);
    let nowhere = Script::at(hermit).raw(0x540, u64::from(u32::MAX));
    let ended = value(words("hermit/script.elf", &status), 263, 7);
    tries.push((("Hermit, uhyve", "`exit`", "any"), ended));
    let what = "a pointer out of memory";
    let broken = without(words("hermit/script.elf", &nowhere), 126, "violation");
    tries.push((("uhyve", what, "–"), broken));
}

#[cfg(target_arch = "x86_64")]
fn here(folder: &Folder) -> Vec<(Row, Try)> {
    use super::support::files::marked;
    let run = |words: &[&str], path: &str| {
        runner(["--report", "r.json", "-m", "32"]).args(words).arg(guest(path))
    };
    // The kernel that writes a number to the exit port, as one of another system.
    let exits = |section: &str| {
        let kernel = folder.file(section, marked("exit", section));
        runner(["--report", "r.json", "-m", "32", "--append=exit=263"]).arg(kernel)
    };
    let nanos = "x86_64: Nanos, and all that are not named";
    let linux = "x86_64: Linux, and others by PVH or in a bzImage";
    let (unikraft, osv) = ("x86_64: Unikraft for QEMU", "x86_64: OSv");
    let (loader, debug) = ("x86_64: Hermit by its loader", "a write to port 0xf4");
    let (exit, power) = ("a write to port 0x501", "a write to port 0x604");
    let unikernel = guest("hermit/hello.elf");
    let behind = |ends: &str| {
        let words = ["--append", ends, "--initrd", unikernel.to_str().unwrap()];
        run(&words, "systems/hermit_loader.elf")
    };
    // By PVH as for QEMU; without a disk it fails.
    let other = folder.file("unikraft", marked("disk_reads", ".uk_inittab"));
    let other = runner(["--report", "r.json", "-m", "32"]).arg(other);
    let uk = |words: &[&str]| run(words, "multiboot/unikraft.bin");
    let panics = run(&["--append=panic"], "kernels/acpi_info.elf");
    vec![
        ((nanos, exit, "any"), value(run(&["--append=exit=263"], "kernels/exit.elf"), 263, 7)),
        ((linux, exit, "any"), value(run(&["--entry=linux32"], "bzimage/linux64.bin"), 2, 2)),
        ((linux, "a write to port 0x505 (pvpanic)", "any with bit 0"), value(panics, 1, 126)),
        ((unikraft, exit, "41"), value(uk(&["--append=ends=2"]), 41, 0)),
        ((unikraft, exit, "42"), value(uk(&["--append=ends=1"]), 42, 126)),
        ((unikraft, exit, "any other"), value(other, 1, 1)),
        ((unikraft, power, "any with bit 13"), value(uk(&[]), 0x2000, 0)),
        ((osv, exit, "any"), value(exits(".percpu_workers"), 263, 7)),
        ((osv, power, "any with bit 5"), value(run(&["--cpus=2"], "systems/osv.elf"), 0x34, 0)),
        ((loader, debug, "1"), value(behind("ends=1"), 1, 0)),
        ((loader, debug, "any other"), value(behind("ends=263"), 263, 1)),
        (
            ("x86_64", "a reset (0xfe to port 0x64, which is ACPI's reset register, too)", "–"),
            without(run(&[], "kernels/reset.elf"), 0, "reset"),
        ),
        (
            ("x86_64", "a triple fault", "–"),
            without(run(&[], "kernels/triple_fault.elf"), 126, "crash"),
        ),
        (
            ("hvt", "a vCPU that halts: nothing wakes it", "–"),
            without(words("hvt/script.elf", &Script::at(0).word("h".into())), 126, "halted"),
        ),
    ]
}

#[cfg(target_arch = "aarch64")]
fn here(_: &Folder) -> Vec<(Row, Try)> {
    let run = |words: &[&str], name: &str| {
        runner(["--report", "r.json", "-m", "32"]).args(words).arg(kernel(name))
    };
    let exits = run(&["--append=exit=263"], "exit");
    vec![
        (("aarch64: Nanos, and all others", "`SYS_EXIT`", "any"), value(exits, 263, 7)),
        (("aarch64", "PSCI's `SYSTEM_OFF`", "–"), without(run(&[], "off"), 0, "shutdown")),
        (("aarch64", "PSCI's `SYSTEM_RESET`", "–"), without(run(&[], "reset"), 0, "reset")),
    ]
}

/// Rows without a guest here, and where there is one.
fn elsewhere(guests: &str, how: &str) -> bool {
    let other = if cfg!(target_arch = "x86_64") { "aarch64" } else { "x86_64" };
    guests.starts_with(other)
        // It takes 20 seconds: hostile::processors has one.
        || how == "all vCPUs halted with interrupts off"
        // WFI is KVM's there, and wakes at once: hvt has one in the x86_64 lab.
        || cfg!(target_arch = "aarch64") && how.starts_with("a vCPU that halts")
}

#[test]
fn every_row_of_the_table_of_ends_is_what_a_guest_ends_with_and_what_the_record_has() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let mut tries = here(&folder);
    everywhere(&mut tries);
    let readme = std::fs::read_to_string(checkout().join("README.md")).unwrap();
    let table =
        readme.split_once("<!-- ends -->").unwrap().1.split_once("<!-- /ends -->").unwrap().0;
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [guests, how, value, status, whose] = cells[..] else { panic!("{row}") };
        if elsewhere(guests, how) {
            continue;
        }
        let row_of = |(row, _): &(Row, Try)| *row == (guests, how, value);
        let Some(index) = tries.iter().position(row_of) else { panic!("no guest for {row}") };
        let (_, Try { run, status: wanted, raw, reason }) = tries.remove(index);
        run.within(folder.path()).ends_with(wanted);
        let report = std::fs::read_to_string(folder.path().join("r.json")).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        let of = match whose {
            "the guest's" => "guest",
            "runner's" => "runner",
            _ => "unknown",
        };
        assert_eq!(
            (&report["status"], &report["status_of"]),
            (&wanted.into(), &of.into()),
            "{row}"
        );
        assert_eq!((&report["raw"], &report["reason"]), (&raw.into(), &reason.into()), "{row}");
        if let Ok(status) = status.parse::<i32>() {
            assert_eq!(status, wanted, "{row}");
        }
    }
    let left: Vec<Row> = tries.into_iter().map(|(row, _)| row).collect();
    assert!(left.is_empty(), "README.md has no row for {left:?}");
}
