//! OPS's volumes and folders of the host: found by name (nanovms/ops, `provider/onprem/onprem_volume.go`), attached
//! as disks behind all others or shared, and what the guest is told of them (nanos, `src/kernel/storage.c`).
//!
//! A volume is a file `LABEL:UUID.raw` in `~/.ops/volumes`: a TFS that begins in the first sector. Nanos mounts a
//! disk whose label or UUID is the name of an entry of `mounts` in its manifest, at the folder that the entry gives.
//! OPS writes the entry when it builds an image, and a run of OPS's attaches the disk, no more. Here the guest is
//! told what its image does not say ([`super::told`]), by the UUID in the volume's first sector. An entry `%N` is the
//! share with the tag N for Nanos, and a disk by its number on buses that number disks, which virtio-blk does not;
//! here it is the N-th disk behind the image where there is no such share, and told by its UUID, too.
//!
//! What names no volume and is a folder of the host is shared, by the number that the image has for it: OPS numbers
//! such folders from 0 on, in the order of their paths, and writes `%N` into the image for what its config names
//! `./folder`.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{DiskPlan, Error, images};
use crate::config::{Disk, DiskFormat, Mount, Settings, Share};
use crate::image::tfs::{Filesystem, Identity, Key, Value};
use crate::image::{Image, Source};
use crate::log::printable_path;

/// So many volumes are named when none is the right one.
const NAMED: usize = 20;

/// The disks of a run beside the image, volumes among them, and its shared folders.
pub(super) struct Volumes<'a> {
    pub(super) disks: Vec<Disk>,
    pub(super) shares: Vec<Share>,
    /// What is mounted, and what it is.
    mounts: Vec<(&'a Mount, Found)>,
}

/// What a mount is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// One of the disks beside the image.
    Disk(usize),
    /// One of the shared folders.
    Share(usize),
}

