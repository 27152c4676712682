//! The log (nanos `src/fs/tlog.c`).
//!
//! It begins at sector 0 with an extension of one sector, which links to the next, and so on. An
//! extension begins with `NVMTFS`, version and length as varints (big-endian, seven bits a byte,
//! 0x80 means more), the first also with a UUID of 16 bytes and a label that ends in NUL. Then come
//! records: 1 end of log, 2 a tuple (total length, length here, bytes), 3 more of it (length,
//! bytes), 4 nothing, 5 a link (sector, sectors).

use super::encoding::{self, Encoding, shift_in};
use super::tree::Tree;
use super::{LogProblem, Region, TfsError};
use crate::image::mbr::SECTOR;
use crate::image::source::Source;

pub(super) const MAGIC: &[u8; 6] = b"NVMTFS";
/// Bytes of all extensions that are looked at. Three times what a million entries take in real
/// images.
pub(super) const MAX_LOG: u64 = 32 << 20;
/// Records, of which each should have an entry.
pub(super) const MAX_RECORDS: u64 = 1 << 20;
/// Nanos makes extensions of 512 KiB.
pub(super) const MAX_EXTENSIONS: usize = 4096;
const UUID: u64 = 16;
const UUID_BYTES: usize = 16;
const MAX_LABEL: usize = 256;
const CHUNK: u64 = 16 << 10;

pub(super) const END_OF_LOG: u8 = 1;
pub(super) const TUPLE_AVAILABLE: u8 = 2;
const TUPLE_EXTENDED: u8 = 3;
const END_OF_SEGMENT: u8 = 4;
const EXTENSION_LINK: u8 = 5;

/// What a log comes to.
pub(super) struct Log {
    pub(super) version: u64,
    pub(super) label: Vec<u8>,
    pub(super) tree: Tree,
    pub(super) end: End,
}

/// Where a log ends, and what can be appended to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    /// The image's byte that says so.
    pub(super) at: u64,
    /// The byte after the last of its extension.
    pub(super) limit: u64,
    /// Of its extension.
    pub(super) encoding: Encoding,
    /// A tuple is not whole. Nothing can follow it but the rest of it.
    pub(super) unfinished: bool,
}

/// What the first extension of a file system says of it, by which a guest knows a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    uuid: [u8; UUID_BYTES],
    label: Vec<u8>,
}

impl Identity {
    /// Of the file system that begins with the first byte of a volume.
    ///
    /// # Errors
    /// [`TfsError`]: none begins there.
    pub fn of(volume: &Source) -> Result<Self, TfsError> {
        let region = Region { start: 0, len: volume.len() };
        let first =
            extension(region, 0, 1).ok_or(TfsError::Log { at: 0, problem: LogProblem::Magic })?;
        let mut reader = Reader::new(volume, first, MAX_LOG);
        encoding_of(reader.magic_and_version()?, 0)?;
        let mut uuid = [0; UUID_BYTES];
        for byte in &mut uuid {
            *byte = reader.byte()?;
        }
        Ok(Self { uuid, label: reader.label()? })
    }

    /// The UUID as it is written: `00112233-4455-6677-8899-aabbccddeeff`.
    #[must_use]
    pub fn uuid(&self) -> String {
        let mut text = String::new();
        for (index, byte) in self.uuid.iter().enumerate() {
            let hyphen = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
            text.push_str(&format!("{hyphen}{byte:02x}"));
        }
        text
    }

    /// Whether a guest means it by `name`: its label, or its UUID.
    #[must_use]
    pub fn is_called(&self, name: &[u8]) -> bool {
        name == self.label || name.eq_ignore_ascii_case(self.uuid().as_bytes())
    }
}

