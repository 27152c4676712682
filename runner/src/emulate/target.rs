//! The QEMU that stands in for each board: its program, its machine, and what it has of the board's
//! devices. What is the same for both is in [`super::command`].

use hv::Arch;

/// Which processor an ELF file is for (System V ABI, `e_machine`).
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;

/// What QEMU tells in its log, or on its control channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The guest runs.
    Began,
    /// A vCPU could not deliver a double fault.
    TripleFault,
    /// The guest switched itself off.
    Off,
    /// The guest asked its firmware for a reset.
    Restart,
}

/// A QEMU for one architecture's guests.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Whose guests.
    pub(super) arch: Arch,
    /// The program. Found in `PATH`, as a shell would.
    pub(super) program: &'static str,
    /// The machine, for a person.
    pub(super) machine: &'static str,
    /// The most CPUs it has.
    pub(super) max_cpus: u32,
    /// The most RAM it has, in bytes.
    pub(super) max_memory: u64,
    /// Its firmware can set up devices on the PCI bus.
    pub(super) has_pci: bool,
    /// The processor of what is loaded.
    pub(super) elf_machine: u16,
    /// What its words in the log mean.
    pub(super) marks: &'static [(&'static [u8], Mark)],
    /// How each system installs it: what os-release(5) calls the system, and the command.
    pub(super) packages: [(&'static [&'static str], &'static str); 5],
}

const DEBIAN: &[&str] = &["debian", "ubuntu"];
const FEDORA: &[&str] = &["fedora", "rhel", "centos"];
const ARCH: &[&str] = &["arch"];
const ALPINE: &[&str] = &["alpine"];
const SUSE: &[&str] = &["suse", "opensuse"];

/// `microvm` without ACPI, whose map our PC follows (`docs/system/i386/microvm.rst`,
/// `hw/i386/microvm.c`; target/i386, `check_exception`, for what it logs).
static PC: Target = Target {
    arch: Arch::X86_64,
    program: "qemu-system-x86_64",
    machine: "microvm",
    max_cpus: 288,
    max_memory: u64::MAX,
    has_pci: false,
    elf_machine: EM_X86_64,
    marks: &[(b"Triple fault", Mark::TripleFault)],
    packages: [
        (DEBIAN, "sudo apt install qemu-system-x86"),
        (FEDORA, "sudo dnf install qemu-system-x86-core"),
        (ARCH, "sudo pacman -S qemu-system-x86"),
        (ALPINE, "sudo apk add qemu-system-x86_64"),
        (SUSE, "sudo zypper install qemu-x86"),
    ],
};

/// `virt`, whose map ours is (`docs/system/arm/virt.rst`, `hw/arm/virt.c`), without what lies above
/// 4 GiB: so configuration space is where the board has it, and RAM ends there. Its events are those of
/// QEMU's QMP reference.
static VIRT: Target = Target {
    arch: Arch::Aarch64,
    program: "qemu-system-aarch64",
    machine: "virt",
    max_cpus: 123,
    max_memory: 3 << 30,
    has_pci: true,
    elf_machine: EM_AARCH64,
    marks: &[
        (b"\"RESUME\"", Mark::Began),
        (b"\"guest-shutdown\"", Mark::Off),
        (b"\"guest-reset\"", Mark::Restart),
    ],
    packages: [
        (DEBIAN, "sudo apt install qemu-system-arm"),
        (FEDORA, "sudo dnf install qemu-system-aarch64-core"),
        (ARCH, "sudo pacman -S qemu-system-aarch64"),
        (ALPINE, "sudo apk add qemu-system-aarch64"),
        (SUSE, "sudo zypper install qemu-arm"),
    ],
};

impl Target {
    /// That for guests of `arch`.
    pub(super) fn of(arch: Arch) -> &'static Target {
        match arch {
            Arch::X86_64 => &PC,
            Arch::Aarch64 => &VIRT,
        }
    }

    /// The arguments for the machine and what it has of itself, the console but for its other end: words
    /// with single spaces. `exit` and `log` are the descriptors of those, `port` is where a PC's guest ends.
    pub(super) fn arguments(&self, port: u16, exit: i32, log: i32) -> Vec<String> {
        match self.arch {
            Arch::X86_64 => vec![
                "-machine microvm,acpi=off,ioapic2=off,pic=on,pit=on,rtc=on,isa-serial=on,\
                 x-option-roms=off,auto-kernel-cmdline=off"
                    .to_owned(),
                "-cpu max".to_owned(),
                // Not isa-debug-exit, which shifts the value and so loses its top bit; not isa-debugcon,
                // which ignores what is wider than a byte. A UART sends the first byte of any access, as
                // it is.
                format!("-chardev null,id=exit,logfile=/dev/fd/{exit}"),
                format!("-device isa-serial,chardev=exit,iobase={port:#x},irq=3"),
                // Command 0xfe to port 0x64: reset.
                "-device i8042".to_owned(),
                format!("-d cpu_reset -D /dev/fd/{log}"),
            ],
            Arch::Aarch64 => vec![
                "-machine virt,gic-version=3,its=off,highmem=off".to_owned(),
                // Authenticating pointers as the architecture suggests takes most of the time.
                "-cpu max,pauth-impdef=on".to_owned(),
                // For SYS_EXIT. Whatever else a guest asks for would go to a debugger, and there is none:
                // it gets at no file of the host's.
                "-semihosting-config enable=on,target=gdb".to_owned(),
                // It waits for the word to run, which comes on the control channel: what ends it before
                // is not the guest.
                format!("-S -chardev socket,id=log,fd={log} -mon chardev=log,mode=control"),
            ],
        }
    }
}

/// What has QEMU run the guest and tell how it ends (QEMU, "QEMU Machine Protocol").
pub(super) const RUN: &[u8] = b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"cont\"}";
