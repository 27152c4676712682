//! What a kernel is told, by each protocol it can be entered by.

use std::path::PathBuf;

use super::emulation::qemu;
use super::support::files::{Folder, checkout, kernel, ops_image};
use super::support::host::{accelerator, memory};
use super::support::or_skip;
use super::support::program::runner;

/// Kernels that print what they were told, and what `-v` calls the way into them.
fn kernels() -> [(PathBuf, &'static str); 2] {
    [(kernel("linux_info"), "Linux 64-bit protocol"), (kernel("pvh_info"), "PVH protocol")]
}

/// Multiboot kernels that do: an ELF file of 64 bits, one of 32, and none.
fn multiboot_kernels() -> [PathBuf; 3] {
    let folder = checkout().join("tests/guests/x86_64/multiboot");
    [kernel("multiboot_info"), folder.join("elf32.bin"), folder.join("raw.bin")]
}

fn told(command_line: &str, memory: u64, ram_disk: &str) -> String {
    format!("command line: {command_line}\nmemory: {memory} MiB\nram disk: {ram_disk}\n")
}

#[test]
fn the_protocol_is_the_one_that_the_kernel_is_marked_for() {
    or_skip!(accelerator());
    for (kernel, protocol) in kernels() {
        let finished = runner(["-v"]).arg(kernel).ends_with(0);
        assert!(finished.stderr.lines().any(|line| line.ends_with(protocol)), "{finished}");
    }
}

#[test]
fn a_kernel_is_told_its_command_line() {
    or_skip!(accelerator());
    let long = "x".repeat(60_000);
    for (kernel, _) in kernels() {
        for line in ["", "console=ttyS0  root=\"a b\"", &long[..3000]] {
            let finished = runner(["--append", line, "-m", "32"]).arg(&kernel).ends_with(0);
            assert_eq!(finished.quiet_text(), told(line, 32, ""));
        }
        let why = runner(["--append", &format!("{long}{long}")]).arg(&kernel).refused();
        assert!(why.contains("--append"), "{why}");
    }
}

#[test]
fn a_multiboot_kernel_is_told_its_name_and_command_line_its_memory_and_its_ram_disk() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let text = "0123456789".repeat(500);
    let disk = folder.file("disk", &text);
    for kernel in multiboot_kernels() {
        let name = kernel.file_name().unwrap().to_str().unwrap();
        let finished = runner(["-v", "-m", "32"]).arg(&kernel).ends_with(0);
        assert_eq!(finished.text(), told(name, 32, ""), "{finished}");
        assert!(finished.stderr.contains(", Multiboot protocol\n"), "{finished}");
        let run = runner(["-m", "64", "--append", "a=1 b", "--initrd"]).arg(&disk).arg(&kernel);
        assert_eq!(run.ends_with(0).quiet_text(), told(&format!("{name} a=1 b"), 64, &text));
    }
    let spaces = folder.file("my kernel", std::fs::read(kernel("multiboot_info")).unwrap());
    let finished = runner(["-m", "32"]).arg(&spaces).ends_with(0);
    assert_eq!(finished.quiet_text(), told("my_kernel", 32, ""));
}

#[test]
fn in_software_emulation_a_multiboot_kernel_is_told_the_same() {
    or_skip!(qemu());
    let folder = Folder::new();
    let disk = folder.file("disk", "a ram disk");
    for kernel in multiboot_kernels() {
        let name = kernel.file_name().unwrap().to_str().unwrap();
        let run = runner(["--accel=off", "-m", "64", "--append", "a=1 b", "--initrd"]).arg(&disk);
        let finished = run.arg(&kernel).ends_with(0);
        assert_eq!(finished.text(), told(&format!("{name} a=1 b"), 64, "a ram disk"));
    }
}

#[test]
fn a_multiboot_kernel_in_an_elf64_file_can_be_entered_otherwise_and_others_by_multiboot() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let mut pvh = std::fs::read(kernel("pvh_info")).unwrap();
    let why = runner(["--entry=multiboot"]).arg(kernel("pvh_info")).refused();
    assert!(why.contains("cannot be entered that way, only by linux64, pvh"), "{why}");
    let whole = std::fs::read(kernel("multiboot_info")).unwrap();
    let both = folder.file("both", &whole);
    let verbose = runner(["-v", "--entry=linux64", "--timeout=1"]).arg(&both).run();
    assert!(verbose.stderr.contains(", Linux 64-bit protocol\n"), "{verbose}");
    // A header whose requirement nobody knows is none that counts beside a PVH note.
    let magic = 0x1bad_b002_u32;
    let header = [magic, 8, 0_u32.wrapping_sub(magic + 8)].map(u32::to_le_bytes).concat();
    pvh.resize(pvh.len().next_multiple_of(4), 0);
    pvh.extend(&header);
    runner(["-m", "32"]).arg(folder.file("pvh", &pvh)).ends_with(0);
    let why = runner(["-m", "32"]).arg(folder.file("raw", &header)).refused();
    assert!(why.contains("requires features 0x8 of its boot loader"), "{why}");
}

