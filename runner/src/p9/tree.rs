//! The folder, and the way from it down to a file: the one place that asks the operating system for
//! anything by name.
//!
//! Whatever is asked for is one component below a descriptor that was reached the same way, from the
//! folder's own, with `O_NOFOLLOW`: not even a guest that swaps names meanwhile is led elsewhere.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path as HostPath, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, StatVfs, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
    fchmod, fstat, fstatvfs, ftruncate, futimens, linkat, mkdirat, openat, readlinkat, renameat,
    statat, symlinkat, unlinkat, utimensat,
};

use super::errno::Errno;
use super::message::{Changes, Moment};
use super::path::{Name, Path};
use super::sys;

/// Bits of a mode that are the guest's to set: no set-user-ID, no set-group-ID.
const FILE_MODE: u32 = 0o777;
const FOLDER_MODE: u32 = 0o1777;

/// Bytes of the longest target of a symbolic link (`PATH_MAX`).
const MAX_TARGET: usize = 4096;

/// How every file is opened: it is not a link, does not make anybody wait, becomes nobody's terminal.
const ALWAYS: OFlags =
    OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Why a folder cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// The operating system does not open it.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// It holds the insides of processes and devices.
    #[error("the kernel's own files are not for a guest: name a folder of a disk")]
    Kernels,
}

/// A folder of the host, open.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    /// Where it really is.
    path: PathBuf,
    /// The file system it is on.
    device: u64,
    read_only: bool,
}

/// The folder itself, for whoever restricts the thread that serves it.
impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What is known about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) mode: u32,
    pub(crate) links: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The device that a special file is.
    pub(crate) special: u64,
    pub(crate) size: u64,
    pub(crate) block_size: u64,
    pub(crate) blocks: u64,
    /// Seconds since 1970, and nanoseconds.
    pub(crate) accessed: (u64, u64),
    pub(crate) modified: (u64, u64),
    pub(crate) changed: (u64, u64),
}

impl Attributes {
    pub(crate) fn kind(&self) -> FileType {
        sys::kind(self.mode)
    }
}

