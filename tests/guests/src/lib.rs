//! Micro-guests of our own: flat binaries, committed with the sources that `tests/guests/build`
//! makes them from. `tests/guests/check` says which are not what their sources give.
//!
//! A new guest is one source, `ARCH/**/NAME.S`, the binary that `build` makes of it, and its line
//! below. A test names those that are forgotten.

/// Includes binaries of one folder, and lists them by path for the test below.
macro_rules! guests {
    ($folder:literal $ending:literal: $($name:ident = $file:literal,)*) => {
        $(
            #[doc = concat!("See `tests/guests/", $folder, "/", $file, ".S`.")]
            pub const $name: &[u8] = include_bytes!(concat!("../", $folder, "/", $file, $ending));
        )*
        #[cfg(test)]
        pub(crate) const LIST: &[&str] = &[$(concat!($folder, "/", $file)),*];
    };
}

/// Guests for x86_64.
pub mod x86_64 {
    /// Those of the conformance suite, `hv::conformance`.
    pub mod conformance {
        guests! {
            "x86_64/conformance" ".bin":
            DOORBELL = "doorbell",
            ECHO = "echo",
            FNSTSW = "fnstsw",
            HALT = "halt",
            IRQ = "irq",
            JUMP_INTO_HOLE = "jump_into_hole",
            LDMXCSR = "ldmxcsr",
            MEET = "meet",
            MMIO_READS = "mmio_reads",
            MMIO_WRITES = "mmio_writes",
            MULPS = "mulps",
            PAGE_CROSSING = "page_crossing",
            PAGE_WRITES = "page_writes",
            PORT_READS = "port_reads",
            PORT_WRITES = "port_writes",
            PROTECTED_MODE = "protected_mode",
            PXOR = "pxor",
            READ_ONLY = "read_only",
            REGISTERS = "registers",
            SIPI = "sipi",
            SPIN = "spin",
            STRING_READS = "string_reads",
            STRING_WRITES = "string_writes",
            SYSTEM_REGISTERS = "system_registers",
            TRIPLE_FAULT = "triple_fault",
            WINDOW_READS = "window_reads",
            XGETBV = "xgetbv",
        }
    }

    /// Linux bzImages.
    pub mod bzimage {
        guests! {
            "x86_64/bzimage" ".bin":
            LINUX32 = "linux32",
            LINUX64 = "linux64",
        }
    }

    /// Multiboot kernels that are no 64-bit ELF files.
    pub mod multiboot {
        guests! {
            "x86_64/multiboot" ".bin":
            ELF32 = "elf32",
            HERMIT_LOADER = "hermit_loader",
            RAW = "raw",
            UNIKRAFT = "unikraft",
        }
    }

    /// Those that do what the kernels of other systems do.
    pub mod systems {
        guests! {
            "x86_64/systems" ".elf":
            FREEBSD = "freebsd",
            HERMIT_LOADER = "hermit_loader",
            NETBSD = "netbsd",
            OSV = "osv",
            UNIKRAFT = "unikraft",
        }
    }

    /// What a processor runs before there is a guest.
    pub mod firmware {
        guests! {
            "x86_64/firmware" ".bin":
            ENTER = "enter",
        }
    }

    /// Hermit unikernels, by uhyve's interface.
    pub mod hermit {
        guests! {
            "x86_64/hermit" ".elf":
            HELLO = "hello",
            PROCESSORS = "processors",
            SCRIPT = "script",
        }
    }

    /// The same by version 2 of the interface.
    pub mod hermit2 {
        guests! {
            "x86_64/hermit2" ".elf":
            HELLO = "hello",
        }
    }

    /// Solo5 unikernels for hvt.
    pub mod hvt {
        guests! {
            "x86_64/hvt" ".elf":
            DEVICES = "devices",
            HELLO = "hello",
            SCRIPT = "script",
        }
    }

    /// Those that ask for what only KVM has.
    pub mod kvm {
        guests! {
            "x86_64/kvm" ".bin":
            PVCLOCK = "pvclock",
        }
    }

    /// ELF kernels.
    pub mod kernels {
        guests! {
            "x86_64/kernels" ".elf":
            ACPI_INFO = "acpi_info",
            BIOS_RESET = "bios_reset",
            DISK = "disk",
            DISK_LAST_WRITE = "disk_last_write",
            DISK_LOOP = "disk_loop",
            DISK_READS = "disk_reads",
            DISK_READS_8 = "disk_reads_8",
            DISK_WRITES = "disk_writes",
            ECHO = "echo",
            EXIT = "exit",
            FLOOD = "flood",
            HALT = "halt",
            HELLO = "hello",
            LINUX_INFO = "linux_info",
            MULTIBOOT_INFO = "multiboot_info",
            PARKED = "parked",
            PVH_INFO = "pvh_info",
            RESET = "reset",
            SCRIPT = "script",
            SECOND_CPU = "second_cpu",
            SPIN = "spin",
            SSE = "sse",
            STORM = "storm",
            TINY = "tiny",
            TRIPLE_FAULT = "triple_fault",
            WEB = "web",
        }
    }

