//! What an image is: [`ORDER`], the order of recognition, and a name for what is not booted.

use super::bzimage::{self, BzImage};
use super::elf::{self, Elf};
use super::mbr::{self, Layout, MbrError, SECTOR};
use super::multiboot::{Multiboot, MultibootError};
use super::solo5::Abi;
use super::tfs::{Filesystem, Region, TfsError};
use super::{Format, Image, Kernel, Problem, Source, View, kernel, magic};
use super::{archive, arm64};
use crate::family::System;

/// Multiboot 2 headers are looked for this far.
const HEAD: u64 = 32 << 10;

/// The image in `source`.
pub(super) fn image(source: Source, marks: Marks) -> Result<Image, Problem> {
    // A partition table that leads nowhere is the answer only when the file is nothing else: a
    // bzImage has the same signature.
    let no_disk = match disk(&source)? {
        Some(Ok(image)) => return Ok(image),
        Some(Err(error)) => Some(error),
        None => None,
    };
    let head = head(&source, HEAD)?;
    match any_kernel(&source, &head, marks)? {
        Some((format, kernel)) => Ok(Image { source, format, kernel, root: None }),
        None => Err(not_bootable(&source, &head, no_disk)?),
    }
}

/// The kernel in `source`, which need not be marked as one.
pub(super) fn kernel(source: &Source) -> Result<Kernel, Problem> {
    let head = head(source, HEAD)?;
    match any_kernel(source, &head, Marks::NotNeeded)? {
        Some((_, kernel)) => Ok(kernel),
        None => Err(not_bootable(source, &head, None)?),
    }
}

fn head(source: &Source, limit: u64) -> Result<Vec<u8>, Problem> {
    let mut head = vec![0; usize::try_from(source.len().min(limit)).unwrap_or_default()];
    source.read_exact_at(0, &mut head)?;
    Ok(head)
}

/// The disk image that it is, or else what is wrong with its partition table, if it has one.
fn disk(source: &Source) -> Result<Option<Result<Image, MbrError>>, Problem> {
    let layout = match mbr::layout(&head(source, SECTOR)?, source.len()) {
        None => return Ok(None),
        Some(Err(error)) => return Ok(Some(Err(error))),
        Some(Ok(layout)) => layout,
    };
    let start = layout.boot.start;
    let (view, tfs) = match kernel_file(source, &layout) {
        Err(Problem::FileSystem { error, .. }) if error.no_tfs_at(start) => {
            return Ok(Some(Err(MbrError::NotTfs { entry: layout.entry, start })));
        }
        found => found?,
    };
    let inside = |error| Problem::Elf { file: Some("kernel".into()), error };
    let elf = Elf::parse(&view).map_err(inside)?;
    let kernel = Kernel::new(view, elf, None, Some("kernel"))?;
    let format = Format::Ops { uefi: layout.uefi, tfs };
    Ok(Some(Ok(Image { source: source.clone(), format, kernel, root: layout.root })))
}

/// The file `kernel`, and the TFS version of the boot file system. Very old images have it in the
/// root file system.
fn kernel_file(source: &Source, layout: &Layout) -> Result<(View, u64), Problem> {
    let boot = filesystem(source, layout.boot, "boot")?;
    let version = boot.version();
    let in_boot =
        boot.lookup("kernel").map_err(|error| Problem::FileSystem { which: "boot", error })?;
    if let Some(view) = in_boot {
        return Ok((view, version));
    }
    let Some(region) = layout.root else {
        return Err(Problem::NoKernel("boot"));
    };
    let root = filesystem(source, region, "root")?;
    let in_root =
        root.lookup("kernel").map_err(|error| Problem::FileSystem { which: "root", error })?;
    Ok((in_root.ok_or(Problem::NoKernel("boot or root"))?, version))
}

/// A file system of an image; `which` is for messages.
pub(super) fn filesystem(
    source: &Source,
    region: Region,
    which: &'static str,
) -> Result<Filesystem, Problem> {
    Filesystem::open(source, region).map_err(|error| match error {
        TfsError::Read(error) => Problem::Read(error),
        error => Problem::FileSystem { which, error },
    })
}

