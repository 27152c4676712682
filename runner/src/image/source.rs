//! The bytes of an image: a file opened once, or memory.
//!
//! Everything is read with pread from the one descriptor. Nothing is mapped, because any file can
//! shrink under a mapping, and no path is looked at twice, because it may name something else the
//! second time.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::{Error, Problem};
use crate::log::printable_path;

/// How an image file is opened. A disk the guest may write needs the same descriptor for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only read.
    Read,
    /// Read and write.
    ReadWrite,
}

/// Why bytes of an image could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The range lies outside of what the image had when it was opened.
    #[error(
        "{wanted} bytes wanted at byte {offset}, but the image has {len} bytes: it is truncated, copy or build it again"
    )]
    PastEnd {
        /// First byte wanted.
        offset: u64,
        /// Number of bytes wanted.
        wanted: u64,
        /// Length of the image, in bytes.
        len: u64,
    },
    /// The file became shorter after it was opened.
    #[error(
        "it became shorter while it was read (nothing left at byte {offset}): stop what writes to it, and try again"
    )]
    Shrunk {
        /// First byte of the read that came out short.
        offset: u64,
    },
    /// The operating system refused.
    #[error("cannot read at byte {offset}: {error}")]
    Io {
        /// First byte of the read.
        offset: u64,
        /// What the operating system said.
        error: io::Error,
    },
}

/// An opened image. Cheap to clone: clones share the descriptor.
#[derive(Debug, Clone)]
pub struct Source {
    name: Arc<str>,
    len: u64,
    backing: Backing,
}

#[derive(Debug, Clone)]
enum Backing {
    File(Arc<File>),
    Shared(Arc<[u8]>),
    Static(&'static [u8]),
}

impl Source {
    /// Opens a regular file or a block device. Everything else is refused, each kind by its name,
    /// and none of them can make this wait.
    ///
    /// # Errors
    /// [`Problem::Open`] when the file is missing, may not be read, or is of the wrong kind.
    pub fn open(path: &Path, access: Access) -> Result<Self, Error> {
        let name = printable_path(path);
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::ReadWrite)
            // A FIFO without a writer would block the open; close-on-exec is what std always sets.
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|error| Error::new(&name, Problem::Open(why_not_opened(path, error))))?;
        Self::from_file(file, name)
    }

    /// Takes a file that is already open; `name` is for messages, and printable.
    ///
    /// # Errors
    /// [`Problem::Open`] when it is empty or neither a regular file nor a block device.
    pub fn from_file(file: File, name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        match usable_length(&file) {
            Ok(len) => Ok(Self { name: name.into(), len, backing: Backing::File(Arc::new(file)) }),
            Err(error) => Err(Error::new(&name, Problem::Open(error))),
        }
    }

    /// An image in memory.
    #[must_use]
    pub fn from_bytes(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.into(), len: length(bytes), backing: Backing::Shared(bytes.into()) }
    }

    /// An image that is part of this program.
    #[must_use]
    pub fn from_static(name: &str, bytes: &'static [u8]) -> Self {
        Self { name: name.into(), len: length(bytes), backing: Backing::Static(bytes) }
    }

    /// What messages call it: the path it was opened by, printable.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Length in bytes at the time it was opened. Only an image in memory can be 0 long.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The open file, for whoever reads it into guest memory or serves it as a disk. `None` for an
    /// image in memory.
    #[must_use]
    pub fn file(&self) -> Option<&Arc<File>> {
        match &self.backing {
            Backing::File(file) => Some(file),
            Backing::Shared(_) | Backing::Static(_) => None,
        }
    }

    /// The bytes of an image in memory. `None` for a file.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.backing {
            Backing::File(_) => None,
            Backing::Shared(bytes) => Some(bytes),
            Backing::Static(bytes) => Some(bytes),
        }
    }

    /// Fills `buf` from byte `offset` on.
    ///
    /// # Errors
    /// [`ReadError`], which names the offset. `buf` may have been written partly.
    pub fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        let wanted = length(buf);
        let past_end = || ReadError::PastEnd { offset, wanted, len: self.len };
        if offset.checked_add(wanted).is_none_or(|end| end > self.len) {
            return Err(past_end());
        }
        let bytes = match &self.backing {
            Backing::File(file) => {
                return file.read_exact_at(buf, offset).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => ReadError::Shrunk { offset },
                    _ => ReadError::Io { offset, error },
                });
            }
            Backing::Shared(bytes) => bytes,
            Backing::Static(bytes) => *bytes,
        };
        let from = usize::try_from(offset).ok().and_then(|start| bytes.get(start..));
        let from = from.and_then(|rest| rest.get(..buf.len())).ok_or_else(past_end)?;
        buf.copy_from_slice(from);
        Ok(())
    }
}

/// Why an image could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is nothing of that name.
    #[error("there is no such file: check the path")]
    Missing,
    /// The permissions forbid it.
    #[error(
        "permission denied: make it readable (and writable, unless the disk is read-only) for this user"
    )]
    Denied,
    /// A directory.
    #[error("it is a directory: name the file inside it")]
    Directory,
    /// A FIFO.
    #[error("it is a FIFO, and it has to be read at any offset: write it to a file first")]
    Fifo,
    /// A character device.
    #[error("it is a character device: name a regular file or a block device")]
    CharDevice,
    /// A socket.
    #[error("it is a socket: name a regular file or a block device")]
    Socket,
    /// A regular file without contents.
    #[error("it is empty: copy or build it again")]
    Empty,
    /// A block device that does not tell its size.
    #[error(
        "this block device does not tell its size: copy it into a file with `dd`, and name that"
    )]
    SizeUnknown,
    /// A link to itself, or to others that lead back to it.
    #[error("it is a link that leads in a circle: name the file, or make the link again")]
    Circle,
    /// Anything else the operating system said.
    #[error("cannot open it: {0}")]
    Io(io::Error),
}

/// Length of a slice in bytes. No platform has a usize wider than 64 bits.
fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn usable_length(file: &File) -> Result<u64, OpenError> {
    let metadata = file.metadata().map_err(OpenError::Io)?;
    if let Some(refusal) = refused_type(metadata.file_type()) {
        return Err(refusal);
    }
    if metadata.is_file() {
        return if metadata.len() == 0 { Err(OpenError::Empty) } else { Ok(metadata.len()) };
    }
    // fstat says 0 for a block device; its end is its size (on macOS that is 0 too).
    let mut handle = file;
    match handle.seek(SeekFrom::End(0)).map_err(OpenError::Io)? {
        0 => Err(OpenError::SizeUnknown),
        len => Ok(len),
    }
}

fn refused_type(kind: FileType) -> Option<OpenError> {
    if kind.is_dir() {
        Some(OpenError::Directory)
    } else if kind.is_fifo() {
        Some(OpenError::Fifo)
    } else if kind.is_char_device() {
        Some(OpenError::CharDevice)
    } else if kind.is_socket() {
        Some(OpenError::Socket)
    } else {
        None
    }
}

/// The kind of the file explains a failed open better than the errno does: a socket says ENXIO, a
/// directory EISDIR.
fn why_not_opened(path: &Path, error: io::Error) -> OpenError {
    let refusal = path.metadata().ok().and_then(|metadata| refused_type(metadata.file_type()));
    match (refusal, error.kind()) {
        (Some(refusal), _) => refusal,
        (None, io::ErrorKind::NotFound) => OpenError::Missing,
        (None, io::ErrorKind::PermissionDenied) => OpenError::Denied,
        (None, _) if error.raw_os_error() == Some(libc::ELOOP) => OpenError::Circle,
        (None, _) => OpenError::Io(error),
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
