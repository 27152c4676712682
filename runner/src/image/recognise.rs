//! What an image is: the order of recognition, and a name for what is not booted.

use super::arm64;
use super::bzimage::{self, BzImage};
use super::elf::{self, Elf};
use super::mbr::{self, Layout, MbrError, SECTOR};
use super::solo5::Abi;
use super::tfs::{Filesystem, Region, TfsError};
use super::{Format, Image, Kernel, Problem, Source, View, kernel, magic};

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
    let kernel = Kernel::new(view, elf, Some("kernel"))?;
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

fn is_elf32(head: &[u8]) -> bool {
    head.get(4) == Some(&1)
}

/// What a note says that is not booted.
fn named_by_note(elf: &Elf) -> Option<Problem> {
    if let Some(Abi { target, .. }) = elf.notes.solo5 {
        return solo5_target(target);
    }
    let hermit = elf.notes.hermit?;
    Some(Problem::NotYet { what: format!("a Hermit unikernel (entry version {hermit})") })
}

/// Why a Solo5 unikernel for `target` is not booted; nothing for hvt.
fn solo5_target(target: u32) -> Option<Problem> {
    let (name, why) = match target {
        Abi::HVT => return None,
        2 => ("spt", "which is a Linux process and no virtual machine"),
        3 => ("virtio", "which is entered by Multiboot, and runner has no such entry yet"),
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
    /// Any ELF file that can be entered is: the user names it as a kernel, or says how to enter it.
    NotNeeded,
}

/// The kernel, if the file is a bzImage, an Image or an ELF64 one; an error also if it is something that comes
/// before in order.
fn any_kernel(
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
    if let Some(problem) = elf.as_ref().and_then(named_by_note) {
        return Err(problem);
    }
    if let Some(elf) = &elf
        && let Some(abi) = elf.notes.solo5
    {
        return Ok(Some((Format::Solo5, Kernel::of_solo5(view, elf, abi)?)));
    }
    if bzimage::is_bzimage(head) {
        let image = BzImage::parse(&view)?;
        return Ok(Some((Format::BzImage, Kernel::of_bzimage(view, image))));
    }
    if arm64::is_arm64_image(head) {
        let segment = arm64::segment(&view, head)?;
        return Ok(Some((Format::Arm64Image, Kernel::of_arm64_image(view, segment))));
    }
    let Some(elf) = elf else { return Ok(None) };
    let format = if elf.notes.pvh_entry.is_some() { Format::Pvh } else { Format::Elf };
    if marks == Marks::Needed
        && format == Format::Elf
        && elf.interpreter.is_none()
        && let Some(version) = magic::multiboot(head)
    {
        return Err(Problem::NotYet { what: format!("a Multiboot {version} kernel") });
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
        return Ok(Problem::NotYet { what: format!("a Multiboot {version} kernel") });
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
    if let Some(magic::Foreign { what, remedy }) = magic::foreign(head) {
        return Ok(Problem::Foreign { what, remedy });
    }
    if let Some(error) = no_disk {
        return Ok(error.into());
    }
    let first = head.get(..head.len().min(16)).unwrap_or_default();
    Ok(Problem::Unknown { first: format!("\"{}\"", first.escape_ascii()) })
}