/// A 32-bit ELF file for x86, or any 64-bit one.
fn is_elf_for_us(head: &[u8]) -> bool {
    elf::is_elf(head) && (head.get(4) != Some(&1) || magic::is_elf32_for_x86(head))
}

/// Why a Solo5 unikernel for `target` is not booted; nothing for hvt.
fn solo5_target(target: u32) -> Option<Problem> {
    let (name, why) = match target {
        Abi::HVT => return None,
        2 => ("spt", "which is a Linux process and no virtual machine"),
        3 => ("virtio", "which wants a timer and legacy virtio devices that runner has not"),
        4 => ("muen", "which the separation kernel Muen starts"),
        5 => ("genode", "which is a component of a Genode system"),
        6 => ("xen", "which calls Xen, and runner has none of Xen's hypercalls"),
        _ => ("a target", "which is not known here"),
    };
    Some(Problem::Solo5Target { name, target, why })
}

/// Whether a kernel has to be told from other files, or the user has said that it is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// An ELF file is a kernel if something in it says so, and nothing that it is another format's.
    Needed,
    /// The same, and Hermit's loader is one: what it is given is a Hermit unikernel. (That for Firecracker lies where
    /// programs do, and has nothing that others know.)
    NeededOrLoader,
    /// Any ELF file that can be entered is: the user names it as a kernel, or says how to enter it.
    NotNeeded,
}

/// A file that is no disk image, as it is looked at.
struct Candidate<'a> {
    view: View,
    /// Its first bytes.
    head: &'a [u8],
    /// What it is as an ELF file that could be for us.
    elf: Option<Elf>,
    marks: Marks,
}

/// The kernel that was looked for; an error if the file is that, and damaged or not for us.
type Found = Result<Option<(Format, Kernel)>, Problem>;

