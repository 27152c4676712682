//! The server: one message in, one answer out, one after the other.
//!
//! As each request is answered before the next one begins, there is never one to flush.

use std::os::fd::AsFd;

use rustix::fs::{FileType, OFlags, fsync};
use rustix::io::{pread, pwrite, retry_on_intr};

use super::errno::Errno;
use super::fids::{Fid, Fids, Open};
use super::message::{Changes, Lock, Request, Step, kind};
use super::path::{Name, Path};
use super::tree::{Attributes, Entry, Folder, Listing};
use super::wire::{Reader, Writer};
use super::{HEADER, MAX_MESSAGE, SHORTEST_ANSWER};

/// The dialect that is spoken here.
const DIALECT: &[u8] = b"9P2000.L";

/// The smallest size of messages to agree on, as in Linux.
const MIN_MESSAGE: u32 = 4096;

/// Serves a folder.
#[derive(Debug)]
pub struct Server {
    folder: Folder,
    fids: Fids,
    /// Bytes of the largest message, once it is agreed on.
    agreed: Option<u32>,
}

/// A file as messages name it: kind, version, number.
#[derive(Clone, Copy)]
struct Qid(u8, u32, u64);

impl Qid {
    /// Bytes that it takes.
    const LEN: usize = 13;

    fn kind(file: FileType) -> u8 {
        match file {
            FileType::Directory => 0x80,
            FileType::Symlink => 0x02,
            _ => 0,
        }
    }

    fn write(self, answer: &mut Writer<'_>) {
        answer.u8(self.0);
        answer.u32(self.1);
        answer.u64(self.2);
    }
}

impl Server {
    /// A server of `folder`, without a session.
    pub fn new(folder: Folder) -> Self {
        Self { folder, fids: Fids::default(), agreed: None }
    }

    /// Ends the session: every file is closed.
    pub fn reset(&mut self) {
        (self.fids, self.agreed) = (Fids::default(), None);
    }

    /// Whether a driver has begun a session, and not ended it.
    pub fn has_session(&self) -> bool {
        self.agreed.is_some()
    }

    /// How many fids there are, and how many of them are open.
    pub fn fids(&self) -> (usize, usize) {
        self.fids.count()
    }

    /// Bytes of the largest message that is taken at present.
    pub fn largest(&self) -> u32 {
        self.agreed.unwrap_or(MAX_MESSAGE)
    }

    /// Carries out `message`, a whole one with its header, and puts the answer into `answer`: at most
    /// `room` bytes, of which there are [`SHORTEST_ANSWER`].
    pub fn serve(&mut self, message: &[u8], room: usize, answer: &mut Vec<u8>) {
        let room = room.min(usize::try_from(self.largest()).unwrap_or(usize::MAX));
        let mut reader = Reader::new(message);
        let header =
            (|| Ok::<_, super::wire::Truncated>((reader.u32()?, reader.u8()?, reader.u16()?)))();
        let (len, kind, tag) = header.unwrap_or_default();
        let body = usize::try_from(len).ok().and_then(|len| message.get(HEADER..len));
        let mut writer = Writer::new(answer, room);
        let result = match body {
            Some(body) => self.request(kind, body, &mut writer),
            None => Err(Errno::PROTO),
        };
        let sent = writer.finish(kind.wrapping_add(1), tag);
        let error = match result {
            Ok(()) if sent => return,
            Ok(()) => Errno::MSGSIZE,
            Err(error) => error,
        };
        let mut writer = Writer::new(answer, room.max(SHORTEST_ANSWER));
        writer.u32(error.0);
        writer.finish(kind::LERROR, tag);
    }