    /// Programs for a Linux that is a guest.
    pub mod programs {
        guests! {
            "x86_64/programs" ".elf":
            OUTB = "outb",
        }
    }
}

/// Guests for aarch64.
pub mod aarch64 {
    /// Those of the conformance suite, `hv::conformance`.
    pub mod conformance {
        guests! {
            "aarch64/conformance" ".bin":
            ALIASED = "aliased",
            CALLS = "calls",
            CONTROLLER = "controller",
            DOORBELL = "doorbell",
            ECHO = "echo",
            EVERY_REGISTER = "every_register",
            IRQ = "irq",
            JUMP_INTO_HOLE = "jump_into_hole",
            MEET = "meet",
            MMIO_READS = "mmio_reads",
            MMIO_WRITES = "mmio_writes",
            MONITORS = "monitors",
            NO_SYNDROME = "no_syndrome",
            PAGE_WRITES = "page_writes",
            READ_ONLY = "read_only",
            REGISTERS = "registers",
            SIGNED_READS = "signed_reads",
            SPIN = "spin",
            TIMER = "timer",
            UNALIGNED = "unaligned",
            UNKNOWN_REGISTER = "unknown_register",
            WAIT = "wait",
            WINDOW_READS = "window_reads",
        }
    }

    /// Hermit unikernels, by uhyve's interface.
    pub mod hermit {
        guests! {
            "aarch64/hermit" ".elf":
            HELLO = "hello",
            PROCESSORS = "processors",
            SCRIPT = "script",
        }
    }

    /// Solo5 unikernels for hvt.
    pub mod hvt {
        guests! {
            "aarch64/hvt" ".elf":
            DEVICES = "devices",
            HELLO = "hello",
            SCRIPT = "script",
        }
    }

    /// Those that do what the kernels of other systems do.
    pub mod systems {
        guests! {
            "aarch64/systems" ".bin":
            OSV = "osv",
            UNIKRAFT = "unikraft",
        }
    }

    /// What a processor runs before there is a guest.
    pub mod firmware {
        guests! {
            "aarch64/firmware" ".bin":
            ENTER = "enter",
        }
    }

    /// ELF kernels.
    pub mod kernels {
        guests! {
            "aarch64/kernels" ".elf":
            DISK = "disk",
            DISK_LAST_WRITE = "disk_last_write",
            DISK_LOOP = "disk_loop",
            ECHO = "echo",
            EXIT = "exit",
            FLOOD = "flood",
            HALT = "halt",
            HELLO = "hello",
            HERMIT_LOADER = "hermit_loader",
            OFF = "off",
            PARKED = "parked",
            RESET = "reset",
            SCRIPT = "script",
            SECOND_CPU = "second_cpu",
            SEMIHOSTING = "semihosting",
            SPIN = "spin",
        }
    }

    /// Programs for a Linux that is a guest.
    pub mod programs {
        guests! {
            "aarch64/programs" ".elf":
            POWER_OFF = "power_off",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    /// The sources below `folder`, by path without the ending.
    fn sources(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "S") {
                let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
                found.insert(name.with_extension("").to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn every_source_has_its_line_here() {
        let mut found = BTreeSet::new();
        sources(Path::new(env!("CARGO_MANIFEST_DIR")), &mut found);
        let lists = [
            crate::x86_64::bzimage::LIST,
            crate::x86_64::conformance::LIST,
            crate::x86_64::firmware::LIST,
            crate::x86_64::hermit::LIST,
            crate::x86_64::hermit2::LIST,
            crate::x86_64::hvt::LIST,
            crate::x86_64::kernels::LIST,
            crate::x86_64::kvm::LIST,
            crate::x86_64::multiboot::LIST,
            crate::x86_64::programs::LIST,
            crate::x86_64::systems::LIST,
            crate::aarch64::conformance::LIST,
            crate::aarch64::firmware::LIST,
            crate::aarch64::hermit::LIST,
            crate::aarch64::hvt::LIST,
            crate::aarch64::kernels::LIST,
            crate::aarch64::programs::LIST,
            crate::aarch64::systems::LIST,
        ];
        let listed = lists.concat().into_iter().map(str::to_owned).collect();
        assert_eq!(found, listed);
    }
}
