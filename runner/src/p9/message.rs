//! What the guest asks for: T-messages, taken apart with every length checked.

use super::errno::Errno;
use super::path::Name;
use super::wire::{Reader, Truncated};

/// Kinds of messages. An answer's is one more than the request's.
pub(super) mod kind {
    pub(in crate::p9) const LERROR: u8 = 7;
    pub(in crate::p9) const STATFS: u8 = 8;
    pub(in crate::p9) const LOPEN: u8 = 12;
    pub(in crate::p9) const LCREATE: u8 = 14;
    pub(in crate::p9) const SYMLINK: u8 = 16;
    pub(in crate::p9) const MKNOD: u8 = 18;
    pub(in crate::p9) const RENAME: u8 = 20;
    pub(in crate::p9) const READLINK: u8 = 22;
    pub(in crate::p9) const GETATTR: u8 = 24;
    pub(in crate::p9) const SETATTR: u8 = 26;
    pub(in crate::p9) const READDIR: u8 = 40;
    pub(in crate::p9) const FSYNC: u8 = 50;
    pub(in crate::p9) const LOCK: u8 = 52;
    pub(in crate::p9) const GETLOCK: u8 = 54;
    pub(in crate::p9) const LINK: u8 = 70;
    pub(in crate::p9) const MKDIR: u8 = 72;
    pub(in crate::p9) const RENAMEAT: u8 = 74;
    pub(in crate::p9) const UNLINKAT: u8 = 76;
    pub(in crate::p9) const VERSION: u8 = 100;
    pub(in crate::p9) const ATTACH: u8 = 104;
    pub(in crate::p9) const FLUSH: u8 = 108;
    pub(in crate::p9) const WALK: u8 = 110;
    pub(in crate::p9) const READ: u8 = 116;
    pub(in crate::p9) const WRITE: u8 = 118;
    pub(in crate::p9) const CLUNK: u8 = 120;
    pub(in crate::p9) const REMOVE: u8 = 122;
}

/// The most names in a walk (`P9_MAXWELEM`).
pub(super) const MAX_NAMES: u16 = 16;

/// A step of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// `..`
    Up,
    /// Any other name.
    Down(Name<'a>),
}

impl<'a> Step<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, Errno> {
        match bytes {
            b".." => Ok(Self::Up),
            _ => Name::new(bytes).map(Self::Down),
        }
    }
}

/// What Tsetattr changes: nothing of what is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) mode: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) size: Option<u64>,
    pub(super) accessed: Option<Moment>,
    pub(super) modified: Option<Moment>,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// The present.
    Now,
    /// Seconds since 1970, and nanoseconds below a second.
    At(u64, u64),
}

