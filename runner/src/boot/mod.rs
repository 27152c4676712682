//! Boot protocols, as data: what has to be in memory, and the boot vCPU's registers. What else a guest needs,
//! and how it ends, follows from its [`Family`].
//!
//! A [`BootPlan`] is made from an image and the machine's map before anything of the host is
//! touched; [`BootPlan::load`] carries it out, for our machine and for the software emulation alike.

mod acpi;
pub(crate) mod bytes;
mod cmdline;
mod el1;
mod fdt;
pub mod hvt;
mod layout;
mod linux;
mod load;
mod mp;
mod multiboot;
mod pc;
mod pvh;
mod semihosting;
pub mod uhyve;
mod virt;

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use hv::{GuestMemory, State};

pub use acpi::Tables as AcpiTables;
pub use cmdline::{CommandLine, nanos_mounts, nanos_overrides, plain_words, shell_word};
pub use fdt::Tree;
pub use load::Loaded;
pub use virt::OSV_COMMAND_LINE_MAX;

use crate::family::ends::POWER_PORT;
use crate::family::{Announcement, Family, FirstWord, System, Tables};
use crate::image::{Arch, Format, Image, Kernel, Source};
use crate::machine::map::{self, Board};
use crate::machine::slot::{Place, VIRTIO_WINDOW, VirtioSlot};
use hvt::Hvt;
use uhyve::Uhyve;

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
    /// Solo5's hvt ([`hvt`]).
    Hvt,
    /// Hermit's, as uhyve makes it ([`uhyve`]).
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
        match (self, kernel.arch()) {
            (Protocol::Linux64, Arch::X86_64) => kernel.entry(),
            (Protocol::Linux32, Arch::X86_64) => kernel.entry32().map(u64::from),
            (Protocol::Pvh, Arch::X86_64) => kernel.pvh_entry().map(u64::from),
            (Protocol::Multiboot, Arch::X86_64) => kernel.multiboot_entry().map(u64::from),
            (Protocol::Arm64, Arch::Aarch64) => kernel.entry(),
            (Protocol::Hvt, _) => kernel.solo5().map(|solo5| solo5.entry),
            (Protocol::Uhyve, _) => kernel.hermit().map(|hermit| hermit.entry),
            _ => None,
        }
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

/// What a guest is loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Our machine. A guest's time is the hypervisor's and the local APICs': hardware-reduced ACPI.
    Hypervisor,
    /// QEMU's software emulation. Its PC keeps time with a PIT behind an 8259: ACPI with fixed hardware,
    /// which is registers that keep what is written to them and an interrupt that never comes. Its
    /// `virt` has semihosting.
    Qemu,
}

/// Everything a boot needs.
#[derive(Debug)]
pub struct BootPlan {
    /// The way in.
    pub protocol: Protocol,
    /// The machine it boots on.
    pub board: &'static Board,
    /// Physical address of the first instruction.
    pub entry: u64,
    /// What is loaded and entered.
    pub kernel: Kernel,
    /// A ram disk for the kernel.
    pub initrd: Option<Source>,
    /// ACPI tables, if the guest gets some.
    pub acpi: Option<AcpiTables>,
    /// The number of processors for Intel's MP table, if the guest gets that.
    pub mp: Option<u32>,
    /// What the device tree tells an aarch64 guest.
    pub tree: Tree,
    /// What the kernel is told.
    pub command_line: CommandLine,
    /// What the guest is, and what follows from that.
    pub family: &'static Family,
    /// The kernel ends with a status by a semihosting call, which becomes a hypercall.
    pub exits_by_semihosting: bool,
    /// What hvt's guests have beside; nothing for others.
    pub hvt: Option<Hvt>,
    /// What Hermit's guests have beside; nothing for others.
    pub uhyve: Option<Uhyve>,
}

