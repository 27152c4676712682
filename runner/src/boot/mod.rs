//! Boot protocols, as data: what has to be in memory, the boot vCPU's registers, and what the
//! guest's exit values mean.
//!
//! A [`BootPlan`] is made from an image and the machine's map before anything of the host is
//! touched; [`BootPlan::load`] carries it out, for our machine and for the software emulation alike.

mod cmdline;
mod layout;
mod linux64;
mod load;
mod pvh;

use std::fmt;
use std::ops::Range;

pub use cmdline::{CommandLine, nanos_overrides, plain_words};
pub use load::Loaded;

use crate::devices::power::ExitCode;
use crate::image::{Image, Kernel, Source};

/// A way into a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Linux's 64-bit entry (`Documentation/arch/x86/boot.rst`), at an ELF file's entry point.
    Linux64,
    /// Xen's PVH entry (`docs/misc/pvh.pandoc`, `xen/include/public/arch-x86/hvm/start_info.h`).
    Pvh,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Linux64 => "Linux 64-bit",
            Protocol::Pvh => "PVH",
        })
    }
}

/// Everything a boot needs.
#[derive(Debug)]
pub struct BootPlan {
    /// The way in.
    pub protocol: Protocol,
    /// Physical address of the first instruction.
    pub entry: u64,
    /// What is loaded and entered.
    pub kernel: Kernel,
    /// A ram disk for the kernel.
    pub initrd: Option<Source>,
    /// What the kernel is told.
    pub command_line: CommandLine,
    /// What a value at the exit port means.
    pub exit_code: ExitCode,
}

/// The port a guest writes its exit value to (QEMU's `isa-debug-exit` as OPS places it).
pub const EXIT_PORT: u16 = 0x501;

/// An exit value is the status itself, as far as a process's status goes: 8 bits.
fn status_is_value(raw: u64) -> u8 {
    let [low, ..] = raw.to_le_bytes();
    low
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
    /// Guest memory could not be written.
    #[error(transparent)]
    Memory(#[from] hv::Error),
}

impl BootPlan {
    /// The plan for booting `kernel`, which is `image`'s own or replaces it.
    ///
    /// # Errors
    /// [`Error::NoEntry`].
    pub fn new(
        image: &Image,
        kernel: Kernel,
        initrd: Option<Source>,
        command_line: CommandLine,
    ) -> Result<Self, Error> {
        // Nanos reads a command line by the Linux entry alone, and what OPS builds is Nanos. For
        // any other kernel the PVH note says where it wants to be entered.
        let pvh = match image.is_disk() {
            true => None,
            false => kernel.pvh_entry(),
        };
        let (protocol, entry) = match (pvh, kernel.entry(), kernel.pvh_entry()) {
            (Some(entry), ..) | (None, None, Some(entry)) => (Protocol::Pvh, u64::from(entry)),
            (None, Some(entry), _) => (Protocol::Linux64, entry),
            (None, None, None) => {
                return Err(Error::NoEntry { name: kernel.view().source().name().to_owned() });
            }
        };
        Ok(Self { protocol, entry, kernel, initrd, command_line, exit_code: status_is_value })
    }
}

/// A stretch of guest physical memory.
type Gpas = Range<u64>;