/// Finds the volumes and folders that `settings` names. One that is attached or shared by its path already is that
/// disk or share.
///
/// # Errors
/// Names the volume, what is there instead, and what to do.
pub(super) fn find<'a>(settings: &'a Settings, image: &Image) -> Result<Volumes<'a>, Error> {
    let mut volumes = Volumes::of(settings);
    if let (Some(mount), false) = (settings.mounts.first(), image.is_disk()) {
        return Err(Error::Asked(format!(
            "mount {}: only what OPS builds mounts volumes at a word of runner's, and {} is a kernel: attach \
             the volume's file with --disk",
            mount.volume.escape_debug(),
            image.source().name()
        )));
    }
    for (mount, found) in volumes.look_up(settings, image)? {
        let clash = volumes.mounts.iter().find(|(other, taken)| {
            found == *taken || other.path.trim_end_matches('/') == mount.path.trim_end_matches('/')
        });
        if let Some((other, taken)) = clash {
            let (one, two) = (other.volume.escape_debug(), mount.volume.escape_debug());
            let what = match found {
                _ if found != *taken => "have one place",
                Found::Disk(_) => "are one volume",
                Found::Share(_) => "are one folder",
            };
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
    let mut tags = (0..).zip(shares).map(|(index, share)| tag(index, share));
    let tagged = tags.position(|tag| tag == number);
    if let Some(index) = tagged {
        return Ok(Found::Share(index));
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

/// By what the guest finds a share.
fn tag(index: usize, share: &Share) -> String {
    share.tag.clone().unwrap_or_else(|| index.saturating_add(1).to_string())
}

impl<'a> Volumes<'a> {
    fn of(settings: &Settings) -> Self {
        let (disks, shares) = (settings.disks.clone(), settings.devices.shares.clone());
        Self { disks, shares, mounts: Vec::new() }
    }

    /// What each mount is of.
    fn look_up(
        &mut self,
        settings: &'a Settings,
        image: &Image,
    ) -> Result<Vec<(&'a Mount, Found)>, Error> {
        let (mut found, mut folders) = (Vec::new(), Vec::new());
        for mount in &settings.mounts {
            if let Some(number) = mount.volume.strip_prefix('%') {
                found.push((mount, numbered(mount, number, settings)?));
            } else if is_path_of_folder(&mount.volume) {
                folders.push(mount);
            } else {
                let ops = folder()?;
                match self.named(mount, &ops)? {
                    Some(index) => found.push((mount, Found::Disk(index))),
                    None if Path::new(&mount.volume).is_dir() => folders.push(mount),
                    None => return Err(not_found(mount, &ops)),
                }
            }
        }
        folders.sort_by_cached_key(|mount| cleaned(&mount.volume));
        for mount in folders {
            found.push((mount, Found::Share(self.shared(mount, image)?)));
        }
        Ok(found)
    }

    /// The folder that a mount names, as one of `shares`.
    fn shared(&mut self, mount: &Mount, image: &Image) -> Result<usize, Error> {
        let path = PathBuf::from(&mount.volume);
        if let Some(index) = self.shares.iter().position(|share| same_file(&share.path, &path)) {
            return Ok(index);
        }
        let root = image.root()?;
        let numbers = root.as_ref().map(numbers).unwrap_or_default();
        let taken: Vec<String> =
            (0..).zip(&self.shares).map(|(index, share)| tag(index, share)).collect();
        let is_free = |number: &&String| !taken.contains(number);
        let places = [mount.path.clone(), format!("{}:ro", mount.path)].map(String::into_bytes);
        let mut said = numbers.iter().filter(|(_, place)| places.iter().any(|at| at == place));
        let own = said.find_map(|(number, _)| Some(number).filter(is_free)).cloned();
        let is_nobodys = |number: &String| {
            !taken.contains(number) && numbers.iter().all(|(said, _)| said != number)
        };
        let number = own.or_else(|| (0..).map(|number: u32| number.to_string()).find(is_nobodys));
        self.shares.push(Share { path, tag: number, read_only: mount.read_only });
        Ok(self.shares.len().saturating_sub(1))
    }

    /// The one volume of that name in `folder`, as one of `disks`, if there is one.
    fn named(&mut self, mount: &Mount, folder: &Path) -> Result<Option<usize>, Error> {
        let mut matching = list(folder)?;
        matching.retain(|file| file.is_called(&mount.volume));
        let Some(volume) = matching.pop() else { return Ok(None) };
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
        Ok(Some(attached.unwrap_or_else(|| {
            let (read_only, format) = (mount.read_only, DiskFormat::Raw);
            self.disks.push(Disk { path, read_only, format });
            self.disks.len().saturating_sub(1)
        })))
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
            let (identity, number, read_only) = match *found {
                Found::Share(index) => {
                    let Some(share) = self.shares.get(index) else { continue };
                    (None, format!("%{}", tag(index, share)), share.read_only)
                }
                Found::Disk(index) => {
                    let Some(disk) = behind.get(index) else { continue };
                    (Some(identity(&disk.source)?), String::new(), disk.read_only)
                }
            };
            let is_it = |name: &[u8]| match &identity {
                Some(identity) => identity.is_called(name),
                None => name == number.as_bytes(),
            };
            let said = root.as_ref().map(|root| said(root, is_it)).unwrap_or_default();
            // What nobody can write is mounted like that.
            let at = match mount.read_only || read_only {
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
            told.push((name.unwrap_or(number), at));
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
    /// By its label, which may have colons, its UUID or both.
    fn is_called(&self, wanted: &str) -> bool {
        let stem = self.name.strip_suffix(".raw").unwrap_or(&self.name);
        let parts = stem.rsplit_once(':');
        stem == wanted || parts.is_some_and(|(label, uuid)| label == wanted || uuid == wanted)
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

fn not_found(mount: &Mount, folder: &Path) -> Error {
    let there = match list(folder) {
        Ok(others) if others.is_empty() => "there is none".to_owned(),
        Ok(others) => format!("there are {}", names(&others)),
        Err(error) => return error,
    };
    let (name, folder) = (mount.volume.escape_debug(), printable_path(folder));
    Error::Asked(format!(
        "mount {name}: no volume of that label or UUID in {folder}, {there}, and no folder of the host's: make a \
         volume with `ops volume create`, or attach a file with --disk"
    ))
}

/// Whether a name is a folder's that no volume can have, as there is a `/` in it.
fn is_path_of_folder(name: &str) -> bool {
    name.contains('/') && Path::new(name).is_dir()
}

/// A path as OPS sorts it (Go's `path.Clean`).
fn cleaned(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/').filter(|name| !matches!(*name, "" | ".")) {
        match (name, names.last()) {
            ("..", None) if path.starts_with('/') => {}
            ("..", Some(last)) if *last != ".." => drop(names.pop()),
            _ => names.push(name),
        }
    }
    format!("{}{}", if path.starts_with('/') { "/" } else { "" }, names.join("/"))
}

/// The entries `%N` of `mounts` in the manifest: N, and where that is mounted.
fn numbers(root: &Filesystem) -> Vec<(String, Vec<u8>)> {
    let entry = |(name, place): (&[u8], &[u8])| {
        let number = name.strip_prefix(b"%").and_then(|number| str::from_utf8(number).ok())?;
        Some((number.to_owned(), place.to_vec()))
    };
    said(root, |_| true).into_iter().filter_map(entry).collect()
}

/// Whether two paths lead to one file.
fn same_file(one: &Path, two: &Path) -> bool {
    let place = |path: &Path| path.metadata().map(|it| (it.dev(), it.ino())).ok();
    place(one).is_some_and(|it| Some(it) == place(two))
}

#[cfg(test)]
mod tests;
