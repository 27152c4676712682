//! Software emulation, where there is no accelerator or none is wanted: an installed QEMU runs the
//! same boot plan, kernel, boot data, command line, disks and network, and the run ends with the
//! same statuses.
//!
//! QEMU is a child process. It gets everything as open descriptors and no path of the user's: the
//! loaded memory, a ROM that sets the boot vCPU's registers, the disks as the plan opened and
//! locked them, pipes for COM1, for the exit port and for what it has to say itself. Its machine is
//! `microvm`, whose map ours follows ([`crate::machine::map`]).
//!
//! What differs from a run on an accelerator: of a value at the exit port only the low 8 bits
//! arrive, and a guest that does not stop behind that write goes on for the few milliseconds until
//! QEMU has ended.

mod command;
mod firmware;
mod keys;
mod memory;
mod network;
mod process;
mod qemu;
mod supervise;
#[cfg(test)]
mod testing;

#[cfg_attr(target_os = "linux", path = "sys/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "sys/macos.rs")]
mod sys;

pub use qemu::Qemu;

use std::fs::File;
use std::io::{self, Seek, Write};

use crate::boot;
use crate::boot::Timers;
use crate::io::signals::Signals;
use crate::machine;
use crate::outcome::Outcome;
use crate::plan::Plan;
use network::{Cable, Relay};
use process::Process;

/// The most CPUs of QEMU's microvm (hw/i386/microvm.c, `max_cpus`).
const MAX_CPUS: u32 = 288;

/// Why a guest cannot be emulated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The guest could not be loaded.
    #[error(transparent)]
    Boot(#[from] boot::Error),
    /// There is no room to load it.
    #[error(transparent)]
    Memory(#[from] hv::Error),
    /// The boot protocol asks for something the way into QEMU cannot do.
    #[error("software emulation: {0}; boot this image on an accelerator")]
    Registers(String),
    /// QEMU's machine has no room for so many.
    #[error("{0} CPUs, where QEMU's microvm allows {MAX_CPUS}: ask for fewer (--cpus)")]
    Cpus(u32),
    /// Its firmware would have to set up the bus.
    #[error(
        "software emulation has no devices on PCI in this version: leave out --virtio=pci (Runner.Virtio)"
    )]
    Pci,
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

/// Runs the guest to its end, or to a signal's or the timeout's. Disks are flushed. `sandbox` has QEMU
/// restrict itself; one that cannot is an error.
///
/// # Errors
/// When the guest cannot be loaded, or QEMU not be started at all; what it says about itself later
/// is part of the outcome.
pub fn run(plan: &Plan, signals: &Signals, sandbox: bool) -> Result<Outcome, Error> {
    if plan.cpus > MAX_CPUS {
        return Err(Error::Cpus(plan.cpus));
    }
    if plan.is_on_pci() {
        return Err(Error::Pci);
    }
    let guest = Guest::load(plan)?;
    let cable = plan.network.as_ref().map(Cable::new).transpose();
    let cable = cable.map_err(Error::system(CABLE))?;
    let (process, ends) = Process::start(plan, &guest, cable.as_ref(), sandbox)?;
    drop(guest);
    let relay = cable.map(Cable::connect).transpose().map_err(Error::system(CABLE))?;
    let outcome = supervise::supervise(process, ends, plan, signals);
    // Its QEMU is gone, whatever the outcome.
    relay.into_iter().for_each(Relay::finish);
    outcome
}

/// A loaded guest, in files without names.
#[derive(Debug)]
struct Guest {
    firmware: File,
    memory: File,
}

impl Guest {
    fn load(plan: &Plan) -> Result<Self, Error> {
        let memory = machine::reserve(plan.boot.board, plan.memory)?;
        let loaded = plan.boot.load(&memory, Timers::Pit)?;
        let rom = firmware::rom(&loaded.state).map_err(Error::Registers)?;
        let firmware = scratch(|mut file| file.write_all(&rom)).map_err(Error::system(ROM))?;
        let memory = scratch(|file| memory::write(file, &memory, &loaded.ranges));
        Ok(Self { firmware, memory: memory.map_err(Error::system(MEMORY))? })
    }
}

const CABLE: &str = "connect the network to QEMU";
const ROM: &str = "write the firmware into a file without a name";
const MEMORY: &str = "write the guest's memory into a file without a name";

/// A file without a name that `fill` has filled, to be read from its start.
fn scratch(fill: impl FnOnce(&File) -> io::Result<()>) -> io::Result<File> {
    let mut file = sys::scratch_file()?;
    fill(&file)?;
    file.rewind()?;
    Ok(file)
}
