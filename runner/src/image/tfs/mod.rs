//! Nanos' file system TFS, versions 4 and 5 (nanos: `src/fs/tlog.c`, `src/fs/tfs.c`,
//! `src/runtime/tuple.c`). It is read; and a record can be made that changes its root tuple (`append`).
//!
//! The file system is a log of tuples: the metadata of all files is one tree, and a record of the
//! log changes it. `log` walks the log, `encoding` decodes its records into a `tree`, `file` finds
//! the bytes of a file by the tree. There are no checksums and no compression.
//!
//! What an image says is limited before memory is spent on it: 32 MiB of log in at most 4096
//! extensions, a million records, a million entries, 4096 levels. So a file system costs at most
//! the bytes of its log and about 64 MiB, however it was made.

mod append;
mod encoding;
mod file;
mod log;
mod tree;

pub use append::{AppendError, Patch, Setting};
pub use file::FileError;
pub use log::Identity;
pub use tree::{Key, Tuple, Value};

use super::source::{ReadError, Source};
use super::view::View;
use tree::Tree;

/// A range of bytes of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
}

impl Region {
    /// The byte after the last.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// A TFS that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TfsError {
    /// The image could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log is wrong.
    #[error("the log is damaged at byte {at} of the image: {problem}; build the image again")]
    Log {
        /// Byte of the image. For the contents of a record: where the record begins.
        at: u64,
        /// What is wrong there.
        problem: LogProblem,
    },
    /// A file's metadata is wrong.
    #[error("the file `{path}`: {problem}; build the image again")]
    File {
        /// The path in the file system.
        path: String,
        /// What is wrong with it.
        problem: FileError,
    },
}

impl TfsError {
    /// Whether it says that no file system begins at that byte of the image.
    pub(super) fn no_tfs_at(&self, start: u64) -> bool {
        matches!(self, Self::Log { at, problem: LogProblem::Magic } if *at == start)
    }
}

/// What is wrong in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogProblem {
    /// No magic.
    #[error("there is no TFS (no NVMTFS magic)")]
    Magic,
    /// A version this library does not know.
    #[error("TFS version {0} is not one of those runner reads, 4 and 5")]
    Version(u64),
    /// The label has no end.
    #[error("the volume's label has no end")]
    Label,
    /// The log goes on past what belongs to it.
    #[error("it runs past the end of its extension")]
    PastExtension,
    /// An unknown record.
    #[error("a record of unknown type {0}")]
    Record(u8),
    /// A number of more than 64 bits.
    #[error("a number of more than 64 bits")]
    Number,
    /// A link to nowhere.
    #[error("it goes on in {sectors} sectors at sector {sector}, outside of the file system")]
    LinkOutside {
        /// First sector.
        sector: u64,
        /// Number of sectors.
        sectors: u64,
    },
    /// A link to where the log has been.
    #[error("it goes on at sector {0}, where it has been already")]
    Loop(u64),
    /// Too long a chain.
    #[error("it has more than {} extensions", log::MAX_EXTENSIONS)]
    Extensions,
    /// Too long a log.
    #[error("it is longer than {} MiB", log::MAX_LOG >> 20)]
    TooLong,
    /// Too many records.
    #[error("it has more than {} records", log::MAX_RECORDS)]
    Records,
    /// Parts of a tuple do not fit together.
    #[error("a tuple of {total} bytes is continued with {part} more than are missing")]
    Parts {
        /// Bytes in the tuple.
        total: u64,
        /// Bytes in the part.
        part: u64,
    },
    /// A tuple begins before the last one is whole.
    #[error("a tuple begins while {0} bytes of the last one are missing")]
    Unfinished(u64),
    /// The bytes of a record end within a value.
    #[error("a tuple ends within a value")]
    Short,
    /// The bytes of a record go on behind the value.
    #[error("{0} bytes follow a tuple within its record")]
    Trailing(u64),
    /// The record is no tuple.
    #[error("a record holds something else than a tuple")]
    NotTuple,
    /// A type that does not exist.
    #[error("a value of unknown type {0}")]
    Type(u8),
    /// A reference to something that has not been.
    #[error("a reference to entry {0} of the dictionary, which is not there or is of another type")]
    Reference(u64),
    /// Too many entries.
    #[error("it has more than {} entries", tree::MAX_ENTRIES)]
    Entries,
    /// Too deep.
    #[error("tuples are nested more than {} deep", encoding::MAX_DEPTH)]
    Depth,
    /// No tuple at all.
    #[error("it has no root tuple")]
    NoRoot,
}

/// A file system, its metadata read.
#[derive(Debug)]
pub struct Filesystem {
    source: Source,
    region: Region,
    version: u64,
    label: Vec<u8>,
    tree: Tree,
    end: log::End,
}

impl Filesystem {
    /// Whether a TFS begins at the start of the region.
    ///
    /// # Errors
    /// [`ReadError`] when the image cannot be read. A region shorter than the magic holds no file
    /// system.
    pub fn probe(source: &Source, region: Region) -> Result<bool, ReadError> {
        let mut magic = [0; log::MAGIC.len()];
        if region.len < 6 {
            return Ok(false);
        }
        source.read_exact_at(region.start, &mut magic)?;
        Ok(magic == *log::MAGIC)
    }

    /// Reads the file system's log.
    ///
    /// # Errors
    /// [`TfsError::Log`], [`TfsError::Read`].
    pub fn open(source: &Source, region: Region) -> Result<Self, TfsError> {
        let log = log::read(source, region)?;
        Ok(Self {
            source: source.clone(),
            region,
            version: log.version,
            label: log.label,
            tree: log.tree,
            end: log.end,
        })
    }

    /// TFS version of its first sector: 4 or 5.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The volume's label; mostly empty.
    #[must_use]
    pub fn label(&self) -> &[u8] {
        &self.label
    }

    /// The root tuple. In the root file system of an image it is the manifest too.
    #[must_use]
    pub fn root(&self) -> Tuple<'_> {
        self.tree.root()
    }

    /// Whether the guest finds a folder of that path. What lies behind a symbolic link nobody looks for
    /// here, and it may be one.
    #[must_use]
    pub fn may_have_directory(&self, path: &str) -> bool {
        let mut tuple = self.root();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Some(Value::Tuple(children)) = tuple.get("children") else {
                return tuple.get("linktarget").is_some();
            };
            let Some(Value::Tuple(child)) = children.get(name) else { return false };
            tuple = child;
        }
        ["children", "linktarget"].into_iter().any(|key| tuple.get(key).is_some())
    }

    /// The file of that path, names separated by `/`. `None` when there is none, also when a name
    /// on the way is not a directory. Symbolic links are not followed.
    ///
    /// # Errors
    /// [`TfsError::File`] when it is no regular file or its metadata cannot be.
    pub fn lookup(&self, path: &str) -> Result<Option<View>, TfsError> {
        let mut tuple = self.root();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Some(Value::Tuple(children)) = tuple.get("children") else {
                return Ok(None);
            };
            let Some(Value::Tuple(child)) = children.get(name) else {
                return Ok(None);
            };
            tuple = child;
        }
        let view = file::view(&tuple, &self.source, self.region);
        view.map(Some).map_err(|problem| TfsError::File { path: path.to_owned(), problem })
    }
}

#[cfg(test)]
mod tests;
