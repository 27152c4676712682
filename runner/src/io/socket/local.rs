//! Stream sockets in the file system (unix(7)).

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, RecvFlags, Shutdown, SocketAddrUnix, SocketType};
use vm_memory::VolatileSlice;

use super::{Vectors, unless_busy};
use crate::io::lock::Holders;
use crate::io::sys;
use crate::log::printable_path;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Who may connect: whoever started runner.
const MODE: u32 = 0o600;

/// The most bytes of a socket's name: less the NUL, 107 on Linux and 103 on macOS.
pub const LONGEST: usize =
    size_of::<libc::sockaddr_un>() - std::mem::offset_of!(libc::sockaddr_un, sun_path) - 1;

/// Why there is no connection where others wait, for a person.
pub const ACCEPTS_NOBODY: &str = "the program that listens there accepts nobody, and others wait: see what it \
                                  does, or start it again";

/// A connection.
#[derive(Debug)]
pub struct Local(OwnedFd);

impl Local {
    /// Connects to the socket at `path`. `None`: too many others wait there to be accepted, as far as the
    /// system tells this from nobody's being there (Linux does).
    ///
    /// # Errors
    /// What the operating system says.
    pub fn connect(path: &Path) -> io::Result<Option<Self>> {
        let fd = sys::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
        let address = SocketAddrUnix::new(path)?;
        let connected = retry_on_intr(|| rustix::net::connect(&fd, &address));
        Ok(unless_busy(connected)?.map(|()| Self(fd)))
    }

    /// What comes next, which stays where it is. `None`: there is nothing yet. 0: nothing comes any more.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn peek(&self, bytes: &mut [u8]) -> io::Result<Option<usize>> {
        let peeked = retry_on_intr(|| rustix::net::recv(&self.0, &mut *bytes, RecvFlags::PEEK));
        Ok(unless_busy(peeked)?.map(|(count, _)| count))
    }

    /// Reads into `bytes`; otherwise as [`Local::peek`].
    ///
    /// # Errors
    /// What the operating system says, `ConnectionReset` for one.
    pub fn read(&self, bytes: &mut [u8]) -> io::Result<Option<usize>> {
        let read = retry_on_intr(|| rustix::net::recv(&self.0, &mut *bytes, RecvFlags::empty()));
        Ok(unless_busy(read)?.map(|(count, _)| count))
    }

    /// Reads into guest memory, as far as `pieces` go or a call takes them, by one call.
    ///
    /// # Errors
    /// As [`Local::read`].
    pub fn read_guest<'a>(
        &self,
        pieces: impl Iterator<Item = VolatileSlice<'a>>,
    ) -> io::Result<Option<usize>> {
        unless_busy(Vectors::gather(&mut pieces.fuse()).receive(self.0.as_fd()))
    }

    /// Writes what it takes of `buffers` now, and returns how many bytes those are.
    ///
    /// # Errors
    /// What the operating system says, `BrokenPipe` when the other end is gone.
    pub fn write(&self, buffers: [&[u8]; 2]) -> io::Result<usize> {
        super::write(&self.0, buffers)
    }

    /// Writes what it takes of guest memory now, and returns how many bytes those are.
    ///
    /// # Errors
    /// As [`Local::write`]. Not when some bytes have been taken: then the next call says it.
    pub fn write_guest<'a>(
        &self,
        pieces: impl Iterator<Item = VolatileSlice<'a>>,
    ) -> io::Result<usize> {
        super::write_guest(&self.0, pieces)
    }

    /// Says that nothing more is written: the other end reads to the last byte, and then an end.
    pub fn end_writing(&self) {
        // Fails when the other end is gone, and then it needs not be told.
        let _ = rustix::net::shutdown(&self.0, Shutdown::Write);
    }

    /// Says that nothing more is read: the other end's writes fail.
    pub fn end_reading(&self) {
        let _ = rustix::net::shutdown(&self.0, Shutdown::Read);
    }
}

impl From<Local> for OwnedFd {
    fn from(Local(fd): Local) -> Self {
        fd
    }
}

