//! The plan of a run: everything opened, parsed and decided, nothing started.

mod describe;
mod devices;
mod disks;
pub(crate) mod dump;
mod hvt;
mod images;
mod inspect;
mod network;
mod told;
mod uhyve;
mod volumes;

use std::fs::File;
use std::time::Duration;

use crate::boot::{BootPlan, CommandLine, plain_words};
use crate::config::{AccelChoice, Settings};
use crate::family::System;
use crate::image::{self, Access, Arch, Image, Kernel, Marks, Source};
use crate::jail::Role;
use crate::machine::map::Board;
use crate::machine::slot::{Place, VirtioBus, VirtioSlot};
pub use devices::{ConsolePlan, DeviceKind, DevicePlan, SharePlan, VsockPlan};
pub use disks::DiskPlan;
use disks::Room;
pub use dump::DumpPlan;
pub use hvt::{BlockPlan, HvtPlan, PortPlan};
use images::Opened;
pub use inspect::inspect;
pub use network::NetworkPlan;
use told::Told;
pub use uhyve::UhyvePlan;

/// Why a run cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image, a kernel or a ram disk.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// No image of that name.
    #[error(transparent)]
    NotFound(#[from] images::NotFound),
    /// The boot protocol.
    #[error(transparent)]
    Boot(#[from] crate::boot::Error),
    /// A disk that another program uses.
    #[error(transparent)]
    Locked(#[from] crate::io::lock::Error),
    /// The user-mode network.
    #[error(transparent)]
    Network(#[from] crate::net::user::Error),
    /// Anything else that was asked for and cannot be.
    #[error("{0}")]
    Asked(String),
}

/// Everything a run needs, open.
#[derive(Debug)]
pub struct Plan {
    /// What was found in the image, for a person.
    pub format: String,
    /// The image's name or path, printable.
    pub image: String,
    /// How the guest is loaded and entered.
    pub boot: BootPlan,
    /// The guest's disks, in the order of their slots.
    pub disks: Vec<DiskPlan>,
    /// The guest's network device, if it has one, behind the disks.
    pub network: Option<NetworkPlan>,
    /// What a guest of Solo5's hvt has in their place.
    pub hvt: Option<HvtPlan>,
    /// What a Hermit guest has of its own.
    pub uhyve: Option<UhyvePlan>,
    /// Its other virtio devices, in the order of their slots behind these.
    pub devices: Vec<DevicePlan>,
    /// RAM in bytes.
    pub memory: u64,
    /// Number of vCPUs.
    pub cpus: u32,
    /// Ends the run.
    pub timeout: Option<Duration>,
    /// The command line's, behind those about devices.
    pub(crate) words: Vec<String>,
    pub(crate) bus_was_asked_for: bool,
}

impl Plan {
    /// Opens and parses everything `settings` names.
    ///
    /// # Errors
    /// Names the file, what is wrong with it and what to do.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let initrd = match &settings.initrd {
            Some(path) => {
                let initrd = Source::open(path, Access::Read);
                Some(initrd.map_err(|error| Error::Asked(format!("the ram disk {error}")))?)
            }
            None => None,
        };
        let module = initrd.as_ref().and_then(image::hermit::program);
        let Opened { image, writable } = open_image(settings, module.is_some())?;
        check_memory(settings)?;
        let kernel = match &settings.kernel {
            Some(path) => {
                let source = Source::open(path, Access::Read)?;
                let kernel = Kernel::open(&source)?;
                require_one_arch(&source, &kernel, &image)?;
                kernel
            }
            None => image.kernel().clone(),
        };
        let kernel = match initrd.as_ref().zip(module) {
            Some((initrd, arch)) => with_module(kernel, initrd, arch)?,
            None => kernel,
        };
        if settings.tender && kernel.solo5().is_none() {
            let name = image.source().name();
            return Err(Error::Asked(format!(
                "{name}: it is no Solo5 unikernel for hvt, and the tender starts nothing else: `runner {name}`"
            )));
        }
        let mut boot = BootPlan::new(&image, kernel, settings.entry)?;
        require_arch(image.source().name(), &boot, settings.accel)?;
        let solo5 = boot.kernel.solo5().filter(|_| boot.hvt.is_some());
        if let Some(manifest) = solo5.map(|solo5| solo5.manifest.clone()) {
            return hvt::plan(settings, &image, boot, &manifest);
        }
        refuse_named(settings)?;
        let (rest, uhyve) = match boot.uhyve {
            Some(_) => {
                let (rest, uhyve) = uhyve::plan(settings, &image, &mut boot)?;
                (Some(rest), Some(uhyve))
            }
            None => (None, None),
        };
        let settings = rest.as_ref().unwrap_or(settings);
        let choice = network::choose(settings, image.is_disk())?;
        let addresses = network::addresses(settings, choice.as_ref())?;
        let board = Board::of(image.arch());
        let virtio = settings.virtio.unwrap_or(usual_bus(&image, &boot));
        let volumes = volumes::find(settings, &image)?;
        // Beside them the image's own and the network.
        let taken =
            volumes.disks.len() + usize::from(image.is_disk()) + usize::from(choice.is_some());
        let kinds = devices::choose(settings, &volumes.shares, image.is_disk(), virtio, taken)?;
        let mut slots = board.virtio.on(virtio);
        let room = Room { network: choice.is_some(), devices: kinds.len() };
        let beside = &volumes.disks;
        let mut disks =
            disks::open(&mut slots, &image, writable, beside, settings.ephemeral, room)?;
        let mounts = volumes.told(&image, &disks)?;
        let told = Told { settings, addresses: &addresses, mounts: &mounts, image: &image };
        if let Some(first) = disks.first_mut() {
            first.patch = told.record()?;
        }
        if let Some(initrd) = initrd {
            refuse_initrd(&boot, &initrd)?;
            boot.initrd = Some(initrd);
        }
        let behind = choice.as_ref().and_then(|_| slots.next());
        let devices = devices::place(kinds, &mut slots);
        let placed = disks.iter().map(|disk| disk.slot).chain(behind);
        let placed = placed.chain(devices.iter().map(|device| device.slot));
        let announced = boot.announce(settings.cpus, placed);
        let mut words = Vec::new();
        if uhyve.is_none() {
            words = match boot.is_hermit_loader() {
                true => {
                    let name = boot.kernel.view().source().name();
                    uhyve::refuse_by_loader(settings, !addresses.is_empty(), name)?;
                    uhyve::kernel_words(settings)
                }
                false => self::words(&told)?,
            };
            boot.tell(command_line(announced, &words)?)?;
        }
        // Last: from here on clients may come.
        let network = match choice.zip(behind) {
            Some((choice, slot)) => Some(network::open(&choice, settings, slot)?),
            None => None,
        };
        devices.iter().try_for_each(DevicePlan::open)?;
        Ok(Self {
            format: image.format().to_string(),
            image: image.source().name().to_owned(),
            boot,
            disks,
            network,
            hvt: None,
            uhyve,
            devices,
            memory: settings.memory,
            cpus: settings.cpus,
            timeout: settings.timeout,
            words,
            bus_was_asked_for: settings.virtio.is_some() || !volumes.shares.is_empty(),
        })
    }

    /// Puts the devices where software emulation has them, in windows, unless somebody has asked for the
    /// PCI bus, or for what is found nowhere else.
    ///
    /// # Errors
    /// [`Error::Boot`]: the command line is too long for the words about them.
    pub fn leave_pci(&mut self) -> Result<(), Error> {
        if self.bus_was_asked_for || !self.is_on_pci() {
            return Ok(());
        }
        let windows: Vec<_> = self.boot.board.virtio.on(VirtioBus::Mmio).collect();
        let disks = self.disks.iter_mut().map(|disk| &mut disk.slot);
        let network = self.network.as_mut().map(|network| &mut network.slot);
        let devices = self.devices.iter_mut().map(|device| &mut device.slot);
        for slot in disks.chain(network).chain(devices) {
            *slot = windows.get(slot.index).copied().unwrap_or(*slot);
        }
        let slots: Vec<_> = self.slots().collect();
        let announced = self.boot.announce(self.cpus, slots);
        self.boot.tell(command_line(announced, &self.words)?)?;
        Ok(())
    }

    /// Where its virtio devices are.
    pub fn slots(&self) -> impl Iterator<Item = VirtioSlot> {
        let network = self.network.as_ref().map(|network| network.slot);
        let slots = self.disks.iter().map(|disk| disk.slot).chain(network);
        slots.chain(self.devices.iter().map(|device| device.slot))
    }

    /// Whether they are on the PCI bus.
    pub fn is_on_pci(&self) -> bool {
        self.slots().any(|slot| matches!(slot.place, Place::Pci { .. }))
    }

    /// Its socket device, if it has one.
    pub fn vsock(&self) -> Option<&VsockPlan> {
        self.devices.iter().find_map(|device| match &device.kind {
            DeviceKind::Vsock(vsock) => Some(vsock),
            _ => None,
        })
    }

    /// Every file the run reads or writes, with its name.
    pub fn files(&self) -> impl Iterator<Item = (&File, &str)> {
        let kernel = self.boot.kernel.view().source();
        let sources = self.disks.iter().map(|disk| &disk.source);
        let sources = sources.chain(self.blocks().map(|block| &block.source));
        let sources = sources.chain(&self.boot.initrd).chain([kernel]);
        let sources = sources.filter_map(|source| Some((&**source.file()?, source.name())));
        sources.chain(self.captures())
    }

    fn captures(&self) -> impl Iterator<Item = (&File, &str)> {
        let ports = self.hvt.iter().flat_map(|hvt| &hvt.ports);
        let ports = ports.filter_map(|port| port.cable.capture());
        self.network.iter().filter_map(NetworkPlan::capture).chain(ports)
    }

    /// Where a core of the guest goes.
    pub fn dump(&self) -> Option<&DumpPlan> {
        self.hvt.as_ref()?.dump.as_ref()
    }

    fn blocks(&self) -> impl Iterator<Item = &BlockPlan> {
        self.hvt.iter().flat_map(|hvt| &hvt.blocks)
    }

    /// Whether the guest has a network.
    pub fn has_network(&self) -> bool {
        self.network.is_some() || self.hvt.as_ref().is_some_and(|hvt| !hvt.ports.is_empty())
    }

    /// How many descriptors its networks may open while the guest runs.
    pub fn descriptors(&self) -> u64 {
        let ports = self.hvt.iter().flat_map(|hvt| &hvt.ports).map(|port| port.cable.descriptors());
        ports.chain(self.network.iter().map(NetworkPlan::descriptors)).sum()
    }

    /// What the main thread does, once the guest runs.
    pub fn main_role(&self) -> Role {
        match (self.dump(), self.blocks().next()) {
            (Some(_), _) => Role::MainDump,
            (None, Some(_)) => Role::MainDisk,
            (None, None) => Role::Main,
        }
    }

    /// The folders that it shares.
    pub fn shares(&self) -> impl Iterator<Item = &SharePlan> {
        let devices = self.devices.iter().filter_map(|device| match &device.kind {
            DeviceKind::Share(share) => Some(share),
            _ => None,
        });
        devices.chain(self.uhyve.iter().flat_map(|uhyve| &uhyve.shares))
    }

    /// Bytes of the largest file that is written: of the largest disk, or without a bound where what
    /// goes over the network is, or files in a shared folder.
    pub fn largest_file(&self) -> u64 {
        if self.captures().next().is_some()
            || self.shares().any(|share| !share.folder.is_read_only())
        {
            return u64::MAX;
        }
        let disks = self.disks.iter().map(DiskPlan::largest);
        let disks = disks.chain(self.blocks().map(|block| block.source.len()));
        // A guest of hvt has its memory from 0 on.
        let core = self.dump().map(|_| self.memory.saturating_add(dump::HEADERS));
        disks.chain(core).max().unwrap_or_default()
    }
}

/// A kernel whose ram disk is a Hermit unikernel for `arch`: Hermit's loader if it is that, and else itself.
fn with_module(kernel: Kernel, initrd: &Source, arch: Arch) -> Result<Kernel, Error> {
    match (kernel.is_hermits_loader(), arch == kernel.arch()) {
        (false, _) => Ok(kernel),
        (true, true) => Ok(kernel.of_system(System::HermitLoader)),
        (true, false) => Err(Error::Asked(format!(
            "--initrd {}: a Hermit unikernel for {arch}, and {} is for {}: use a loader that is for {arch}",
            initrd.name(),
            kernel.view().source().name(),
            kernel.arch()
        ))),
    }
}

/// FreeBSD takes its one module for what its own loader leaves, and stops.
fn refuse_initrd(boot: &BootPlan, initrd: &Source) -> Result<(), Error> {
    match boot.kernel.system() {
        Some(System::FreeBsd) => Err(Error::Asked(format!(
            "--initrd {}: FreeBSD's kernel takes a module for its loader's metadata; build the file system \
             into it (MD_ROOT), or give it a --disk",
            initrd.name()
        ))),
        _ => Ok(()),
    }
}

/// Devices by name are for guests that have names for them. (A core is asked for in the words of Solo5's tender
/// alone, which starts no other guests.)
fn refuse_named(settings: &Settings) -> Result<(), Error> {
    let block = settings.blocks.first().map(|block| format!("--block {}", block.name));
    let net = settings.network.named.first().map(|net| format!("--net {}=…", net.name));
    match block.or(net) {
        Some(option) => Err(Error::Asked(format!(
            "{option}: only Solo5 guests have names for their devices; give this one --disk and --net \
             without a name"
        ))),
        None => Ok(()),
    }
}

/// `has_module`: what the kernel is given is for Hermit's loader.
fn open_image(settings: &Settings, has_module: bool) -> Result<Opened, Error> {
    match (&settings.image, &settings.kernel) {
        (Some(name), _) => {
            let access = if settings.ephemeral { Access::Read } else { Access::ReadWrite };
            // Whoever says how to enter it says that it is a kernel.
            let marks = match (settings.entry, &settings.kernel) {
                (Some(_), None) => Marks::NotNeeded,
                _ if has_module => Marks::NeededOrLoader,
                _ => Marks::Needed,
            };
            match settings.tender {
                // For the tender it is a path, and nothing that OPS has built.
                true => Ok(images::open_path(name, access, marks)?),
                false => Ok(images::open(name, access, marks)?),
            }
        }
        (None, Some(kernel)) => {
            Ok(Opened { image: Image::open(kernel, Marks::NotNeeded)?, writable: false })
        }
        (None, None) => Err(Error::Asked("no image to boot".into())),
    }
}

/// A hypervisor runs its host's own architecture. Any other takes software emulation, which is so much
/// slower that it is left to who asks for it: most often the image is the wrong one.
fn require_arch(name: &str, boot: &BootPlan, accel: AccelChoice) -> Result<(), Error> {
    let wanted = boot.kernel.arch();
    if Arch::HOST == Some(wanted) || accel == AccelChoice::Off {
        return Ok(());
    }
    let host = std::env::consts::ARCH;
    let other = match boot.family.not_emulated {
        None => ", or run it in software emulation (--accel=off)".to_owned(),
        Some(why) => format!("; software emulation has none: {why}"),
    };
    Err(Error::Asked(format!(
        "{name}: an image for {wanted}, and this machine is {host}: build it for {host}{other}"
    )))
}

/// A kernel that stands in for an image's own is for the same machine.
fn require_one_arch(source: &Source, kernel: &Kernel, image: &Image) -> Result<(), Error> {
    let (wanted, has) = (image.arch(), kernel.arch());
    match has == wanted {
        true => Ok(()),
        false => Err(Error::Asked(format!(
            "--kernel: {} is for {has}, and {} for {wanted}: use one that is for {wanted}",
            source.name(),
            image.source().name()
        ))),
    }
}

fn check_memory(settings: &Settings) -> Result<(), Error> {
    let Some(host) = host_memory() else { return Ok(()) };
    let (memory, option) = (settings.memory, settings.dialect().memory());
    if memory <= host {
        return Ok(());
    }
    let (asked, has) = (memory >> 20, host >> 20);
    Err(Error::Asked(format!(
        "{asked} MiB of guest memory, where this machine has {has} MiB: ask for less ({option})"
    )))
}

/// The host's RAM in bytes, as far as the system tells.
fn host_memory() -> Option<u64> {
    crate::io::host_memory()
}

/// Where devices are when nobody has said.
///
/// Nanos finds them in either place on x86_64, and takes as long to start. On the PCI bus an interrupt is
/// a message, where a window has two registers that the guest's driver looks at each time: a web server
/// has a quarter more out of it. On arm64 it looks nowhere else, and for shares neither.
fn usual_bus(image: &Image, boot: &BootPlan) -> VirtioBus {
    if image.is_disk() { VirtioBus::Pci } else { boot.family.bus }
}

/// The command line: devices first, as the kernel needs them.
fn command_line(devices: Vec<String>, words: &[String]) -> Result<CommandLine, Error> {
    Ok(CommandLine::new(devices.iter().chain(words).cloned())?)
}

/// Its other words: what the image's program is told, then what the user adds, which can override it all.
fn words(told: &Told<'_>) -> Result<Vec<String>, Error> {
    let Told { settings, addresses, image, .. } = told;
    let mut words = Vec::new();
    if image.is_disk() {
        words.extend(told.words()?);
    } else if !settings.env.is_empty() {
        return Err(Error::Asked(
            "environment reaches the program of an OPS image only; for another kernel use --append"
                .into(),
        ));
    } else if !addresses.is_empty() {
        return Err(Error::Asked(
            "addresses reach an OPS image only; a Linux with CONFIG_IP_PNP takes one by \
             --append ip=10.0.2.15::10.0.2.2:255.255.255.0::eth0:off"
                .into(),
        ));
    } else {
        // What a cargo runner hands on: for a kernel they are words of its command line.
        words.extend(plain_words(&settings.args)?);
    }
    words.extend(settings.append.clone());
    Ok(words)
}

#[cfg(test)]
mod tests;
