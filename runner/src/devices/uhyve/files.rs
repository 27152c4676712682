//! Files, as vCPUs ask for them: which mapped folder a path or a descriptor is of, and whose thread serves it.
//!
//! A guest has no files but those in folders that the user gave, each at a path of the guest's. Its
//! descriptors are ours: from 3 on, those of each folder in turn.

use std::sync::Arc;

use super::desk::{Desk, Done, Request};
use super::structures::{self, Call, Place, Transfer};
use crate::devices::hypercall::{Guest, Violation};
use crate::machine::bus::Caller;
use crate::machine::stop::Stop;
use crate::p9::{Attributes, Errno, Name, Path};

/// Bytes of the longest path with its NUL, as on Linux (`PATH_MAX`).
const MAX_PATH: usize = 4096;
/// Descriptors below are the console's.
const FIRST: usize = 3;

/// A folder at a path of the guest's.
#[derive(Debug)]
pub struct Mapping {
    at: Path,
    desk: Arc<Desk>,
}

impl Mapping {
    /// The folder that `desk` serves, at `path` in the guest: absolute, or it is taken so.
    ///
    /// # Errors
    /// The path is none.
    pub fn new(path: &str, desk: Arc<Desk>) -> Result<Self, Errno> {
        Ok(Self { at: normal(path.as_bytes())?, desk })
    }
}

/// All of a guest's.
#[derive(Debug, Default)]
pub struct Files {
    mappings: Vec<Mapping>,
}

/// A path without anything that means more than a name: `..` goes up, and at the top it stays.
pub(super) fn normal(path: &[u8]) -> Result<Path, Errno> {
    let mut normal = Path::default();
    for name in path.split(|byte| *byte == b'/') {
        normal = match name {
            b"" | b"." => normal,
            b".." => normal.split().map_or_else(Path::default, |(folder, _)| folder),
            name => normal.join(Name::new(name)?)?,
        };
    }
    Ok(normal)
}

/// What a guest is told: a number, or what went wrong.
fn number(done: Result<Done, Errno>) -> i64 {
    match done {
        Ok(Done::Number(number)) => number.cast_signed(),
        Ok(_) => 0,
        Err(error) => error.negative(),
    }
}

/// The same with 32 bits.
fn short(done: Result<Done, Errno>) -> [u8; 4] {
    i32::try_from(number(done)).unwrap_or(i32::MAX).to_le_bytes()
}

impl Files {
    /// What is in `mappings`, and nothing else.
    #[must_use]
    pub fn new(mappings: Vec<Mapping>) -> Self {
        Self { mappings }
    }

    /// The run is over: whoever waits comes back.
    pub fn close(&self) {
        self.mappings.iter().for_each(|mapping| mapping.desk.close());
    }

    /// The deepest mapping that a path of the guest's is in, and where it is there.
    fn find(&self, path: &[u8]) -> Result<(usize, Path), Errno> {
        let path = normal(path)?;
        let inside = |(index, mapping): (usize, &Mapping)| {
            let below = path.below(&mapping.at)?;
            Some((mapping.at.len(), index, below))
        };
        let found = self.mappings.iter().enumerate().filter_map(inside);
        let deepest = found.max_by_key(|(depth, ..)| *depth);
        deepest.map(|(_, index, below)| (index, below)).ok_or(Errno::NOENT)
    }

    fn ask(&self, index: usize, request: Request) -> Result<Done, Errno> {
        self.mappings.get(index).ok_or(Errno::BADF)?.desk.ask(request)
    }

    /// Asks about an open file.
    fn ask_open(&self, fd: i32, request: impl FnOnce(usize) -> Request) -> Result<Done, Errno> {
        let number = usize::try_from(fd).ok().and_then(|fd| fd.checked_sub(FIRST));
        let number = number.ok_or(Errno::BADF)?;
        let count = self.mappings.len();
        let index = number.checked_rem(count).ok_or(Errno::BADF)?;
        let handle = number.checked_div(count).ok_or(Errno::BADF)?;
        self.ask(index, request(handle))
    }

