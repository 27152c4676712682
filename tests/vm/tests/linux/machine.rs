//! What Linux finds in the machine it was promised.

use std::time::{SystemTime, UNIX_EPOCH};

use super::super::support::files::Folder;
use super::super::support::or_skip;
use super::{Debian, Kernel, number, values};

const MIB: u64 = 1 << 20;

/// Boots with `cpus` and `memory` MiB and looks around.
fn looks_around(debian: &Debian, kernel: Kernel, cpus: u64, memory: u64) {
    let (memory_arg, cpus_arg) = (format!("{memory}M"), cpus.to_string());
    let args = ["-m", &memory_arg, "--cpus", &cpus_arg];
    let finished = debian.boot(kernel, &args, "facts").ends_with(0);
    let text = finished.quiet_text();
    assert_eq!(number(text, "cpus"), cpus, "{finished}");
    assert_eq!(number(text, "ticking"), cpus, "{finished}");
    assert_eq!(number(text, "x2apic"), cpus, "{finished}");
    assert_eq!(values(text, "clocksource"), ["kvm-clock"], "{finished}");
    // The kernel keeps its own code, 64 of 4096 bytes for each page, and tables that grow with memory.
    let seen = number(text, "memory") / 1024;
    let least = memory - 60 - memory / 32;
    assert!((least..memory).contains(&seen), "{seen} of {memory} MiB: {finished}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for clock in ["rtc", "time"] {
        let told = number(text, clock);
        assert!(told.abs_diff(now) < 24 * 3600, "{clock}: {told}, now {now}: {finished}");
    }
    assert_eq!(values(text, "virtio"), Vec::<&str>::new(), "{finished}");
    assert_eq!(number(text, "problems"), 0, "{finished}");
}

#[test]
fn a_bzimage_finds_one_processor_and_its_memory() {
    let debian = or_skip!(Debian::find());
    looks_around(&debian, Kernel::BzImage, 1, 256);
    looks_around(&debian, Kernel::BzImage, 1, 5 * 1024);
}

#[test]
fn a_bzimage_finds_four_processors_and_their_memory() {
    let debian = or_skip!(Debian::find());
    looks_around(&debian, Kernel::BzImage, 4, 256);
    looks_around(&debian, Kernel::BzImage, 4, 5 * 1024);
}

#[test]
fn a_pvh_kernel_finds_one_processor_and_its_memory() {
    let debian = or_skip!(Debian::find());
    looks_around(&debian, Kernel::Pvh, 1, 256);
    looks_around(&debian, Kernel::Pvh, 1, 5 * 1024);
}

#[test]
fn a_pvh_kernel_finds_four_processors_and_their_memory() {
    let debian = or_skip!(Debian::find());
    looks_around(&debian, Kernel::Pvh, 4, 256);
    looks_around(&debian, Kernel::Pvh, 4, 5 * 1024);
}

#[test]
fn every_disk_is_found_once_in_its_place() {
    let debian = or_skip!(Debian::find());
    let places = ["--virtio=mmio", "--virtio=pci"];
    for (kernel, virtio) in [Kernel::BzImage, Kernel::Pvh].into_iter().zip(places) {
        let folder = Folder::new();
        let disk = |n: u64, options: &str| {
            let path = folder.path().join(format!("{n}.img"));
            std::fs::File::create(&path).unwrap().set_len(n * MIB).unwrap();
            format!("--disk={}{options}", path.display())
        };
        let disks: Vec<_> = (1..=8).map(|n| disk(n, if n % 2 == 0 { ",ro" } else { "" })).collect();
        let mut args = vec!["-m", "256", virtio];
        args.extend(disks.iter().map(String::as_str));
        let finished = debian.boot(kernel, &args, "facts").ends_with(0);
        let text = finished.quiet_text();
        // Device type 2 is a disk (virtio 1.2 §5).
        assert_eq!(values(text, "virtio"), ["0x0002"; 8], "{finished}");
        let expected: Vec<_> = ('a'..='h')
            .zip(1u64..)
            .map(|(letter, n)| format!("vd{letter} {} sectors, ro {}", n * 2048, (n + 1) % 2))
            .collect();
        assert_eq!(values(text, "disk"), expected, "{finished}");
    }
}