impl AsFd for Local {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A socket that takes connections.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Listens at `path`, where a socket may be left over from a run that could not remove it. Only this
    /// user can connect.
    ///
    /// # Errors
    /// One sentence.
    pub fn bind(path: &Path) -> Result<Self, String> {
        let name = printable_path(path);
        remove_stale(path, &name)?;
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("{name}: there is a file: choose another name, or remove it")
            }
            io::ErrorKind::NotFound => format!("{name}: there is no such folder: make it first"),
            _ => format!("{name}: no socket can be made there: {error}"),
        };
        let bind = || {
            let fd = sys::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
            rustix::net::bind(&fd, &SocketAddrUnix::new(path)?)?;
            // Nobody can connect before it listens.
            std::fs::set_permissions(path, Permissions::from_mode(MODE))?;
            rustix::net::listen(&fd, BACKLOG)?;
            Ok(fd)
        };
        bind().map(Self).map_err(failed)
    }

    /// The next connection; `None`: there is none yet.
    ///
    /// # Errors
    /// What the operating system says, when it has no descriptors left for instance.
    pub fn accept(&self) -> io::Result<Option<Local>> {
        loop {
            match sys::accept(&self.0) {
                // Gone before we came.
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                accepted => return Ok(unless_busy(accepted)?.map(|(fd, _)| Local(fd))),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Removes a socket that nobody listens at.
fn remove_stale(path: &Path, name: &str) -> Result<(), String> {
    let is_socket = path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    let holder = match Local::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return std::fs::remove_file(path).map_err(|error| format!("{name}: {error}"));
        }
        Ok(Some(other)) => sys::listener(&other.0),
        _ => None,
    };
    let holders = Holders::new(holder.into_iter().collect());
    Err(format!("{name}: in use by {holders}: stop that first, or choose another name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_listener_is_for_its_user_alone_and_says_who_has_its_place() {
        let folder = folder();
        let path = folder.path().join("v.sock");
        let listener = Listener::bind(&path).unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let refusal = Listener::bind(&path).unwrap_err();
        assert!(refusal.contains("v.sock: in use by "), "{refusal}");
        if cfg!(target_os = "linux") {
            let us = format!("(pid {})", std::process::id());
            assert!(refusal.contains(&us), "{refusal}");
        }
        drop(listener);
        assert!(path.exists());
        Listener::bind(&path).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = folder();
        let path = folder.path().join("file");
        std::fs::write(&path, "mine").unwrap();
        let refusal = Listener::bind(&path).unwrap_err();
        assert!(refusal.contains("file: there is a file"), "{refusal}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        let refusal = Listener::bind(&folder.path().join("none/v.sock")).unwrap_err();
        assert!(refusal.contains("no such folder"), "{refusal}");
    }

    #[test]
    fn bytes_go_both_ways_and_can_be_looked_at_first() {
        let folder = folder();
        let path = folder.path().join("v.sock");
        let listener = Listener::bind(&path).unwrap();
        assert!(listener.accept().unwrap().is_none());
        let mut theirs = UnixStream::connect(&path).unwrap();
        let ours = listener.accept().unwrap().unwrap();
        let mut bytes = [0; 8];
        assert_eq!(ours.peek(&mut bytes).unwrap(), None);
        theirs.write_all(b"hello").unwrap();
        assert_eq!(ours.peek(&mut bytes[..3]).unwrap(), Some(3));
        assert_eq!(ours.read(&mut bytes).unwrap(), Some(5));
        assert_eq!(&bytes[..5], b"hello");
        assert_eq!(ours.read(&mut bytes).unwrap(), None);
        assert_eq!(ours.write([b"wor", b"ld"]).unwrap(), 5);
        ours.end_writing();
        let mut text = String::new();
        theirs.read_to_string(&mut text).unwrap();
        assert_eq!(text, "world");
        drop(theirs);
        assert_eq!(ours.read(&mut bytes).unwrap(), Some(0));
        assert_eq!(ours.write([b"x", b""]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_place_where_nobody_listens_refuses_and_one_that_is_full_has_no_room_now() {
        let folder = folder();
        let path = folder.path().join("p");
        let error = Local::connect(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let listener = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let connected: Vec<_> = std::iter::repeat_with(|| Local::connect(&path))
            .map_while(|local| local.ok().flatten())
            .take(100)
            .collect();
        assert!((1..100).contains(&connected.len()), "{}", connected.len());
        drop(listener);
        let error = Local::connect(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