/// A lock on a part of a file, as far as an answer repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lock<'a> {
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) process: u32,
    pub(super) client: &'a [u8],
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    Version {
        size: u32,
        version: &'a [u8],
    },
    Attach {
        fid: u32,
        tree: &'a [u8],
    },
    Flush,
    Walk {
        fid: u32,
        new: u32,
        steps: Vec<Step<'a>>,
    },
    Open {
        fid: u32,
        flags: u32,
    },
    Create {
        fid: u32,
        name: Name<'a>,
        flags: u32,
        mode: u32,
    },
    Read {
        fid: u32,
        offset: u64,
        count: u32,
    },
    Write {
        fid: u32,
        offset: u64,
        data: &'a [u8],
    },
    Clunk {
        fid: u32,
    },
    Remove {
        fid: u32,
    },
    Unlink {
        folder: u32,
        name: Name<'a>,
        flags: u32,
    },
    Mkdir {
        folder: u32,
        name: Name<'a>,
        mode: u32,
    },
    Mknod {
        folder: u32,
        name: Name<'a>,
        mode: u32,
    },
    Symlink {
        folder: u32,
        name: Name<'a>,
        target: &'a [u8],
    },
    Link {
        folder: u32,
        fid: u32,
        name: Name<'a>,
    },
    Rename {
        fid: u32,
        folder: u32,
        name: Name<'a>,
    },
    RenameAt {
        from: (u32, Name<'a>),
        to: (u32, Name<'a>),
    },
    ReadLink {
        fid: u32,
    },
    GetAttr {
        fid: u32,
    },
    SetAttr {
        fid: u32,
        changes: Changes,
    },
    ReadDir {
        fid: u32,
        offset: u64,
        count: u32,
    },
    Fsync {
        fid: u32,
        data_only: bool,
    },
    StatFs {
        fid: u32,
    },
    Lock {
        fid: u32,
    },
    GetLock {
        fid: u32,
        lock: Lock<'a>,
    },
    /// Authentication, extended attributes, and what nobody knows.
    Unsupported,
}

/// Why a message cannot be understood.
impl From<Truncated> for Errno {
    fn from(_: Truncated) -> Self {
        Errno::PROTO
    }
}

impl<'a> Request<'a> {
    /// Takes the body of a message of `kind` apart. What stands behind is not looked at.
    pub(super) fn parse(kind: u8, body: &'a [u8]) -> Result<Self, Errno> {
        let mut body = Reader::new(body);
        match kind {
            kind::VERSION | kind::ATTACH | kind::FLUSH | kind::WALK | kind::CLUNK => {
                session(kind, &mut body)
            }
            kind::LOPEN | kind::LCREATE | kind::READ | kind::WRITE | kind::READDIR => {
                contents(kind, &mut body)
            }
            kind::FSYNC | kind::LOCK | kind::GETLOCK => held(kind, &mut body),
            kind::STATFS | kind::READLINK | kind::GETATTR | kind::SETATTR => {
                attributes(kind, &mut body)
            }
            _ => names(kind, &mut body),
        }
    }
}

fn session<'a>(kind: u8, body: &mut Reader<'a>) -> Result<Request<'a>, Errno> {
    Ok(match kind {
        kind::VERSION => Request::Version { size: body.u32()?, version: body.string()? },
        kind::ATTACH => {
            let (fid, _authentication, _user) = (body.u32()?, body.u32()?, body.string()?);
            Request::Attach { fid, tree: body.string()? }
        }
        kind::FLUSH => {
            body.u16()?;
            Request::Flush
        }
        kind::WALK => {
            let (fid, new, count) = (body.u32()?, body.u32()?, body.u16()?);
            if count > MAX_NAMES {
                return Err(Errno::INVAL);
            }
            let mut steps = Vec::new();
            for _ in 0..count {
                steps.push(Step::new(body.string()?)?);
            }
            Request::Walk { fid, new, steps }
        }
        _ => Request::Clunk { fid: body.u32()? },
    })
}

fn contents<'a>(kind: u8, body: &mut Reader<'a>) -> Result<Request<'a>, Errno> {
    let fid = body.u32()?;
    Ok(match kind {
        kind::LOPEN => Request::Open { fid, flags: body.u32()? },
        kind::LCREATE => {
            let name = Name::new(body.string()?)?;
            Request::Create { fid, name, flags: body.u32()?, mode: body.u32()? }
        }
        kind::READ => Request::Read { fid, offset: body.u64()?, count: body.u32()? },
        kind::READDIR => Request::ReadDir { fid, offset: body.u64()?, count: body.u32()? },
        _ => {
            let (offset, len) = (body.u64()?, body.u32()?);
            let data = body.bytes(usize::try_from(len).map_err(|_| Truncated)?)?;
            Request::Write { fid, offset, data }
        }
    })
}

fn held<'a>(kind: u8, body: &mut Reader<'a>) -> Result<Request<'a>, Errno> {
    let fid = body.u32()?;
    Ok(match kind {
        kind::FSYNC => Request::Fsync { fid, data_only: body.u32()? != 0 },
        kind::LOCK => {
            let (_kind, _flags) = (body.u8()?, body.u32()?);
            let (_start, _length, _process) = (body.u64()?, body.u64()?, body.u32()?);
            body.string()?;
            Request::Lock { fid }
        }
        _ => {
            let (_kind, start, length) = (body.u8()?, body.u64()?, body.u64()?);
            let lock = Lock { start, length, process: body.u32()?, client: body.string()? };
            Request::GetLock { fid, lock }
        }
    })
}