impl Folder {
    /// Opens `path`. Its own name may be a link: it is the user's.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn open(path: &HostPath, read_only: bool) -> Result<Self, Unfit> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(std::io::Error::from)?;
        if sys::is_the_kernels(fd.as_fd()).map_err(std::io::Error::from)? {
            return Err(Unfit::Kernels);
        }
        let stat = fstat(&fd).map_err(std::io::Error::from)?;
        let device = sys::attributes(&stat).device;
        Ok(Self { fd, path: path.canonicalize()?, device, read_only })
    }

    /// Where it really is.
    pub fn path(&self) -> &HostPath {
        &self.path
    }

    /// Whether nothing in it can be changed.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// One more of the same.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        let Self { fd, path, device, read_only } = self;
        let (fd, path) = (fd.try_clone()?, path.clone());
        Ok(Self { fd, path, device: *device, read_only: *read_only })
    }

    /// Refuses a change of a folder that is only to be read.
    pub(crate) fn change(&self) -> Result<(), Errno> {
        match self.read_only {
            true => Err(Errno::ROFS),
            false => Ok(()),
        }
    }

    /// The number of a file for the guest, which knows one file system here.
    pub(crate) fn number(&self, attributes: &Attributes) -> u64 {
        let others = attributes.device.wrapping_sub(self.device);
        attributes.inode ^ others.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// Goes down to the folder at `path`.
    fn folder(&self, path: &Path) -> Result<Place<'_>, Errno> {
        let mut place = Place::Top(self.fd.as_fd());
        for name in path.components() {
            let flags = sys::WALK | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            place = Place::Below(openat(&place, name.bytes(), flags, Mode::empty())?);
        }
        if let Place::Below(fd) = &place {
            self.same_file_system(&sys::attributes(&fstat(fd)?))?;
        }
        Ok(place)
    }

    /// A folder that another file system is mounted at is not part of this one.
    fn same_file_system(&self, attributes: &Attributes) -> Result<(), Errno> {
        match attributes.kind() == FileType::Directory && attributes.device != self.device {
            true => Err(Errno::XDEV),
            false => Ok(()),
        }
    }

    /// What is known about the file at `path`.
    pub(crate) fn attributes(&self, path: &Path) -> Result<Attributes, Errno> {
        match path.split() {
            None => Ok(sys::attributes(&fstat(&self.fd)?)),
            Some((folder, name)) => self.attributes_in(&self.folder(&folder)?, name),
        }
    }

    fn attributes_in(&self, folder: &Place<'_>, name: Name<'_>) -> Result<Attributes, Errno> {
        let stat = statat(folder, name.bytes(), AtFlags::SYMLINK_NOFOLLOW)?;
        let attributes = sys::attributes(&stat);
        self.same_file_system(&attributes)?;
        Ok(attributes)
    }

    /// What is known about an open file.
    pub(crate) fn attributes_of(file: impl AsFd) -> Result<Attributes, Errno> {
        Ok(sys::attributes(&fstat(file)?))
    }

    /// Opens the regular file at `path`, with the access and what else `flags` say.
    pub(crate) fn open_file(&self, path: &Path, flags: OFlags) -> Result<File, Errno> {
        let (folder, name) = path.split().ok_or(Errno::ISDIR)?;
        let folder = self.folder(&folder)?;
        // What is special does something when it is opened: it is looked at first.
        regular(&self.attributes_in(&folder, name)?)?;
        let file = openat(&folder, name.bytes(), flags | ALWAYS, Mode::empty())?;
        regular(&Self::attributes_of(&file)?)?;
        Ok(file.into())
    }

    /// Opens the folder at `path`, to read its entries.
    pub(crate) fn open_folder(&self, path: &Path) -> Result<Listing, Errno> {
        let folder = self.folder(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | ALWAYS;
        let fd = openat(&folder, ".", flags, Mode::empty())?;
        let top = match path.is_root() {
            true => Some(Self::attributes_of(&fd)?.inode),
            false => None,
        };
        Ok(Listing { stream: Dir::new(fd)?, next: 0, ahead: None, top })
    }

    /// Makes the regular file at `path`, which must not exist, and opens it.
    pub(crate) fn create(&self, path: &Path, flags: OFlags, mode: u32) -> Result<File, Errno> {
        let (folder, name) = path.split().ok_or(Errno::ISDIR)?;
        let flags = flags | OFlags::CREATE | OFlags::EXCL | ALWAYS;
        let mode = Mode::from_raw_mode(sys::raw(mode & FILE_MODE));
        Ok(openat(self.folder(&folder)?, name.bytes(), flags, mode)?.into())
    }

    /// Makes the folder at `path`.
    pub(crate) fn make_folder(&self, path: &Path, mode: u32) -> Result<(), Errno> {
        let (folder, name) = path.split().ok_or(Errno::INVAL)?;
        let mode = Mode::from_raw_mode(sys::raw(mode & FOLDER_MODE));
        Ok(mkdirat(self.folder(&folder)?, name.bytes(), mode)?)
    }

    /// Makes a symbolic link at `path`. Where it leads is the guest's business.
    pub(crate) fn make_link(&self, path: &Path, target: &[u8]) -> Result<(), Errno> {
        let (folder, name) = path.split().ok_or(Errno::INVAL)?;
        match target.len() {
            0 => Err(Errno::NOENT),
            1..MAX_TARGET if target.contains(&0) => Err(Errno::INVAL),
            1..MAX_TARGET => Ok(symlinkat(target, self.folder(&folder)?, name.bytes())?),
            _ => Err(Errno::NAMETOOLONG),
        }
    }

    /// What the symbolic link at `path` says.
    pub(crate) fn read_link(&self, path: &Path) -> Result<Vec<u8>, Errno> {
        let (folder, name) = path.split().ok_or(Errno::INVAL)?;
        let target = readlinkat(self.folder(&folder)?, name.bytes(), Vec::new())?;
        Ok(target.into_bytes())
    }

    /// Gives the file at `path` another name, `new`.
    pub(crate) fn link(&self, path: &Path, new: &Path) -> Result<(), Errno> {
        let (folder, name) = path.split().ok_or(Errno::PERM)?;
        let (new_folder, new_name) = new.split().ok_or(Errno::INVAL)?;
        let (folder, new_folder) = (self.folder(&folder)?, self.folder(&new_folder)?);
        let flags = AtFlags::empty();
        Ok(linkat(folder, name.bytes(), new_folder, new_name.bytes(), flags)?)
    }

    /// Moves the file at `path` to `new`.
    pub(crate) fn rename(&self, path: &Path, new: &Path) -> Result<(), Errno> {
        let (folder, name) = path.split().ok_or(Errno::BUSY)?;
        let (new_folder, new_name) = new.split().ok_or(Errno::BUSY)?;
        let (folder, new_folder) = (self.folder(&folder)?, self.folder(&new_folder)?);
        Ok(renameat(folder, name.bytes(), new_folder, new_name.bytes())?)
    }

    /// Removes the file at `path`, or the empty `folder`.
    pub(crate) fn remove(&self, path: &Path, is_folder: bool) -> Result<(), Errno> {
        let (folder, name) = path.split().ok_or(Errno::BUSY)?;
        let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        Ok(unlinkat(self.folder(&folder)?, name.bytes(), flags)?)
    }

    /// Changes what is known about the file at `path`, if it has one; `open` is the same file, and can be
    /// written if the second part says so. Owners stay.
    pub(super) fn set(
        &self,
        path: Result<&Path, Errno>,
        open: Option<(&File, bool)>,
        changes: &Changes,
    ) -> Result<(), Errno> {
        let present = match open {
            Some((file, _)) => Self::attributes_of(file)?,
            None => self.attributes(path?)?,
        };
        let stays = |asked: Option<u32>, is: u32| asked.is_none_or(|asked| asked == is);
        if !stays(changes.uid, present.uid) || !stays(changes.gid, present.gid) {
            return Err(Errno::PERM);
        }
        if let Some(mode) = changes.mode {
            let bits = if present.kind() == FileType::Directory { FOLDER_MODE } else { FILE_MODE };
            let mode = Mode::from_raw_mode(sys::raw(mode & bits));
            match open {
                Some((file, _)) => fchmod(file, mode)?,
                None => self.set_mode(path?, mode)?,
            }
        }
        if let Some(size) = changes.size {
            match open {
                Some((file, true)) => ftruncate(file, size)?,
                _ => ftruncate(self.open_file(path?, OFlags::WRONLY)?, size)?,
            }
        }
        let times = times(changes);
        match (times, open) {
            (None, _) => Ok(()),
            (Some(times), Some((file, _))) => Ok(futimens(file, &times)?),
            (Some(times), None) => self.set_times(path?, &times),
        }
    }

    fn set_mode(&self, path: &Path, mode: Mode) -> Result<(), Errno> {
        match path.split() {
            None => Ok(fchmod(&self.fd, mode)?),
            Some((folder, name)) => open_and_set_mode(&self.folder(&folder)?, name, mode),
        }
    }

    fn set_times(&self, path: &Path, times: &Timestamps) -> Result<(), Errno> {
        match path.split() {
            None => Ok(futimens(&self.fd, times)?),
            Some((folder, name)) => {
                let folder = self.folder(&folder)?;
                Ok(utimensat(folder, name.bytes(), times, AtFlags::SYMLINK_NOFOLLOW)?)
            }
        }
    }

    /// What is known about the file system.
    pub(crate) fn file_system(&self) -> Result<StatVfs, Errno> {
        Ok(fstatvfs(&self.fd)?)
    }
}

