//! Disk images as OPS writes them: inspected, and looked for.

use super::support::files::{Folder, OPS_IMAGES, checkout, ops_image};
use super::support::program::runner;

#[test]
fn inspect_says_format_entry_and_what_the_image_runs() {
    let folder = Folder::new();
    for name in OPS_IMAGES {
        let finished = runner(["inspect"]).arg(folder.file(name, ops_image(name))).ends_with(0);
        let text = finished.quiet_text();
        let layout = if name.ends_with("uefi") { "UEFI" } else { "BIOS" };
        let version = if name.contains("v4") { "v4" } else { "v5" };
        for line in [
            &*format!("format: OPS disk image ({layout}, TFS {version})"),
            "architecture: x86_64",
            "entry: 0x200000, Linux 64-bit protocol",
            "segment 0: 0x200000-0x200046",
            "device: disk0, this image",
            "program: /hello",
            "arguments: hello 7",
            "environment: USER=root",
            "environment: PWD=/",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {finished}");
        }
    }
}

#[test]
fn inspect_needs_no_accelerator_and_names_the_builtin_guest() {
    let finished = runner(["inspect", "hello"]).ends_with(0);
    assert!(finished.quiet_text().starts_with("image: hello (built in)\nformat: ELF64 kernel\n"));
}

/// What `inspect` says of one of our guests, but for its name.
fn inspected(guest: &str) -> String {
    let finished =
        runner(["inspect"]).arg(checkout().join("tests/guests").join(guest)).ends_with(0);
    let text = finished.quiet_text();
    text.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap()
}

#[test]
fn inspect_says_of_every_family_how_it_is_entered_what_it_wants_and_how_it_ends() {
    let low = "gives its low 8 bits; 255 where those are 0 and it is not";
    let breaks = "gives 126, which is runner's\n";
    let hvt = inspected("x86_64/hvt/devices.elf");
    for wanted in [
        "format: Solo5 hvt unikernel\narchitecture: x86_64\nfamily: Solo5 unikernels for hvt\nhvt ABI: version 2\nentry: 0x",
        ", Solo5 hvt protocol\nsegment 0: 0x",
        "\nmemory: 2 MiB for what is loaded, a multiple of 2 MiB, 4094 MiB at the most\ncpus: 1\n",
        "\nmanifest: handle 1: storage (BLOCK_BASIC), by --block storage=FILE\n",
        "\nmanifest: handle 2: service0 (NET_BASIC), by --net service0=user\n",
        "\ndevice: hypercalls, ports 0x501-0x508: console, clock, devices, end\n",
        &format!("\nend: `halt`: any {low}\nend: a vCPU that halts"),
        &format!("a call that there is none of: {breaks}"),
    ] {
        assert!(hvt.contains(wanted), "{wanted}: {hvt}");
    }
    let (itself, tree) = ("which it looks for itself", "told of by the device tree");
    for (guest, interface, most, at, virtio) in [
        ("x86_64/hermit/hello.elf", "version 1", 3 << 10, 0x4_0000_u64, itself),
        ("x86_64/hermit2/hello.elf", "version 2 or 3", 60 << 10, 0x1_0004_0000, itself),
        ("aarch64/hermit/hello.elf", "version 1", 63 << 10, 0x4000_0000, tree),
    ] {
        let hermit = inspected(guest);
        for wanted in [
            "format: Hermit unikernel\narchitecture: ",
            "\nversion: Hermit ",
            &format!("\nuhyve's interface: {interface}\nentry: 0x"),
            ", Hermit uhyve protocol\nsegment 0: 0x",
            &format!(" MiB for what is loaded, {most} MiB at the most\n"),
            &format!("\ndevice: virtio, {virtio}\n"),
            &format!("\nend: `exit`: any {low}\nend: a pointer out of memory: {breaks}"),
        ] {
            assert!(hermit.contains(wanted), "{wanted}: {hermit}");
        }
        let entry =
            hermit.split_once("entry: 0x").and_then(|(_, rest)| rest.split_once(',')).unwrap();
        assert!(u64::from_str_radix(entry.0, 16).unwrap() >= at, "{hermit}");
    }
    let unikraft = inspected("x86_64/multiboot/unikraft.bin");
    for wanted in [
        "system: Unikraft\nentry: 0x",
        ", Multiboot protocol\n",
        "\ndevice: power, port 0x604\ndevice: interval timer, ports 0x40-0x43\n",
        "\nend: a write to port 0x501: 41 gives 0\nend: a write to port 0x501: 42 gives 126\n",
        "\nend: a write to port 0x604: any with bit 13 gives 0\n",
    ] {
        assert!(unikraft.contains(wanted), "{wanted}: {unikraft}");
    }
    let osv = inspected("x86_64/systems/osv.elf");
    assert!(osv.contains(", PVH protocol\nentry: 0x"), "{osv}");
    assert!(osv.contains(", Linux 64-bit protocol, by --entry=linux64\n"), "{osv}");
    let virt = inspected("aarch64/kernels/hello.elf");
    assert!(virt.contains(&format!("\nend: `SYS_EXIT`: any {low}\nend: PSCI's")), "{virt}");
    for text in [&hvt, &unikraft, &osv, &virt] {
        for line in ["architecture: ", "\nentry: 0x", "\nmemory: ", "\ndevice: ", "\nend: "] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}

#[test]
fn a_name_that_is_no_image_is_answered_with_the_nearest_and_where_it_was_looked_for() {
    let home = Folder::new();
    home.file(".ops/images/server", ops_image("tfs-v5-go-bios"));
    let why = runner(["sever"]).within(home.path()).env("HOME", home.path()).refused();
    assert!(why.contains("no image \"sever\""), "{why}");
    assert!(why.contains(".ops/images/sever.img"), "{why}");
    assert!(why.contains("did you mean \"server\"?"), "{why}");
}
