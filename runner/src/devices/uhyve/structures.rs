//! Calls by their places, and what is in their structures: version 1's are packed, version 2's are laid out as a
//! C compiler does, but for those that it has from version 1.

use super::buffer::Buffer;
use crate::devices::hypercall::{Guest, Violation};

/// The versions of the interface. The third adds calls to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The first.
    V1,
    /// The second.
    V2,
}

/// What a guest asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The end.
    Exit,
    /// A character for the console.
    WriteByte,
    /// Characters for the console.
    WriteBuffer,
    /// How long arguments and environment are.
    CommandSize,
    /// Arguments and environment.
    CommandValue,
    /// Writes a file, or the console.
    Write,
    /// Opens a file.
    Open,
    /// Closes it.
    Close,
    /// Reads it.
    Read,
    /// Moves within it.
    Seek,
    /// Removes it.
    Unlink,
    /// Reads a folder.
    List,
    /// What is known about a file by its name.
    Stat,
    /// What is known about an open file.
    StatOpen,
    /// Makes a folder.
    MakeFolder,
}

/// Where a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The port on x86_64, the address on arm64.
    pub number: u16,
    /// What it is.
    pub call: Call,
    /// Whose.
    pub version: Version,
}

/// In the order of their numbers.
const PLACES: [(u16, Call, Version); 24] = {
    use Call as C;
    use Version::{V1, V2};
    [
        (0x400, C::Write, V1),
        (0x440, C::Open, V1),
        (0x480, C::Close, V1),
        (0x500, C::Read, V1),
        (0x540, C::Exit, V1),
        (0x580, C::Seek, V1),
        (0x740, C::CommandSize, V1),
        (0x780, C::CommandValue, V1),
        (0x800, C::WriteByte, V1),
        (0x840, C::Unlink, V1),
        (0x880, C::WriteBuffer, V1),
        (0x1010, C::Exit, V2),
        (0x1020, C::WriteByte, V2),
        (0x1030, C::WriteBuffer, V2),
        (0x1100, C::Write, V2),
        (0x1110, C::Open, V2),
        (0x1120, C::Close, V2),
        (0x1130, C::Read, V2),
        (0x1140, C::Seek, V2),
        (0x1150, C::Unlink, V2),
        (0x1160, C::List, V2),
        (0x1170, C::Stat, V2),
        (0x1180, C::StatOpen, V2),
        (0x1190, C::MakeFolder, V2),
    ]
};

/// Where all calls are made. Reading from the console, and sharing memory, are known to the interface, and to
/// nobody who speaks it.
pub fn places() -> impl Iterator<Item = Place> {
    PLACES.into_iter().map(|(number, call, version)| Place { number, call, version })
}

impl Place {
    /// What it is called in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.call {
            Call::Exit => "exit",
            Call::WriteByte => "serial write byte",
            Call::WriteBuffer => "serial write buffer",
            Call::CommandSize => "command size",
            Call::CommandValue => "command value",
            Call::Write => "write",
            Call::Open => "open",
            Call::Close => "close",
            Call::Read => "read",
            Call::Seek => "lseek",
            Call::Unlink => "unlink",
            Call::List => "getdents",
            Call::Stat => "stat",
            Call::StatOpen => "fstat",
            Call::MakeFolder => "mkdir",
        }
    }
}

/// A structure's bytes.
struct Fields<const N: usize>([u8; N]);

impl<const N: usize> Fields<N> {
    fn read(call: &'static str, guest: &Guest, at: u64) -> Result<Self, Violation> {
        let mut bytes = [0; N];
        guest.structure(call, at, &mut bytes)?;
        Ok(Self(bytes))
    }

    fn part<const M: usize>(&self, at: usize) -> [u8; M] {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; M])
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.part(at))
    }

    fn i64(&self, at: usize) -> i64 {
        i64::from_le_bytes(self.part(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.part(at))
    }

    fn i32(&self, at: usize) -> i32 {
        i32::from_le_bytes(self.part(at))
    }
}

/// `ExitParams`: the status.
pub(super) fn exit(guest: &Guest, at: u64) -> Result<u64, Violation> {
    Ok(Fields::<4>::read("exit", guest, at)?.u32(0).into())
}

/// `SerialWriteBufferParams`.
pub(super) fn serial(version: Version, guest: &Guest, at: u64) -> Result<Buffer, Violation> {
    const CALL: &str = "serial write buffer";
    let fields = Fields::<16>::read(CALL, guest, at)?;
    let (at, len) = match version {
        Version::V1 => (fields.u64(0), fields.u64(8)),
        Version::V2 => (fields.u64(8), fields.u64(0)),
    };
    Buffer::physical(CALL, at, len).within(guest)
}

