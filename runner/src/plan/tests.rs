use super::*;
use crate::boot::Protocol;
use crate::cli;
use crate::config::{parse_str, settle};
use crate::image::testing::ElfFile;

/// The plan for a command line.
pub(super) fn plan(line: &[&str]) -> Result<Plan, String> {
    planned(std::iter::once("runner").chain(line.iter().copied()))
}

fn planned<'a>(line: impl Iterator<Item = &'a str>) -> Result<Plan, String> {
    let command = cli::parse(line);
    let Ok(cli::Command::Run(options)) = command else { panic!("no run") };
    let config = parse_str("empty.json", "{}").unwrap();
    Plan::new(&settle(*options, &config).unwrap()).map_err(|error| error.to_string())
}

/// A kernel where programs are, with a Multiboot header.
fn unmarked() -> Vec<u8> {
    let mut file = ElfFile::new(0x60_0000);
    let magic: u32 = 0x1bad_b002;
    let header = [magic, 0, magic.wrapping_neg()].map(u32::to_le_bytes).concat();
    file.load(0x60_0000, &header, 16);
    file.build()
}

#[test]
fn entry_and_kernel_override_what_was_recognised() {
    if Arch::HOST != Some(Arch::X86_64) {
        println!("skipped: the kernel is for x86_64");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h.elf");
    std::fs::write(&path, unmarked()).unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(plan(&[path]).unwrap().boot.protocol, Protocol::Multiboot);
    for line in [
        &[path, "--entry=linux64"][..],
        &["--kernel", path],
        &["--kernel", path, "--entry=linux64"],
        &["--kernel", path, "hello"],
    ] {
        let boot = plan(line).unwrap().boot;
        assert_eq!((boot.entry, boot.protocol), (0x60_0000, Protocol::Linux64), "{line:?}");
    }
    let error = plan(&[path, "--entry=pvh"]).unwrap_err();
    assert!(error.contains("only by linux64, multiboot"), "{error}");
}

#[test]
fn names_of_files_are_escaped_once() {
    if Arch::HOST != Some(Arch::X86_64) {
        println!("skipped: the kernel is for x86_64");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [kernel, initrd, disk] = ["kernel", "ram disk", "disk"].map(|name| {
        let path = folder.path().join(format!("{name}\n\x1b[31m\"\\"));
        let mut bytes = unmarked();
        bytes.resize(1024, 0);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let plan = plan(&[&kernel, "--initrd", &initrd, "--disk", &disk, "-m", "32"]).unwrap();
    let lines = plan.describe();
    for name in ["kernel", "ram disk", "disk"] {
        let escaped = format!(r#"/{name}\n\u{{1b}}[31m"\"#);
        assert!(lines.iter().any(|line| line.contains(&escaped)), "{escaped}: {lines:#?}");
    }
}

#[test]
fn a_ram_disk_that_cannot_be_opened_is_called_one() {
    if Arch::HOST != Some(Arch::X86_64) {
        println!("skipped: the kernel is for x86_64");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, []).unwrap();
    for (path, why) in [
        (folder.path(), "it is a directory: name the file inside it"),
        (&empty, "it is empty: copy or build it again"),
        (&folder.path().join("none"), "there is no such file: check the path"),
    ] {
        let path = path.to_str().unwrap();
        let error = plan(&["hello", "--initrd", path]).unwrap_err();
        assert_eq!(error, format!("the ram disk {path}: {why}"));
    }
}

#[test]
fn further_devices_stand_behind_disks_and_network_and_leave_the_rest_to_disks() {
    if Arch::HOST != Some(Arch::X86_64) {
        println!("skipped: the kernel is for x86_64");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disks: Vec<_> = (0..8)
        .map(|n| {
            let path = folder.path().join(n.to_string());
            std::fs::write(&path, [0; 512]).unwrap();
            format!("--disk={}", path.display())
        })
        .collect();
    let line = |disks: &[String], more: &[&'static str]| {
        let line: Vec<&str> =
            disks.iter().map(String::as_str).chain(more.iter().copied()).collect();
        plan(&line)
    };
    let planned = line(&disks[..6], &["hello", "--rng", "--net=user"]).unwrap();
    let words = planned.boot.command_line.as_str();
    assert_eq!(words.matches("virtio_mmio.device=").count(), 8, "{words}");
    assert_eq!((planned.network.unwrap().slot.index, planned.devices[0].slot.index), (6, 7));
    let error = line(&disks, &["hello", "--rng"]).unwrap_err();
    let wanted = "8 disks, where the machine has room for 7 beside another device: leave some out";
    assert_eq!(error, wanted);
    let error = line(&disks, &["hello", "--rng", "--net=user"]).unwrap_err();
    let wanted = "8 disks, where the machine has room for 6 beside the network and another device: \
                  leave some out, or the network (--net=none)";
    assert_eq!(error, wanted);
}

#[test]
fn hermits_devices_are_on_pci_or_in_windows_where_its_kernel_looks() {
    if Arch::HOST != Some(Arch::X86_64) {
        println!("skipped: the kernel is for x86_64");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hello");
    std::fs::write(&path, guests::x86_64::hermit::HELLO).unwrap();
    let path = path.to_str().unwrap();
    let place = |options: &[&str]| {
        let plan = plan(&[&[path, "--net=user"], options].concat()).unwrap();
        plan.network.unwrap().slot.place.to_string()
    };
    assert!(place(&[]).starts_with("virtio-pci 00:01.0"), "{}", place(&[]));
    assert!(place(&["--virtio=pci"]).starts_with("virtio-pci 00:01.0"));
    // Where QEMU's `microvm` has the first; a kernel for it guesses.
    assert_eq!(place(&["--virtio=mmio"]), "virtio-mmio 0xfeb00000, line 5");
}

#[test]
fn a_guest_for_another_machine_is_sent_to_software_emulation_only_if_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let (hello, hvt, hermit) = match Arch::HOST {
        Some(Arch::Aarch64) => {
            use guests::x86_64::{hermit, hvt, kernels};
            (kernels::HELLO, hvt::HELLO, hermit::HELLO)
        }
        Some(Arch::X86_64) | None => {
            use guests::aarch64::{hermit, hvt, kernels};
            (kernels::HELLO, hvt::HELLO, hermit::HELLO)
        }
    };
    let error = |guest: &[u8]| {
        let path = folder.path().join("guest");
        std::fs::write(&path, guest).unwrap();
        plan(&[path.to_str().unwrap()]).unwrap_err()
    };
    let why = error(hello);
    assert!(why.ends_with("or run it in software emulation (--accel=off)"), "{why}");
    for (guest, wanted) in [(hvt, "QEMU has no hvt"), (hermit, "or Hermit's loader")] {
        let why = error(guest);
        assert!(why.contains(wanted) && !why.contains("--accel=off"), "{why}");
    }
}

#[test]
fn the_tenders_words_are_answered_in_them() {
    if Arch::HOST != Some(Arch::X86_64) {
        println!("skipped: the guests are for x86_64");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let devices = file("devices", guests::x86_64::hvt::DEVICES);
    let hello = file("hello", guests::x86_64::kernels::HELLO);
    let core = file("core", guests::x86_64::hvt::HELLO);
    for (options, kernel, wanted) in [
        ("", &devices, "add --block:storage=FILE --net:service0=TAP --net:service1=TAP"),
        ("--block:storage=b", &devices, "add --net:service0=TAP --net:service1=TAP"),
        ("--block:x=b", &devices, "--block:x: resource not declared"),
        ("--block:x=b --block:x=c", &devices, "--block:x: "),
        ("--mem=6000", &core, "(--mem)"),
        ("--mem=999999999", &core, "(--mem)"),
        ("--dumpcore=/proc", &core, "--dumpcore=/proc: the kernel's own files are not for a guest"),
        ("", &hello, "it is no Solo5 unikernel for hvt, and the tender starts nothing else"),
        ("", &"./hello".to_owned(), "./hello: there is no such file: check the path"),
    ] {
        let line =
            ["solo5-hvt"].into_iter().chain(options.split_whitespace()).chain([kernel.as_str()]);
        let why = planned(line).unwrap_err();
        assert!(why.contains(wanted), "{options} {kernel}: {why}");
        assert!(
            !why.contains("(-m)") && !why.contains("--net ") && !why.contains("`ops`"),
            "{why}"
        );
    }
}

#[test]
fn what_goes_with_a_network_is_left_out_where_a_manifest_has_none() {
    if Arch::HOST != Some(Arch::X86_64) {
        println!("skipped: the guests are for x86_64");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let error = |guest: &[u8], option: &str| {
        let path = folder.path().join("guest");
        std::fs::write(&path, guest).unwrap();
        plan(&[path.to_str().unwrap(), option]).unwrap_err()
    };
    for option in ["--pcap=x", "--mac=52:54:00:00:00:01", "--host-loopback", "--net=user", "-p80"] {
        let why = error(guests::x86_64::hvt::HELLO, option);
        assert!(why.ends_with("the guest's manifest declares no network: leave it out"), "{why}");
    }
    let why = error(guests::x86_64::hvt::DEVICES, "--pcap=x");
    assert!(why.contains("are not attached"), "{why}");
}
