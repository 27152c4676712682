//! The guest's disks: opened, given a place in the machine.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::Error;
use crate::config::{Disk, DiskFormat};
use crate::devices::virtio::block::{Qcow2, Scratch};
use crate::image::{Access, Image, Patch, Source};
use crate::io::lock::{DiskLock, Mode};
use crate::log::printable_path;
use crate::machine::slot::{VIRTIO_SLOTS, VirtioSlot};

/// A disk of the guest.
#[derive(Debug)]
pub struct DiskPlan {
    /// Stable name: `disk0` is the image, or the first of `--disk`.
    pub id: String,
    /// The file by the name it was opened with, and its length.
    pub source: Source,
    /// The open file.
    pub file: Arc<File>,
    /// What is in the file.
    pub format: DiskFormat,
    /// Bytes of the disk, as the guest sees it.
    pub size: u64,
    /// The guest can only read it.
    pub read_only: bool,
    /// Takes what the guest writes, in place of the file.
    pub scratch: Option<Scratch>,
    /// What the guest sees in the place of a part of it, until it writes.
    pub patch: Option<Patch>,
    /// Where it stands in the machine.
    pub slot: VirtioSlot,
    /// Keeps other programs away from the file. A child process that inherits the file has the
    /// lock, too.
    pub lock: DiskLock,
}

/// What else needs a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// The network.
    pub(super) network: bool,
    /// So many further devices.
    pub(super) devices: usize,
}

impl Room {
    /// What is left for disks.
    fn disks(self) -> usize {
        VIRTIO_SLOTS.saturating_sub(usize::from(self.network)).saturating_sub(self.devices)
    }

    /// Why `count` disks do not fit, and what to do.
    fn refuse(self, count: usize) -> Error {
        let (network, remedy) = match self.network {
            true => (Some("the network".to_owned()), ", or the network (--net=none)"),
            false => (None, ""),
        };
        let devices = match self.devices {
            0 => None,
            1 => Some("another device".to_owned()),
            more => Some(format!("{more} other devices")),
        };
        let beside: Vec<_> = network.into_iter().chain(devices).collect();
        let beside = match beside.is_empty() {
            true => String::new(),
            false => format!(" beside {}", beside.join(" and ")),
        };
        let room = self.disks();
        Error::Asked(format!(
            "{count} disks, where the machine has room for {room}{beside}: leave some out{remedy}"
        ))
    }
}

impl DiskPlan {
    /// Bytes of the largest file that is written for it, if one is.
    pub(super) fn largest(&self) -> u64 {
        self.source.len().max(self.size)
    }
}

/// Opens and locks every disk, and gives each a place: the image first, if it is one, then those `beside`
/// it.
///
/// # Errors
/// Names the file, what is wrong with it and what to do.
pub(super) fn open(
    slots: &mut impl Iterator<Item = VirtioSlot>,
    image: &Image,
    writable: bool,
    beside: &[Disk],
    ephemeral: bool,
    room: Room,
) -> Result<Vec<DiskPlan>, Error> {
    let mut sources = Vec::new();
    if image.is_disk() {
        if !writable && !ephemeral {
            let name = image.source().name();
            return Err(Error::Asked(format!(
                "{name}: the guest writes to its image, and this user may not: \
                 chmod u+w it, or throw away what it writes with --ephemeral"
            )));
        }
        sources.push((image.source().clone(), Use::of(false, ephemeral), DiskFormat::Raw));
    }
    for disk in beside {
        let wanted = Use::of(disk.read_only, ephemeral);
        sources.push((Source::open(&disk.path, wanted.access())?, wanted, disk.format));
    }
    if sources.len() > room.disks() {
        return Err(room.refuse(sources.len()));
    }
    let placed = sources.into_iter().zip(slots);
    placed.map(|((source, wanted, format), slot)| place(source, wanted, format, slot)).collect()
}

/// What the guest may do with a disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    ReadOnly,
    ReadWrite,
    /// What it writes is thrown away.
    Ephemeral,
}

impl Use {
    /// Of a disk, in a run that throws away what is written or not.
    pub(super) fn of(read_only: bool, ephemeral: bool) -> Self {
        match (read_only, ephemeral) {
            (true, _) => Use::ReadOnly,
            (false, true) => Use::Ephemeral,
            (false, false) => Use::ReadWrite,
        }
    }

    /// How its file is opened.
    pub(super) fn access(self) -> Access {
        match self {
            Use::ReadWrite => Access::ReadWrite,
            Use::ReadOnly | Use::Ephemeral => Access::Read,
        }
    }
}

