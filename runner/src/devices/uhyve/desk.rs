//! Where requests for files change hands between vCPUs, which wait, and the thread of a mapped folder, which alone
//! can open what is in it; and what that thread does.
//!
//! There is one request at a time: a guest has more than one vCPU seldom, and files seldom on all of them.

use std::fs::File;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FileType, OFlags};
use rustix::io::{pread, pwrite, retry_on_intr};
use vm_memory::{Bytes, VolatileSlice};

use crate::devices::hypercall::Guest;
use crate::p9::{
    Attributes, Entry, Errno, Folder, Listing, MAX_OPEN, Name, Path, Wanted, entry_kind,
};

/// Bytes that are read or written at once.
const CHUNK: usize = 64 << 10;
/// Bytes of entries that a listing gives at once.
const LISTED: usize = 32 << 10;
/// Links, and names in all, that are followed on one way.
const MOST_LINKS: usize = 40;
const MOST_NAMES: usize = 256;

/// What is asked for. Buffers are in the guest's memory, and have been looked at.
#[derive(Debug)]
pub(super) enum Request {
    /// Opens, by Linux's flags.
    Open { path: Path, flags: u32, mode: u32 },
    /// Closes.
    Close(usize),
    /// Reads where the file is.
    Read { handle: usize, gpa: u64, len: u64 },
    /// Writes there.
    Write { handle: usize, gpa: u64, len: u64 },
    /// Moves, from the beginning (0), from where it is (1), from the end (2).
    Seek { handle: usize, offset: i64, whence: u32 },
    /// Removes a file.
    Unlink(Path),
    /// Reads a folder's entries.
    List { handle: usize, gpa: u64, len: u64 },
    /// What is known about a file; `follow` a link at its end.
    Stat { path: Path, follow: bool },
    /// The same of an open one.
    StatOpen(usize),
    /// Makes a folder.
    MakeFolder(Path),
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// A number: of bytes, a place in the file, a handle; or 0.
    Number(u64),
    /// What is known about a file.
    Attributes(Attributes),
}

type Answer = Result<Done, Errno>;

#[derive(Debug, Default)]
struct State {
    /// A vCPU waits for an answer.
    taken: bool,
    request: Option<Request>,
    answer: Option<Answer>,
    closed: bool,
}

/// The desk of one folder.
#[derive(Debug, Default)]
pub struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(
        &self,
        state: MutexGuard<'s, State>,
        go_on: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'s, State> {
        self.changed.wait_while(state, go_on).unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `request` carried out. Once the run is over nothing is.
    ///
    /// # Errors
    /// What the guest is told.
    pub(super) fn ask(&self, request: Request) -> Result<Done, Errno> {
        let mut state = self.wait(self.lock(), |state| state.taken && !state.closed);
        if state.closed {
            return Err(Errno::IO);
        }
        (state.taken, state.request) = (true, Some(request));
        self.changed.notify_all();
        let mut state = self.wait(state, |state| state.answer.is_none() && !state.closed);
        let answer = state.answer.take().unwrap_or(Err(Errno::IO));
        state.taken = false;
        self.changed.notify_all();
        answer
    }

    /// The run is over.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Serves whoever asks, until the run is over.
    pub fn serve(&self, server: &mut Server) {
        loop {
            let mut state = self.wait(self.lock(), |it| it.request.is_none() && !it.closed);
            let Some(request) = state.request.take() else { return };
            drop(state);
            let answer = server.carry_out(request);
            self.lock().answer = Some(answer);
            self.changed.notify_all();
        }
    }
}

/// An open file.
#[derive(Debug)]
enum Open {
    File { file: File, at: u64, appends: bool },
    Folder(Listing),
}

/// What the thread of a folder has.
#[derive(Debug)]
pub struct Server {
    folder: Folder,
    /// Where the guest has it.
    mount: Path,
    guest: Guest,
    open: Vec<Option<Open>>,
    buffer: Vec<u8>,
}