/// Reads the log of the file system in `region`.
pub(super) fn read(source: &Source, region: Region) -> Result<Log, TfsError> {
    let first = extension(region, 0, 1)
        .ok_or(TfsError::Log { at: region.start, problem: LogProblem::Magic })?;
    let mut walk =
        Walk { region, seen: vec![first], tree: Tree::default(), staged: None, count: 0 };
    let mut reader = Reader::new(source, first, MAX_LOG);
    let version = reader.magic_and_version()?;
    reader.skip(UUID)?;
    let label = reader.label()?;
    let mut encoding = encoding_of(version, first.start)?;
    while let Some(next) = walk.records(&mut reader, encoding)? {
        reader = Reader::new(source, next, reader.budget);
        encoding = encoding_of(reader.magic_and_version()?, next.start)?;
    }
    if !walk.tree.has_root() {
        return Err(TfsError::Log { at: region.start, problem: LogProblem::NoRoot });
    }
    // The reader has taken the byte that ends the log.
    let (at, limit) = (reader.at.saturating_sub(1), reader.end);
    let end = End { at, limit, encoding, unfinished: walk.staged.is_some() };
    Ok(Log { version, label, tree: walk.tree, end })
}

fn encoding_of(version: u64, at: u64) -> Result<Encoding, TfsError> {
    match version {
        4 => Ok(Encoding::V4),
        5 => Ok(Encoding::V5),
        other => Err(TfsError::Log { at, problem: LogProblem::Version(other) }),
    }
}

/// The bytes of sectors of a file system; `None` when it does not have them.
pub(super) fn extension(region: Region, sector: u64, sectors: u64) -> Option<Region> {
    let offset = sector.checked_mul(SECTOR)?;
    let len = sectors.checked_mul(SECTOR).filter(|len| *len > 0)?;
    let end = offset.checked_add(len)?;
    (end <= region.len).then_some(Region { start: region.start.checked_add(offset)?, len })
}

/// A tuple that has come in parts.
struct Staged {
    /// Where its first record begins in the image.
    at: u64,
    /// Where its bytes begin in the tree's text.
    start: usize,
    total: u64,
    missing: u64,
}

struct Walk {
    region: Region,
    seen: Vec<Region>,
    tree: Tree,
    staged: Option<Staged>,
    /// Records so far.
    count: u64,
}

impl Walk {
    /// Applies the records of one extension. The next extension, or `None` at the end of the log.
    fn records(
        &mut self,
        reader: &mut Reader<'_>,
        encoding: Encoding,
    ) -> Result<Option<Region>, TfsError> {
        loop {
            reader.skip_run_of(END_OF_SEGMENT)?;
            self.count = self.count.saturating_add(1);
            if self.count > MAX_RECORDS {
                return reader.wrong(LogProblem::Records);
            }
            let at = reader.at;
            match reader.byte()? {
                // A tuple that is not whole was being written when the guest went away: it does not
                // count.
                END_OF_LOG => return Ok(None),
                TUPLE_AVAILABLE => self.begin(reader, at)?,
                TUPLE_EXTENDED => {
                    let part = reader.varint()?;
                    self.extend(reader, at, part)?;
                }
                EXTENSION_LINK => return self.link(reader, at).map(Some),
                other => {
                    return Err(TfsError::Log { at, problem: LogProblem::Record(other) });
                }
            }
            if let Some(staged) = self.staged.take_if(|staged| staged.missing == 0) {
                let done = encoding::decode(&mut self.tree, staged.start, encoding);
                done.map_err(|problem| TfsError::Log { at: staged.at, problem })?;
            }
        }
    }

    fn begin(&mut self, reader: &mut Reader<'_>, at: u64) -> Result<(), TfsError> {
        if let Some(staged) = &self.staged {
            return Err(TfsError::Log { at, problem: LogProblem::Unfinished(staged.missing) });
        }
        let total = reader.varint()?;
        let part = reader.varint()?;
        self.staged = Some(Staged { at, start: self.tree.text().len(), total, missing: total });
        self.extend(reader, at, part)
    }

    fn extend(&mut self, reader: &mut Reader<'_>, at: u64, part: u64) -> Result<(), TfsError> {
        let total = self.staged.as_ref().map_or(0, |staged| staged.total);
        let too_much = TfsError::Log { at, problem: LogProblem::Parts { total, part } };
        let Some(staged) = &mut self.staged else {
            return Err(too_much);
        };
        staged.missing = staged.missing.checked_sub(part).ok_or(too_much)?;
        reader.take(part, self.tree.text_mut())
    }

