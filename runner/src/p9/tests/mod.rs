//! The server, by messages.

mod escape;
mod files;
mod limits;
mod wire;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use super::message::kind;
use super::wire::Reader;
use super::*;

/// Numbers of errors on Linux.
const EPERM: u32 = 1;
const ENOENT: u32 = 2;
const ENXIO: u32 = 6;
const EBADF: u32 = 9;
const EXDEV: u32 = 18;
const ENOTDIR: u32 = 20;
const EISDIR: u32 = 21;
const EINVAL: u32 = 22;
const ENFILE: u32 = 23;
const EROFS: u32 = 30;
const ENAMETOOLONG: u32 = 36;
const ENOTEMPTY: u32 = 39;
const ELOOP: u32 = 40;
const EBUSY: u32 = 16;
const EEXIST: u32 = 17;
const EPROTO: u32 = 71;
const EMSGSIZE: u32 = 90;
const EOPNOTSUPP: u32 = 95;

const WRONLY: u32 = 1;
const RDWR: u32 = 2;
const EXCL: u32 = 0o200;
const TRUNC: u32 = 0o1000;
const REMOVEDIR: u32 = 0x200;

/// A message's body in the making.
#[derive(Clone, Default)]
struct Body(Vec<u8>);

impl Body {
    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn text(self, text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        let mut body = self.u16(u16::try_from(text.len()).unwrap());
        body.0.extend(text);
        body
    }
}

fn fid(fid: u32) -> Body {
    Body::default().u32(fid)
}

fn message(kind: u8, tag: u16, body: &Body) -> Vec<u8> {
    let len = u32::try_from(HEADER + body.0.len()).unwrap();
    let head = Body::default().u32(len).u8(kind).u16(tag);
    [head.0, body.0.clone()].concat()
}

/// A guest, and two folders beside each other: `shared`, which it has, and `secret`, with a file `key`.
struct Guest {
    server: Server,
    place: TempDir,
}

impl Guest {
    /// What the guest has no way to.
    const SECRET: &str = "nobody may read this";

    /// With fid 0 for the folder.
    fn new() -> Self {
        Self::with(false)
    }

    fn with(read_only: bool) -> Self {
        let place = tempfile::tempdir().unwrap();
        for folder in ["shared", "secret"] {
            fs::create_dir(place.path().join(folder)).unwrap();
        }
        fs::write(place.path().join("secret/key"), Self::SECRET).unwrap();
        let folder = Folder::open(&place.path().join("shared"), read_only).unwrap();
        let mut guest = Self { server: Server::new(folder), place };
        guest.begin();
        guest
    }

    fn begin(&mut self) {
        self.ask(kind::VERSION, &Body::default().u32(1 << 20).text("9P2000.L")).unwrap();
        self.ask(kind::ATTACH, &fid(0).u32(!0).text("root").text("").u32(0)).unwrap();
    }

    /// A file of the folder, on the host.
    fn host(&self, name: &str) -> PathBuf {
        self.place.path().join("shared").join(name)
    }

    fn secret(&self) -> PathBuf {
        self.place.path().join("secret/key")
    }

    /// Sends a message as it is. Returns kind and body of the answer.
    fn send(&mut self, message: &[u8], room: usize) -> (u8, Vec<u8>) {
        let mut answer = Vec::new();
        self.server.serve(message, room, &mut answer);
        let mut reader = Reader::new(&answer);
        let (len, kind) = (reader.u32().unwrap(), reader.u8().unwrap());
        assert_eq!(usize::try_from(len).unwrap(), answer.len());
        assert!(answer.len() <= room.max(SHORTEST_ANSWER));
        assert_eq!(reader.u16().unwrap(), message.get(5).map_or(0, |tag| u16::from(*tag)));
        (kind, answer[HEADER..].to_vec())
    }

    /// The body of the answer, or the error.
    fn ask(&mut self, kind: u8, body: &Body) -> Result<Vec<u8>, u32> {
        let (answered, answer) = self.send(&message(kind, 5, body), 1 << 20);
        if answered == kind::LERROR {
            return Err(Reader::new(&answer).u32().unwrap());
        }
        assert_eq!(answered, kind + 1);
        Ok(answer)
    }

    /// Makes `new` stand for what is at `path`, from fid 0 on. Returns how far it got.
    fn walk(&mut self, new: u32, path: &str) -> Result<u16, u32> {
        self.walk_from(0, new, path)
    }