impl Server {
    /// Serves `folder`, which the guest has at `mount`.
    ///
    /// # Errors
    /// As [`super::files::Mapping::new`].
    pub fn new(folder: Folder, mapping: &str, guest: Guest) -> Result<Self, Errno> {
        let mount = super::files::normal(mapping.as_bytes())?;
        Ok(Self { folder, mount, guest, open: Vec::new(), buffer: vec![0; CHUNK] })
    }

    /// Carries out one request.
    ///
    /// # Errors
    /// What the guest is told.
    pub(super) fn carry_out(&mut self, request: Request) -> Result<Done, Errno> {
        match request {
            Request::Open { path, flags, mode } => self.open(&path, flags, mode),
            Request::Close(handle) => {
                let open = self.open.get_mut(handle).and_then(Option::take);
                open.map(|_| Done::Number(0)).ok_or(Errno::BADF)
            }
            Request::Read { handle, gpa, len } => self.read(handle, gpa, len),
            Request::Write { handle, gpa, len } => self.write(handle, gpa, len),
            Request::Seek { handle, offset, whence } => self.seek(handle, offset, whence),
            Request::Unlink(path) => {
                self.folder.change()?;
                let remove = |path: &Path| self.folder.remove(path, false);
                self.on_the_way(&path, false, remove).map(|()| Done::Number(0))
            }
            Request::List { handle, gpa, len } => self.list(handle, gpa, len),
            Request::Stat { path, follow } => {
                let known = self.folder.attributes(&path);
                let known = match known {
                    Ok(known) if !follow || known.kind() != FileType::Symlink => Ok(known),
                    Ok(_) | Err(Errno::LOOP | Errno::NOTDIR) => {
                        self.folder.attributes(&self.resolve(&path, follow)?)
                    }
                    Err(error) => Err(error),
                };
                known.map(Done::Attributes)
            }
            Request::StatOpen(handle) => {
                let known = match self.get(handle)? {
                    Open::File { file, .. } => Folder::attributes_of(&*file),
                    Open::Folder(listing) => Folder::attributes_of(listing.fd()?),
                };
                known.map(Done::Attributes)
            }
            Request::MakeFolder(path) => {
                self.folder.change()?;
                let make = |path: &Path| self.folder.make_folder(path, 0o777);
                self.on_the_way(&path, false, make).map(|()| Done::Number(0))
            }
        }
    }

    fn get(&mut self, handle: usize) -> Result<&mut Open, Errno> {
        self.open.get_mut(handle).and_then(Option::as_mut).ok_or(Errno::BADF)
    }

    /// Does it, and once more behind the links on the way, if that is what it failed for.
    fn on_the_way<T>(
        &self,
        path: &Path,
        follow: bool,
        act: impl Fn(&Path) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        match act(path) {
            Err(Errno::LOOP | Errno::NOTDIR) => act(&self.resolve(path, follow)?),
            done => done,
        }
    }

    /// The path without links, where they stay in the folder; a link at the end is followed where `last`.
    fn resolve(&self, path: &Path, last: bool) -> Result<Path, Errno> {
        let mut left: Vec<Vec<u8>> = path.components().map(|name| name.bytes().to_vec()).collect();
        left.reverse();
        let (mut here, mut links, mut names) = (Path::default(), 0_usize, 0_usize);
        while let Some(name) = left.pop() {
            names = names.saturating_add(1);
            if names > MOST_NAMES {
                return Err(Errno::LOOP);
            }
            here = match &*name {
                b"" | b"." => here,
                b".." => match here.split() {
                    Some((folder, _)) => folder,
                    // What is above is none of this folder's, unless the guest has it at its root.
                    None if self.mount.is_root() => here,
                    None => return Err(Errno::NOENT),
                },
                name => here.join(Name::new(name)?)?,
            };
            if (left.is_empty() && !last) || !self.is_link(&here)? {
                continue;
            }
            links = links.saturating_add(1);
            if links > MOST_LINKS {
                return Err(Errno::LOOP);
            }
            let target = self.folder.read_link(&here)?;
            let target = match target.starts_with(b"/") {
                false => {
                    here = here.split().map_or_else(Path::default, |(folder, _)| folder);
                    target
                }
                // What it says is a path of the guest's.
                true => {
                    here = Path::default();
                    let inside = super::files::normal(&target)?.below(&self.mount);
                    let inside = inside.ok_or(Errno::NOENT)?;
                    let names: Vec<&[u8]> = inside.components().map(Name::bytes).collect();
                    names.join(&b'/')
                }
            };
            left.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
        }
        Ok(here)
    }