/// Why an image cannot be booted as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel has no way in that this version knows.
    #[error(
        "{name}: the kernel has no entry point that a boot protocol could use; build it with a PVH note or a physical ELF entry"
    )]
    NoEntry {
        /// The image.
        name: String,
    },
    /// It cannot be entered as `--entry` wants it.
    #[error("--entry={}: {name} cannot be entered that way, only by {can}", asked.name())]
    OtherEntry {
        /// The kernel.
        name: String,
        /// What was asked for.
        asked: Protocol,
        /// What it can, comma separated.
        can: String,
    },
    /// The command line is too long.
    #[error(
        "the kernel's command line has {len} bytes, and the kernel can be given {max}; shorten --append, --args or --envs"
    )]
    CommandLineTooLong {
        /// Its length in bytes.
        len: usize,
        /// The most there can be.
        max: usize,
    },
    /// A value cannot stand on a command line.
    #[error("{what} {value:?} cannot be passed to the guest: {why}; {remedy}")]
    Unpassable {
        /// Which sort of value: `argument`, `environment variable`.
        what: &'static str,
        /// The value.
        value: String,
        /// Why not.
        why: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },
    /// Something does not fit into the guest's memory.
    #[error("{what} needs guest memory {start:#x}-{end:#x}, and {why}; {remedy}")]
    DoesNotFit {
        /// What does not.
        what: String,
        /// First address.
        start: u64,
        /// Address behind the last.
        end: u64,
        /// What is there.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The image could not be read.
    #[error(transparent)]
    Image(#[from] crate::image::Error),
    /// The file could not be read into memory.
    #[error("{name}: {error}; check the file and the disk it is on")]
    Read {
        /// The file.
        name: String,
        /// What the operating system said.
        error: std::io::Error,
    },
    /// The device tree could not be made.
    #[error("the device tree: {0}: this is a bug in runner, please report it")]
    Tree(String),
    /// The operating system gives no random bytes, which a guest needs.
    #[error("random bytes: {0}; wait until the system has started")]
    Random(#[from] std::io::Error),
    /// Guest memory could not be written.
    #[error(transparent)]
    Memory(#[from] hv::Error),
}

impl BootPlan {
    /// The plan for booting `kernel`, which is `image`'s own or replaces it, by the protocol `asked`
    /// for or else by the one that suits it best. It has no ram disk, no devices and nothing to tell
    /// the kernel yet.
    ///
    /// # Errors
    /// [`Error::NoEntry`], [`Error::OtherEntry`].
    pub fn new(image: &Image, kernel: Kernel, asked: Option<Protocol>) -> Result<Self, Error> {
        let name = || kernel.view().source().name().to_owned();
        let can = || Protocol::ALL.into_iter().filter(|each| each.entry(&kernel).is_some());
        // Nanos reads a command line by the Linux entry alone, and what OPS builds is Nanos. For
        // any other kernel the PVH note says where it wants to be entered, or a Multiboot header.
        let preferred = match image.format() {
            Format::Ops { .. } => None,
            Format::Multiboot => Some(Protocol::Multiboot),
            _ => Some(Protocol::Pvh),
        };
        let preferred = preferred.filter(|preferred| can().any(|each| each == *preferred));
        let protocol = match asked.or(preferred).or_else(|| can().next()) {
            Some(protocol) => protocol,
            None => return Err(Error::NoEntry { name: name() }),
        };
        let Some(entry) = protocol.entry(&kernel) else {
            let can: Vec<_> = can().map(Protocol::name).collect();
            return Err(Error::OtherEntry { name: name(), asked: protocol, can: can.join(", ") });
        };
        let exits_by_semihosting = image.is_disk() && kernel.arch() == Arch::Aarch64;
        let family = Family::of(protocol, &kernel);
        let (mut hvt, mut uhyve) = (None, None);
        let usual = Board::of(kernel.arch());
        let (kernel, board) = match protocol {
            Protocol::Hvt => {
                hvt = Some(Hvt::default());
                let board = map::hvt::board(kernel.arch());
                (kernel, board)
            }
            Protocol::Uhyve => {
                uhyve = Some(Uhyve::default());
                uhyve::placed(kernel)?
            }
            Protocol::Multiboot => (kernel.by_multiboot(), usual),
            _ => (kernel, usual),
        };
        let entry = protocol.entry(&kernel).unwrap_or(entry);
        Ok(Self {
            protocol,
            board,
            entry,
            kernel,
            initrd: None,
            acpi: None,
            mp: None,
            tree: Tree { cpus: 1, virtio: Vec::new(), pci: None },
            command_line: CommandLine::default(),
            family,
            exits_by_semihosting,
            hvt,
            uhyve,
        })
    }

    /// Whether it is Hermit's loader, with a Hermit unikernel as its ram disk.
    #[must_use]
    pub fn is_hermit_loader(&self) -> bool {
        self.kernel.system() == Some(System::HermitLoader)
    }

    /// Plans for `cpus` processors and for virtio devices, and returns the words that belong on the
    /// command line before all others: what it begins with, and those about these devices.
    ///
    /// A guest of one CPU that takes its devices from the command line has no use for ACPI tables, and
    /// gets none.
    pub fn announce(
        &mut self,
        cpus: u32,
        virtio: impl IntoIterator<Item = VirtioSlot>,
    ) -> Vec<String> {
        let virtio: Vec<_> = virtio.into_iter().collect();
        let on_bus = virtio.iter().any(|slot| matches!(slot.place, Place::Pci { .. }));
        let pci = on_bus.then_some(self.board.virtio.pci);
        // Hermit takes windows of no other size for devices, and looks at no more than its own of one.
        let window = match self.is_hermit_loader() {
            true => "4K".to_owned(),
            false => VIRTIO_WINDOW.to_string(),
        };
        // A kernel looks for what is on the PCI bus itself.
        let word = |slot: VirtioSlot| match slot.place {
            Place::Mmio { base, line } => {
                Some(format!("virtio_mmio.device={window}@{base:#x}:{line}"))
            }
            Place::Pci { .. } => None,
        };
        let mut words: Vec<String> = self.first_word(on_bus).into_iter().collect();
        match self.family.told {
            Announcement::Acpi => {
                let panic = self.family.ends.panic().map(|(port, _)| port);
                self.acpi = Some(AcpiTables { cpus, virtio, pci, power: None, panic });
            }
            Announcement::DeviceTree => self.tree = Tree { cpus, virtio, pci },
            Announcement::Manifest => {}
            Announcement::CommandLine(tables) => {
                let acpi = |pci, power| {
                    Some(AcpiTables { cpus, virtio: Vec::new(), pci, power, panic: None })
                };
                let several = cpus > 1;
                (self.acpi, self.mp) = match tables {
                    Tables::ForSeveral => (acpi(None, None).filter(|_| several), None),
                    Tables::ForSeveralToSwitchOff => {
                        (acpi(None, Some(POWER_PORT)).filter(|_| several), None)
                    }
                    Tables::Always => (acpi(pci, None), None),
                    Tables::Mp => (None, Some(cpus)),
                };
                words.extend(virtio.into_iter().filter_map(word));
            }
        }
        words
    }

    /// Sets the command line.
    ///
    /// # Errors
    /// [`Error::CommandLineTooLong`] for this kernel.
    pub fn tell(&mut self, command_line: CommandLine) -> Result<(), Error> {
        if let Some(setup) = self.kernel.setup() {
            let max = usize::try_from(setup.cmdline_size).unwrap_or(usize::MAX);
            if command_line.len() > max {
                return Err(Error::CommandLineTooLong { len: command_line.len(), max });
            }
        }
        let max = self.family.command_line_max;
        if command_line.len() > max {
            return Err(Error::CommandLineTooLong { len: command_line.len(), max });
        }
        self.command_line = command_line;
        Ok(())
    }

    /// Writes what is known only when a vCPU is: `counter_hz` is the rate of its counter, `now` the time since
    /// 1970.
    ///
    /// # Errors
    /// For a guest that cannot do without a counter of a fixed rate; what does not fit.
    pub fn complete(
        &self,
        memory: &GuestMemory,
        counter_hz: Option<u64>,
        now: Duration,
    ) -> Result<(), Error> {
        match self.protocol {
            Protocol::Hvt => Ok(hvt::tell_counter(memory, counter_hz)?),
            Protocol::Uhyve => self.complete_uhyve(memory, counter_hz, now),
            _ => Ok(()),
        }
    }

    /// The registers that vCPU `id` begins with, where `first` are the first one's; nothing where others wait
    /// for that one to start them.
    #[must_use]
    pub fn state_of(&self, first: &State, id: u32) -> Option<State> {
        (self.protocol == Protocol::Uhyve).then(|| uhyve::state_of(first, id))
    }

    /// What its command line begins with; `pci`: there is a bus.
    fn first_word(&self, pci: bool) -> Option<String> {
        match self.family.first_word {
            FirstWord::Nothing => None,
            FirstWord::NoPci => (!pci).then(|| "--nopci".to_owned()),
            FirstWord::FileName => {
                let path = std::path::Path::new(self.kernel.view().source().name());
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
                let blank = |letter: char| letter.is_whitespace() || letter.is_control();
                Some(name.replace(blank, "_"))
            }
        }
    }
}

/// A stretch of guest physical memory.
type Gpas = Range<u64>;
