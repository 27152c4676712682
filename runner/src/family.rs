//! Which guests there are, and what follows from which one it is. To be read first.
//!
//! A file becomes a guest in four steps, and each is a list in one place:
//!
//! 1. What the file is: `ORDER` in `image/recognise.rs`. The first that knows the file gives its
//!    [`Format`](crate::image::Format) and its kernel, with all the ways in that it has.
//! 2. Whose kernel it is: [`MARKS`]. Most are nobody's, and need not be anybody's.
//! 3. How it is entered: [`Protocol`], what `--entry` asks for or what the format prefers (`BootPlan::new`).
//! 4. Which family that is: [`FAMILIES`]. The first row for such a kernel and such a way in counts.
//!
//! The row is [`BootPlan::family`](crate::boot::BootPlan), and what differs between guests is read from it: by
//! `boot` (its command line, its tables), `plan` (its bus), `machine` (its timer, its ports), `emulate` (whether
//! QEMU can have it, and the port it ends at), `outcome` (its status), README.md's table of ends.
//!
//! Not in the table is what only one protocol's own bytes are about. It stays beside them and asks
//! [`Kernel::system`]: where Hermit's loader wants its module (`boot/load.rs`), OSv's room in a device tree
//! (`boot/virt.rs`), which words and options a guest has (`plan.rs`). Guests of hvt and of uhyve have modules of
//! their own for all of it: `boot/hvt`, `plan/hvt.rs`, and the same for `uhyve`.
//!
//! CONTRIBUTING.md says how to add a family.

pub mod ends;

use std::fmt;

use hv::Arch;

use crate::boot::{OSV_COMMAND_LINE_MAX, Protocol, hvt, uhyve};
use crate::image::Kernel;
use crate::machine::slot::VirtioBus;
use ends::Ends;

/// Whose kernel it is, where a kernel says so and something depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Unikraft.
    Unikraft,
    /// OSv.
    Osv,
    /// FreeBSD.
    FreeBsd,
    /// NetBSD.
    NetBsd,
    /// memtest86+.
    Memtest86Plus,
    /// Hermit's loader.
    HermitLoader,
}