    fn is_link(&self, path: &Path) -> Result<bool, Errno> {
        match self.folder.attributes(path) {
            Ok(known) => Ok(known.kind() == FileType::Symlink),
            // What is not there is no link, and may be made.
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn open(&mut self, path: &Path, flags: u32, mode: u32) -> Answer {
        const CREATE: u32 = 0o100;
        const KNOWN: u32 = 0o203_303;
        let wanted = Wanted::of(flags & KNOWN)?;
        if wanted.folder && flags & CREATE != 0 {
            return Err(Errno::INVAL);
        }
        let handle = self.open.iter().position(Option::is_none).unwrap_or(self.open.len());
        if handle >= MAX_OPEN {
            return Err(Errno::NFILE);
        }
        let creates = flags & CREATE != 0;
        if wanted.changes || creates {
            self.folder.change()?;
        }
        let follow = !(creates && wanted.exclusive);
        let open =
            self.on_the_way(path, follow, |path| self.open_at(path, wanted, creates, mode))?;
        match self.open.get_mut(handle) {
            Some(free) => *free = Some(open),
            None => self.open.push(Some(open)),
        }
        Ok(Done::Number(handle as u64))
    }

    fn open_at(
        &self,
        path: &Path,
        wanted: Wanted,
        creates: bool,
        mode: u32,
    ) -> Result<Open, Errno> {
        let file =
            |file| Open::File { file, at: 0, appends: wanted.flags.contains(OFlags::APPEND) };
        if creates {
            match self.folder.create(path, wanted.flags, mode) {
                Err(Errno::EXIST) if !wanted.exclusive => {}
                made => return made.map(file),
            }
        }
        match self.folder.attributes(path)?.kind() {
            FileType::Directory if wanted.changes || creates => Err(Errno::ISDIR),
            FileType::Directory => Ok(Open::Folder(self.folder.open_folder(path)?)),
            FileType::Symlink => Err(Errno::LOOP),
            _ if wanted.folder => Err(Errno::NOTDIR),
            _ => self.folder.open_file(path, wanted.flags).map(file),
        }
    }

    /// The part of the guest's memory, which was looked at before it was asked for.
    fn slices<'g>(guest: &'g Guest, gpa: u64, len: u64) -> Result<Vec<VolatileSlice<'g>>, Errno> {
        guest.readable("file", gpa, len).map_err(|_| Errno::FAULT)
    }

    fn read(&mut self, handle: usize, gpa: u64, len: u64) -> Answer {
        let Self { guest, open, buffer, .. } = self;
        let file = open.get_mut(handle).and_then(Option::as_mut).ok_or(Errno::BADF)?;
        let Open::File { file, at, .. } = file else { return Err(Errno::ISDIR) };
        let mut total = 0_u64;
        if len == 0 {
            return Ok(Done::Number(0));
        }
        for slice in Self::slices(guest, gpa, len)? {
            let mut done = 0;
            while done < slice.len() {
                let room = slice.len().saturating_sub(done).min(CHUNK);
                let room = buffer.get_mut(..room).unwrap_or_default();
                let read = match retry_on_intr(|| pread(&*file, &mut *room, *at)) {
                    // What has been read is told, and the failure the next time.
                    Err(_) if total > 0 => return Ok(Done::Number(total)),
                    read => read?,
                };
                let bytes = buffer.get(..read).unwrap_or_default();
                slice.write_slice(bytes, done).map_err(|_| Errno::FAULT)?;
                (done, total) = (done.saturating_add(read), total.saturating_add(read as u64));
                *at = at.saturating_add(read as u64);
                if read == 0 {
                    return Ok(Done::Number(total));
                }
            }
        }
        Ok(Done::Number(total))
    }