/// Sets the mode of a file that opens. By its name it could be done for others, too; but then whoever
/// breaks into the thread that does it could do it to any file of the user's, as Landlock has no say
/// in modes.
fn open_and_set_mode(folder: &Place<'_>, name: Name<'_>, mode: Mode) -> Result<(), Errno> {
    let open = |flags| openat(folder, name.bytes(), flags | ALWAYS, Mode::empty());
    let kind = |stat| sys::attributes(&stat).kind();
    match kind(statat(folder, name.bytes(), AtFlags::SYMLINK_NOFOLLOW)?) {
        FileType::RegularFile | FileType::Directory => {}
        _ => return Err(Errno::OPNOTSUPP),
    }
    // Whoever may not read a file of his may still write it.
    let file = open(OFlags::RDONLY).or_else(|error| match error {
        rustix::io::Errno::ACCESS => open(OFlags::WRONLY),
        _ => Err(error),
    })?;
    Ok(fchmod(file, mode)?)
}

fn times(changes: &Changes) -> Option<Timestamps> {
    if changes.accessed.is_none() && changes.modified.is_none() {
        return None;
    }
    let time = |moment| match moment {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(Moment::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(Moment::At(seconds, nanoseconds)) => Timespec {
            tv_sec: seconds.cast_signed(),
            // Below a second, which was checked.
            tv_nsec: nanoseconds.cast_signed(),
        },
    };
    let (last_access, last_modification) = (time(changes.accessed), time(changes.modified));
    Some(Timestamps { last_access, last_modification })
}

/// Only regular files are opened: what is special does something on the host.
fn regular(attributes: &Attributes) -> Result<(), Errno> {
    match attributes.kind() {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(Errno::ISDIR),
        FileType::Symlink => Err(Errno::LOOP),
        _ => Err(Errno::NXIO),
    }
}

/// A folder on the way down.
#[derive(Debug)]
enum Place<'f> {
    Top(BorrowedFd<'f>),
    Below(OwnedFd),
}

impl AsFd for Place<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Place::Top(fd) => *fd,
            Place::Below(fd) => fd.as_fd(),
        }
    }
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) inode: u64,
    pub(crate) kind: FileType,
    /// Where the next one is.
    pub(crate) next: u64,
}

