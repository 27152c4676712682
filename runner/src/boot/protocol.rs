//! The ways into a kernel, and which of its entries each takes.

use std::fmt;

use crate::image::{Arch, Kernel};

/// A way into a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Linux's 64-bit entry (`Documentation/arch/x86/boot.rst`), of a bzImage or at an ELF file's
    /// entry point.
    Linux64,
    /// Linux's 32-bit entry, of a bzImage.
    Linux32,
    /// Xen's PVH entry (`docs/misc/pvh.pandoc`, `xen/include/public/arch-x86/hvm/start_info.h`).
    Pvh,
    /// Multiboot, version 1 (Multiboot Specification 0.6.96).
    Multiboot,
    /// Linux's entry for arm64 (`Documentation/arch/arm64/booting.rst`), of an Image or at an ELF
    /// file's entry point.
    Arm64,
    /// Solo5's hvt ([`hvt`](super::hvt)).
    Hvt,
    /// Hermit's, as uhyve makes it ([`uhyve`](super::uhyve)).
    Uhyve,
}

impl Protocol {
    /// All of them, the one to be preferred first.
    pub const ALL: [Protocol; 7] = [
        Protocol::Linux64,
        Protocol::Pvh,
        Protocol::Linux32,
        Protocol::Multiboot,
        Protocol::Arm64,
        Protocol::Hvt,
        Protocol::Uhyve,
    ];

    /// As `--entry` has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Linux64 => "linux64",
            Protocol::Linux32 => "linux32",
            Protocol::Pvh => "pvh",
            Protocol::Multiboot => "multiboot",
            Protocol::Arm64 => "arm64",
            Protocol::Hvt => "hvt",
            Protocol::Uhyve => "uhyve",
        }
    }

    /// Where it enters `kernel`, if it can.
    pub(crate) fn entry(self, kernel: &Kernel) -> Option<u64> {
        let arch = kernel.arch();
        let (machine, entry) = match self {
            Protocol::Linux64 => (Arch::X86_64, kernel.entry()),
            Protocol::Linux32 => (Arch::X86_64, kernel.entry32().map(u64::from)),
            Protocol::Pvh => (Arch::X86_64, kernel.pvh_entry().map(u64::from)),
            Protocol::Multiboot => (Arch::X86_64, kernel.multiboot_entry().map(u64::from)),
            Protocol::Arm64 => (Arch::Aarch64, kernel.entry()),
            Protocol::Hvt => (arch, kernel.solo5().map(|solo5| solo5.entry)),
            Protocol::Uhyve => (arch, kernel.hermit().map(|hermit| hermit.entry)),
        };
        entry.filter(|_| machine == arch)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Linux64 => "Linux 64-bit",
            Protocol::Linux32 => "Linux 32-bit",
            Protocol::Pvh => "PVH",
            Protocol::Multiboot => "Multiboot",
            Protocol::Arm64 => "Linux arm64",
            Protocol::Hvt => "Solo5 hvt",
            Protocol::Uhyve => "Hermit uhyve",
        })
    }
}
