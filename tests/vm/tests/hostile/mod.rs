//! Guests that mean harm, on the program as it ships: each case ends in an error that the guest's
//! driver sees, or in a stop that names its reason, with bounded time, memory and words.
//!
//! Numbers are the cases' in the list that all of them come from: R rings and transport, B the block
//! device, C console, serial line and exit ports, N the network card, P the PCI bus,
//! V virtual processors.

#[cfg_attr(target_arch = "x86_64", path = "arch/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "arch/aarch64.rs")]
mod arch;
mod balloon;
pub(crate) mod block;
mod console;
mod driver;
mod exits;
mod net;
pub(crate) mod p9;
mod pci;
#[cfg(target_arch = "x86_64")]
mod ports;
#[cfg(target_arch = "x86_64")]
mod processors;
mod registers;
mod rings;
pub(crate) mod rng;
mod script;
mod two;
pub(crate) mod vsock;
mod words;

use std::fs;
use std::path::PathBuf;

use super::support::files::{Folder, kernel};
use super::support::host::accelerator;
use super::support::or_skip;
use super::support::program::{Finished, Runner, runner};
use super::support::usage;
use script::{Bus, Script};

/// Memory of a hostile guest, in MiB: as little as will do, so that what it costs shows.
const MEMORY: u64 = 16;
/// The first byte behind it.
const END: u64 = arch::RAM + (MEMORY << 20);
/// What the process may take beside it, in MiB.
const OVERHEAD: u64 = 32;
/// Lines on stderr, whatever the guest does.
const LINES: usize = 100;
/// Sectors of the disk.
const SECTORS: usize = 8;

/// A guest with a disk of 0x5a.
struct Guest {
    folder: Folder,
    script: Script,
    options: Vec<String>,
    memory: u64,
    read_only: bool,
    has_disk: bool,
    /// What the ram disk begins with.
    before: Vec<u8>,
}

impl Guest {
    /// It does what `script` says.
    fn new(script: Script) -> Self {
        let folder = Folder::new();
        let (memory, read_only, has_disk) = (MEMORY, false, true);
        let options = match script.bus {
            Bus::Mmio => Vec::new(),
            Bus::Pci => vec!["--virtio=pci".to_owned()],
        };
        let before = Vec::new();
        Self { folder, script, options, memory, read_only, has_disk, before }
    }

    /// The first device is what the options say, and no disk.
    fn without_disk(self) -> Self {
        Self { has_disk: false, ..self }
    }

    /// It is given what Hermit's loader is, a unikernel as its ram disk, and no disk goes with it.
    #[cfg(target_arch = "x86_64")]
    fn for_hermits_loader(self) -> Self {
        const PAGE: usize = 0x1000;
        let mut before = guests::x86_64::hermit::HELLO.to_vec();
        before.resize(PAGE, 0);
        Self { before, has_disk: false, ..self }
    }

    fn read_only(self) -> Self {
        Self { read_only: true, ..self }
    }

    /// Gives it more memory, in MiB.
    fn memory(self, memory: u64) -> Self {
        Self { memory, ..self }
    }

    /// One more option.
    fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    fn disk(&self) -> PathBuf {
        self.folder.path().join("d.img")
    }

    /// The command line. A run that hangs ends with 124, which no case here expects.
    fn runner(&self) -> Runner {
        self.runner_for("60s")
    }

    /// The same, with another time for it.
    fn runner_for(&self, timeout: &str) -> Runner {
        self.folder.file("d.img", [0x5a; SECTORS * 512]);
        let script = [&*self.before, &self.script.bytes()].concat();
        let script = self.folder.file("script", script);
        let read_only = if self.read_only { ",ro" } else { "" };
        let disk = format!("--disk={}{read_only}", self.disk().display());
        runner(["--timeout", timeout])
            .arg(format!("-m{}M", self.memory))
            .args(self.has_disk.then_some(disk))
            .arg(format!("--initrd={}", script.display()))
            .args(&self.options)
            .arg(kernel("script"))
    }

    /// Runs it to its end, which has to be `status`, within bounds.
    fn ends_with(&self, status: i32) -> Finished {
        bounded(self.memory, self.runner().ends_with(status))
    }

    /// Runs a guest that passes all its own checks, and of which runner has nothing to say.
    fn passes(&self) {
        let finished = self.ends_with(0);
        assert_eq!(finished.stderr, "", "{finished}");
    }

    /// Runs a guest that breaks the device called `name` and gets it back. `fault` is what runner has to
    /// say.
    fn stops(&self, name: &str, fault: &str) {
        let finished = self.ends_with(0);
        let wanted = format!("runner: {name}: stopped until the driver resets it: {fault}\n");
        assert_eq!(finished.stderr, wanted, "{finished}");
    }

    /// Runs a guest that breaks its disk and gets it back. `fault` is what runner has to say.
    fn stops_its_device(&self, fault: &str) {
        let path = self.disk();
        self.stops(&format!("disk0 ({})", path.display()), fault);
        assert_eq!(fs::read(path).unwrap(), [0x5a; SECTORS * 512], "the disk is as it was");
    }
}

/// Checks what holds for every end.
fn bounded(memory: u64, finished: Finished) -> Finished {
    assert!(finished.stderr.lines().count() <= LINES, "{finished}");
    // Before its exec a child has the memory of whoever starts it, and the system counts that, too. In
    // the lab each test is a small process of its own.
    let limit = ((memory + OVERHEAD) << 20).max(usage::own_peak_memory());
    assert!(finished.peak_memory <= limit, "{} bytes: {finished}", finished.peak_memory);
    finished
}

/// A chain or a ring that stops the device, wherever it is: it starts with `features`, does `steps`, sees
/// the device give up with nothing used, and has it serve a good request after a reset.
fn stops(features: u64, steps: impl Fn(Script) -> Script, fault: &str) {
    for bus in [Bus::Mmio, Bus::Pci] {
        let script = steps(Script::on(bus).start(features));
        let script = script.broken().expect(2, driver::USED + 2, 0).recovers().end(0);
        Guest::new(script).stops_its_device(fault);
    }
}

/// What a guest does with its device in service, wherever it is, checked by itself, and nothing runner
/// speaks of.
fn served(features: u64, steps: impl Fn(Script) -> Script) {
    for bus in [Bus::Mmio, Bus::Pci] {
        Guest::new(steps(Script::on(bus).start(features)).recovers().end(0)).passes();
    }
}
