//! What a run is asked to do: `config.json` and the command line, brought together.
//!
//! The file follows OPS's schema (nanovms/ops, `types/config.go`, and `cmd/flags_config.go` for how it is read).
//! Settings of our own stand under `Runner`. Later files win over earlier ones and the command line over all files.
//! A relative path means the current directory, wherever the file that names it lies: that is OPS's rule.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::panic
)]

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::boot::Protocol;
use crate::machine::slot::VirtioBus;

mod devices;
mod document;
pub mod fields;
mod get;
mod kind;
pub mod named;
pub mod network;
mod parse;
mod read;
mod settle;
pub mod values;

pub use devices::{Channel, ConsoleChoice, Devices, Share, Vsock};
pub use network::{Addresses, NetChoice, Network};
pub use parse::{Config, parse_str};
pub use read::{MAX_SIZE, load};
pub use settle::settle;

#[cfg(test)]
mod tests;

/// One MiB in bytes, the unit a memory size without a letter is in.
pub const MIB: u64 = 1 << 20;

/// Memory of a guest when nobody says: 2 GiB, as in OPS. It is touched lazily, so it costs little.
pub const DEFAULT_MEMORY: u64 = 2048 * MIB;

/// Everything a run needs to know, decided: config files and command line merged, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name or path of the image; `None` only when `kernel` is given, which then boots alone.
    pub image: Option<PathBuf>,
    /// Kernel to boot in place of the image's own.
    pub kernel: Option<PathBuf>,
    /// Initial ram disk for kernels that take one.
    pub initrd: Option<PathBuf>,
    /// How the kernel is entered, over what suits it best.
    pub entry: Option<Protocol>,
    /// Text added to the end of the kernel's command line.
    pub append: Option<String>,
    /// The guest program's arguments after its own name (`argv[1]` on); empty keeps those in the image.
    pub args: Vec<String>,
    /// Environment to set in the guest over what the image has, each name once.
    pub env: Vec<(String, String)>,
    /// Guest memory in bytes, a multiple of 1 MiB, not 0. Whether the host has it is checked elsewhere.
    pub memory: u64,
    /// Number of vCPUs, 1 to 65535. The backend's own maximum is checked elsewhere.
    pub cpus: u32,
    /// Which accelerator may run the guest.
    pub accel: AccelChoice,
    /// What asked for `accel` when somebody did, as a user knows it: `--accel=off`, `config.json:4:14: RunConfig.Accel`.
    pub accel_asked_by: Option<String>,
    /// What the process gives up before the guest runs.
    pub jail: JailChoice,
    /// Where virtio devices are, when somebody said.
    pub virtio: Option<VirtioBus>,
    /// Disks beside the image, in the order the guest sees them.
    pub disks: Vec<Disk>,
    /// Block storage of guests that have names for it.
    pub blocks: Vec<named::NamedBlock>,
    /// OPS's volumes, by their names, each once.
    pub mounts: Vec<Mount>,
    /// What the guest writes to its disks, the image among them, is thrown away.
    pub ephemeral: bool,
    /// The guest's network.
    pub network: Network,
    /// Its further devices.
    pub devices: Devices,
    /// Say on stderr what is done.
    pub verbose: bool,
    /// End the run after this long; not 0.
    pub timeout: Option<Duration>,
    /// Where to write the JSON record of the run.
    pub report: Option<PathBuf>,
    /// A terminal on stdin is the guest's keyboard.
    pub stdin: bool,
    /// Asked for in the words of Solo5's tender, whose exit statuses are wanted, too.
    pub tender: bool,
    /// Folder for a core dump of a Solo5 unikernel.
    pub dump: Option<PathBuf>,
    /// Lines for stderr whatever `verbose` says: things asked for that this version does not do.
    pub warnings: Vec<String>,
    /// Fields that were set but mean nothing to a run, for `-v`: `accepted, not used: …`.
    pub accepted: Vec<&'static str>,
}

impl Settings {
    /// In whose words all of this was asked for.
    #[must_use]
    pub fn dialect(&self) -> named::Dialect {
        match self.tender {
            true => named::Dialect::Tender,
            false => named::Dialect::Runner,
        }
    }
}

/// Which accelerator may run the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccelChoice {
    /// The host's, and software emulation, said so, where it has none. OPS's `true` means this too.
    #[default]
    Auto,
    /// KVM or an error.
    Kvm,
    /// Hypervisor.framework or an error.
    Hvf,
    /// Software emulation.
    Off,
}

impl fmt::Display for AccelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AccelChoice::Auto => "auto",
            AccelChoice::Kvm => "kvm",
            AccelChoice::Hvf => "hvf",
            AccelChoice::Off => "off",
        })
    }
}

/// What the process gives up before the guest runs (module [`jail`](crate::jail)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JailChoice {
    /// All that the system has.
    #[default]
    On,
    /// Nothing.
    Off,
    /// All, or there is no run.
    Strict,
}

/// A disk to attach beside the image: a file, or a block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The file.
    pub path: PathBuf,
    /// The guest can only read it.
    pub read_only: bool,
    /// What is in the file.
    pub format: DiskFormat,
}

/// What is in a disk's file. It is said, and never looked for: a guest that could write it could say something
/// else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskFormat {
    /// The disk, byte for byte.
    #[default]
    Raw,
    /// QEMU's qcow2.
    Qcow2,
}

/// A volume of OPS's and its place in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Label or UUID of the volume, or `%N`, the N-th disk behind the image.
    pub volume: String,
    /// Where it is mounted: begins with `/`, has no `:`.
    pub path: String,
    /// The guest can only read it.
    pub read_only: bool,
}

/// What is wrong with a config: the file, the line and the column where there is one, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(pub(crate) String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
