//! Software emulation, where there is no accelerator or none is wanted: an installed QEMU runs the
//! same boot plan, kernel, boot data, command line, disks and network, and the run ends with the
//! same statuses.
//!
//! QEMU is a child process. It gets everything as open descriptors and no path of the user's: the
//! loaded memory, a ROM that sets the boot vCPU's registers, the disks as the plan opened and
//! locked them, pipes for the console, for the exit port and for what it has to say itself. Its machine
//! is `microvm` or `virt`, whose maps ours follow ([`crate::machine::map`], `target`).
//!
//! What differs from a run on an accelerator: of a guest's exit value only the low 8 bits arrive, and
//! on x86_64 a guest that does not stop behind that write goes on for the few milliseconds until QEMU
//! has ended. On arm64 a guest ends by semihosting proper, which is QEMU's and ends it at once: what the
//! guest has not waited for may not be on its disks.

mod command;
mod disks;
mod firmware;
mod heard;
mod keys;
mod memory;
mod network;
mod process;
mod qemu;
mod supervise;
mod target;
#[cfg(test)]
mod testing;

#[cfg_attr(target_os = "linux", path = "sys/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "sys/macos.rs")]
mod sys;

pub use qemu::Qemu;

use std::fs::File;
use std::io::{self, Seek, Write};

use crate::boot;
use crate::boot::Platform;
use crate::io::signals::Signals;
use crate::machine;
use crate::machine::map::MIB;
use crate::outcome::Outcome;
use crate::plan::{DeviceKind, Plan};
use disks::DiskFile;
use network::{Cable, Relay};
use process::Process;
use target::Target;

/// Why a guest cannot be emulated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The guest could not be loaded.
    #[error(transparent)]
    Boot(#[from] boot::Error),
    /// There is no room to load it.
    #[error(transparent)]
    Ram(#[from] hv::Error),
    /// The boot protocol asks for something the way into QEMU cannot do.
    #[error("software emulation: {0}; boot this image on an accelerator")]
    Registers(String),
    /// QEMU's machine has no room for so many.
    #[error("{asked} CPUs, where QEMU's {machine} allows {most}: ask for fewer (--cpus)")]
    Cpus {
        /// How many there were to be.
        asked: u32,
        /// The machine.
        machine: &'static str,
        /// How many it allows.
        most: u32,
    },
    /// Nor for so much.
    #[error("{asked} MiB, where QEMU's {machine} has room for {most}: ask for less (-m)")]
    Memory {
        /// How much there was to be, in MiB.
        asked: u64,
        /// The machine.
        machine: &'static str,
        /// How much it has room for.
        most: u64,
    },
    /// Its firmware would have to set up the bus.
    #[error(
        "software emulation has no devices on an x86_64 guest's PCI bus: leave out --virtio=pci (Runner.Virtio)"
    )]
    Pci,
    /// QEMU leaves it to the host's kernel.
    #[error(
        "software emulation has no socket device, as QEMU has none of its own: leave out --vsock \
         (Runner.Vsock)"
    )]
    Vsock,
    /// A program that QEMU is connected to is not in its jail.
    #[error("software emulation has no channels: leave out --channel (Runner.Channels)")]
    Channels,
    /// QEMU is told of a balloon's size by a monitor, which it does not get.
    #[error(
        "software emulation has no size for a balloon: --balloon alone (Runner.Balloon: true) gives back what is free"
    )]
    BalloonSize,
    /// The operating system refused something.
    #[error("software emulation: {what}: {error}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// What the operating system said.
        error: io::Error,
    },
}

impl Error {
    fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Error::System { what, error }
    }
}

/// Has a plan's devices where software emulation has them, as far as nobody has asked for another place.
///
/// # Errors
/// When the guest cannot be told.
pub fn suit(plan: &mut Plan) -> Result<(), crate::plan::Error> {
    match Target::of(plan.boot.board.arch).has_pci {
        true => Ok(()),
        false => plan.leave_pci(),
    }
}

/// Runs the guest to its end, or to a signal's or the timeout's. Disks are flushed. `sandbox` has QEMU
/// restrict itself; one that cannot is an error.
///
/// # Errors
/// When the guest cannot be loaded, or QEMU not be started at all; what it says about itself later
/// is part of the outcome.
pub fn run(plan: &Plan, signals: &Signals, sandbox: bool) -> Result<Outcome, Error> {
    let target = Target::of(plan.boot.board.arch);
    let (machine, most) = (target.machine, target.max_cpus);
    if plan.cpus > most {
        return Err(Error::Cpus { asked: plan.cpus, machine, most });
    }
    if plan.memory > target.max_memory {
        let (asked, most) = (plan.memory / MIB, target.max_memory / MIB);
        return Err(Error::Memory { asked, machine, most });
    }
    if plan.is_on_pci() && !target.has_pci {
        return Err(Error::Pci);
    }
    if plan.vsock().is_some() {
        return Err(Error::Vsock);
    }
    let has_channels =
        |kind: &DeviceKind| matches!(kind, DeviceKind::Console(it) if it.has_channels());
    if plan.devices.iter().any(|device| has_channels(&device.kind)) {
        return Err(Error::Channels);
    }
    if plan.devices.iter().any(|device| matches!(device.kind, DeviceKind::Balloon(1..))) {
        return Err(Error::BalloonSize);
    }
    let guest = Guest::load(plan, target)?;
    let cable = plan.network.as_ref().map(Cable::new).transpose();
    let cable = cable.map_err(Error::system(CABLE))?;
    let (process, ends) = Process::start(plan, target, &guest, cable.as_ref(), sandbox)?;
    drop(guest);
    let relay = cable.map(Cable::connect).transpose().map_err(Error::system(CABLE))?;
    let outcome = supervise::supervise(process, ends, target, plan, signals);
    // Its QEMU is gone, whatever the outcome.
    relay.into_iter().for_each(Relay::finish);
    outcome
}

/// A loaded guest, in files without names, and its disks.
#[derive(Debug)]
struct Guest {
    firmware: File,
    /// Nothing where the firmware writes all of it.
    memory: Option<File>,
    disks: Vec<DiskFile>,
}

impl Guest {
    fn load(plan: &Plan, target: &Target) -> Result<Self, Error> {
        let memory = machine::reserve(plan.boot.board, plan.memory)?;
        let mut loaded = plan.boot.load(&memory, Platform::Qemu)?;
        let rom = firmware::rom(plan, &memory, &mut loaded).map_err(Error::Registers)?;
        let firmware = scratch(|mut file| file.write_all(&rom)).map_err(Error::system(ROM))?;
        let write = |file: &File| memory::write(file, target.elf_machine, &memory, &loaded.ranges);
        let memory = (!loaded.ranges.is_empty()).then(|| scratch(write)).transpose();
        let memory = memory.map_err(Error::system(MEMORY))?;
        let disks = disks::files(plan).map_err(Error::system(DISKS))?;
        Ok(Self { firmware, memory, disks })
    }
}

const CABLE: &str = "connect the network to QEMU";
const DISKS: &str = "tell the guest by its image what it is to be told";
const ROM: &str = "write the firmware into a file without a name";
const MEMORY: &str = "write the guest's memory into a file without a name";

/// A file without a name that `fill` has filled, to be read from its start.
fn scratch(fill: impl FnOnce(&File) -> io::Result<()>) -> io::Result<File> {
    let mut file = sys::scratch_file()?;
    fill(&file)?;
    file.rewind()?;
    Ok(file)
}
