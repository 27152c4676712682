//! Images: what kind one is, and where its kernel is.
//!
//! A file is recognised by what is in it, in this order, and the first that matches counts, also for a file that is
//! two things at once:
//!
//! 1. a disk image as OPS writes it: an MBR ([`mbr`]) and a TFS ([`tfs`]) with the file `kernel`;
//! 2. an ELF file with Solo5's note, 3. with Hermit's ([`elf`], [`notes`]);
//! 4. a bzImage, 5. an arm64 Image;
//! 6. an ELF64 kernel with a PVH note; 7. a kernel with a Multiboot header;
//! 8. any other ELF64 kernel: the Linux 64-bit entry.
//!
//! 1, 6 and 8 are booted, the others named. Containers and compressed files are named with the command that
//! converts them and never opened: were a disk's format guessed, a guest could write itself another one.
//!
//! Images are hostile. Nothing here trusts a length or an offset, and what is found is either wholly checked or an
//! [`Error`] that says what is wrong and where.

#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::panic
)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod bytes;
pub mod elf;
mod error;
mod kernel;
mod magic;
mod manifest;
pub mod mbr;
pub mod notes;
pub mod source;
pub mod tfs;
pub mod view;

use std::path::Path;

pub use elf::{Arch, Segment};
pub use error::{Error, Problem};
pub use kernel::Kernel;
pub use manifest::Manifest;
pub use source::{Access, Source};
pub use view::{Piece, View};

use elf::Elf;
use mbr::{Layout, MbrError};
use tfs::{Filesystem, Region, TfsError};

/// Multiboot 2 headers are looked for this far.
const HEAD: u64 = 32 << 10;

/// How an image is put together, and so how it is entered when nobody says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A disk image built by OPS. Enter by the Linux 64-bit protocol: Nanos reads a command line by no other.
    Ops {
        /// With a UEFI partition, or for BIOS.
        uefi: bool,
        /// TFS version of the boot file system.
        tfs: u64,
    },
    /// An ELF64 kernel with a PVH note.
    Pvh,
    /// An ELF64 kernel without a note. On x86_64, enter by the Linux 64-bit protocol.
    Elf,
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ops { uefi, tfs } => {
                write!(
                    f,
                    "OPS disk image ({}, TFS v{tfs})",
                    if *uefi { "UEFI" } else { "BIOS" }
                )
            }
            Self::Pvh => f.write_str("ELF64 kernel with a PVH entry"),
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
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::recognise(Source::open(path, Access::Read)?)
    }

    /// Recognises what has been opened.
    ///
    /// # Errors
    /// [`Error`]: it is damaged, or nothing that is booted.
    pub fn recognise(source: Source) -> Result<Self, Error> {
        let name = source.name().to_owned();
        recognise(source).map_err(|problem| Error::new(&name, problem))
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

    /// What a disk image says about its program; `None` for one without a root file system, and for a kernel. It is
    /// read only now: nothing in it is needed to boot, and in an image with many files it takes a while.
    ///
    /// # Errors
    /// [`Error`] when the root file system cannot be read.
    pub fn manifest(&self) -> Result<Option<Manifest>, Error> {
        let Some(region) = self.root else {
            return Ok(None);
        };
        let filesystem = open_filesystem(&self.source, region, "root");
        let filesystem = filesystem.map_err(|problem| Error::new(self.source.name(), problem))?;
        Ok(Some(Manifest::of(&filesystem)))
    }
}

impl Kernel {
    /// The kernel that the user names as such (`--kernel`): a file that [`Image::recognise`] would take for an ELF
    /// kernel, and one in which nothing marks a kernel as well.
    ///
    /// # Errors
    /// As [`Image::recognise`].
    pub fn open(source: &Source) -> Result<Self, Error> {
        let kernel = || {
            let head = head(source)?;
            match elf_kernel(source, &head, Marks::NotNeeded)? {
                Some((_, kernel)) => Ok(kernel),
                None => Err(not_bootable(source, &head, None)?),
            }
        };
        kernel().map_err(|problem| Error::new(source.name(), problem))
    }
}

fn recognise(source: Source) -> Result<Image, Problem> {
    let head = head(&source)?;
    // A partition table that leads nowhere is the answer only when the file is nothing else: a bzImage has the same
    // signature.
    let no_disk = match disk(&source, &head)? {
        Some(Ok(image)) => return Ok(image),
        Some(Err(error)) => Some(error),
        None => None,
    };
    match elf_kernel(&source, &head, Marks::Needed)? {
        Some((format, kernel)) => Ok(Image {
            source,
            format,
            kernel,
            root: None,
        }),
        None => Err(not_bootable(&source, &head, no_disk)?),
    }
}

fn head(source: &Source) -> Result<Vec<u8>, Problem> {
    let mut head = vec![0; usize::try_from(source.len().min(HEAD)).unwrap_or_default()];
    source.read_exact_at(0, &mut head)?;
    Ok(head)
}

/// The disk image that it is, or else what is wrong with its partition table, if it has one.
fn disk(source: &Source, head: &[u8]) -> Result<Option<Result<Image, MbrError>>, Problem> {
    let layout = match mbr::layout(head, source.len()) {
        None => return Ok(None),
        Some(Err(error)) => return Ok(Some(Err(error))),
        Some(Ok(layout)) => layout,
    };
    if !Filesystem::probe(source, layout.boot)? {
        return Ok(Some(Err(MbrError::NotTfs {
            entry: layout.entry,
            start: layout.boot.start,
        })));
    }
    let (view, tfs) = kernel_file(source, &layout)?;
    let inside = |error| Problem::Elf {
        file: Some("kernel".into()),
        error,
    };
    let elf = Elf::parse(&view).map_err(inside)?;
    let kernel = Kernel::new(view, elf, Some("kernel"))?;
    let format = Format::Ops {
        uefi: layout.uefi,
        tfs,
    };
    Ok(Some(Ok(Image {
        source: source.clone(),
        format,
        kernel,
        root: layout.root,
    })))
}