/// Something in a file that only one system's kernels have. None of them is needed to boot.
#[derive(Debug)]
pub enum Mark {
    /// The guest's name, among Xen's ELF notes (`xen/include/public/elfnote.h`, type 6).
    XenNote(&'static [u8]),
    /// How the name of an ELF section begins.
    Section(&'static [u8]),
    /// How the version in a bzImage begins.
    Version(&'static str),
    /// Where the Image for arm64 wants to be, in bytes behind a page of 4 KiB.
    BehindPage(u64),
    /// Text in what is loaded, of an ELF or Multiboot kernel without another mark or a PVH note, whose ram disk is a
    /// Hermit unikernel: no others are read for it.
    Text(&'static [u8]),
}

/// Bytes of the header of an Image. Unikraft puts it in front of a kernel that begins with a page
/// (`support/scripts/mklinux.py`), where Linux's is the kernel's first page.
const IMAGE_HEADER: u64 = 64;

/// By what a system is known; `image/system.rs` looks for them. In an ELF file a name in a note counts before
/// sections.
pub static MARKS: [(Mark, System); 8] = [
    (Mark::XenNote(b"osv"), System::Osv),
    (Mark::XenNote(b"FreeBSD"), System::FreeBsd),
    (Mark::XenNote(b"NetBSD"), System::NetBsd),
    // Its linker scripts have them (`plat/common/include/uk/plat/common/common.lds.h`).
    (Mark::Section(b".uk_"), System::Unikraft),
    // What each processor has for its workers (`arch/x64/loader.ld`, `arch/aarch64/loader.ld`), in the ELF file in an
    // Image as well.
    (Mark::Section(b".percpu_workers"), System::Osv),
    (Mark::BehindPage(4096 - IMAGE_HEADER), System::Unikraft),
    (Mark::Version("Memtest86+"), System::Memtest86Plus),
    // What its messages begin with (hermit-os/loader, `src/log.rs`).
    (Mark::Text(b"[LOADER]"), System::HermitLoader),
];

/// A family of guests that are entered in the same way, and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Which they are, for a person.
    pub guests: &'static str,
    /// Whose kernels.
    whose: Whose,
    /// By which ways in.
    entered: &'static [Protocol],
    /// How they are told of their devices: [`Family::tells`] says of which.
    pub told: Announcement,
    /// What their command lines begin with.
    pub first_word: FirstWord,
    /// The longest command line in bytes, where it is neither memory's limit nor a bzImage's own.
    pub command_line_max: usize,
    /// Where their devices are, if nobody has said. What OPS builds has them on the PCI bus, whatever kernel
    /// stands in for its own.
    pub bus: VirtioBus,
    /// They have a PC's interval timer (PIT), which costs something: who measures its processor by it, and who
    /// cannot be told of another clock.
    pub interval_timer: bool,
    /// They set up performance monitors, arm64's, without a look at whether there are any, as Hermit's kernel does, but
    /// by uhyve's interface (`src/arch/aarch64/kernel/processor.rs`, `configure`). Others are spared them: what they
    /// count is the host's processor.
    pub monitors: bool,
    /// The ports or calls by which they end, and what the values mean.
    pub ends: &'static Ends,
    /// Why software emulation cannot have them; nothing where it can.
    pub not_emulated: Option<&'static str>,
}

/// Whose kernels a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Those of these systems.
    Of(&'static [System]),
    /// Any in a bzImage.
    BzImage,
    /// Any.
    Any,
}

/// How guests are told of virtio-mmio devices: in one way only, or they take a device for two.
///
/// Linux knows both, and so does Nanos, which adds up what it finds (`virtio_mmio_enum_devs`). Debian's
/// Linux has no `virtio_mmio.device=` (`CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES`), so Linux gets ACPI; Nanos
/// gets the command line, which costs no tables and works in every Nanos. (What OPS builds has its devices on
/// the PCI bus, unless it is told otherwise, and looks there itself.) By PVH nobody has to read a command line, and Nanos does not; the RSDP is where it scans.
///
/// Nanos does find devices by ACPI (`LNRO0005`), but takes their interrupt for a pin of the MADT's
/// first IOAPIC (`apic_madt_handler`, `ioapic_set_int`). QEMU's microvm with ACPI has a second one
/// (`ioapic2`) and puts them there, at 24 and up: no interrupt ever comes, the disk's first read never
/// ends, and the guest idles as if it had no disk. With `ioapic2=off` it boots. Ours has one IOAPIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// Words of its command line, and tables for the rest.
    CommandLine(Tables),
    /// Devices in the DSDT.
    Acpi,
    /// Nodes of the device tree.
    DeviceTree,
    /// Entries of the guest's manifest, which are filled in.
    Manifest,
}

/// What tells a guest of its processors that is told of its devices by its command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// ACPI's, where there are several: one needs none, and who has one has no use for them.
    ForSeveral,
    /// The same, with a port to switch the machine off by: there is no other way to end with such tables.
    ForSeveralToSwitchOff,
    /// ACPI's, in any case, and the PCI bus is in them.
    Always,
    /// Intel's MP table, in any case.
    Mp,
}

/// What command lines begin with, before all words about devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstWord {
    /// Nothing of its own.
    Nothing,
    /// The kernel's file name, as one word. By Multiboot kernels skip it, as programs do; Unikraft's program has
    /// it as its own name, however it is entered.
    FileName,
    /// OSv's word that spares it the search for a PCI bus, where there is none.
    NoPci,
}

/// What there is of anybody's, on both machines.
const BASE: Family = Family {
    guests: "",
    whose: Whose::Any,
    entered: &[],
    told: Announcement::Acpi,
    first_word: FirstWord::Nothing,
    command_line_max: usize::MAX,
    bus: VirtioBus::Mmio,
    interval_timer: false,
    monitors: false,
    ends: &ends::PC,
    not_emulated: None,
};

const UNIKRAFT: Family = Family {
    whose: Whose::Of(&[System::Unikraft]),
    first_word: FirstWord::FileName,
    interval_timer: true,
    ends: &ends::UNIKRAFT,
    ..BASE
};

