//! A disk in the format qcow2 (QEMU, `docs/interop/qcow2.txt`, versions 2 and 3), where the user says that it is one.
//! It is read; what a guest writes goes elsewhere, as with `--ephemeral`.
//!
//! The crate `imago` reads and writes the format. It was tried: a damaged image made it use up its stack, and what
//! an image says must not do that. To read one takes a header, two levels of tables and, where clusters are
//! compressed, inflate.
//!
//! An image can name other files, a backing file or one for its data. A name in an image is whoever made the
//! image's, and opens nothing here. Everything else in it is hostile, too: tables are read an entry at a time,
//! where they are inside the file, and no memory is taken by what they say but for a cluster that is inflated.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};

use vm_memory::VolatileSlice;

use crate::io::file;

/// Bytes of the header that are looked at.
const HEADER: usize = 112;

/// Bits of a cluster: 512 bytes to 2 MiB, as QEMU has them.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;

/// Incompatible features. The refcounts of a dirty image may be wrong, which is nothing to a reader.
const DIRTY: u64 = 1 << 0;
const EXTERNAL_DATA: u64 = 1 << 2;

/// Of an entry of L1 or L2: the place of a table or a cluster.
const PLACE: u64 = 0x00ff_ffff_ffff_fe00;

/// Of an entry of L2: the cluster is compressed; it is all zeros.
const COMPRESSED: u64 = 1 << 62;
const ZEROS: u64 = 1;

/// Bytes of an entry.
const ENTRY: u64 = 8;

/// Why a file is no disk in this format that can be served.
#[derive(Debug, thiserror::Error)]
pub enum Qcow2Error {
    /// It is something else.
    #[error("it is no qcow2 image: leave `format=qcow2` out, if it is a raw disk")]
    NotQcow2,
    /// It names another file.
    #[error(
        "it keeps some of its data in another file, which a name in an image never opens: make one \
         image of both with `qemu-img convert -O qcow2`, or a raw disk with `qemu-img convert -O raw`"
    )]
    NamesAnother,
    /// It is damaged, or asks for what is not known here.
    #[error("as qcow2: {what}: make a raw disk of it with `qemu-img convert -O raw`")]
    Unknown {
        /// What.
        what: &'static str,
    },
    /// It cannot be read.
    #[error("as qcow2: {0}")]
    Read(#[from] io::Error),
}

/// An open image.
pub struct Qcow2 {
    file: Arc<File>,
    /// Its bytes.
    len: u64,
    /// Bytes of the disk.
    size: u64,
    bits: u32,
    l1: u64,
    l1_entries: u64,
    /// The last cluster that was inflated, and its entry: a guest reads one after the other.
    inflated: Mutex<(u64, Vec<u8>)>,
}

impl fmt::Debug for Qcow2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "qcow2, {} bytes, clusters of {}", self.size, self.cluster())
    }
}

/// Where the bytes of a part of the disk are.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Nowhere: zeros.
    Zeros,
    /// From this byte of the file on.
    At(u64),
    /// In the cluster that this entry says how to inflate.
    Compressed(u64),
}

impl Qcow2 {
    /// Looks at the image in `file`, which has `len` bytes: of a block device the file system does not say it.
    ///
    /// # Errors
    /// [`Qcow2Error`].
    pub fn open(file: &Arc<File>, len: u64) -> Result<Self, Qcow2Error> {
        let mut header = [0; HEADER];
        let there = usize::try_from(len).unwrap_or(HEADER).min(HEADER);
        bytes_at(file, 0, header.get_mut(..there).unwrap_or_default())?;
        let number = |at: usize| {
            let bytes = header.get(at..).and_then(|rest| rest.first_chunk());
            u64::from_be_bytes(bytes.copied().unwrap_or_default())
        };
        let short = |at: usize| u32::try_from(number(at) >> 32).unwrap_or_default();
        if !header.starts_with(b"QFI\xfb") {
            return Err(Qcow2Error::NotQcow2);
        }
        let unknown = |what| Err(Qcow2Error::Unknown { what });
        let (features, whole) = match short(4) {
            2 => (0, 72),
            3 => (number(72), 104),
            _ => return unknown("it is neither of version 2 nor 3"),
        };
        if there < whole {
            return unknown("its header is not whole");
        }
        if number(8) != 0 || features & EXTERNAL_DATA != 0 {
            return Err(Qcow2Error::NamesAnother);
        }
        if short(32) != 0 {
            return unknown("it is encrypted");
        }
        if features & !DIRTY != 0 {
            return unknown("it is marked as corrupt, or has a feature that is not known here");
        }
        let (bits, size, l1) = (short(20), number(24), number(40));
        if !CLUSTER_BITS.contains(&bits) {
            return unknown("its clusters are not of 512 bytes to 2 MiB");
        }
        let image = Self {
            file: Arc::clone(file),
            len,
            size,
            bits,
            l1,
            l1_entries: short(36).into(),
            inflated: Mutex::default(),
        };
        // What an entry of L1 stands for: as many clusters as an L2 has entries.
        let covered = u128::from(image.l1_entries) << bits.saturating_mul(2).saturating_sub(3);
        if u128::from(size) > covered {
            return unknown("its first table is too short for its disk");
        }
        Ok(image)
    }

    /// Bytes of the disk in it.
    pub fn size(&self) -> u64 {
        self.size
    }

    fn cluster(&self) -> u64 {
        1 << self.bits
    }

    /// How far into its cluster a byte of the disk is.
    fn within(&self, at: u64) -> u64 {
        at & self.cluster().saturating_sub(1)
    }