/// An open folder, whose entries are numbered in the order of reading.
#[derive(Debug)]
pub(crate) struct Listing {
    stream: Dir,
    /// The number of what `stream` gives next.
    next: u64,
    /// An entry that was read, and had no room.
    ahead: Option<Entry>,
    /// The number of the folder at the top, if it is that: what it is in is nobody's business.
    top: Option<u64>,
}

impl Listing {
    /// Goes to the entry number `offset`.
    pub(crate) fn seek(&mut self, offset: u64) -> Result<(), Errno> {
        let here = self.next.saturating_sub(u64::from(self.ahead.is_some()));
        if offset == here {
            return Ok(());
        }
        self.ahead = None;
        if offset < self.next {
            self.stream.rewind();
            self.next = 0;
        }
        while self.next < offset && self.read()?.is_some() {}
        Ok(())
    }

    /// The next entry.
    pub(crate) fn read(&mut self) -> Result<Option<Entry>, Errno> {
        if let Some(entry) = self.ahead.take() {
            return Ok(Some(entry));
        }
        let Some(entry) = self.stream.read().transpose()? else { return Ok(None) };
        self.next = self.next.saturating_add(1);
        let name = entry.file_name().to_bytes().to_vec();
        let inode = self.top.filter(|_| name == b"..").unwrap_or(entry.ino());
        Ok(Some(Entry { name, inode, kind: entry.file_type(), next: self.next }))
    }

    /// Takes back the entry that was read last.
    pub(crate) fn put_back(&mut self, entry: Entry) {
        self.ahead = Some(entry);
    }

    /// Its own descriptor.
    pub(crate) fn fd(&self) -> Result<BorrowedFd<'_>, Errno> {
        Ok(self.stream.fd()?)
    }

    /// What kind of file its entry `name` is, for file systems that do not say it in the listing.
    pub(crate) fn kind(&self, name: &[u8]) -> FileType {
        let stat = self.fd().and_then(|fd| Ok(statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)?));
        stat.map_or(FileType::Unknown, |stat| sys::attributes(&stat).kind())
    }
}