    fn write(&mut self, handle: usize, gpa: u64, len: u64) -> Answer {
        let Self { guest, open, buffer, .. } = self;
        let file = open.get_mut(handle).and_then(Option::as_mut).ok_or(Errno::BADF)?;
        let Open::File { file, at, appends } = file else { return Err(Errno::BADF) };
        let mut total = 0_u64;
        if len == 0 {
            return Ok(Done::Number(0));
        }
        if *appends {
            *at = Folder::attributes_of(&*file)?.size;
        }
        for slice in Self::slices(guest, gpa, len)? {
            let mut done = 0;
            while done < slice.len() {
                let part = slice.len().saturating_sub(done).min(CHUNK);
                let part = buffer.get_mut(..part).unwrap_or_default();
                slice.read_slice(part, done).map_err(|_| Errno::FAULT)?;
                let written = match retry_on_intr(|| pwrite(&*file, part, *at)) {
                    // What has been written is told, and the failure the next time.
                    Err(_) | Ok(0) if total > 0 => return Ok(Done::Number(total)),
                    Ok(0) => return Err(Errno::IO),
                    written => written?,
                };
                (done, total) =
                    (done.saturating_add(written), total.saturating_add(written as u64));
                *at = at.saturating_add(written as u64);
            }
        }
        Ok(Done::Number(total))
    }

    fn seek(&mut self, handle: usize, offset: i64, whence: u32) -> Answer {
        match self.get(handle)? {
            Open::File { file, at, .. } => {
                let from = match whence {
                    0 => 0,
                    1 => *at,
                    2 => Folder::attributes_of(&*file)?.size,
                    _ => return Err(Errno::INVAL),
                };
                let to = from.checked_add_signed(offset).filter(|to| i64::try_from(*to).is_ok());
                *at = to.ok_or(Errno::INVAL)?;
                Ok(Done::Number(*at))
            }
            Open::Folder(listing) => {
                let to = u64::try_from(offset).ok().filter(|_| whence == 0).ok_or(Errno::INVAL)?;
                listing.seek(to)?;
                Ok(Done::Number(to))
            }
        }
    }

    /// Entries as getdents64(2) has them, as many as there is room for; 0 at the end.
    fn list(&mut self, handle: usize, gpa: u64, len: u64) -> Answer {
        let room = usize::try_from(len).unwrap_or(usize::MAX).min(LISTED);
        let Open::Folder(listing) = self.get(handle)? else { return Err(Errno::NOTDIR) };
        let mut bytes = Vec::new();
        while let Some(entry) = listing.read()? {
            let encoded = encoded(&entry, listing);
            if bytes.len().saturating_add(encoded.len()) > room {
                listing.put_back(entry);
                if bytes.is_empty() {
                    return Err(Errno::INVAL);
                }
                break;
            }
            bytes.extend(encoded);
        }
        self.guest.answer("getdents", gpa, &bytes).map_err(|_| Errno::FAULT)?;
        Ok(Done::Number(bytes.len() as u64))
    }
}

/// `struct linux_dirent64`.
fn encoded(entry: &Entry, listing: &Listing) -> Vec<u8> {
    const HEADER: usize = 19;
    let len = HEADER.saturating_add(entry.name.len()).saturating_add(1).next_multiple_of(8);
    let mut bytes = Vec::with_capacity(len);
    bytes.extend(entry.inode.to_le_bytes());
    bytes.extend(entry.next.to_le_bytes());
    // No file system here has longer names.
    bytes.extend(u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes());
    bytes.push(entry_kind(entry, listing));
    bytes.extend(&entry.name);
    bytes.resize(len, 0);
    bytes
}
