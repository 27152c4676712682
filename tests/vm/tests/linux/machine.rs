//! What Linux finds in the machine it was promised.

use std::time::{SystemTime, UNIX_EPOCH};

use super::super::support::files::Folder;
use super::super::support::or_skip;
use super::arch::CLOCK;
use super::{Debian, Kernel, number, quietly, values};

const MIB: u64 = 1 << 20;

/// Boots with `cpus` and `memory` MiB and looks around.
fn looks_around(debian: &Debian, kernel: Kernel, cpus: u64, memory: u64) {
    let (memory_arg, cpus_arg) = (format!("{memory}M"), cpus.to_string());
    let args = ["-m", &memory_arg, "--cpus", &cpus_arg];
    let finished = quietly(debian.does(kernel, &args, "facts"));
    let text = finished.text();
    assert_eq!(number(text, "cpus"), cpus, "{finished}");
    assert_eq!(number(text, "ticking"), cpus, "{finished}");
    let x2apics = if cfg!(target_arch = "x86_64") { cpus } else { 0 };
    assert_eq!(number(text, "x2apic"), x2apics, "{finished}");
    assert_eq!(values(text, "clocksource"), [CLOCK], "{finished}");
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

/// Boots with a little memory, and with so much that not all of it is below 4 GiB: one of the kernels each,
/// the other one with other `cpus`.
fn all_look_around(cpus: u64) {
    let debian = or_skip!(Debian::find());
    let kernels = Kernel::ALL.into_iter().cycle().skip(usize::from(cpus > 1));
    for (kernel, memory) in kernels.zip([256, 5 * 1024]) {
        looks_around(&debian, kernel, cpus, memory);
    }
}

#[test]
fn linux_finds_one_processor_and_its_memory() {
    all_look_around(1);
}

#[test]
fn linux_finds_four_processors_and_their_memory() {
    all_look_around(4);
}

#[test]
fn every_disk_is_found_once_in_its_place() {
    let debian = or_skip!(Debian::find());
    let (places, folder) = (["--virtio=mmio", "--virtio=pci"], Folder::new());
    for (virtio, kernel) in places.into_iter().zip(Kernel::ALL.into_iter().cycle()) {
        let disk = |n: u64, options: &str| {
            let path = folder.path().join(format!("{n}.img"));
            std::fs::File::create(&path).unwrap().set_len(n * MIB).unwrap();
            format!("--disk={}{options}", path.display())
        };
        let disks: Vec<_> = (1..=8).map(|n| disk(n, if n % 2 == 0 { ",ro" } else { "" })).collect();
        let mut args = vec!["-m", "256", virtio];
        args.extend(disks.iter().map(String::as_str));
        let finished = quietly(debian.does(kernel, &args, "facts"));
        let text = finished.text();
        // Device type 2 is a disk (virtio 1.2 §5).
        assert_eq!(values(text, "virtio"), ["0x0002"; 8], "{finished}");
        let expected: Vec<_> = ('a'..='h')
            .zip(1u64..)
            .map(|(letter, n)| format!("vd{letter} {} sectors, ro {}", n * 2048, (n + 1) % 2))
            .collect();
        assert_eq!(values(text, "disk"), expected, "{finished}");
    }
}