/// The file `kernel`, and the TFS version of the boot file system. Very old images have it in the root file system.
fn kernel_file(source: &Source, layout: &Layout) -> Result<(View, u64), Problem> {
    let boot = open_filesystem(source, layout.boot, "boot")?;
    let version = boot.version();
    let in_boot = boot.lookup("kernel").map_err(|error| Problem::FileSystem {
        which: "boot",
        error,
    })?;
    if let Some(view) = in_boot {
        return Ok((view, version));
    }
    let Some(region) = layout.root else {
        return Err(Problem::NoKernel("boot"));
    };
    let root = open_filesystem(source, region, "root")?;
    let in_root = root.lookup("kernel").map_err(|error| Problem::FileSystem {
        which: "root",
        error,
    })?;
    Ok((in_root.ok_or(Problem::NoKernel("boot or root"))?, version))
}

fn open_filesystem(
    source: &Source,
    region: Region,
    which: &'static str,
) -> Result<Filesystem, Problem> {
    Filesystem::open(source, region).map_err(|error| match error {
        TfsError::Read(error) => Problem::Read(error),
        error => Problem::FileSystem { which, error },
    })
}

fn is_elf32(head: &[u8]) -> bool {
    head.get(4) == Some(&1)
}

fn named_by_note(elf: &Elf) -> Option<String> {
    if let Some(target) = elf.notes.solo5_target {
        return Some(match target {
            1 => "a Solo5 hvt unikernel".into(),
            2 => "a Solo5 spt unikernel, which is a Linux process and no virtual machine (build it for hvt)".into(),
            3 => "a Solo5 virtio unikernel".into(),
            4 => "a Solo5 muen unikernel".into(),
            5 => "a Solo5 genode unikernel".into(),
            6 => "a Solo5 xen unikernel".into(),
            other => format!("a Solo5 unikernel for the unknown target {other}"),
        });
    }
    elf.notes
        .hermit
        .map(|version| format!("a Hermit unikernel (entry version {version})"))
}

fn named(head: &[u8]) -> Option<String> {
    if magic::is_bzimage(head) {
        Some("a Linux bzImage".into())
    } else if magic::is_arm64_image(head) {
        Some("an arm64 Image".into())
    } else {
        None
    }
}

/// Whether a kernel has to be told from a program, or the user has said that it is one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Marks {
    Needed,
    NotNeeded,
}

/// The kernel, if the file is an ELF64 one; an error also if it is something that comes before one in order.
fn elf_kernel(
    source: &Source,
    head: &[u8],
    marks: Marks,
) -> Result<Option<(Format, Kernel)>, Problem> {
    let view = View::whole(source.clone());
    let elf = if elf::is_elf(head) && !is_elf32(head) {
        Some(Elf::parse(&view).map_err(|error| Problem::Elf { file: None, error })?)
    } else {
        None
    };
    if let Some(what) = elf.as_ref().and_then(named_by_note).or_else(|| named(head)) {
        return Err(Problem::NotYet { what });
    }
    let Some(elf) = elf else { return Ok(None) };
    let format = if elf.notes.pvh_entry.is_some() {
        Format::Pvh
    } else {
        Format::Elf
    };
    if format == Format::Elf
        && elf.interpreter.is_none()
        && let Some(version) = magic::multiboot(head)
    {
        return Err(Problem::NotYet {
            what: format!("a Multiboot {version} kernel"),
        });
    }
    if marks == Marks::Needed
        && let Some(why) = kernel::program(&elf)
    {
        return Err(Problem::LinuxProgram { why });
    }
    Ok(Some((format, Kernel::new(view, elf, None)?)))
}

/// What it is, when it is nothing that is booted and no 64-bit ELF file.
fn not_bootable(
    source: &Source,
    head: &[u8],
    no_disk: Option<MbrError>,
) -> Result<Problem, Problem> {
    if let Some(version) = magic::multiboot(head) {
        return Ok(Problem::NotYet {
            what: format!("a Multiboot {version} kernel"),
        });
    }
    if elf::is_elf(head) {
        return Ok(Problem::NotYet {
            what: magic::machine_of_elf32(head).into(),
        });
    }
    if Filesystem::probe(
        source,
        Region {
            start: 0,
            len: source.len(),
        },
    )? {
        return Ok(Problem::Foreign {
            what: "a TFS volume, without partitions and kernel",
            remedy: "run an image, and attach this with `--disk`",
        });
    }
    if magic::is_pe(head) {
        return Ok(Problem::NotYet {
            what: "a program for EFI or Windows".into(),
        });
    }
    if let Some(magic::Foreign { what, remedy }) = magic::foreign(head) {
        return Ok(Problem::Foreign { what, remedy });
    }
    if let Some(error) = no_disk {
        return Ok(error.into());
    }
    let first = head.get(..head.len().min(16)).unwrap_or_default();
    Ok(Problem::Unknown {
        first: format!("\"{}\"", first.escape_ascii()),
    })
}

#[cfg(test)]
mod tests;