/// Locks a disk for this run and puts it into `slot`.
fn place(
    source: Source,
    wanted: Use,
    format: DiskFormat,
    slot: VirtioSlot,
) -> Result<DiskPlan, Error> {
    if format == DiskFormat::Qcow2 && wanted == Use::ReadWrite {
        return Err(Error::Asked(format!(
            "{}: qcow2 is read here, and not written: add ,ro, throw away what the guest writes with \
             --ephemeral, or make a raw disk with `qemu-img convert -O raw`",
            source.name()
        )));
    }
    let (file, lock) = take(&source, wanted)?;
    let size = match format {
        DiskFormat::Raw => source.len(),
        DiskFormat::Qcow2 => Qcow2::open(&file, source.len())
            .map_err(|error| Error::Asked(format!("{}: {error}", source.name())))?
            .size(),
    };
    if !size.is_multiple_of(512) {
        let (name, len) = (source.name(), size);
        let remedy = match format {
            DiskFormat::Raw => "extend it with truncate -s %512",
            DiskFormat::Qcow2 => "make a raw disk of it with `qemu-img convert -O raw`",
        };
        return Err(Error::Asked(format!(
            "{name}: {len} bytes are no whole number of 512-byte sectors, as a disk has: {remedy}"
        )));
    }
    let scratch = scratch_for(source.name(), wanted, size)?;
    let (id, read_only) = (format!("disk{}", slot.index), wanted == Use::ReadOnly);
    let patch = None;
    Ok(DiskPlan { id, source, file, format, size, read_only, scratch, patch, slot, lock })
}

/// A disk's file, locked for this run.
pub(super) fn take(source: &Source, wanted: Use) -> Result<(Arc<File>, DiskLock), Error> {
    let Some(file) = source.file().cloned() else {
        let name = source.name();
        return Err(Error::Asked(format!("{name}: it is not a file, and a disk must be one")));
    };
    let mode = if wanted == Use::ReadWrite { Mode::Write } else { Mode::Read };
    let lock = DiskLock::take(&file, source.name(), mode)?;
    Ok((file, lock))
}

/// Room for what is written to a disk of `size` bytes, if that is thrown away.
pub(super) fn scratch_for(name: &str, wanted: Use, size: u64) -> Result<Option<Scratch>, Error> {
    match wanted {
        Use::Ephemeral => {
            small_enough(name, size)?;
            scratch(&std::env::temp_dir(), size).map(Some)
        }
        Use::ReadOnly | Use::ReadWrite => Ok(None),
    }
}

/// What a guest writes is kept account of in memory.
fn small_enough(name: &str, len: u64) -> Result<(), Error> {
    match len <= Scratch::MOST {
        true => Ok(()),
        false => Err(Error::Asked(format!(
            "{name}: {len} bytes, and --ephemeral is for disks of {} TiB at most: \
             let the guest write to a copy (cp --sparse=always), without --ephemeral",
            Scratch::MOST >> 40
        ))),
    }
}

/// A sparse file of `len` bytes without a name, in `folder`. What is not written takes no room.
fn scratch(folder: &Path, len: u64) -> Result<Scratch, Error> {
    let name = printable_path(folder);
    let made = tempfile::tempfile_in(folder);
    let made = made.and_then(|file| file.set_len(len).map(|()| file));
    match made {
        Ok(file) => Ok(Scratch { file: Arc::new(file), folder: name }),
        Err(error) => Err(Error::Asked(format!(
            "{name}: --ephemeral needs a file there for what the guest writes ({len} bytes at most): \
             {error}; name a folder with room in TMPDIR"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_takes_a_guests_writes_has_no_name_and_no_room_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = scratch(folder.path(), 1 << 30).unwrap();
        let metadata = scratch.file.metadata().unwrap();
        assert_eq!((metadata.len(), metadata.nlink()), (1 << 30, 0));
        assert!(metadata.blocks() < 64, "{} blocks", metadata.blocks());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_disk_whose_account_would_take_all_memory_is_refused_with_the_remedy() {
        small_enough("d.img", 4 << 40).unwrap();
        let error = small_enough("d.img", (4 << 40) + 512).unwrap_err().to_string();
        assert!(error.starts_with("d.img: 4398046511616 bytes"), "{error}");
        assert!(error.contains("4 TiB at most") && error.contains("a copy"), "{error}");
    }

    #[test]
    fn a_folder_that_takes_no_file_is_named_with_the_remedy() {
        let error = scratch(Path::new("/nowhere/\u{1b}"), 512).unwrap_err().to_string();
        let wanted = "/nowhere/\\u{1b}: --ephemeral needs a file there";
        assert!(error.starts_with(wanted) && error.contains("TMPDIR"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let error = scratch(folder.path(), u64::MAX / 2).unwrap_err().to_string();
        assert!(error.contains("TMPDIR"), "{error}");
    }
}
