//! Where boot data stands, and what that leaves to kernels and ram disks.
//!
//! On a PC all of it is below 640 KiB, which kernels leave alone until they have read it, and none of
//! it at 0.

use hv::Arch;

use super::{Gpas, hvt, uhyve};
use crate::image::hermit::Interface;
use crate::machine::map::{pc, virt};

/// The BIOS data area's words for where the extended one begins, in paragraphs, and for the KiB of
/// conventional memory: [`LOW_END`]. Xen looks nowhere else for room below 1 MiB, and who looks for an MP table
/// begins there.
pub(super) const BIOS_DATA: [(u64, [u8; 2]); 2] =
    [(0x40e, word(LOW_END >> 4)), (0x413, word(LOW_END >> 10))];

/// The low 16 bits.
const fn word(value: u64) -> [u8; 2] {
    let [b0, b1, ..] = value.to_le_bytes();
    [b0, b1]
}

/// The GDT that the boot vCPU's segments come from.
pub(super) const GDT: u64 = 0x500;

/// PVH's start_info, the module list and the memory map: one page.
pub(super) const START_INFO: u64 = 0x4000;
pub(super) const MODULES: u64 = 0x4080;
pub(super) const MEMORY_MAP: u64 = 0x4100;

/// Multiboot's information, and what that points at: one page, where QEMU has it (hw/i386/multiboot.c).
/// Hermit's loader puts the kernel's stack behind it, and the kernel other processors' first code at 0x8000.
pub(super) mod multiboot {
    pub(in crate::boot) const INFORMATION: u64 = 0x9000;
    pub(in crate::boot) const LOADER_NAME: u64 = 0x9078;
    pub(in crate::boot) const MODULES: u64 = 0x9080;
    pub(in crate::boot) const MEMORY_MAP: u64 = 0x9100;
}

/// The stack pointer a guest is given. PVH and Linux's 64-bit entry leave it undefined, but Nanos
/// among others calls a subroutine before it sets one; there is a page below this for it.
pub(super) const STACK_TOP: u64 = 0x7000;

/// Linux's zero page. Nanos wants 0x7d00-0x7daa to be zero, which it is inside this page.
pub(super) const ZERO_PAGE: u64 = 0x7000;

/// The identity map of the first GiB, three pages.
pub(super) const PAGE_TABLES: u64 = 0x9000;

/// The command line, NUL-terminated.
pub(super) const COMMAND_LINE: u64 = 0x2_0000;

/// The most a command line can have, without its NUL: Linux takes 2047 and cuts the rest off
/// itself; Nanos takes what it gets.
pub(super) const COMMAND_LINE_MAX: usize = 0xffff;

/// ACPI's RSDP, and behind it the other tables: the area where guests scan for it, in the half that
/// QEMU's firmware leaves free.
pub(super) const RSDP: u64 = 0xe_0000;

/// Where a processor begins in real mode, f000:fff0: what resets a machine by a jump goes there.
pub(super) const RESET_VECTOR: u64 = 0xf_fff0;

/// All of the above but the RSDP and what is behind it lies in here.
pub(super) const BOOT_DATA: Gpas = 0..0x3_0000;

/// Conventional memory ends here; up to 1 MiB there would be a BIOS, and tables that guests scan for.
pub(super) const LOW_END: u64 = 0x9_fc00;

/// Memory goes on here.
pub(super) const HIGH_START: u64 = 0x10_0000;

/// The device tree of an aarch64 guest, at the beginning of RAM: Nanos takes it from there and from
/// nowhere else. Linux wants no more than 2 MiB of it (`Documentation/arch/arm64/booting.rst`).
pub(super) const DEVICE_TREE: Gpas = virt::RAM..virt::RAM + virt::TREE;

/// A ram disk of Linux's lies in 32 GiB with the kernel (`Documentation/arch/arm64/booting.rst`).
const REACH: u64 = 32 << 30;

/// Where a kernel and a ram disk can be.
pub(super) struct Places {
    /// What is taken, and by what.
    pub(super) taken: &'static [(Gpas, &'static str)],
    /// A ram disk is here, as far as there is RAM.
    pub(super) ram_disk: Gpas,
    /// There is no RAM, however much the guest is given.
    pub(super) hole: Gpas,
    /// What to do with what reaches into it.
    pub(super) out_of_hole: &'static str,
}

static PC: Places = Places {
    taken: &[(BOOT_DATA, "boot data"), (LOW_END..HIGH_START, "the BIOS area")],
    ram_disk: HIGH_START..pc::LOW_RAM_END,
    hole: pc::LOW_RAM_END..pc::HIGH_RAM,
    out_of_hole: "link it lower: from 3 GiB to 4 GiB there is no RAM, however much the guest is given",
};

static VIRT: Places = Places {
    taken: &[(DEVICE_TREE, "the device tree")],
    ram_disk: DEVICE_TREE.end..virt::RAM + REACH,
    hole: 0..virt::RAM,
    out_of_hole: "link it higher: RAM begins at 1 GiB",
};

/// A guest of hvt has no more, on any architecture.
const MOST_HVT_MEMORY: u64 = 4 << 30;

static HVT: Places = Places {
    taken: &[(0..hvt::KERNELS, "boot data")],
    ram_disk: 0..0,
    hole: MOST_HVT_MEMORY..u64::MAX,
    out_of_hole: "link it lower: a guest of hvt has 4 GiB at the most",
};

const UHYVE_LEN: u64 = uhyve::KERNEL;

static UHYVE_LOW: Places = Places {
    taken: &[(0..UHYVE_LEN, "boot data")],
    ram_disk: 0..0,
    hole: pc::LOW_RAM_END..u64::MAX,
    out_of_hole: "link it lower: a guest of uhyve's first interface has 3 GiB at the most",
};

static UHYVE_HIGH: Places = Places {
    taken: &[(pc::HIGH_RAM..pc::HIGH_RAM + UHYVE_LEN, "boot data")],
    ram_disk: 0..0,
    hole: 0..pc::HIGH_RAM,
    out_of_hole: "link it position-independent: RAM begins at 4 GiB",
};

static UHYVE_VIRT: Places = Places {
    taken: &[(virt::RAM..virt::RAM + UHYVE_LEN, "boot data")],
    ram_disk: 0..0,
    hole: 0..virt::RAM,
    out_of_hole: "link it position-independent: RAM begins at 1 GiB",
};

impl Places {
    /// Those of uhyve's machine.
    pub(super) fn of_uhyve(arch: Arch, interface: Interface) -> &'static Places {
        match (arch, interface) {
            (Arch::X86_64, Interface::V1) => &UHYVE_LOW,
            (Arch::X86_64, Interface::V2) => &UHYVE_HIGH,
            (Arch::Aarch64, _) => &UHYVE_VIRT,
        }
    }

    /// Those of Solo5's hvt, on any machine.
    pub(super) fn of_hvt() -> &'static Places {
        &HVT
    }

    /// Those of the machine for guests of `arch`.
    pub(super) fn of(arch: Arch) -> &'static Places {
        match arch {
            Arch::X86_64 => &PC,
            Arch::Aarch64 => &VIRT,
        }
    }
}

/// RAM as a guest is told of it: conventional memory, then everything from 1 MiB on.
pub(super) fn usable_ram(ram: &[Gpas]) -> impl Iterator<Item = Gpas> + '_ {
    let low = ram.first().map(|first| first.start..first.end.min(LOW_END));
    let high = ram.iter().map(|range| range.start.max(HIGH_START)..range.end);
    low.into_iter().chain(high).filter(|range| !range.is_empty())
}