/// `ReadParams`, and `WriteParams`, which begin alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) fd: i32,
    pub(super) buffer: Buffer,
}

pub(super) fn transfer(
    version: Version,
    call: &'static str,
    guest: &Guest,
    at: u64,
) -> Result<Transfer, Violation> {
    Ok(match version {
        Version::V1 => {
            let fields = Fields::<20>::read(call, guest, at)?;
            let buffer = Buffer::by_virtual(call, fields.u64(4), fields.u64(12));
            Transfer { fd: fields.i32(0), buffer }
        }
        Version::V2 => {
            let fields = Fields::<28>::read(call, guest, at)?;
            let buffer = Buffer::physical(call, fields.u64(16), fields.u64(0)).within(guest)?;
            Transfer { fd: fields.i32(24), buffer }
        }
    })
}

/// Version 1 has no answer to a write but the length, where a failure stands as well.
pub(super) fn answer_write(
    version: Version,
    guest: &Guest,
    at: u64,
    written: i64,
) -> Result<(), Violation> {
    let to = match version {
        Version::V1 if written >= 0 => return Ok(()),
        Version::V1 => 12,
        Version::V2 => 8,
    };
    guest.answer("write", at.saturating_add(to), &written.to_le_bytes())
}

/// Where a read's answer goes.
pub(super) fn answer_read(
    version: Version,
    guest: &Guest,
    at: u64,
    read: i64,
) -> Result<(), Violation> {
    let to = match version {
        Version::V1 => 20,
        Version::V2 => 8,
    };
    guest.answer("read", at.saturating_add(to), &read.to_le_bytes())
}

/// `OpenParams`, the same in both versions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    /// Where the path is, physically.
    pub(super) path: u64,
    pub(super) flags: u32,
    pub(super) mode: u32,
}

pub(super) fn open(guest: &Guest, at: u64) -> Result<Open, Violation> {
    let fields = Fields::<20>::read("open", guest, at)?;
    Ok(Open { path: fields.u64(0), flags: fields.u32(8), mode: fields.u32(12) })
}

/// `LseekParams`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seek {
    pub(super) fd: i32,
    pub(super) offset: i64,
    pub(super) whence: u32,
}

pub(super) fn seek(version: Version, guest: &Guest, at: u64) -> Result<Seek, Violation> {
    let fields = Fields::<16>::read("lseek", guest, at)?;
    Ok(match version {
        Version::V1 => Seek { fd: fields.i32(0), offset: fields.i64(4), whence: fields.u32(12) },
        Version::V2 => Seek { fd: fields.i32(12), offset: fields.i64(0), whence: fields.u32(8) },
    })
}

/// Where a move's answer goes. Of failures version 1 knows one.
pub(super) fn answer_seek(
    version: Version,
    guest: &Guest,
    at: u64,
    offset: i64,
) -> Result<(), Violation> {
    let (to, offset) = match version {
        Version::V1 => (4, offset.max(-1)),
        Version::V2 => (0, offset),
    };
    guest.answer("lseek", at.saturating_add(to), &offset.to_le_bytes())
}

/// A descriptor alone, at the beginning.
pub(super) fn descriptor(call: &'static str, guest: &Guest, at: u64) -> Result<i32, Violation> {
    Ok(Fields::<4>::read(call, guest, at)?.i32(0))
}

/// A pointer alone, at the beginning.
pub(super) fn pointer(call: &'static str, guest: &Guest, at: u64) -> Result<u64, Violation> {
    Ok(Fields::<8>::read(call, guest, at)?.u64(0))
}

/// `GetdentParams`.
pub(super) fn list(guest: &Guest, at: u64) -> Result<Transfer, Violation> {
    let fields = Fields::<24>::read("getdents", guest, at)?;
    let buffer = Buffer::physical("getdents", fields.u64(8), fields.u64(16));
    Ok(Transfer { fd: fields.i32(0), buffer })
}

/// `StatParams`: where the path is, whether a link at its end is followed, and where the answer goes.
pub(super) fn stat(guest: &Guest, at: u64) -> Result<(u64, bool, u64), Violation> {
    let fields = Fields::<24>::read("stat", guest, at)?;
    Ok((fields.u64(0), fields.u32(8) == 0, fields.u64(16)))
}

/// `FstatParams`: the descriptor, and where the answer goes.
pub(super) fn stat_open(guest: &Guest, at: u64) -> Result<(i32, u64), Violation> {
    let fields = Fields::<16>::read("fstat", guest, at)?;
    Ok((fields.i32(0), fields.u64(8)))
}