    fn request(&mut self, kind: u8, body: &[u8], answer: &mut Writer<'_>) -> Result<(), Errno> {
        match Request::parse(kind, body)? {
            Request::Version { size, version } => self.version(size, version, answer),
            _ if self.agreed.is_none() => Err(Errno::PROTO),
            Request::Attach { fid, tree } => self.attach(fid, tree, answer),
            Request::Flush => Ok(()),
            Request::Walk { fid, new, steps } => self.walk(fid, new, &steps, answer),
            Request::Clunk { fid } => self.fids.remove(fid).map(drop).ok_or(Errno::BADF),
            Request::Read { fid, offset, count } => self.read(fid, offset, count, answer),
            Request::Write { fid, offset, data } => self.write(fid, offset, data, answer),
            Request::ReadDir { fid, offset, count } => self.read_dir(fid, offset, count, answer),
            Request::Fsync { fid, data_only } => self.fsync(fid, data_only),
            Request::GetAttr { fid } => self.get_attributes(fid, answer),
            Request::SetAttr { fid, changes } => self.set_attributes(fid, &changes),
            Request::ReadLink { fid } => {
                answer.string(&self.folder.read_link(self.fids.get(fid)?.path()?)?);
                Ok(())
            }
            Request::StatFs { fid } => self.fids.get(fid).and_then(|_| self.stat_fs(answer)),
            // The guest's kernel has granted it, and nobody else locks: there is one guest.
            Request::Lock { fid } => self.fids.get(fid).map(|_| answer.u8(0)),
            Request::GetLock { fid, lock } => self.fids.get(fid).map(|_| get_lock(&lock, answer)),
            Request::Open { fid, flags } => self.open(fid, flags, answer),
            Request::Unsupported => Err(Errno::OPNOTSUPP),
            change => self.change(change, answer),
        }
    }

    /// What changes the folder itself or one in it.
    fn change(&mut self, request: Request<'_>, answer: &mut Writer<'_>) -> Result<(), Errno> {
        if let Request::Remove { fid } = request {
            return self.remove(fid);
        }
        self.folder.change()?;
        match request {
            Request::Create { fid, name, flags, mode } => {
                self.create(fid, name, flags, mode, answer)
            }
            Request::Unlink { folder, name, flags } => {
                const REMOVEDIR: u32 = 0x200;
                let path = self.below(folder, name)?;
                self.folder.remove(&path, flags & REMOVEDIR != 0)
            }
            Request::Mkdir { folder, name, mode } => {
                let path = self.below(folder, name)?;
                self.folder.make_folder(&path, mode)?;
                self.made(&path, answer)
            }
            Request::Mknod { folder, name, mode } => {
                let path = self.below(folder, name)?;
                if !is_regular(mode) {
                    return Err(Errno::PERM);
                }
                self.folder.create(&path, OFlags::WRONLY, mode)?;
                self.made(&path, answer)
            }
            Request::Symlink { folder, name, target } => {
                let path = self.below(folder, name)?;
                self.folder.make_link(&path, target)?;
                self.made(&path, answer)
            }
            Request::Link { folder, fid, name } => {
                let path = self.below(folder, name)?;
                self.folder.link(self.fids.get(fid)?.path()?, &path)
            }
            Request::Rename { fid, folder, name } => {
                let from = self.fids.get(fid)?.path()?.clone();
                let to = self.below(folder, name)?;
                self.rename(&from, &to)
            }
            Request::RenameAt { from, to } => {
                let (from, to) = (self.below(from.0, from.1)?, self.below(to.0, to.1)?);
                self.rename(&from, &to)
            }
            _ => Err(Errno::OPNOTSUPP),
        }
    }

    /// The path of `name` in the folder that `fid` stands for.
    fn below(&self, fid: u32, name: Name<'_>) -> Result<Path, Errno> {
        self.fids.get(fid)?.path()?.join(name)
    }

    fn qid(&self, attributes: &Attributes) -> Qid {
        // A file that was changed has another version: its time tells, and its length.
        let (seconds, nanoseconds) = attributes.modified;
        let [a, b, c, d, ..] = (seconds ^ nanoseconds ^ attributes.size << 8).to_le_bytes();
        let version = u32::from_le_bytes([a, b, c, d]);
        Qid(Qid::kind(attributes.kind()), version, self.folder.number(attributes))
    }

    /// Answers with what is at `path` now.
    fn made(&self, path: &Path, answer: &mut Writer<'_>) -> Result<(), Errno> {
        self.qid(&self.folder.attributes(path)?).write(answer);
        Ok(())
    }

    fn version(&mut self, size: u32, version: &[u8], answer: &mut Writer<'_>) -> Result<(), Errno> {
        self.reset();
        if size < MIN_MESSAGE {
            return Err(Errno::MSGSIZE);
        }
        let known = version == DIALECT;
        let size = size.min(MAX_MESSAGE);
        answer.u32(size);
        answer.string(if known { DIALECT } else { b"unknown" });
        self.agreed = known.then_some(size);
        Ok(())
    }

