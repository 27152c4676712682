//! OPS's volumes: found by name (nanovms/ops, `provider/onprem/onprem_volume.go`), attached as disks behind all
//! others, and what the guest is told of them (nanos, `src/kernel/storage.c`).
//!
//! A volume is a file `LABEL:UUID.raw` in `~/.ops/volumes`: a TFS that begins in the first sector. Nanos mounts a
//! disk whose label or UUID is the name of an entry of `mounts` in its manifest, at the folder that the entry gives.
//! OPS writes the entry when it builds an image, and a run of OPS's attaches the disk, no more. Here the guest is
//! told what its image does not say ([`super::told`]), by the UUID in the volume's first sector. An entry `%N` is the
//! share with the tag N for Nanos, and a disk by its number on buses that number disks, which virtio-blk does not;
//! here it is the N-th disk behind the image where there is no such share, and told by its UUID, too.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{DiskPlan, Error, images};
use crate::config::{Disk, DiskFormat, Mount, Settings};
use crate::image::tfs::{Filesystem, Identity, Key, Value};
use crate::image::{Image, Source};
use crate::log::printable_path;

/// So many volumes are named when none is the right one.
const NAMED: usize = 20;

/// The disks of a run beside the image, volumes among them.
pub(super) struct Volumes<'a> {
    pub(super) disks: Vec<Disk>,
    /// What is mounted, and what it is.
    mounts: Vec<(&'a Mount, Found)>,
}

/// What a mount is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// One of the disks beside the image.
    Disk(usize),
    /// A shared folder, which the guest knows by the mount's name.
    Share,
}

/// Finds the volumes that `settings` names. One that is attached by its path already is that disk.
///
/// # Errors
/// Names the volume, what is there instead, and what to do.
pub(super) fn find<'a>(settings: &'a Settings, image: &Image) -> Result<Volumes<'a>, Error> {
    let mut volumes = Volumes { disks: settings.disks.clone(), mounts: Vec::new() };
    if let (Some(mount), false) = (settings.mounts.first(), image.is_disk()) {
        return Err(Error::Asked(format!(
            "mount {}: only what OPS builds mounts volumes at a word of runner's, and {} is a kernel: attach \
             the volume's file with --disk",
            mount.volume.escape_debug(),
            image.source().name()
        )));
    }
    for mount in &settings.mounts {
        let found = match mount.volume.strip_prefix('%') {
            Some(number) => numbered(mount, number, settings)?,
            None => Found::Disk(volumes.named(mount, &folder()?)?),
        };
        let same = |taken: Found| found == taken && found != Found::Share;
        let clash = volumes.mounts.iter().find(|(other, taken)| {
            same(*taken) || other.path.trim_end_matches('/') == mount.path.trim_end_matches('/')
        });
        if let Some((other, taken)) = clash {
            let (one, two) = (other.volume.escape_debug(), mount.volume.escape_debug());
            let what = if same(*taken) { "are one volume" } else { "have one place" };
            return Err(Error::Asked(format!(
                "mounts {one} and {two} {what} ({}): leave one of them out",
                mount.path.escape_debug()
            )));
        }
        volumes.mounts.push((mount, found));
    }
    Ok(volumes)
}

/// OPS's folder of volumes.
fn folder() -> Result<PathBuf, Error> {
    let ops = images::ops_folder().ok_or_else(|| {
        Error::Asked(
            "volumes are in ~/.ops/volumes, and there is no HOME: set it, or OPS_HOME".into(),
        )
    })?;
    Ok(ops.join("volumes"))
}

/// `%1` is the share with the tag 1, or else the first disk behind the image.
fn numbered(mount: &Mount, number: &str, settings: &Settings) -> Result<Found, Error> {
    let (shares, disks) = (&settings.devices.shares, settings.disks.len());
    let tagged = (1..).zip(shares).any(|(place, share): (usize, _)| match &share.tag {
        Some(tag) => tag == number,
        None => place.to_string() == number,
    });
    if tagged {
        return Ok(Found::Share);
    }
    let index = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    index.filter(|index| *index < disks).map(Found::Disk).ok_or_else(|| {
        Error::Asked(format!(
            "mount {}: %1 is the share with the tag 1, or the first disk behind the image, and there are \
             {} shares and {disks} disks: add one with --share or --disk, or name a volume",
            mount.volume.escape_debug(),
            shares.len()
        ))
    })
}

