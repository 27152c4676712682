//! The guest's disks: opened, given a place in the machine.

use std::fs::File;
use std::sync::Arc;

use super::Error;
use crate::config::Disk;
use crate::image::{Access, Image, Source};
use crate::io::lock::{DiskLock, Mode};
use crate::machine::map::{self, VIRTIO_SLOTS, VirtioSlot};

/// A disk of the guest.
#[derive(Debug)]
pub struct DiskPlan {
    /// Stable name: `disk0` is the image, or the first of `--disk`.
    pub id: String,
    /// The file by the name it was opened with, and its length.
    pub source: Source,
    /// The open file.
    pub file: Arc<File>,
    /// The guest can only read it.
    pub read_only: bool,
    /// Where it stands in the machine.
    pub slot: VirtioSlot,
    /// Keeps other programs away from the file. A child process that inherits the file has the
    /// lock, too.
    pub lock: DiskLock,
}

/// Opens and locks every disk, and gives each a place: the image first, if it is one.
///
/// # Errors
/// Names the file, what is wrong with it and what to do.
pub(super) fn open(image: &Image, writable: bool, others: &[Disk]) -> Result<Vec<DiskPlan>, Error> {
    let mut sources = Vec::new();
    if image.is_disk() {
        if !writable {
            let name = image.source().name();
            return Err(Error::Asked(format!(
                "{name}: the guest writes to its image, and this user may not: \
                 chmod u+w it, or copy it and run the copy"
            )));
        }
        sources.push((image.source().clone(), false));
    }
    for disk in others {
        let access = if disk.read_only { Access::Read } else { Access::ReadWrite };
        sources.push((Source::open(&disk.path, access)?, disk.read_only));
    }
    if sources.len() > VIRTIO_SLOTS {
        let count = sources.len();
        return Err(Error::Asked(format!(
            "{count} disks, where the machine has room for {VIRTIO_SLOTS}: leave some out"
        )));
    }
    let placed = sources.into_iter().zip(map::virtio_slots());
    placed.map(|((source, read_only), slot)| place(source, read_only, slot)).collect()
}

/// Locks a disk for this run and puts it into `slot`.
fn place(source: Source, read_only: bool, slot: VirtioSlot) -> Result<DiskPlan, Error> {
    let Some(file) = source.file().cloned() else {
        let name = source.name();
        return Err(Error::Asked(format!("{name}: it is not a file, and a disk must be one")));
    };
    if !source.len().is_multiple_of(512) {
        let (name, len) = (source.name(), source.len());
        return Err(Error::Asked(format!(
            "{name}: {len} bytes are no whole number of 512-byte sectors, as a disk has: \
             extend it with truncate -s %512"
        )));
    }
    let mode = if read_only { Mode::Read } else { Mode::Write };
    let lock = DiskLock::take(&file, source.name(), mode)?;
    Ok(DiskPlan { id: format!("disk{}", slot.index), source, file, read_only, slot, lock })
}