    /// Fills `input`, which is on the disk.
    ///
    /// # Errors
    /// The image cannot be read, or is damaged there.
    pub fn read(&self, offset: u64, input: &[VolatileSlice<'_>]) -> io::Result<()> {
        let mut at = offset;
        for slice in input {
            let mut done = 0;
            while done < slice.len() {
                let within = self.within(at);
                let left = usize::try_from(self.cluster().saturating_sub(within));
                let len = left.unwrap_or(usize::MAX).min(slice.len().saturating_sub(done));
                let piece = slice.subslice(done, len).map_err(io::Error::other)?;
                match self.place(at)? {
                    Place::Zeros => zeros(&piece),
                    Place::At(byte) => self.fill(byte, &piece)?,
                    Place::Compressed(entry) => self.inflate(entry, within, &piece)?,
                }
                done = done.saturating_add(len);
                at = at.saturating_add(len as u64);
            }
        }
        Ok(())
    }

    /// Where a byte of the disk is, and all behind it to the end of its cluster.
    fn place(&self, at: u64) -> io::Result<Place> {
        let index = at >> self.bits;
        let entry_bits = self.bits.saturating_sub(ENTRY.trailing_zeros());
        let (first, second) = (index >> entry_bits, index & (1u64 << entry_bits).saturating_sub(1));
        if first >= self.l1_entries {
            return Err(damaged("a part of the disk beyond its tables"));
        }
        let l2 = self.entry(self.l1, first)? & PLACE;
        if l2 == 0 {
            return Ok(Place::Zeros);
        }
        let entry = self.entry(l2, second)?;
        if entry & COMPRESSED != 0 {
            return Ok(Place::Compressed(entry));
        }
        match entry & PLACE {
            _ if entry & ZEROS != 0 => Ok(Place::Zeros),
            0 => Ok(Place::Zeros),
            place if place.is_multiple_of(self.cluster()) => {
                Ok(Place::At(place.saturating_add(self.within(at))))
            }
            _ => Err(damaged("a cluster that does not begin where one can")),
        }
    }

    /// An entry of the table that begins at `table`.
    fn entry(&self, table: u64, index: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        let at = index.checked_mul(ENTRY).and_then(|at| at.checked_add(table));
        let at = at.ok_or_else(|| damaged("a table beyond the end of the file"))?;
        bytes_at(&self.file, at, &mut bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => damaged("a table beyond the end of the file"),
            _ => error,
        })?;
        Ok(u64::from_be_bytes(bytes))
    }

    /// The last cluster of a file may end with it.
    fn fill(&self, at: u64, piece: &VolatileSlice<'_>) -> io::Result<()> {
        let there = self.len.saturating_sub(at);
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(piece.len());
        let (head, tail) = (piece.subslice(0, there), piece.offset(there));
        zeros(&tail.map_err(io::Error::other)?);
        match there {
            0 => Ok(()),
            _ => file::read_exact_at(&self.file, at, &[head.map_err(io::Error::other)?]),
        }
    }

    /// Fills `piece` from the cluster that `entry` leads to, from its byte `within` on.
    fn inflate(&self, entry: u64, within: u64, piece: &VolatileSlice<'_>) -> io::Result<()> {
        let mut last = self.inflated.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != entry {
            // Nothing is left of the last one where this one cannot be read.
            *last = (0, Vec::new());
            *last = (entry, self.inflated(entry)?);
        }
        let within = usize::try_from(within).unwrap_or(usize::MAX);
        let end = within.saturating_add(piece.len());
        let bytes =
            last.1.get(within..end).ok_or_else(|| damaged("a cluster that is too short"))?;
        piece.copy_from(bytes);
        Ok(())
    }

    /// The cluster that a descriptor says where to find: a byte, and how many sectors behind the first
    /// one it goes on.
    fn inflated(&self, entry: u64) -> io::Result<Vec<u8>> {
        let place_bits = 70u32.saturating_sub(self.bits);
        let place = entry & (1u64 << place_bits).saturating_sub(1);
        let sectors = (entry & COMPRESSED.saturating_sub(1)) >> place_bits;
        let len = sectors.saturating_add(1).saturating_mul(512).saturating_sub(place % 512);
        let there = self.len.saturating_sub(place);
        // Twice a cluster, at most, by how many bits there are for it.
        let mut bytes = vec![0; usize::try_from(len.min(there)).unwrap_or_default()];
        bytes_at(&self.file, place, &mut bytes)?;
        let cluster = usize::try_from(self.cluster()).unwrap_or_default();
        let mut whole = vec![0; cluster];
        match miniz_oxide::inflate::decompress_slice_iter_to_slice(
            &mut whole,
            std::iter::once(bytes.as_slice()),
            false,
            true,
        ) {
            Ok(len) if len == cluster => Ok(whole),
            _ => Err(damaged("a cluster that cannot be inflated")),
        }
    }
}

/// By the system call that a disk's thread may make.
fn bytes_at(file: &File, at: u64, bytes: &mut [u8]) -> io::Result<()> {
    match bytes.is_empty() {
        true => Ok(()),
        false => file::read_exact_at(file, at, &[VolatileSlice::from(bytes)]),
    }
}

fn zeros(piece: &VolatileSlice<'_>) {
    const CHUNK: usize = 4096;
    for start in (0..piece.len()).step_by(CHUNK) {
        let len = piece.len().saturating_sub(start).min(CHUNK);
        if let Ok(part) = piece.subslice(start, len) {
            part.copy_from(&[0u8; CHUNK]);
        }
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the qcow2 image is damaged: {what}"))
}

#[cfg(test)]
mod tests;