impl Volumes<'_> {
    /// The one volume of that name in `folder`, as one of `disks`.
    fn named(&mut self, mount: &Mount, folder: &Path) -> Result<usize, Error> {
        let (mut matching, others): (Vec<File>, Vec<File>) =
            list(folder)?.into_iter().partition(|file| file.is_called(&mount.volume));
        let Some(volume) = matching.pop() else {
            return Err(not_found(mount, folder, &others));
        };
        if !matching.is_empty() {
            matching.push(volume);
            return Err(Error::Asked(format!(
                "mount {}: there are {} volumes of that name in {}: {}; name one by its UUID, the part \
                 behind the colon",
                mount.volume.escape_debug(),
                matching.len(),
                printable_path(folder),
                names(&matching)
            )));
        }
        let path = folder.join(&volume.name);
        let attached = self.disks.iter().position(|disk| same_file(&disk.path, &path));
        Ok(attached.unwrap_or_else(|| {
            let (read_only, format) = (mount.read_only, DiskFormat::Raw);
            self.disks.push(Disk { path, read_only, format });
            self.disks.len().saturating_sub(1)
        }))
    }

    /// What the guest is told: names of volumes and where to mount them, as far as its image does not say so
    /// already. `disks` are the run's, the image before those of this.
    ///
    /// # Errors
    /// Names a volume that Nanos could not mount, or a place where it could not.
    pub(super) fn told(
        &self,
        image: &Image,
        disks: &[DiskPlan],
    ) -> Result<Vec<(String, String)>, Error> {
        let mut told = Vec::new();
        if self.mounts.is_empty() {
            return Ok(told);
        }
        let root = image.root()?;
        let behind = disks.get(1..).unwrap_or_default();
        for (mount, found) in &self.mounts {
            let identity = match found {
                Found::Share => None,
                Found::Disk(index) => {
                    let Some(disk) = behind.get(*index) else { continue };
                    Some(identity(&disk.source)?)
                }
            };
            let is_it = |name: &[u8]| match &identity {
                Some(identity) => identity.is_called(name),
                None => name == mount.volume.as_bytes(),
            };
            let said = root.as_ref().map(|root| said(root, is_it)).unwrap_or_default();
            let at = match mount.read_only {
                true => format!("{}:ro", mount.path),
                false => mount.path.clone(),
            };
            if said.iter().any(|(_, place)| *place == at.as_bytes()) {
                continue;
            }
            if let Some(root) = &root
                && !root.may_have_directory(&mount.path)
            {
                return Err(Error::Asked(format!(
                    "mount {}: {} has no folder {} to mount it at: build the image again with `ops` and \
                     this in the Mounts of its config.json",
                    mount.volume.escape_debug(),
                    image.source().name(),
                    mount.path.escape_debug()
                )));
            }
            let name = said.first().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
            let name = name.or_else(|| identity.map(|identity| identity.uuid()));
            told.push((name.unwrap_or_else(|| mount.volume.clone()), at));
        }
        Ok(told)
    }
}

/// What a volume says of itself.
fn identity(source: &Source) -> Result<Identity, Error> {
    Identity::of(source).map_err(|error| {
        Error::Asked(format!(
            "{}: it cannot be mounted: {error}; make a volume with `ops volume create`",
            source.name()
        ))
    })
}

/// The entries of `mounts` in the manifest whose names say that it `is_it`.
fn said(root: &Filesystem, is_it: impl Fn(&[u8]) -> bool) -> Vec<(&[u8], &[u8])> {
    let Some(Value::Tuple(mounts)) = root.root().get("mounts") else { return Vec::new() };
    let entries = mounts.entries().into_iter().filter_map(|(key, value)| match key {
        Key::Name(name) => Some((name, value.text()?)),
        Key::Index(_) => None,
    });
    entries.filter(|(name, _)| is_it(name)).collect()
}

/// A volume's file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct File {
    name: String,
}

impl File {
    /// By its label, its UUID or both.
    fn is_called(&self, wanted: &str) -> bool {
        let stem = self.name.trim_end_matches(".raw");
        let mut parts = stem.split(':');
        stem == wanted || parts.next() == Some(wanted) || parts.next() == Some(wanted)
    }
}

/// The volumes in OPS's folder, by name. A folder that is not there has none.
fn list(folder: &Path) -> Result<Vec<File>, Error> {
    let unreadable = |error: std::io::Error| {
        let folder = printable_path(folder);
        Error::Asked(format!(
            "{folder}: volumes are there, and it cannot be read: {error}; allow it"
        ))
    };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = entry.map_err(unreadable)?.file_name();
        // OPS writes the label as it was typed, and a UUID of hex digits: UTF-8.
        if let Some(name) = name.to_str().filter(|name| name.ends_with(".raw"))
            && name.contains(':')
            && !folder.join(name).is_dir()
        {
            files.push(File { name: name.to_owned() });
        }
    }
    files.sort();
    Ok(files)
}

fn names(files: &[File]) -> String {
    let names = files.iter().take(NAMED).map(|file| file.name.escape_debug().to_string());
    let named = names.collect::<Vec<_>>().join(", ");
    match files.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn not_found(mount: &Mount, folder: &Path, others: &[File]) -> Error {
    let (name, folder) = (mount.volume.escape_debug(), printable_path(folder));
    if Path::new(&mount.volume).is_dir() {
        return Error::Asked(format!(
            "mount {name}: it is a folder: share it with `--share {name}` and mount it by its number, \
             `--mounts %1:{}`, or make a volume of it with `ops volume create NAME -d {name}`",
            mount.path.escape_debug()
        ));
    }
    let there = match others {
        [] => "there is none".to_owned(),
        others => format!("there are {}", names(others)),
    };
    Error::Asked(format!(
        "mount {name}: no volume of that label or UUID in {folder}, {there}: make it with \
         `ops volume create`, or attach a file with --disk"
    ))
}

/// Whether two paths lead to one file.
fn same_file(one: &Path, two: &Path) -> bool {
    let place = |path: &Path| path.metadata().map(|it| (it.dev(), it.ino())).ok();
    place(one).is_some_and(|it| Some(it) == place(two))
}

#[cfg(test)]
mod tests;
