//! aarch64: QEMU emulates a Neoverse N1 with EL2, and the KVM of a Linux inside runs there (VHE), with
//! a GICv3 for its guests.

use super::{Architecture, Choice, Compiler, Cross, Linux, Machine, Set, family, family_with};
use crate::gates::{Gate, LinuxStart};
use crate::packages::{Installed, Wanted};
use crate::skips;
use guests::aarch64::programs::POWER_OFF;

/// Why some tests are not run here.
const BOOTS: &str =
    "takes minutes, and nothing in it is this processor's: the lab for x86_64 has it";

/// Why most hostile guests are not run here.
const DEVICES: &str = "devices are the same code on both: each is reached here once over each bus";

/// Why one test of the jail is not.
const UNSEEN: &str = "no run here makes each call of KVM_GET_ONE_REG, KVM_SET_ONE_REG and the socket thread's read; \
    and it takes a minute";

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
        on_one_processor: false,
        // For guests of 5 GiB.
        memory: 6144,
        console: "ttyAMA0",
        // The board has one serial line.
        reports: "/dev/vport0p1",
        reports_words: &[
            "-device",
            "virtio-serial-pci",
            "-chardev",
            "stdio,id=reports,signal=off",
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
        device_modules: &[
            "drivers/char/hw_random/virtio-rng.ko.xz",
            "drivers/virtio/virtio_balloon.ko.xz",
        ],
        net_modules: &[
            "net/core/failover.ko.xz",
            "drivers/net/net_failover.ko.xz",
            "drivers/net/virtio_net.ko.xz",
        ],
        vsock_modules: &[
            "net/vmw_vsock/vsock.ko.xz",
            "net/vmw_vsock/vmw_vsock_virtio_transport_common.ko.xz",
            "net/vmw_vsock/vmw_vsock_virtio_transport.ko.xz",
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
    payloads: &[],
    sets: &[
        Set {
            name: "",
            tests: &[&["--package=hv-kvm"], &["--package=runner", "--test=vm"]],
            choice: Choice::AllBut {
                these: &[
                    ("runner/vm::linux::disk::what_linux_has_synced_outlives", BOOTS),
                    ("runner/vm::linux::faults::a_driver_may_reset_a_disk", BOOTS),
                    ("runner/vm::linux::net::connections::a_thousand_connections", BOOTS),
                    ("runner/vm::linux::net::connections::they_arrive_as_well", BOOTS),
                    ("runner/vm::linux::net::ends::", BOOTS),
                    ("runner/vm::linux::net::tools::", BOOTS),
                    ("runner/vm::console::what_comes_in_through_a_pipe", BOOTS),
                    // Their devices are all in `linux::every`.
                    ("runner/vm::linux::shares::", BOOTS),
                    ("runner/vm::linux::vsock::", BOOTS),
                    ("runner/vm::linux::devices::", BOOTS),
                    ("runner/vm::hostile::", DEVICES),
                    ("runner/vm::jail::every_call_on_a_list", UNSEEN),
                ],
                yet: &[
                    ("runner/vm::hostile::pci::", "configuration space has no ports, and no MSI-X"),
                    ("runner/vm::hostile::exits::", "doorbells and interrupts are the host's"),
                    ("runner/vm::hostile::two::r7", "memory is ordered as nowhere else"),
                    (
                        "runner/vm::hostile::rings::r9",
                        "RAM is elsewhere; the disk, over both buses",
                    ),
                    ("runner/vm::hostile::registers::r23", "the same, of its queue"),
                    ("runner/vm::hostile::net::n51", "the network card, over both"),
                    ("runner/vm::hostile::rng::c58_a_buffer_gets", "the entropy device, over both"),
                    ("runner/vm::hostile::console::text_is_on_stdout", "the console, over both"),
                    ("runner/vm::hostile::balloon::r34", "the balloon"),
                    ("runner/vm::hostile::balloon::reports_of", "the host's pages, over both"),
                    ("runner/vm::hostile::p9::a_file_is_written", "the shared folder, over both"),
                    ("runner/vm::hostile::vsock::programs_of_both", "the socket device, over both"),
                ],
            },
            runner: None,
            environment: &[],
            skips: skips::AARCH64,
        },
        // The backend for macOS over the stand-in for Apple's framework, which runs guests on this KVM: what
        // depends on a backend. Devices, images and command lines are the same code over any, and an exit
        // costs a hundred system calls here, so tests with many take minutes.
        Set {
            name: "hvf: ",
            tests: &[
                &["--package=hv-hvf", "--test=conformance"],
                &["--package=hvf-runner", "--test=oracle"],
                &["--package=runner", "--test=vm"],
            ],
            choice: Choice::Only(&[
                ("hv-hvf/conformance::", "the contract"),
                ("hvf-runner/oracle::", "the same exits as the backend for Linux has"),
                ("runner/vm::hello::hello_", "a whole run"),
                ("runner/vm::hello::memory_and_cpus", "RAM, and PSCI starts processors"),
                ("runner/vm::virt::a_second_processor", "a status by a hypercall, of another vCPU"),
                (
                    "runner/vm::virt::an_end_that_carries_no_status",
                    "PSCI ends and resets the machine",
                ),
                ("runner/vm::parked::", "WFI and switched off processors: no time of the CPU"),
                (
                    "runner/vm::statuses::a_guest_that_",
                    "timeouts: a kick of a vCPU that runs, or waits",
                ),
                ("runner/vm::statuses::a_signal_ends_a_guest_that_", "signals, the same"),
                ("runner/vm::statuses::a_wide_exit_value", "a hypercall's arguments"),
                (
                    "runner/vm::linux::machine::",
                    "timers, several CPUs, disks over mmio and PCI, 5 GiB",
                ),
                (
                    "runner/vm::linux::net::addresses::",
                    "the network over mmio: interrupts both ways",
                ),
                ("runner/vm::linux::net::pci::", "the same over PCI, by messages"),
                // Not what it takes of the CPU, since the stand-in looks at a vCPU that waits; and not what is
                // read-only, which page tables alone see to where a page has 16 KiB.
                ("runner/vm::hvt::a_", "RAM from 16 KiB on, hypercalls by stores, no controller"),
                ("runner/vm::hvt::block_storage", "the same"),
                // Not with several CPUs, which begin by themselves and need another to start them there.
                ("runner/vm::hermit::calls::each_call", "uhyve's calls, and virtual addresses"),
                ("runner/vm::hermit::calls::v77_what_a_call_cannot", "the same, hostile"),
                ("runner/vm::hvt::boot_info", "the same"),
                ("runner/vm::hvt::data_is_not_executed", "an exception that nobody handles"),
                ("runner/vm::hvt::every_status", "a status by a hypercall"),
                ("runner/vm::hvt::frames_go", "a wait for frames, off the CPU"),
                ("runner/vm::hvt::v77_calls_that_do_not_exist", "accesses beside the calls"),
                ("runner/vm::hvt::v77_requests", "structures in the guest's memory"),
            ]),
            runner: Some(&["--package=hvf-runner", "--bin=hvf-runner"]),
            // What it tells the built-in guest that it is: nothing.
            environment: &[("RUNNER_LAB_HYPERVISOR", "one without a name")],
            skips: skips::HVF,
        },
    ],
    // A start took 3.93 million instructions when this lab was made, and Linux to its /init 587 million: there
    // is no peer here to compare with, and a tenth or a hundredth more is worth a look.
    gates: &[
        Gate::Size { limit: 3_500_000 },
        Gate::Hello { limit: 4_300_000 },
        Gate::Families(&[
            family("hvt", "aarch64/hvt/hello.elf", "Hello"),
            family("Hermit", "aarch64/hermit/hello.elf", "Hello"),
            family_with(
                "Hermit's loader",
                "aarch64/kernels/hermit_loader.elf",
                "aarch64/hermit/hello.elf",
                "\n",
            ),
            family("Unikraft", "aarch64/systems/unikraft.bin", "unikraft.bin"),
            family("OSv", "aarch64/systems/osv.bin", "/built-in.so"),
        ]),
        Gate::Linux {
            limit: 592_000_000,
            start: LinuxStart {
                kernel: "Image",
                // This kernel tests its ciphers on what its random numbers say, 280 to 360 million instructions
                // of 900, each time others; addresses are another choice of theirs. Without both, runs differ by
                // less than half a percent, whatever else the host does.
                words: "console=ttyAMA0 quiet panic=-1 nokaslr norandmaps cryptomgr.notests",
                // PSCI takes no status along.
                status: 0,
            },
        },
    ],
};
