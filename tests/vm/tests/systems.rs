//! Kernels of other systems, as micro-guests that do what those do: known by their marks, with the old hardware
//! that they take for granted, and their own ends.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::emulation::qemu;
use super::support::files::{Folder, checkout};
use super::support::host::accelerator;
use super::support::or_skip;
use super::support::program::{Finished, runner, says};

fn guest(name: &str) -> PathBuf {
    checkout().join("tests/guests/x86_64").join(name)
}

fn report(folder: &Folder) -> Value {
    let text = std::fs::read_to_string(folder.path().join("r.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Runs a guest with words on its command line, and returns what it wrote and what the record has.
fn run(kernel: &Path, words: &str, more: &[&str], status: i32) -> (Finished, Value) {
    let folder = Folder::new();
    let run = runner(["-v", "-m", "32", "--report", "r.json", "--append", words]).args(more);
    let finished = run.arg(kernel).within(folder.path()).ends_with(status);
    (finished, report(&folder))
}

const WORKS: &str = "timer, clock and interrupts work\n";

#[test]
fn unikraft_for_qemu_is_known_has_its_old_hardware_and_ends_as_it_does() {
    or_skip!(accelerator());
    let kernel = guest("multiboot/unikraft.bin");
    for (words, raw, status) in [("-- a b", 0x2000, 0), ("ends=2", 41, 0), ("ends=1", 42, 126)] {
        let (finished, record) = run(&kernel, words, &[], status);
        assert_eq!(finished.text(), format!("{WORKS}unikraft.bin {words}\n"));
        let ended = (&record["raw"], &record["status"], &record["status_of"]);
        assert_eq!(ended, (&raw.into(), &status.into(), &"guest".into()), "{record}");
        let devices = ["system: Unikraft\n", "interval timer, ports 0x40-0x43\n", "port 0x604\n"];
        says(&finished.stderr, &devices);
    }
}

#[test]
fn unikraft_for_firecracker_is_known_has_its_old_hardware_and_ends_as_it_does() {
    or_skip!(accelerator());
    let kernel = guest("systems/unikraft.elf");
    let (finished, record) = run(&kernel, "a -- b", &[], 0);
    // Its program has the file's name for its own.
    assert_eq!(finished.text(), format!("{WORKS}unikraft.elf a -- b\n"));
    says(&finished.stderr, &["system: Unikraft\n", "Linux 64-bit protocol\n"]);
    assert_eq!(record["reason"], "reset", "{record}");
}

#[test]
fn in_software_emulation_unikraft_sleeps_by_an_8259_and_ends_by_the_exit_port() {
    or_skip!(qemu());
    let kernel = guest("multiboot/unikraft.bin");
    let (finished, record) = run(&kernel, "a b", &["--accel=off"], 0);
    assert_eq!(finished.text(), format!("{WORKS}unikraft.bin a b\n"));
    assert_eq!((&record["raw"], &record["status_of"]), (&41.into(), &"guest".into()), "{record}");
}

#[test]
fn in_software_emulation_the_bsds_find_processors_and_devices_as_they_do_otherwise() {
    or_skip!(qemu());
    let folder = Folder::new();
    let disk = folder.file("disk", vec![0; 512]);
    for name in ["freebsd", "netbsd"] {
        let kernel = guest(&format!("systems/{name}.elf"));
        let more = ["--accel=off", "--cpus", "3", "--disk", disk.to_str().unwrap()];
        let (finished, record) = run(&kernel, "root=ld0a", &more, 0);
        assert!(finished.text().starts_with(&format!("{WORKS}cpus: 3\n")), "{finished}");
        assert!(finished.text().ends_with(" root=ld0a\n"), "{finished}");
        assert_eq!(record["reason"], "reset", "{record}");
    }
}

#[test]
fn osv_is_told_of_its_devices_by_its_command_line_and_switches_itself_off() {
    or_skip!(accelerator());
    let kernel = guest("systems/osv.elf");
    let folder = Folder::new();
    let disk = folder.file("disk", vec![0; 512]);
    let disk = disk.to_str().unwrap();
    let word = "virtio_mmio.device=512@0xfeb00000:5";
    for (entry, cpus, ended) in
        [("pvh", "1", "reset"), ("linux64", "2", "exit"), ("pvh", "2", "exit")]
    {
        let more = ["--entry", entry, "--cpus", cpus, "--disk", disk];
        let (finished, record) = run(&kernel, "/hello.so a", &more, 0);
        assert_eq!(finished.text(), format!("--nopci {word} /hello.so a\n"));
        says(&finished.stderr, &["system: OSv\n", "device: power, port 0x604\n"]);
        assert_eq!(record["reason"], ended, "{record}");
        if ended == "exit" {
            assert_eq!(record["raw"], 0x34, "{record}");
        }
    }
    let more = ["--virtio=pci", "--disk", disk];
    let (finished, _) = run(&kernel, "/hello.so", &more, 0);
    assert_eq!(finished.text(), "/hello.so\n");
}

#[test]
fn the_bsds_find_processors_and_interrupts_by_an_mp_table_and_devices_by_their_command_lines() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let disk = folder.file("disk", vec![0; 512]);
    let disk = disk.to_str().unwrap();
    for (name, system) in [("freebsd", "FreeBSD"), ("netbsd", "NetBSD")] {
        let kernel = guest(&format!("systems/{name}.elf"));
        for cpus in ["1", "3"] {
            let more = ["--cpus", cpus, "--disk", disk];
            let (finished, record) = run(&kernel, "root=ld0a console=com", &more, 0);
            let words = "virtio_mmio.device=512@0xfeb00000:5 root=ld0a console=com";
            let text = format!("{WORKS}cpus: {cpus}\ninterrupts: 15\n{words}\n");
            assert_eq!(finished.text(), text);
            says(&finished.stderr, &[&format!("system: {system}\n"), "interval timer"]);
            assert_eq!(record["reason"], "reset", "{record}");
        }
    }
    let why = runner(["--initrd", disk]).arg(guest("systems/freebsd.elf")).refused();
    says(&why, &["FreeBSD", "loader's metadata", "--disk"]);
    let why = runner(["--cpus", "255"]).arg(guest("systems/netbsd.elf")).refused();
    says(&why, &["254 CPUs", "ask for fewer"]);
}
