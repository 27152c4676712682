//! Why an image cannot be booted: what is wrong, where, and what to do about it.

use super::arm64::Arm64Error;
use super::bzimage::BzImageError;
use super::elf::ElfError;
use super::hermit::HermitError;
use super::mbr::MbrError;
use super::multiboot::MultibootError;
use super::solo5::Solo5Error;
use super::source::{OpenError, ReadError};
use super::tfs::{AppendError, TfsError};

/// An image that cannot be booted.
#[derive(Debug, thiserror::Error)]
#[error("{image}: {problem}")]
pub struct Error {
    /// The image, as the user named it.
    pub image: String,
    /// What is wrong with it.
    pub problem: Box<Problem>,
}

impl Error {
    pub(super) fn new(image: &str, problem: impl Into<Problem>) -> Self {
        Self { image: image.to_owned(), problem: Box::new(problem.into()) }
    }
}

/// What is wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its partition table is no table of an OPS image.
    #[error("{0}")]
    Partitions(#[from] MbrError),
    /// One of its file systems cannot be read.
    #[error("the {which} file system: {error}")]
    FileSystem {
        /// `boot` or `root`.
        which: &'static str,
        /// What is wrong, and where.
        error: TfsError,
    },
    /// Nothing can be told to the guest by it.
    #[error(
        "what -a, -e, --mounts and addresses say would go into a record of the image, and {0}: \
         build the image again with `ops`"
    )]
    Append(AppendError),
    /// No file `kernel` in the image.
    #[error("no file `kernel` in its {0} file system: build the image again with `ops`")]
    NoKernel(&'static str),
    /// The ELF file, or the one in the image, is broken.
    #[error("{}{error}", inside(.file))]
    Elf {
        /// The file inside the image, if the ELF file is not the image itself.
        file: Option<String>,
        /// What is wrong, and where.
        error: ElfError,
    },
    /// The bzImage is broken, or of a kind that is not booted.
    #[error("the bzImage: {0}")]
    BzImage(#[from] BzImageError),
    /// The arm64 Image is broken, or of a kind that is not booted.
    #[error("the arm64 Image: {0}")]
    Arm64(#[from] Arm64Error),
    /// The Solo5 unikernel cannot be run as it is.
    #[error("the Solo5 unikernel: {0}")]
    Solo5(#[from] Solo5Error),
    /// The Hermit unikernel cannot be run as it is.
    #[error("the Hermit unikernel: {0}")]
    Hermit(#[from] HermitError),
    /// The Multiboot header cannot be followed.
    #[error("its Multiboot header: {0}")]
    Multiboot(#[from] MultibootError),
    /// A kernel inside an EFI program that unpacks it.
    #[error(
        "this is a Linux kernel packed with {packed} for EFI (zboot), and runner has no EFI: take the \
         kernel it was made from (`arch/*/boot/Image` in its build), or configure it without \
         CONFIG_EFI_ZBOOT"
    )]
    Zboot {
        /// What it is packed with.
        packed: String,
    },
    /// A program for Linux.
    #[error(
        "it is a Linux program ({why}), and not a kernel: build an image with `ops`, then run that"
    )]
    LinuxProgram {
        /// How one can tell.
        why: String,
    },
    /// A format that is known, and not booted.
    #[error("this is {what}; runner does not boot it yet")]
    NotYet {
        /// The format, with its article.
        what: String,
    },
    /// A unikernel that is built for something that runner is not.
    #[error(
        "this is a Solo5 unikernel for {name} (target {target}), {why}: build it for hvt (target 1), as \
         `mirage configure -t hvt` does"
    )]
    Solo5Target {
        /// The target's name.
        name: &'static str,
        /// Its number.
        target: u32,
        /// What that is.
        why: &'static str,
    },
    /// Something that has to be converted first.
    #[error("this is {what}: {remedy}")]
    Foreign {
        /// The format, with its article.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Nothing this library knows.
    #[error(
        "its format is unknown (it begins with {first}): runner boots disk images built by `ops`, Linux \
         bzImages and arm64 Images, Multiboot kernels, Solo5 unikernels for hvt, Hermit unikernels, and ELF \
         kernels with a PVH note or a 64-bit entry"
    )]
    Unknown {
        /// The first bytes, as text where they are text.
        first: String,
    },
}

fn inside(file: &Option<String>) -> String {
    file.as_ref().map(|file| format!("the file `{file}` in it: ")).unwrap_or_default()
}