    fn link(&mut self, reader: &mut Reader<'_>, at: u64) -> Result<Region, TfsError> {
        let sector = reader.varint()?;
        let sectors = reader.varint()?;
        let wrong = |problem| TfsError::Log { at, problem };
        let next = extension(self.region, sector, sectors)
            .ok_or_else(|| wrong(LogProblem::LinkOutside { sector, sectors }))?;
        if self.seen.iter().any(|seen| seen.start < next.end() && next.start < seen.end()) {
            return Err(wrong(LogProblem::Loop(sector)));
        }
        if self.seen.len() >= MAX_EXTENSIONS {
            return Err(wrong(LogProblem::Extensions));
        }
        self.seen.push(next);
        Ok(next)
    }
}

/// Bytes of one extension, in order. `at` is the image's byte that comes next.
struct Reader<'a> {
    source: &'a Source,
    at: u64,
    end: u64,
    /// Bytes of log that may still be read from the image.
    budget: u64,
    chunk: Vec<u8>,
    /// How many of `chunk` have been taken.
    taken: usize,
}

impl<'a> Reader<'a> {
    fn new(source: &'a Source, extension: Region, budget: u64) -> Self {
        let Region { start, .. } = extension;
        Self { source, at: start, end: extension.end(), budget, chunk: Vec::new(), taken: 0 }
    }

    fn wrong<T>(&self, problem: LogProblem) -> Result<T, TfsError> {
        Err(TfsError::Log { at: self.at, problem })
    }

    /// What is at hand, at least a byte.
    fn available(&mut self) -> Result<&[u8], TfsError> {
        if self.taken >= self.chunk.len() {
            let left = self.end.saturating_sub(self.at);
            if left == 0 {
                return self.wrong(LogProblem::PastExtension);
            }
            let size = left.min(CHUNK).min(self.budget);
            if size == 0 {
                return self.wrong(LogProblem::TooLong);
            }
            self.chunk.resize(usize::try_from(size).unwrap_or_default(), 0);
            self.source.read_exact_at(self.at, &mut self.chunk)?;
            self.budget = self.budget.saturating_sub(size);
            self.taken = 0;
        }
        Ok(self.chunk.get(self.taken..).unwrap_or_default())
    }

    fn advance(&mut self, count: usize) {
        self.taken = self.taken.saturating_add(count);
        self.at = self.at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
    }

    fn byte(&mut self) -> Result<u8, TfsError> {
        let first = self.available()?.first().copied().unwrap_or_default();
        self.advance(1);
        Ok(first)
    }

    fn skip_run_of(&mut self, byte: u8) -> Result<(), TfsError> {
        loop {
            let available = self.available()?;
            match available.iter().position(|next| *next != byte) {
                Some(run) => {
                    self.advance(run);
                    return Ok(());
                }
                None => {
                    let run = available.len();
                    self.advance(run);
                }
            }
        }
    }

    fn varint(&mut self) -> Result<u64, TfsError> {
        let mut value = 0;
        loop {
            let byte = self.byte()?;
            let Some(more) = shift_in(value, byte) else {
                return self.wrong(LogProblem::Number);
            };
            value = more;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
    }

    /// Appends the next `count` bytes.
    fn take(&mut self, count: u64, into: &mut Vec<u8>) -> Result<(), TfsError> {
        let mut left = count;
        while left > 0 {
            let available = self.available()?;
            let size =
                usize::try_from(left).map_or(available.len(), |left| left.min(available.len()));
            into.extend_from_slice(available.get(..size).unwrap_or_default());
            self.advance(size);
            left = left.saturating_sub(u64::try_from(size).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    fn skip(&mut self, count: u64) -> Result<(), TfsError> {
        for _ in 0..count {
            self.byte()?;
        }
        Ok(())
    }

    fn magic_and_version(&mut self) -> Result<u64, TfsError> {
        let at = self.at;
        for expected in MAGIC {
            if self.byte()? != *expected {
                return Err(TfsError::Log { at, problem: LogProblem::Magic });
            }
        }
        let version = self.varint()?;
        // The length in sectors. The link that led here has said it already.
        self.varint()?;
        Ok(version)
    }

    fn label(&mut self) -> Result<Vec<u8>, TfsError> {
        let mut label = Vec::new();
        loop {
            match self.byte()? {
                0 => return Ok(label),
                _ if label.len() >= MAX_LABEL => return self.wrong(LogProblem::Label),
                byte => label.push(byte),
            }
        }
    }
}