    /// There is one tree, whatever drivers call it by default.
    fn attach(&mut self, fid: u32, tree: &[u8], answer: &mut Writer<'_>) -> Result<(), Errno> {
        if !matches!(tree, b"" | b"/" | b".") {
            return Err(Errno::NOENT);
        }
        if self.fids.is_used(fid) {
            return Err(Errno::INVAL);
        }
        let attributes = self.folder.attributes(&Path::default())?;
        self.fids.set(fid, Path::default(), None)?;
        self.qid(&attributes).write(answer);
        Ok(())
    }

    /// Goes as far as it can. `new` stands for what is at the end, if the end was reached.
    fn walk(
        &mut self,
        fid: u32,
        new: u32,
        steps: &[Step<'_>],
        answer: &mut Writer<'_>,
    ) -> Result<(), Errno> {
        if fid == new {
            self.fids.closed(fid)?;
        } else if self.fids.is_used(new) {
            return Err(Errno::INVAL);
        }
        if steps.is_empty() {
            self.fids.copy(fid, new)?;
            answer.u16(0);
            return Ok(());
        }
        let mut path = self.fids.get(fid)?.path()?.clone();
        let mut qids = Vec::new();
        for step in steps {
            match self.step(&path, step) {
                Ok((next, qid)) => {
                    path = next;
                    qids.push(qid);
                }
                Err(error) if qids.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        if qids.len() == steps.len() {
            self.fids.set(new, path, None)?;
        }
        answer.u16(u16::try_from(qids.len()).unwrap_or(u16::MAX));
        qids.into_iter().for_each(|qid| qid.write(answer));
        Ok(())
    }

    fn step(&self, path: &Path, step: &Step<'_>) -> Result<(Path, Qid), Errno> {
        let next = match step {
            Step::Down(name) => path.join(*name)?,
            // From the folder that is shared there is no way up.
            Step::Up => path.split().map_or_else(Path::default, |(folder, _)| folder),
        };
        let qid = self.qid(&self.folder.attributes(&next)?);
        Ok((next, qid))
    }

    fn open(&mut self, fid: u32, flags: u32, answer: &mut Writer<'_>) -> Result<(), Errno> {
        let path = self.fids.closed(fid)?.clone();
        self.fids.room_to_open()?;
        let wanted = Wanted::of(flags)?;
        if wanted.changes {
            self.folder.change()?;
        }
        let attributes = self.folder.attributes(&path)?;
        let open = match attributes.kind() {
            FileType::Directory if wanted.changes => return Err(Errno::ISDIR),
            FileType::Directory => Open::Folder(self.folder.open_folder(&path)?),
            _ if wanted.folder => return Err(Errno::NOTDIR),
            _ => Open::File(self.folder.open_file(&path, wanted.flags)?, wanted.writes),
        };
        self.opened(fid, path, open, answer)
    }

    /// Makes a file in the folder that `fid` stands for, which then stands for the file.
    fn create(
        &mut self,
        fid: u32,
        name: Name<'_>,
        flags: u32,
        mode: u32,
        answer: &mut Writer<'_>,
    ) -> Result<(), Errno> {
        let path = self.fids.closed(fid)?.join(name)?;
        self.fids.room_to_open()?;
        let wanted = Wanted::of(flags)?;
        let made = self.folder.create(&path, wanted.flags, mode);
        let file = match made {
            Err(Errno::EXIST) if !wanted.exclusive => self.folder.open_file(&path, wanted.flags)?,
            other => other?,
        };
        self.opened(fid, path, Open::File(file, wanted.writes), answer)
    }

    fn opened(
        &mut self,
        fid: u32,
        path: Path,
        open: Open,
        answer: &mut Writer<'_>,
    ) -> Result<(), Errno> {
        let attributes = match &open {
            Open::File(file, _) => Folder::attributes_of(file)?,
            Open::Folder(listing) => Folder::attributes_of(listing.fd()?)?,
        };
        self.fids.set(fid, path, Some(open))?;
        self.qid(&attributes).write(answer);
        // Of the size that is best for reads and writes there is nothing to say.
        answer.u32(0);
        Ok(())
    }

    fn read(
        &mut self,
        fid: u32,
        offset: u64,
        count: u32,
        answer: &mut Writer<'_>,
    ) -> Result<(), Errno> {
        let Open::File(file, _) = self.fids.open_mut(fid)? else { return Err(Errno::ISDIR) };
        answer.data(usize::try_from(count).unwrap_or(usize::MAX), |room| {
            Ok(retry_on_intr(|| pread(&*file, &mut *room, offset))?)
        })
    }

    fn write(
        &mut self,
        fid: u32,
        offset: u64,
        data: &[u8],
        answer: &mut Writer<'_>,
    ) -> Result<(), Errno> {
        let Open::File(file, _) = self.fids.open_mut(fid)? else { return Err(Errno::ISDIR) };
        let written = retry_on_intr(|| pwrite(&*file, data, offset))?;
        answer.u32(u32::try_from(written).unwrap_or(u32::MAX));
        Ok(())
    }

    /// Entries from number `offset` on, as many as there is room for.
    fn read_dir(
        &mut self,
        fid: u32,
        offset: u64,
        count: u32,
        answer: &mut Writer<'_>,
    ) -> Result<(), Errno> {
        let Open::Folder(listing) = self.fids.open_mut(fid)? else { return Err(Errno::NOTDIR) };
        listing.seek(offset)?;
        answer.data(usize::try_from(count).unwrap_or(usize::MAX), |room| {
            let mut filled = 0usize;
            while let Some(entry) = listing.read()? {
                let bytes = encoded(&entry, listing);
                let end = filled.saturating_add(bytes.len());
                let Some(place) = room.get_mut(filled..end) else {
                    listing.put_back(entry);
                    // No entry at all would be the end.
                    return if filled == 0 { Err(Errno::INVAL) } else { Ok(filled) };
                };
                place.copy_from_slice(&bytes);
                filled = end;
            }
            Ok(filled)
        })
    }

    fn fsync(&mut self, fid: u32, data_only: bool) -> Result<(), Errno> {
        // On macOS std asks for more than the system's own fsync: that it reaches the medium.
        match self.fids.open_mut(fid)? {
            Open::File(file, _) if data_only => file.sync_data()?,
            Open::File(file, _) => file.sync_all()?,
            Open::Folder(listing) => fsync(listing.fd()?)?,
        }
        Ok(())
    }

    fn attributes(&self, fid: &Fid) -> Result<Attributes, Errno> {
        match fid.open.as_deref() {
            Some(Open::File(file, _)) => Folder::attributes_of(file.as_fd()),
            Some(Open::Folder(listing)) => Folder::attributes_of(listing.fd()?),
            None => self.folder.attributes(fid.path()?),
        }
    }

    fn get_attributes(&self, fid: u32, answer: &mut Writer<'_>) -> Result<(), Errno> {
        /// All but the time of birth, generation and data version.
        const BASIC: u64 = 0x7ff;
        let attributes = self.attributes(self.fids.known(fid)?)?;
        answer.u64(BASIC);
        self.qid(&attributes).write(answer);
        for word in [attributes.mode, attributes.uid, attributes.gid] {
            answer.u32(word);
        }
        let Attributes { links, special, size, block_size, blocks, .. } = attributes;
        for long in [links, special, size, block_size, blocks] {
            answer.u64(long);
        }
        for (seconds, nanoseconds) in
            [attributes.accessed, attributes.modified, attributes.changed, (0, 0)]
        {
            answer.u64(seconds);
            answer.u64(nanoseconds);
        }
        // Generation and data version.
        answer.u64(0);
        answer.u64(0);
        Ok(())
    }

    fn set_attributes(&self, fid: u32, changes: &Changes) -> Result<(), Errno> {
        let fid = self.fids.known(fid)?;
        self.folder.change()?;
        let open = match fid.open.as_deref() {
            Some(Open::File(file, writable)) => Some((file, *writable)),
            Some(Open::Folder(_)) | None => None,
        };
        self.folder.set(fid.path(), open, changes)
    }

    /// Removes the file and, whatever becomes of that, forgets the fid.
    fn remove(&mut self, fid: u32) -> Result<(), Errno> {
        let fid = self.fids.remove(fid).ok_or(Errno::BADF)?;
        self.folder.change()?;
        let path = fid.path()?;
        let is_folder = self.folder.attributes(path)?.kind() == FileType::Directory;
        self.folder.remove(path, is_folder)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Errno> {
        self.fids.room_to_move(from, to)?;
        // Of two names of one file both stay (rename(2)).
        let number = |path| self.folder.attributes(path).ok().map(|it| self.folder.number(&it));
        let same = number(from).is_some_and(|file| number(to) == Some(file));
        self.folder.rename(from, to)?;
        if !same {
            self.fids.moved(from, to);
        }
        Ok(())
    }

    fn stat_fs(&self, answer: &mut Writer<'_>) -> Result<(), Errno> {
        /// V9FS_MAGIC of `include/uapi/linux/magic.h`.
        const MAGIC: u32 = 0x0102_1997;
        let stat = self.folder.file_system()?;
        answer.u32(MAGIC);
        answer.u32(u32::try_from(stat.f_frsize).unwrap_or(u32::MAX));
        for long in [stat.f_blocks, stat.f_bfree, stat.f_bavail, stat.f_files, stat.f_ffree] {
            answer.u64(long);
        }
        answer.u64(stat.f_fsid);
        answer.u32(u32::try_from(stat.f_namemax).unwrap_or(u32::MAX));
        Ok(())
    }
}

/// Whether a mode is a regular file's, as it also is without a kind.
fn is_regular(mode: u32) -> bool {
    matches!(mode & 0o170_000, 0 | 0o100_000)
}

/// Nobody holds a lock that is in the way.
fn get_lock(lock: &Lock<'_>, answer: &mut Writer<'_>) {
    const UNLOCKED: u8 = 2;
    answer.u8(UNLOCKED);
    answer.u64(lock.start);
    answer.u64(lock.length);
    answer.u32(lock.process);
    answer.string(lock.client);
}

/// An entry of a listing as Rreaddir has it.
fn encoded(entry: &Entry, listing: &Listing) -> Vec<u8> {
    let (kind, number) = kind_of(entry, listing);
    let mut bytes =
        Vec::with_capacity(Qid::LEN.saturating_add(11).saturating_add(entry.name.len()));
    bytes.push(Qid::kind(kind));
    bytes.extend(0u32.to_le_bytes());
    bytes.extend(entry.inode.to_le_bytes());
    bytes.extend(entry.next.to_le_bytes());
    bytes.push(number);
    // No file system here has longer names.
    bytes.extend(u16::try_from(entry.name.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend(&entry.name);
    bytes
}

/// What kind of file an entry is.
fn kind_of(entry: &Entry, listing: &Listing) -> (FileType, u8) {
    let kind = match entry.kind {
        FileType::Unknown => listing.kind(&entry.name),
        kind => kind,
    };
    let number = match kind {
        FileType::Fifo => 1,
        FileType::CharacterDevice => 2,
        FileType::Directory => 4,
        FileType::BlockDevice => 6,
        FileType::RegularFile => 8,
        FileType::Symlink => 10,
        FileType::Socket => 12,
        FileType::Unknown => 0,
    };
    (kind, number)
}

/// The same by the numbers of `dirent.h`.
pub(crate) fn entry_kind(entry: &Entry, listing: &Listing) -> u8 {
    kind_of(entry, listing).1
}

/// How a file is to be opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) flags: OFlags,
    /// It can be written then.
    pub(crate) writes: bool,
    /// Something changes, by opening it or later.
    pub(crate) changes: bool,
    /// It must not exist yet.
    pub(crate) exclusive: bool,
    /// It must be a folder.
    pub(crate) folder: bool,
}

impl Wanted {
    /// What the flags of a message mean: open(2)'s on x86, whatever the guest is.
    pub(crate) fn of(flags: u32) -> Result<Self, Errno> {
        const EXCLUSIVE: u32 = 0o200;
        const FOLDER: u32 = 0o200_000;
        const MEANINGS: [(u32, OFlags); 4] = [
            (0o1000, OFlags::TRUNC),
            (0o2000, OFlags::APPEND),
            (0o10_000, OFlags::DSYNC),
            (0o4_000_000, OFlags::SYNC),
        ];
        let (access, writes) = match flags & 3 {
            0 => (OFlags::RDONLY, false),
            1 => (OFlags::WRONLY, true),
            2 => (OFlags::RDWR, true),
            _ => return Err(Errno::INVAL),
        };
        let has = |flag| flags & flag != 0;
        let more = MEANINGS.iter().filter(|(flag, _)| has(*flag));
        let flags = more.fold(access, |flags, (_, own)| flags | *own);
        let changes = writes || flags.contains(OFlags::TRUNC);
        Ok(Self { flags, writes, changes, exclusive: has(EXCLUSIVE), folder: has(FOLDER) })
    }
}
