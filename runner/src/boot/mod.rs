//! Boot protocols, as data: what has to be in memory, and the boot vCPU's registers. What else a guest needs,
//! and how it ends, follows from its [`Family`].
//!
//! A [`BootPlan`] is made from an image and the machine's map before anything of the host is
//! touched; [`BootPlan::load`] carries it out, for our machine and for the software emulation alike.

mod acpi;
pub(crate) mod bytes;
mod cmdline;
mod el1;
mod error;
mod fdt;
pub mod hvt;
mod layout;
mod linux;
mod load;
mod mp;
mod multiboot;
mod pc;
mod protocol;
mod pvh;
mod semihosting;
pub mod uhyve;
mod virt;

use std::ops::Range;
use std::time::Duration;

use hv::{GuestMemory, State};

pub use acpi::Tables as AcpiTables;
pub use cmdline::{CommandLine, nanos_mounts, nanos_overrides, plain_words, shell_word};
pub use error::Error;
pub use fdt::Tree;
pub use load::Loaded;
pub use protocol::Protocol;
pub use virt::OSV_COMMAND_LINE_MAX;

use crate::family::ends::POWER_PORT;
use crate::family::{Announcement, Family, FirstWord, System, Tables};
use crate::image::{Arch, Format, Image, Kernel, Source};
use crate::machine::map::{self, Board};
use crate::machine::slot::{Place, VIRTIO_WINDOW, VirtioSlot};
use hvt::Hvt;
use uhyve::Uhyve;

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
        let setup = self.kernel.setup().map(|setup| setup.cmdline_size);
        let own = setup.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX);
        let max = own.min(self.family.command_line_max).min(layout::COMMAND_LINE_MAX);
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
