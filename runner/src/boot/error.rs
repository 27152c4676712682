//! Why an image cannot be booted as asked.

use super::Protocol;

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
