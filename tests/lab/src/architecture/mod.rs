//! What one lab has and the other has not. Everything else is the same for both.

mod aarch64;
mod x86_64;

pub(crate) use aarch64::AARCH64;
pub(crate) use x86_64::X86_64;

use crate::command::Result;
use crate::gates::{Family, Gate};
use crate::packages::{self, Installed, Wanted};
use crate::payloads::Payload;
use crate::skips::AllowedSkip;
use std::path::{Path, PathBuf};

/// A lab, by the processor that its QEMU emulates.
#[derive(Debug)]
pub(crate) struct Architecture {
    /// As in `lab NAME`, and in `uname -m`.
    pub(crate) name: &'static str,
    /// What Debian calls it.
    pub(crate) debian: &'static str,
    /// How Debian's paths begin that are one architecture's, as `lib/x86_64-linux-gnu`.
    pub(crate) triplet: &'static str,
    /// The file name of glibc's loader.
    pub(crate) loader: &'static str,
    pub(crate) compiler: Compiler,
    pub(crate) machine: Machine,
    pub(crate) linux: Linux,
    /// Other kernels that tests boot.
    pub(crate) payloads: &'static [Payload],
    pub(crate) sets: &'static [Set],
    pub(crate) gates: &'static [Gate],
}

/// The guest in `tests/guests/`, `kernel`, that stands for the family `name` and `says` so.
const fn family(name: &'static str, kernel: &'static str, says: &'static str) -> Family {
    Family { name, kernel, initrd: None, says }
}

/// The same for one that has another guest as its ram disk.
const fn family_with(
    name: &'static str,
    kernel: &'static str,
    initrd: &'static str,
    says: &'static str,
) -> Family {
    Family { name, kernel, initrd: Some(initrd), says }
}

/// Who builds what goes into the lab.
#[derive(Debug)]
pub(crate) struct Compiler {
    /// rustc's name of the target.
    pub(crate) target: &'static str,
    /// What it takes where the target is not this machine.
    pub(crate) cross: Option<Cross>,
    /// What cargo is told to build `runner` as it ships.
    pub(crate) ships: &'static [&'static str],
}

/// Debian's Rust has the target's standard library; these are programs of other packages, and the
/// packages.
#[derive(Debug)]
pub(crate) struct Cross {
    pub(crate) linker: Installed,
    /// What `linker` needs besides: a file, and its package.
    pub(crate) libc: Installed,
    /// Starts a program of the target here, to ask for its tests.
    pub(crate) starter: Installed,
}

/// What QEMU is told to emulate.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) qemu: Installed,
    /// The board and its processor.
    pub(crate) board: &'static str,
    /// How many processors, and how they are emulated.
    pub(crate) processors: &'static str,
    /// Whether all of QEMU stays on one of the host's processors.
    pub(crate) on_one_processor: bool,
    /// MiB. They cost nothing before they are touched.
    pub(crate) memory: u32,
    /// What Linux calls the first serial line.
    pub(crate) console: &'static str,
    /// The way out for reports and in for orders, which is QEMU's stdout and stdin: its end there, and QEMU's
    /// words.
    pub(crate) reports: &'static str,
    pub(crate) reports_words: &'static [&'static str],
}

/// Debian's kernel for virtual machines, and a shell with the usual programs: around the tests, and as
/// a guest in them.
#[derive(Debug)]
pub(crate) struct Linux {
    pub(crate) packages: Wanted,
    /// Where in the packages `bin` and `lib` are.
    pub(crate) root: &'static str,
    /// The modules that the lab loads, in this order.
    pub(crate) modules: &'static [&'static str],
    /// Those of a guest with our disks, in the order in which they can be loaded. ext4 is built in.
    pub(crate) disk_modules: &'static [&'static str],
    /// What a network card takes besides, on QEMU's PCI as well. IP and packet sockets are built in.
    pub(crate) net_modules: &'static [&'static str],
    /// Those for an entropy device, a balloon, a console and pvpanic, as far as they are not built in.
    pub(crate) device_modules: &'static [&'static str],
    /// Those for a socket device, behind the network card's.
    pub(crate) vsock_modules: &'static [&'static str],
    /// Debian's kernel for any machine, which has what the one for virtual machines has not.
    pub(crate) general: Wanted,
    /// Its modules for a shared folder, in the order in which they can be loaded.
    pub(crate) share_modules: &'static [&'static str],
    /// A program of our own that ends a guest, and its name. It is all of the smallest initial root.
    pub(crate) end: (&'static str, &'static [u8]),
    /// What the kernel is called in the folder of guests.
    pub(crate) kernel: &'static str,
    /// And the ELF kernel inside, where it is packed.
    pub(crate) unpacked: Option<&'static str>,
}

impl Linux {
    /// Where the shell is.
    pub(crate) fn busybox(&self, packages: &Path) -> PathBuf {
        packages.join(self.root).join("bin/busybox")
    }

    /// Where a module is, and its file name.
    pub(crate) fn module(&self, packages: &Path, module: &str) -> Result<(PathBuf, String)> {
        let modules = Path::new(self.root).join("lib/modules");
        let version = packages::one_file(packages, modules, "")?;
        let path = version.join("kernel").join(module);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok((path, name))
    }
}

/// Tests, and the program that they are of.
#[derive(Debug)]
pub(crate) struct Set {
    /// How the names of its tests begin, where another set has the same tests.
    pub(crate) name: &'static str,
    /// What `cargo test` is told, once for each of these.
    pub(crate) tests: &'static [&'static [&'static str]],
    /// Which of them are run.
    pub(crate) choice: Choice,
    /// What cargo is told to build the `runner` that they start; none for the one that ships.
    pub(crate) runner: Option<&'static [&'static str]>,
    /// What else its tests find in their environment.
    pub(crate) environment: &'static [(&'static str, &'static str)],
    /// Tests that say that they cannot run there, without the set's name.
    pub(crate) skips: &'static [AllowedSkip],
}

/// Tests by how their names begin, without the set's name, each with a reason.
pub(crate) type Entries = &'static [(&'static str, &'static str)];

/// Which tests of a set are run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Choice {
    /// All but these, of which `yet` are run.
    AllBut {
        these: Entries,
        yet: Entries,
    },
    Only(Entries),
}
