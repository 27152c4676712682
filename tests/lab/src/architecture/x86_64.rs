//! x86_64: QEMU emulates an AMD CPU with SVM, and a Linux inside has a genuine `kvm-amd`.

use super::{Architecture, Choice, Compiler, Linux, Machine, Set, family, family_with};
use crate::gates::{Gate, LinuxStart};
use crate::packages::{Installed, Wanted};
use crate::payloads::Payload;
use crate::skips;
use guests::x86_64::programs::OUTB;

const fn payload(
    name: &'static str,
    file: &'static str,
    packages: &'static [&'static str],
) -> Payload {
    // What one depends on has nothing to boot in it.
    let package = Wanted { folder: name, suite: None, packages, except: &["gnumach-common"] };
    Payload { name, file, package }
}

pub(crate) const X86_64: Architecture = Architecture {
    name: "x86_64",
    debian: "amd64",
    triplet: "x86_64-linux-gnu",
    loader: "ld-linux-x86-64.so.2",
    compiler: Compiler {
        target: "x86_64-unknown-linux-gnu",
        cross: None,
        // The command that the README gives.
        ships: &["static"],
    },
    machine: Machine {
        qemu: Installed { name: "qemu-system-x86_64", package: "qemu-system-x86" },
        // EPYC has SVM and what kvm-amd asks for; TCG says on stderr which of its other features it
        // lacks.
        board: "-M q35 -cpu EPYC",
        // One CPU. VMRUN with an interrupt to inject leaves its vector in QEMU's exception_index (7.2,
        // target/i386/tcg/sysemu/svm_helper.c, "XXX: is it always correct?"), and a CPU that is called
        // out of its loop before the next #VMEXIT delivers it a second time, whatever IF says. With two
        // CPUs they call each other out all the time: guests end in triple faults or wait for a lock
        // that they hold. And a CPU may keep the `int3` of code that the other one patches.
        processors: "-accel tcg,thread=single -smp 1",
        // VMRUN for a guest that waits to take an interrupt adds to what the CPU is asked for (svm_helper.c,
        // `interrupt_request |= CPU_INTERRUPT_VIRQ`, one instruction) without the lock under which QEMU's main
        // thread does so when the local APIC's timer runs out. What that adds at the same moment is lost, and
        // Linux waits for its clock for ever: within 4 to 20 s, three times of three, where a guest waited all
        // the time and the threads were on two processors; in 90 s on one, not at all.
        on_one_processor: true,
        // For guests of 5 GiB.
        memory: 6144,
        console: "ttyS0",
        reports: "/dev/ttyS1",
        reports_words: &["-serial", "stdio"],
    },
    linux: Linux {
        packages: Wanted {
            folder: "linux",
            suite: None,
            packages: &["linux-image-cloud-amd64", "busybox-static"],
            except: &["initramfs-tools", "kmod", "linux-base"],
        },
        root: "",
        modules: &[
            "virt/lib/irqbypass.ko",
            "arch/x86/kvm/kvm.ko",
            "arch/x86/kvm/kvm-amd.ko",
            "drivers/net/tun.ko",
        ],
        disk_modules: &[
            "drivers/virtio/virtio_ring.ko",
            "drivers/virtio/virtio.ko",
            "drivers/virtio/virtio_mmio.ko",
            "drivers/virtio/virtio_pci_legacy_dev.ko",
            "drivers/virtio/virtio_pci_modern_dev.ko",
            "drivers/virtio/virtio_pci.ko",
            "drivers/block/virtio_blk.ko",
        ],
        device_modules: &[
            "drivers/char/hw_random/virtio-rng.ko",
            "drivers/virtio/virtio_balloon.ko",
            "drivers/char/virtio_console.ko",
            "drivers/misc/pvpanic/pvpanic.ko",
            "drivers/misc/pvpanic/pvpanic-mmio.ko",
        ],
        net_modules: &[
            "net/core/failover.ko",
            "drivers/net/net_failover.ko",
            "drivers/net/virtio_net.ko",
        ],
        vsock_modules: &[
            "net/vmw_vsock/vsock.ko",
            "net/vmw_vsock/vmw_vsock_virtio_transport_common.ko",
            "net/vmw_vsock/vmw_vsock_virtio_transport.ko",
        ],
        general: Wanted {
            folder: "linux-general",
            suite: None,
            packages: &["linux-image-amd64"],
            except: &["initramfs-tools", "kmod", "linux-base"],
        },
        share_modules: &[
            "drivers/virtio/virtio_ring.ko",
            "drivers/virtio/virtio.ko",
            "drivers/virtio/virtio_mmio.ko",
            "drivers/virtio/virtio_pci_legacy_dev.ko",
            "drivers/virtio/virtio_pci_modern_dev.ko",
            "drivers/virtio/virtio_pci.ko",
            "fs/netfs/netfs.ko",
            "fs/fscache/fscache.ko",
            "net/9p/9pnet.ko",
            "net/9p/9pnet_virtio.ko",
            "fs/9p/9p.ko",
        ],
        end: ("outb", OUTB),
        kernel: "vmlinuz",
        unpacked: Some("vmlinux"),
    },
    payloads: &[
        payload("memtest", "memtest86+x64.bin", &["memtest86+"]),
        payload("xen", "xen-4.17-amd64.gz", &["xen-hypervisor-4.17-amd64"]),
        payload("gnumach", "gnumach-1.8-486.gz", &["gnumach-image-1.8-486"]),
        payload("ipxe", "ipxe.lkrn", &["ipxe"]),
    ],
    // What needs a real KVM: the backend with its conformance suite, and whole VMs. Every other test is
    // the same on any machine, and CI has run it by now.
    sets: &[Set {
        name: "",
        tests: &[&["--package=hv-kvm"], &["--package=runner", "--test=vm"]],
        choice: Choice::AllBut { these: &[], yet: &[] },
        runner: None,
        environment: &[],
        skips: skips::X86_64,
    }],
    gates: &[
        // People copy it to machines and into containers; what a dependency adds is easily tens of
        // kilobytes and never seen in a review. Raise this for something a user asked for, not for a
        // convenience of ours.
        Gate::Size { limit: 3_900_000 },
        // The smallest program that boots a guest on the same KVM takes 1.5 million, nearly all of them
        // the kernel's; the rest is ours.
        Gate::Hello { limit: 3_900_000 },
        Gate::Families(&[
            family("Linux", "x86_64/kernels/linux_info.elf", "ram disk: "),
            family("bzImage", "x86_64/bzimage/linux64.bin", "ram disk: "),
            family("PVH", "x86_64/kernels/pvh_info.elf", "ram disk: "),
            family("Multiboot", "x86_64/kernels/multiboot_info.elf", "ram disk: "),
            family("hvt", "x86_64/hvt/hello.elf", "Hello"),
            family("Hermit", "x86_64/hermit/hello.elf", "Hello"),
            family_with(
                "Hermit's loader",
                "x86_64/multiboot/hermit_loader.bin",
                "x86_64/hermit/hello.elf",
                "work",
            ),
            family("Unikraft", "x86_64/systems/unikraft.elf", "work"),
            family("OSv", "x86_64/systems/osv.elf", "--nopci"),
            family("FreeBSD", "x86_64/systems/freebsd.elf", "cpus: 1"),
            family("NetBSD", "x86_64/systems/netbsd.elf", "cpus: 1"),
        ]),
        // 128 MiB, one CPU. 1.01 times what Firecracker 1.17 took for that kernel in this lab, 1325.8
        // million.
        Gate::Linux {
            limit: 1_339_000_000,
            start: LinuxStart {
                kernel: "vmlinux",
                // `no-kvmapf`: the interrupt that begins asynchronous page faults goes through 256
                // locks, and QEMU may deliver it twice (see `processors`), always at the same
                // instruction when instructions are its clock: half of the boots hung there.
                words: "console=ttyS0 quiet panic=-1 no-kvmapf -- 1281 7",
                status: 7,
            },
        },
    ],
};
