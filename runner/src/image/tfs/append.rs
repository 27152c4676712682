//! A record that changes the root tuple, at the end of the log (nanos `src/fs/tlog.c`, `log_write`;
//! `src/runtime/tuple.c`, `encode_tuple`).
//!
//! The root tuple of an image's root file system is its manifest. A guest that has no command line is
//! told by such a record what the image does not say. The image's file is not touched here: the record
//! is a [`Patch`], and whoever shows the disk to the guest lays it over.

use super::encoding::{Encoding, STRING, TUPLE, VECTOR};
use super::log::{END_OF_LOG, TUPLE_AVAILABLE};
use super::{Filesystem, ReadError};
use crate::image::mbr::SECTOR;

/// What the guest needs behind the end of the log to go on with a log elsewhere: a link, and before it
/// the beginning of a tuple (nanos, `TFS_EXTENSION_LINK_BYTES`, `TUPLE_AVAILABLE_MIN_SIZE`).
const ROOM_BEHIND: u64 = 128;

/// The dictionary's number of the root tuple.
const ROOT: u8 = 1;

/// An entry of the root tuple. It replaces the one of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting<'a> {
    /// A string.
    Text(&'a str, &'a [u8]),
    /// Strings in order.
    List(&'a str, Vec<&'a [u8]>),
    /// Strings by name.
    Table(&'a str, Vec<(&'a [u8], &'a [u8])>),
}

/// Bytes that stand in the place of an image's own: whole sectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// The image's byte where they begin.
    pub at: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A log that takes no record.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The image could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No room.
    #[error(
        "{needed} bytes do not fit at the end of its root file system's log, which has room for {room}"
    )]
    Full {
        /// Bytes of the record.
        needed: u64,
        /// Bytes there are.
        room: u64,
    },
    /// A record is not whole.
    #[error(
        "the last record of its root file system's log is not whole, and nothing can follow it"
    )]
    Unfinished,
}

impl Filesystem {
    /// What to put over the image so that its root tuple has `settings`.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn append(&self, settings: &[Setting<'_>]) -> Result<Patch, AppendError> {
        if self.end.unfinished {
            return Err(AppendError::Unfinished);
        }
        let record = record(self.end.encoding, settings);
        let needed = u64::try_from(record.len()).unwrap_or(u64::MAX);
        // The byte that ends the log makes room for the record and comes again behind it.
        let room = self.end.limit.saturating_sub(self.end.at).saturating_sub(1);
        let room = room.saturating_sub(ROOM_BEHIND);
        if needed > room {
            return Err(AppendError::Full { needed, room });
        }
        // Extensions begin at sectors of the file system, and file systems at sectors of the disk.
        let within = self.end.at.checked_rem(SECTOR).unwrap_or_default();
        let at = self.end.at.saturating_sub(within);
        let mut bytes = vec![0; usize::try_from(within).unwrap_or_default()];
        self.source.read_exact_at(at, &mut bytes)?;
        bytes.extend(record);
        bytes.push(END_OF_LOG);
        bytes.resize(bytes.len().next_multiple_of(usize::try_from(SECTOR).unwrap_or(1)), 0);
        Ok(Patch { at, bytes })
    }
}

/// The record, without what ends the log.
fn record(encoding: Encoding, settings: &[Setting<'_>]) -> Vec<u8> {
    let mut tuple = encoding.header(false, TUPLE, settings.len());
    tuple.push(ROOT);
    for setting in settings {
        match setting {
            Setting::Text(name, text) => {
                tuple.extend(symbol(encoding, name.as_bytes()));
                tuple.extend(string(encoding, text));
            }
            Setting::List(name, texts) => {
                tuple.extend(symbol(encoding, name.as_bytes()));
                tuple.extend(list(encoding, texts));
            }
            Setting::Table(name, entries) => {
                tuple.extend(symbol(encoding, name.as_bytes()));
                tuple.extend(encoding.header(true, TUPLE, entries.len()));
                for (name, text) in entries {
                    tuple.extend(symbol(encoding, name));
                    tuple.extend(string(encoding, text));
                }
            }
        }
    }
    let len = varint(tuple.len());
    [&[TUPLE_AVAILABLE][..], &len, &len, &tuple].concat()
}

/// A vector; in version 4 a tuple with the names `0`, `1`, ….
fn list(encoding: Encoding, texts: &[&[u8]]) -> Vec<u8> {
    let kind = if encoding == Encoding::V4 { TUPLE } else { VECTOR };
    let mut bytes = encoding.header(true, kind, texts.len());
    for (index, text) in texts.iter().enumerate() {
        if encoding == Encoding::V4 {
            bytes.extend(symbol(encoding, index.to_string().as_bytes()));
        }
        bytes.extend(string(encoding, text));
    }
    bytes
}

/// A key. That the dictionary may have it already does not matter.
fn symbol(encoding: Encoding, name: &[u8]) -> Vec<u8> {
    [encoding.header(true, 0, name.len()).as_slice(), name].concat()
}

fn string(encoding: Encoding, text: &[u8]) -> Vec<u8> {
    [encoding.header(true, STRING, text.len()).as_slice(), text].concat()
}

/// A number, in seven bits a byte.
fn varint(number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut left = number;
    loop {
        let [low, ..] = left.to_le_bytes();
        bytes.push(if bytes.is_empty() { low & 0x7f } else { low | 0x80 });
        left >>= 7;
        if left == 0 {
            bytes.reverse();
            return bytes;
        }
    }
}

impl Encoding {
    /// The header of a value, `imm<<7 | type<<4 | ext<<3 | low3` or `imm<<7 | type<<6 | ext<<5 | low5`,
    /// and the rest of `len` in groups of seven bits. Version 4 has no strings, only buffers.
    fn header(self, immediate: bool, kind: u8, len: usize) -> Vec<u8> {
        let (kind, extended, low_bits) = match self {
            Encoding::V4 => (u8::from(kind == TUPLE) << 6, 0x20, 5),
            Encoding::V5 => (kind << 4, 0x08, 3),
        };
        let first = if immediate { 0x80 | kind } else { kind };
        let [low, ..] = len.to_le_bytes();
        if len >> low_bits == 0 {
            return vec![first | low];
        }
        // The low bits of the header stay 0: all of the length is in the groups.
        [&[first | extended][..], &varint(len)].concat()
    }
}

#[cfg(test)]
mod tests;