const OSV: Family = Family { whose: Whose::Of(&[System::Osv]), ends: &ends::OSV, ..BASE };

/// It insists on tables, and looks for its bus there. Hermit's kernel is built for one bus, for PCI if nobody says
/// otherwise.
const HERMIT_LOADER: Family = Family {
    whose: Whose::Of(&[System::HermitLoader]),
    told: Announcement::CommandLine(Tables::Always),
    bus: VirtioBus::Pci,
    interval_timer: true,
    ends: &ends::HERMIT_LOADER,
    ..BASE
};

/// The aarch64 machine's.
const AARCH64: Family = Family {
    entered: &[Protocol::Arm64],
    told: Announcement::DeviceTree,
    ends: &ends::AARCH64,
    ..BASE
};

/// All families. A row that has a system stands before those for anybody's kernels, which are for each way in, and
/// take a system's kernels, too, by the ways in that it has no row for.
pub static FAMILIES: [Family; 18] = [
    Family {
        guests: "Solo5 unikernels for hvt",
        entered: &[Protocol::Hvt],
        told: Announcement::Manifest,
        command_line_max: hvt::COMMAND_LINE_MAX,
        ends: &ends::HVT,
        not_emulated: Some("QEMU has no hvt, and a Solo5 guest for hvt needs an accelerator"),
        ..BASE
    },
    Family {
        guests: "Hermit unikernels, by uhyve's interface",
        entered: &[Protocol::Uhyve],
        told: Announcement::DeviceTree,
        command_line_max: uhyve::COMMAND_LINE_MAX,
        bus: VirtioBus::Pci,
        ends: &ends::UHYVE,
        not_emulated: Some(
            "QEMU has no uhyve, and a Hermit guest needs an accelerator, or Hermit's loader, with the \
             guest as its --initrd",
        ),
        ..BASE
    },
    Family {
        guests: "Hermit's loader for Multiboot",
        entered: &[Protocol::Multiboot],
        first_word: FirstWord::FileName,
        ..HERMIT_LOADER
    },
    Family {
        // That has no PCI bus.
        guests: "Hermit's loader for Firecracker",
        entered: &[Protocol::Linux64],
        bus: VirtioBus::Mmio,
        ..HERMIT_LOADER
    },
    Family {
        guests: "Hermit's loader for arm64",
        whose: Whose::Of(&[System::HermitLoader]),
        bus: VirtioBus::Pci,
        monitors: true,
        ..AARCH64
    },
    Family {
        guests: "Unikraft for QEMU",
        entered: &[Protocol::Multiboot, Protocol::Pvh],
        ..UNIKRAFT
    },
    Family {
        guests: "Unikraft for Firecracker",
        entered: &[Protocol::Linux64],
        told: Announcement::CommandLine(Tables::ForSeveral),
        // It resets, and that is all.
        ends: &ends::PC,
        ..UNIKRAFT
    },
    Family {
        guests: "Unikraft for arm64",
        whose: Whose::Of(&[System::Unikraft]),
        first_word: FirstWord::FileName,
        ..AARCH64
    },
    Family {
        // Which reads of its devices on its command line, however it is entered.
        guests: "OSv",
        entered: &[Protocol::Pvh, Protocol::Linux64],
        told: Announcement::CommandLine(Tables::ForSeveralToSwitchOff),
        first_word: FirstWord::NoPci,
        ..OSV
    },
    Family {
        guests: "OSv by Multiboot",
        entered: &[Protocol::Multiboot],
        first_word: FirstWord::FileName,
        interval_timer: true,
        ..OSV
    },
    Family {
        guests: "OSv for arm64",
        whose: Whose::Of(&[System::Osv]),
        command_line_max: OSV_COMMAND_LINE_MAX,
        ..AARCH64
    },
    Family {
        guests: "FreeBSD and NetBSD, their kernels for virtual machines without ACPI",
        whose: Whose::Of(&[System::FreeBsd, System::NetBsd]),
        entered: &[Protocol::Pvh, Protocol::Linux64],
        told: Announcement::CommandLine(Tables::Mp),
        interval_timer: true,
        ..BASE
    },
    Family {
        guests: "memtest86+",
        whose: Whose::Of(&[System::Memtest86Plus]),
        entered: &[Protocol::Linux64, Protocol::Linux32],
        interval_timer: true,
        ..BASE
    },
    Family {
        guests: "Linux, and what else is a bzImage",
        whose: Whose::BzImage,
        entered: &[Protocol::Linux64, Protocol::Linux32],
        ends: &ends::LINUX,
        ..BASE
    },
    Family {
        guests: "Nanos, and other ELF kernels by Linux's 64-bit entry",
        entered: &[Protocol::Linux64],
        told: Announcement::CommandLine(Tables::ForSeveral),
        ends: &ends::PC,
        ..BASE
    },
    Family {
        guests: "Linux, Nanos and other kernels by PVH",
        entered: &[Protocol::Pvh],
        ends: &ends::LINUX,
        ..BASE
    },
    Family {
        // Multiboot has no way to tell of another clock.
        guests: "Xen, gnumach and other kernels by Multiboot",
        entered: &[Protocol::Multiboot],
        first_word: FirstWord::FileName,
        interval_timer: true,
        ..BASE
    },
    Family { guests: "Linux, Nanos and other kernels for arm64", ..AARCH64 },
];

