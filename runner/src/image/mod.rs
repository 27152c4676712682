//! Images: what kind one is, and where its kernel is.
//!
//! A file is recognised by what is in it, in this order, and the first that matches counts, also
//! for a file that is two things at once:
//!
//! 1. a disk image as OPS writes it: an MBR ([`mbr`]) and a TFS ([`tfs`]) with the file `kernel`;
//! 2. an ELF file with Solo5's note, 3. with Hermit's ([`elf`], [`notes`]);
//! 4. a bzImage, 5. an arm64 Image;
//! 6. an ELF kernel with a PVH note; 7. a kernel with a Multiboot header, an ELF file or not;
//! 8. any other ELF64 kernel: the Linux entry.
//!
//! All but 2 where it is not built for hvt ([`solo5`]) are booted. A file of which
//! the user says that it is a kernel, or how it is entered, is 6 or 8 before it is 7. Containers and
//! compressed files are named with the command that converts them and never opened: were a disk's format
//! guessed, a guest could write itself another one.
//!
//! Images are hostile. Nothing here trusts a length or an offset, and what is found is either
//! wholly checked or an [`Error`] that says what is wrong and where.

#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::panic
)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod archive;
pub mod arm64;
mod bytes;
pub mod bzimage;
pub mod elf;
mod error;
pub mod hermit;
mod kernel;
mod magic;
mod manifest;
pub mod mbr;
pub mod multiboot;
pub mod notes;
mod overrides;
mod recognise;
pub mod solo5;
pub mod source;
mod system;
pub mod tfs;
pub mod view;

use std::path::Path;

pub use elf::Segment;
pub use error::{Error, Problem};
pub use hv::Arch;
pub use kernel::Kernel;
pub use manifest::Manifest;
pub use overrides::Overrides;
pub use recognise::Marks;
pub use source::{Access, Source};
pub use tfs::Patch;
pub use view::{Piece, View};

use tfs::{Filesystem, Region};

/// How an image is put together, and so how it is entered when nobody says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A disk image built by OPS. On x86_64, enter by the Linux 64-bit protocol: Nanos reads a
    /// command line by no other.
    Ops {
        /// With a UEFI partition, or for BIOS.
        uefi: bool,
        /// TFS version of the boot file system.
        tfs: u64,
    },
    /// A Linux bzImage.
    BzImage,
    /// A Linux Image for arm64.
    Arm64Image,
    /// A Solo5 unikernel for hvt.
    Solo5,
    /// A Hermit unikernel.
    Hermit,
    /// An ELF kernel with a PVH note.
    Pvh,
    /// A kernel with a Multiboot header.
    Multiboot,
    /// An ELF64 kernel without a note. On x86_64, enter by the Linux 64-bit protocol.
    Elf,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ops { uefi, tfs } => {
                write!(f, "OPS disk image ({}, TFS v{tfs})", if *uefi { "UEFI" } else { "BIOS" })
            }
            Self::BzImage => f.write_str("Linux bzImage"),
            Self::Arm64Image => f.write_str("Linux arm64 Image"),
            Self::Solo5 => f.write_str("Solo5 hvt unikernel"),
            Self::Hermit => f.write_str("Hermit unikernel"),
            Self::Pvh => f.write_str("ELF kernel with a PVH entry"),
            Self::Multiboot => f.write_str("Multiboot kernel"),
            Self::Elf => f.write_str("ELF64 kernel"),
        }
    }
}

/// A recognised image with its kernel.
#[derive(Debug, Clone)]
pub struct Image {
    source: Source,
    format: Format,
    kernel: Kernel,
    /// Of a disk image: the file system with the manifest.
    root: Option<Region>,
}

impl Image {
    /// Opens a file to read, and recognises it.
    ///
    /// # Errors
    /// [`Error`]: it cannot be opened, is damaged, or is nothing that is booted.
    pub fn open(path: &Path, marks: Marks) -> Result<Self, Error> {
        Self::recognise_as(Source::open(path, Access::Read)?, marks)
    }

    /// Recognises what has been opened, and of which nobody says what it is.
    ///
    /// # Errors
    /// [`Error`]: it is damaged, or nothing that is booted.
    pub fn recognise(source: Source) -> Result<Self, Error> {
        Self::recognise_as(source, Marks::Needed)
    }

    /// Recognises what has been opened.
    ///
    /// # Errors
    /// As [`Image::recognise`].
    pub fn recognise_as(source: Source, marks: Marks) -> Result<Self, Error> {
        let name = source.name().to_owned();
        recognise::image(source, marks).map_err(|problem| Error::new(&name, problem))
    }

    /// The file it is in.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// What it is.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The machine it is for.
    #[must_use]
    pub fn arch(&self) -> Arch {
        self.kernel.arch()
    }

    /// What to load and where to enter.
    #[must_use]
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Whether the image is also the guest's boot disk.
    #[must_use]
    pub fn is_disk(&self) -> bool {
        matches!(self.format, Format::Ops { .. })
    }

    /// What a disk image says about its program; `None` for one without a root file system, and for
    /// a kernel. It is read only now: nothing in it is needed to boot, and in an image with many
    /// files it takes a while.
    ///
    /// # Errors
    /// [`Error`] when the root file system cannot be read.
    pub fn manifest(&self) -> Result<Option<Manifest>, Error> {
        Ok(self.root()?.as_ref().map(Manifest::of))
    }

    /// What to show the guest in the place of a part of the image, so that it is told `overrides`.
    /// `None` when there is nothing to tell, or nothing that could be told: the image has no root file
    /// system.
    ///
    /// # Errors
    /// [`Error`] when the root file system cannot be read, or takes no record.
    pub fn patch(&self, overrides: Overrides<'_>) -> Result<Option<Patch>, Error> {
        let Some(filesystem) = self.root()? else { return Ok(None) };
        overrides
            .patch(&filesystem)
            .map_err(|error| Error::new(self.source.name(), Problem::Append(error)))
    }

    /// The file system whose root tuple is the manifest; `None` as for [`Image::manifest`].
    ///
    /// # Errors
    /// [`Error`] when it cannot be read.
    pub fn root(&self) -> Result<Option<Filesystem>, Error> {
        let Some(region) = self.root else { return Ok(None) };
        let filesystem = recognise::filesystem(&self.source, region, "root");
        filesystem.map(Some).map_err(|problem| Error::new(self.source.name(), problem))
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