    fn walk_from(&mut self, from: u32, new: u32, path: &str) -> Result<u16, u32> {
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        let body = fid(from).u32(new).u16(u16::try_from(names.len()).unwrap());
        let body = names.iter().fold(body, |body, name| body.text(name));
        Ok(Reader::new(&self.ask(kind::WALK, &body)?).u16().unwrap())
    }

    fn open(&mut self, number: u32, flags: u32) -> Result<(), u32> {
        self.ask(kind::LOPEN, &fid(number).u32(flags)).map(drop)
    }

    /// Makes `name` in the folder of `number`, open to read and write.
    fn create(&mut self, number: u32, name: &str, flags: u32) -> Result<(), u32> {
        let body = fid(number).text(name).u32(flags).u32(0o644).u32(0);
        self.ask(kind::LCREATE, &body).map(drop)
    }

    fn read(&mut self, number: u32, offset: u64, count: u32) -> Result<Vec<u8>, u32> {
        let answer = self.ask(kind::READ, &fid(number).u64(offset).u32(count))?;
        let mut reader = Reader::new(&answer);
        let len = usize::try_from(reader.u32().unwrap()).unwrap();
        Ok(reader.bytes(len).unwrap().to_vec())
    }

    fn write(&mut self, number: u32, offset: u64, data: &[u8]) -> Result<u32, u32> {
        let mut body = fid(number).u64(offset).u32(u32::try_from(data.len()).unwrap());
        body.0.extend(data);
        Ok(Reader::new(&self.ask(kind::WRITE, &body)?).u32().unwrap())
    }

    fn clunk(&mut self, number: u32) -> Result<(), u32> {
        self.ask(kind::CLUNK, &fid(number)).map(drop)
    }

    fn mkdir(&mut self, number: u32, name: &str) -> Result<(), u32> {
        self.ask(kind::MKDIR, &fid(number).text(name).u32(0o755).u32(0)).map(drop)
    }

    fn symlink(&mut self, number: u32, name: &str, target: &str) -> Result<(), u32> {
        let body = fid(number).text(name).text(target).u32(0);
        self.ask(kind::SYMLINK, &body).map(drop)
    }

    fn unlink(&mut self, number: u32, name: &str, flags: u32) -> Result<(), u32> {
        self.ask(kind::UNLINKAT, &fid(number).text(name).u32(flags)).map(drop)
    }

    fn rename(&mut self, from: (u32, &str), to: (u32, &str)) -> Result<(), u32> {
        let body = fid(from.0).text(from.1).u32(to.0).text(to.1);
        self.ask(kind::RENAMEAT, &body).map(drop)
    }

    /// Number of the file, and its mode.
    fn attributes(&mut self, number: u32) -> Result<(u64, u32), u32> {
        let answer = self.ask(kind::GETATTR, &fid(number).u64(0x7ff))?;
        let mut reader = Reader::new(&answer);
        let _valid_kind_version = (reader.u64(), reader.u8(), reader.u32());
        Ok((reader.u64().unwrap(), reader.u32().unwrap()))
    }

    /// Tsetattr of the fields that `valid` names.
    fn set(&mut self, number: u32, valid: u32, mode: u32, size: u64) -> Result<(), u32> {
        let body = fid(number).u32(valid).u32(mode).u32(0).u32(0).u64(size);
        let body = [0; 4].iter().fold(body, |body, _| body.u64(7));
        self.ask(kind::SETATTR, &body).map(drop)
    }

    /// Names, and the offset of what follows, from one Treaddir.
    fn read_dir(
        &mut self,
        number: u32,
        offset: u64,
        count: u32,
    ) -> Result<Vec<(String, u8, u64)>, u32> {
        let answer = self.ask(kind::READDIR, &fid(number).u64(offset).u32(count))?;
        let mut reader = Reader::new(&answer);
        let len = reader.u32().unwrap();
        assert!(len <= count && usize::try_from(len).unwrap() == answer.len() - 4);
        let mut entries = Vec::new();
        while let Ok(_qid) = reader.bytes(13) {
            let (next, kind) = (reader.u64().unwrap(), reader.u8().unwrap());
            let name = String::from_utf8(reader.string().unwrap().to_vec()).unwrap();
            entries.push((name, kind, next));
        }
        Ok(entries)
    }

    /// Every name, sorted.
    fn names(&mut self, number: u32, count: u32) -> Vec<String> {
        let (mut offset, mut names) = (0, Vec::new());
        loop {
            let entries = self.read_dir(number, offset, count).unwrap();
            let Some((.., next)) = entries.last() else { break };
            offset = *next;
            names.extend(entries.into_iter().map(|(name, ..)| name));
        }
        names.sort();
        names
    }
}

fn mode_of(path: PathBuf) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}