#[test]
fn a_disk_is_announced_in_one_way_only() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let disk = folder.file("disk", vec![0; 512]);
    let word = "virtio_mmio.device=512@0xfeb00000:5";
    let bzimage = checkout().join("tests/guests/x86_64/bzimage/linux64.bin");
    let [(linux, _), (pvh, _)] = kernels();
    for (kernel, by_acpi) in [(linux, false), (pvh, true), (bzimage, true)] {
        let run = runner(["-v", "-m", "64", "--append", "last", "--disk"]);
        let finished = run.arg(&disk).arg(kernel).ends_with(0);
        assert_eq!(finished.text().contains(word), !by_acpi, "{finished}");
        assert_eq!(finished.stderr.contains("acpi: tables"), by_acpi, "{finished}");
    }
}

#[test]
fn further_cpus_are_in_acpi_tables_whatever_announces_devices() {
    or_skip!(accelerator());
    for (cpus, tables) in [("1", false), ("2", true)] {
        let finished = runner(["-v", "--cpus", cpus]).arg(kernel("linux_info")).ends_with(0);
        assert_eq!(finished.stderr.contains("acpi: tables"), tables, "{finished}");
    }
}

#[test]
fn a_guest_finds_its_cpus_and_disks_by_acpi_and_every_cpu_wakes() {
    or_skip!(accelerator());
    let folder = Folder::new();
    for (cpus, disks) in [(1, 1), (2, 0), (5, 3)] {
        let mut run = runner(["-m", "32", "--cpus", &cpus.to_string()]);
        for disk in 0..disks {
            run = run.arg("--disk").arg(folder.file(&disk.to_string(), vec![0; 512]));
        }
        let finished = run.arg(kernel("acpi_info")).ends_with(0);
        let found = format!("cpus: {cpus}\nawake: {cpus}\ndevices: {disks}\n");
        assert_eq!(finished.quiet_text(), found);
    }
}

#[test]
fn a_jump_to_the_reset_vector_resets_as_linux_does_it_without_efi() {
    or_skip!(accelerator());
    let finished = runner(["-m", "32", "--cpus", "2"]).arg(kernel("bios_reset")).ends_with(0);
    assert_eq!(finished.quiet_text(), "running\n");
}

#[test]
fn a_kernel_finds_its_ram_disk_byte_for_byte() {
    or_skip!(accelerator());
    let folder = Folder::new();
    // Longer than a page, and no multiple of one.
    let text: String = (0..1000).map(|number| format!("{number},")).collect();
    let disk = folder.file("disk", &text);
    for (kernel, _) in kernels() {
        let finished = runner(["-m", "64", "--initrd"]).arg(&disk).arg(kernel).ends_with(0);
        assert_eq!(finished.quiet_text(), told("", 64, &text));
    }
    let verbose = runner(["-v", "-m", "64", "--initrd"]).arg(&disk).arg(kernel("hello")).run();
    // On pages of its own, at the end of RAM.
    let line = format!("memory: 0x003fff000-0x003ffff32 ram disk {}\n", disk.display());
    assert!(verbose.stderr.contains(&line), "{verbose}");
}

#[test]
fn a_ram_disk_that_does_not_fit_is_refused() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let disk = folder.file("disk", vec![0; 8 << 20]);
    for (kernel, _) in kernels() {
        let why = runner(["-m", "8", "--initrd"]).arg(&disk).arg(kernel).refused();
        assert!(why.contains("ram disk") && why.contains("-m"), "{why}");
    }
}

#[test]
fn memory_beyond_the_hole_below_four_gibibytes_is_there_to_its_end() {
    or_skip!(accelerator());
    // Little of it is touched, so a busy host has it too.
    let size = or_skip!(memory()).min(5120);
    if size <= 3200 {
        println!("skipped: {size} MiB of memory, and the hole begins at 3 GiB");
        return;
    }
    for (kernel, _) in kernels() {
        let finished = runner(["-m", &size.to_string()]).arg(kernel).ends_with(0);
        assert_eq!(finished.quiet_text(), told("", size, ""));
    }
}

#[test]
fn a_kernel_can_replace_an_images_own_or_boot_alone() {
    or_skip!(accelerator());
    let folder = Folder::new();
    let image = folder.file("web.img", ops_image("tfs-v5-go-bios"));
    let linux = || runner(["-m", "64", "--append", "x=1", "-k"]).arg(kernel("linux_info"));
    assert_eq!(linux().ends_with(0).quiet_text(), told("x=1", 64, ""));
    let mmio = || linux().arg("--virtio=mmio");
    let finished = mmio().arg(image).ends_with(0);
    let disk = "virtio_mmio.device=512@0xfeb00000:5";
    let network = "virtio_mmio.device=512@0xfeb00200:6";
    assert_eq!(finished.quiet_text(), told(&format!("{disk} {network} x=1"), 64, ""));
    let finished = mmio().arg("--net=none").arg(folder.path().join("web.img")).ends_with(0);
    assert_eq!(finished.quiet_text(), told(&format!("{disk} x=1"), 64, ""));
    // Without being asked, what OPS builds finds them on the PCI bus.
    let finished = linux().arg(folder.path().join("web.img")).ends_with(0);
    assert_eq!(finished.quiet_text(), told("x=1", 64, ""));
}