/// What a file is looked at for, in this order: the first that knows it counts. A disk image comes before them all.
const ORDER: [fn(&Candidate<'_>) -> Found; 5] =
    [solo5, hermit, bzimage, arm64_image, pvh_multiboot_or_elf];

fn any_kernel(source: &Source, head: &[u8], marks: Marks) -> Found {
    let view = View::whole(source.clone());
    let elf = match is_elf_for_us(head) {
        true => Some(Elf::parse(&view).map_err(|error| Problem::Elf { file: None, error })?),
        false => None,
    };
    let candidate = Candidate { view, head, elf, marks };
    for look in ORDER {
        if let Some(found) = look(&candidate)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn solo5(Candidate { view, elf, .. }: &Candidate<'_>) -> Found {
    let Some((elf, abi)) = elf.as_ref().and_then(|elf| Some((elf, elf.notes.solo5?))) else {
        return Ok(None);
    };
    match solo5_target(abi.target) {
        Some(problem) => Err(problem),
        None => Ok(Some((Format::Solo5, Kernel::of_solo5(view.clone(), elf, abi)?))),
    }
}

fn hermit(Candidate { view, elf, .. }: &Candidate<'_>) -> Found {
    let Some((elf, entry)) = elf.as_ref().and_then(|elf| Some((elf, elf.notes.hermit?))) else {
        return Ok(None);
    };
    Ok(Some((Format::Hermit, Kernel::of_hermit(view.clone(), elf, entry)?)))
}

fn bzimage(Candidate { view, head, .. }: &Candidate<'_>) -> Found {
    if !bzimage::is_bzimage(head) {
        return Ok(None);
    }
    let image = BzImage::parse(view)?;
    Ok(Some((Format::BzImage, Kernel::of_bzimage(view.clone(), image))))
}

fn arm64_image(Candidate { view, head, .. }: &Candidate<'_>) -> Found {
    if !arm64::is_arm64_image(head) {
        return Ok(None);
    }
    let segment = arm64::segment(view, head)?;
    let system = System::of_arm64_image(view, arm64::text_offset(head));
    Ok(Some((Format::Arm64Image, Kernel::of_arm64_image(view.clone(), segment, system))))
}

/// These are one step, as an ELF file can have all three entries: a PVH note counts before a Multiboot header, and
/// that before ELF's own entry.
fn pvh_multiboot_or_elf(Candidate { view, head, elf, marks }: &Candidate<'_>) -> Found {
    let multiboot = Multiboot::parse(head, view.len(), elf.as_ref());
    match elf {
        Some(elf) => elf_kernel(view.clone(), elf.clone(), head, multiboot, *marks),
        None => {
            let kernel = multiboot.transpose()?.map(|it| Kernel::of_multiboot(view.clone(), it));
            Ok(kernel.map(|kernel| (Format::Multiboot, kernel)))
        }
    }
}

/// The kernel in an ELF file, which may have a Multiboot header.
fn elf_kernel(
    view: View,
    elf: Elf,
    head: &[u8],
    multiboot: Option<Result<Multiboot, MultibootError>>,
    marks: Marks,
) -> Found {
    let by_elf = elf.notes.pvh_entry.is_some() || (marks == Marks::NotNeeded && !elf.is_32_bit);
    // A header counts for less than an entry of ELF's own, and then it need not be right.
    let multiboot = match multiboot {
        Some(Err(_)) if by_elf => None,
        other => other.transpose()?,
    };
    let format = match (elf.notes.pvh_entry, &multiboot) {
        (Some(_), _) => Format::Pvh,
        (None, Some(_)) if !by_elf && elf.interpreter.is_none() => Format::Multiboot,
        (None, _) => Format::Elf,
    };
    let is_loader = marks == Marks::NeededOrLoader && is_hermits_loader(&view, &elf);
    if format == Format::Elf && marks != Marks::NotNeeded && !is_loader {
        if elf.interpreter.is_none() && magic::multiboot2(head) {
            return Err(Problem::NotYet { what: "a Multiboot 2 kernel".into() });
        }
        if elf.is_32_bit {
            return Ok(None);
        }
        if let Some(why) = kernel::program(&elf) {
            return Err(Problem::LinuxProgram { why });
        }
    }
    let kernel = match is_loader {
        true => Kernel::of_hermits_loader(view, elf, multiboot)?,
        false => Kernel::new(view, elf, multiboot, None)?,
    };
    Ok(Some(match format {
        Format::Multiboot => (format, kernel.by_multiboot()),
        _ => (format, kernel),
    }))
}

/// Whether its text alone says whose it is.
fn is_hermits_loader(view: &View, elf: &Elf) -> bool {
    elf.notes.pvh_entry.is_none()
        && System::of_elf(view, elf).is_none()
        && System::by_text(view, &elf.segments) == Some(System::HermitLoader)
}

/// What it is, when it is nothing that is booted and no 64-bit ELF file.
fn not_bootable(
    source: &Source,
    head: &[u8],
    no_disk: Option<MbrError>,
) -> Result<Problem, Problem> {
    if magic::multiboot2(head) {
        return Ok(Problem::NotYet { what: "a Multiboot 2 kernel".into() });
    }
    if elf::is_elf(head) {
        return Ok(Problem::NotYet { what: magic::machine_of_elf32(head).into() });
    }
    if Filesystem::probe(source, Region { start: 0, len: source.len() })? {
        return Ok(Problem::Foreign {
            what: "a TFS volume, without partitions and kernel",
            remedy: "run an image, and attach this with `--disk`",
        });
    }
    if let Some(packed) = magic::efi_zboot(head) {
        return Ok(Problem::Zboot { packed });
    }
    if magic::is_pe(head) {
        return Ok(Problem::NotYet { what: "a program for EFI or Windows".into() });
    }
    if archive::is_hermit_image(source) {
        return Ok(Problem::Foreign {
            what: "a Hermit image, an archive with a unikernel and hermit.toml",
            remedy: "unpack it (`mkdir app && tar xf IMAGE -C app`), and run the kernel that app/hermit.toml \
                     names, with its app_args behind `--`, its env_vars by `-e`, and its files by `--share`",
        });
    }
    if let Some(magic::Foreign { what, remedy }) = magic::foreign(head) {
        return Ok(Problem::Foreign { what, remedy });
    }
    if let Some(error) = no_disk {
        return Ok(error.into());
    }
    let first = head.get(..head.len().min(16)).unwrap_or_default();
    Ok(Problem::Unknown { first: format!("\"{}\"", first.escape_ascii()) })
}
