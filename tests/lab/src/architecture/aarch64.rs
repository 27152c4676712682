//! aarch64: QEMU emulates a Neoverse N1 with EL2, and the KVM of a Linux inside runs there (VHE), with
//! a GICv3 for its guests.

use super::{Architecture, Compiler, Cross, Linux, Machine, Set};
use crate::gates::{Gate, LinuxStart};
use crate::packages::{Installed, Wanted};
use crate::skips;
use guests::aarch64::programs::POWER_OFF;

/// Why some tests of Linux are not run here.
const BOOTS: &str =
    "takes minutes, and nothing in it is this processor's: the lab for x86_64 has it";

pub(crate) const AARCH64: Architecture = Architecture {
    name: "aarch64",
    debian: "arm64",
    triplet: "aarch64-linux-gnu",
    loader: "ld-linux-aarch64.so.1",
    compiler: Compiler {
        target: "aarch64-unknown-linux-gnu",
        cross: Some(Cross {
            linker: Installed { name: "aarch64-linux-gnu-gcc", package: "gcc-aarch64-linux-gnu" },
            libc: Installed {
                name: "/usr/aarch64-linux-gnu/lib/libc.a",
                package: "libc6-dev-arm64-cross",
            },
            starter: Installed { name: "qemu-aarch64", package: "qemu-user" },
        }),
        ships: &[
            "build",
            "--release",
            "--package=runner",
            "--target=aarch64-unknown-linux-gnu",
            "--config=build.rustflags=['-Ctarget-feature=+crt-static']",
        ],
    },
    machine: Machine {
        qemu: Installed { name: "qemu-system-aarch64", package: "qemu-system-arm" },
        // Not `-cpu max`: pointer authentication takes most of the time then.
        board: "-M virt,virtualization=on,gic-version=3 -cpu neoverse-n1",
        processors: "-accel tcg,thread=multi -smp 2",
        // For guests of 5 GiB.
        memory: 6144,
        console: "ttyAMA0",
        // The board has one serial line. `stdio` would close the port when there is no stdin.
        reports: "/dev/vport0p1",
        reports_words: &[
            "-device",
            "virtio-serial-pci",
            "-chardev",
            "file,id=reports,path=/dev/stdout",
            "-device",
            "virtserialport,chardev=reports",
        ],
    },
    linux: Linux {
        packages: Wanted {
            folder: "linux",
            // Debian 12's is 6.1, and hypercalls come out of KVM since 6.4.
            suite: Some("trixie"),
            packages: &["linux-image-cloud-arm64", "busybox-static"],
            except: &["initramfs-tools", "kmod", "linux-base"],
        },
        root: "usr",
        // KVM is built in.
        modules: &["drivers/net/tun.ko.xz"],
        disk_modules: &["drivers/virtio/virtio_mmio.ko.xz", "drivers/block/virtio_blk.ko.xz"],
        net_modules: &[
            "net/core/failover.ko.xz",
            "drivers/net/net_failover.ko.xz",
            "drivers/net/virtio_net.ko.xz",
        ],
        general: Wanted {
            folder: "linux-general",
            suite: Some("trixie"),
            packages: &["linux-image-arm64"],
            except: &["initramfs-tools", "kmod", "linux-base"],
        },
        share_modules: &[
            "drivers/virtio/virtio_mmio.ko.xz",
            "fs/netfs/netfs.ko.xz",
            "net/9p/9pnet.ko.xz",
            "net/9p/9pnet_virtio.ko.xz",
            "fs/9p/9p.ko.xz",
        ],
        end: ("power_off", POWER_OFF),
        kernel: "Image",
        unpacked: None,
    },
    sets: &[Set {
        name: "",
        tests: &[&["--package=hv-kvm"], &["--package=runner", "--test=vm"]],
        without: &[
            ("runner/vm::linux::disk::what_linux_has_synced_outlives", BOOTS),
            ("runner/vm::linux::faults::a_driver_may_reset_a_disk", BOOTS),
            ("runner/vm::linux::net::connections::a_thousand_connections", BOOTS),
        ],
        runner: None,
        skips: skips::AARCH64,
    }],
    // A start took 3.93 million instructions when this lab was made, and Linux to its /init 901 million: there
    // is no peer here to compare with, and a tenth or a hundredth more is worth a look.
    gates: &[
        Gate::Size { limit: 3_500_000 },
        Gate::Hello { limit: 4_300_000 },
        Gate::Linux {
            limit: 910_000_000,
            start: LinuxStart {
                kernel: "Image",
                words: "console=ttyAMA0 quiet panic=-1",
                // PSCI takes no status along.
                status: 0,
            },
        },
    ],
};