fn attributes<'a>(kind: u8, body: &mut Reader<'a>) -> Result<Request<'a>, Errno> {
    let fid = body.u32()?;
    Ok(match kind {
        kind::STATFS => Request::StatFs { fid },
        kind::READLINK => Request::ReadLink { fid },
        kind::GETATTR => {
            let _mask = body.u64()?;
            Request::GetAttr { fid }
        }
        _ => Request::SetAttr { fid, changes: Changes::parse(body)? },
    })
}

fn names<'a>(kind: u8, body: &mut Reader<'a>) -> Result<Request<'a>, Errno> {
    Ok(match kind {
        kind::REMOVE => Request::Remove { fid: body.u32()? },
        kind::UNLINKAT => {
            let (folder, name) = entry(body)?;
            Request::Unlink { folder, name, flags: body.u32()? }
        }
        kind::MKDIR => {
            let (folder, name) = entry(body)?;
            Request::Mkdir { folder, name, mode: body.u32()? }
        }
        kind::MKNOD => {
            let (folder, name) = entry(body)?;
            Request::Mknod { folder, name, mode: body.u32()? }
        }
        kind::SYMLINK => {
            let (folder, name) = entry(body)?;
            Request::Symlink { folder, name, target: body.string()? }
        }
        kind::LINK => {
            let (folder, fid) = (body.u32()?, body.u32()?);
            Request::Link { folder, fid, name: Name::new(body.string()?)? }
        }
        kind::RENAME => {
            let (fid, folder) = (body.u32()?, body.u32()?);
            Request::Rename { fid, folder, name: Name::new(body.string()?)? }
        }
        kind::RENAMEAT => Request::RenameAt { from: entry(body)?, to: entry(body)? },
        _ => Request::Unsupported,
    })
}

/// A folder's fid and a name in it.
fn entry<'a>(body: &mut Reader<'a>) -> Result<(u32, Name<'a>), Errno> {
    Ok((body.u32()?, Name::new(body.string()?)?))
}

/// Which fields of Tsetattr count.
mod valid {
    pub(super) const MODE: u32 = 1;
    pub(super) const UID: u32 = 1 << 1;
    pub(super) const GID: u32 = 1 << 2;
    pub(super) const SIZE: u32 = 1 << 3;
    pub(super) const ACCESSED: u32 = 1 << 4;
    pub(super) const MODIFIED: u32 = 1 << 5;
    /// To the time in the message; else to the present.
    pub(super) const ACCESSED_AT: u32 = 1 << 7;
    pub(super) const MODIFIED_AT: u32 = 1 << 8;
}

impl Changes {
    fn parse(body: &mut Reader<'_>) -> Result<Self, Errno> {
        let fields = body.u32()?;
        let has = |bit| fields & bit != 0;
        let (mode, uid, gid, size) = (body.u32()?, body.u32()?, body.u32()?, body.u64()?);
        let mut moment = |bit, at| -> Result<Option<Moment>, Errno> {
            let (seconds, nanoseconds) = (body.u64()?, body.u64()?);
            Ok(match (has(bit), has(at)) {
                (false, _) => None,
                (true, false) => Some(Moment::Now),
                (true, true) if nanoseconds >= 1_000_000_000 => return Err(Errno::INVAL),
                (true, true) => Some(Moment::At(seconds, nanoseconds)),
            })
        };
        Ok(Self {
            mode: has(valid::MODE).then_some(mode),
            uid: has(valid::UID).then_some(uid),
            gid: has(valid::GID).then_some(gid),
            size: has(valid::SIZE).then_some(size),
            accessed: moment(valid::ACCESSED, valid::ACCESSED_AT)?,
            modified: moment(valid::MODIFIED, valid::MODIFIED_AT)?,
        })
    }
}