impl System {
    /// The system with the mark for which `is` holds.
    pub(crate) fn marked(is: impl Fn(&Mark) -> bool) -> Option<Self> {
        MARKS.iter().find(|(mark, _)| is(mark)).map(|(_, system)| *system)
    }
}

impl Family {
    /// That of `kernel`, entered by `protocol`.
    #[must_use]
    pub fn of(protocol: Protocol, kernel: &Kernel) -> &'static Self {
        // There is one for each way in: a test goes through them.
        Self::find(protocol, kernel.system(), kernel.setup().is_some()).unwrap_or(&BASE)
    }

    fn find(protocol: Protocol, system: Option<System>, is_bzimage: bool) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| {
            family.entered.contains(&protocol)
                && match family.whose {
                    Whose::Of(systems) => system.is_some_and(|system| systems.contains(&system)),
                    Whose::BzImage => is_bzimage,
                    Whose::Any => true,
                }
        })
    }

    /// How such a guest on `arch` learns of virtio devices on `bus`; nothing where it looks for them itself.
    #[must_use]
    pub fn tells(&self, arch: Arch, bus: VirtioBus) -> Option<Announcement> {
        match (self.told, arch, bus) {
            (Announcement::CommandLine(Tables::Always), _, VirtioBus::Pci) => {
                Some(Announcement::Acpi)
            }
            (Announcement::CommandLine(_), _, VirtioBus::Pci) => None,
            // Hermit by uhyve, which has no nodes of them there (`boot/uhyve/tree.rs`).
            (Announcement::DeviceTree, Arch::X86_64, _) => None,
            (told, ..) => Some(told),
        }
    }

    /// Where such a guest ends, and the old hardware that only it has, for a person.
    pub fn own_hardware(&self) -> Vec<String> {
        let timer = self.interval_timer.then(|| "interval timer, ports 0x40-0x43".to_owned());
        let name = |port| if port == ends::POWER_PORT { "power" } else { "exit" };
        let own = self.ends.ports().map(|(port, _)| format!("{}, port {port:#x}", name(port)));
        let panic = self.ends.panic().map(|(port, _)| format!("pvpanic, port {port:#x}"));
        let monitors = self.monitors.then(|| "performance monitors".to_owned());
        own.chain(panic).chain(timer).chain(monitors).collect()
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            System::Unikraft => "Unikraft",
            System::Osv => "OSv",
            System::FreeBsd => "FreeBSD",
            System::NetBsd => "NetBSD",
            System::Memtest86Plus => "memtest86+",
            System::HermitLoader => "Hermit's loader",
        })
    }
}

impl fmt::Display for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Announcement::CommandLine(_) => "the command line",
            Announcement::Acpi => "ACPI",
            Announcement::DeviceTree => "the device tree",
            Announcement::Manifest => "the guest's manifest",
        })
    }
}

#[cfg(test)]
#[path = "family/tests.rs"]
mod tests;