    /// Asks about the file at `path` in the guest's memory.
    fn ask_at(
        &self,
        (guest, call, path): (&Guest, &'static str, u64),
        request: impl FnOnce(Path) -> Request,
    ) -> Result<Result<(usize, Done), Errno>, Violation> {
        let Some(path) = guest.text(call, path, MAX_PATH)? else {
            return Ok(Err(Errno::NAMETOOLONG));
        };
        let done = self.find(&path).and_then(|(index, below)| {
            let done = self.ask(index, request(below))?;
            Ok((index, done))
        });
        Ok(done)
    }

    /// Carries out what the guest wrote to `place`, which is no write.
    pub(super) fn carry_out(
        &self,
        place: Place,
        guest: &Guest,
        at: u64,
        caller: &dyn Caller,
    ) -> Result<(), Violation> {
        let name = place.name();
        let to = |offset| at.saturating_add(offset);
        match place.call {
            Call::Open => self.open(guest, at),
            Call::Read => self.read(place, guest, at, caller),
            Call::Close => {
                let fd = structures::descriptor(name, guest, at)?;
                let done = match fd {
                    // The console stays.
                    0..3 => Ok(Done::Number(0)),
                    _ => self.ask_open(fd, Request::Close),
                };
                guest.answer(name, to(4), &short(done))
            }
            Call::Seek => {
                let structures::Seek { fd, offset, whence } =
                    structures::seek(place.version, guest, at)?;
                let done = self.ask_open(fd, |handle| Request::Seek { handle, offset, whence });
                structures::answer_seek(place.version, guest, at, number(done))
            }
            Call::Unlink => {
                let path = structures::pointer(name, guest, at)?;
                let done = self.ask_at((guest, name, path), Request::Unlink)?;
                guest.answer(name, to(8), &short(done.map(|(_, done)| done)))
            }
            Call::MakeFolder => {
                let path = structures::pointer(name, guest, at)?;
                let done = self.ask_at((guest, name, path), Request::MakeFolder)?;
                let answer = match done {
                    Ok(_) => [1, 0],
                    Err(error) => [2, error.0],
                };
                guest.answer(name, to(16), &answer.map(u32::to_le_bytes).concat())
            }
            Call::List => self.list(guest, at),
            Call::Stat => {
                let (path, follow, answer) = structures::stat(guest, at)?;
                let done =
                    self.ask_at((guest, name, path), |path| Request::Stat { path, follow })?;
                tell(guest, name, done.map(|(_, done)| done), answer, to(24))
            }
            Call::StatOpen => {
                let (fd, answer) = structures::stat_open(guest, at)?;
                tell(guest, name, self.ask_open(fd, Request::StatOpen), answer, to(16))
            }
            _ => Ok(()),
        }
    }

    fn open(&self, guest: &Guest, at: u64) -> Result<(), Violation> {
        let structures::Open { path, flags, mode } = structures::open(guest, at)?;
        let opened = self
            .ask_at((guest, "open", path), |path| Request::Open { path, flags, mode })?
            .map(|(index, done)| {
                let handle = match done {
                    Done::Number(handle) => usize::try_from(handle).unwrap_or_default(),
                    _ => 0,
                };
                let fd = handle.saturating_mul(self.mappings.len()).saturating_add(index);
                Done::Number(fd.saturating_add(FIRST) as u64)
            });
        guest.answer("open", at.saturating_add(16), &short(opened))
    }

    /// Reads piece by piece, up to the first that is not filled.
    fn read(
        &self,
        place: Place,
        guest: &Guest,
        at: u64,
        caller: &dyn Caller,
    ) -> Result<(), Violation> {
        let Transfer { fd, buffer } = structures::transfer(place.version, place.name(), guest, at)?;
        let mut read = 0_i64;
        // One that is empty fails, too, where nothing is open.
        let mut failed = match buffer.len {
            0 => self.ask_open(fd, |handle| Request::Read { handle, gpa: 0, len: 0 }).err(),
            _ => None,
        };
        for piece in buffer.pieces() {
            let piece = piece?;
            let (gpa, len) = (piece.physical(caller)?, piece.len);
            guest.writable(piece.call, gpa, len)?;
            match self.ask_open(fd, |handle| Request::Read { handle, gpa, len }) {
                Err(error) => failed = Some(error),
                done => {
                    let got = number(done);
                    read = read.saturating_add(got);
                    if got.cast_unsigned() == len {
                        continue;
                    }
                }
            }
            break;
        }
        let failed = failed.filter(|_| read == 0).map(Errno::negative);
        structures::answer_read(place.version, guest, at, failed.unwrap_or(read))
    }

    /// Writes piece by piece, all of it or up to what fails; how much that was.
    pub(super) fn write(
        &self,
        transfer: &Transfer,
        guest: &Guest,
        caller: &dyn Caller,
        stop: &Stop,
    ) -> Result<i64, Violation> {
        let Transfer { fd, buffer } = *transfer;
        let mut written = 0_i64;
        if buffer.len == 0 {
            return Ok(number(self.ask_open(fd, |handle| Request::Write {
                handle,
                gpa: 0,
                len: 0,
            })));
        }
        for piece in buffer.pieces() {
            let piece = piece?;
            let (gpa, len) = (piece.physical(caller)?, piece.len);
            guest.readable(piece.call, gpa, len)?;
            match self.ask_open(fd, |handle| Request::Write { handle, gpa, len }) {
                Err(error) if written == 0 => return Ok(error.negative()),
                Err(_) => break,
                done => written = written.saturating_add(number(done)),
            }
            if stop.requested() {
                break;
            }
        }
        Ok(written)
    }

    fn list(&self, guest: &Guest, at: u64) -> Result<(), Violation> {
        let Transfer { fd, buffer } = structures::list(guest, at)?;
        guest.writable(buffer.call, buffer.at, buffer.len)?;
        let (gpa, len) = (buffer.at, buffer.len);
        let (kind, payload) = match self.ask_open(fd, |handle| Request::List { handle, gpa, len }) {
            Ok(Done::Number(0)) => (2, 0),
            Ok(Done::Number(bytes)) => (1, bytes),
            Ok(_) => (2, 0),
            Err(error) => (3, error.0.into()),
        };
        let answer = [kind, payload].map(u64::to_le_bytes).concat();
        guest.answer(buffer.call, at.saturating_add(24), &answer)
    }
}

/// Tells what is known about a file: `attributes` is where that goes, `result` where whether it does.
fn tell(
    guest: &Guest,
    call: &'static str,
    done: Result<Done, Errno>,
    attributes: u64,
    result: u64,
) -> Result<(), Violation> {
    let answer = match done {
        Ok(Done::Attributes(known)) => {
            guest.answer(call, attributes, &bytes(&known))?;
            [1, 0]
        }
        Ok(_) => [1, 0],
        Err(error) => [2, error.0],
    };
    guest.answer(call, result, &answer.map(u32::to_le_bytes).concat())
}

/// `FileAttr`.
fn bytes(known: &Attributes) -> Vec<u8> {
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let Attributes { accessed, modified, changed, .. } = *known;
    let mut words = vec![
        known.device,
        known.inode,
        known.links,
        pair(known.mode, known.uid),
        known.gid.into(),
        known.special,
        known.size,
        known.block_size,
        known.blocks,
    ];
    for (seconds, nanoseconds) in [accessed, modified, changed] {
        words.extend([seconds, nanoseconds]);
    }
    words.into_iter().flat_map(u64::to_le_bytes).collect()
}
