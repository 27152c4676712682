//! A disk that is thrown away after the run: a file that is only read, and over it a sparse file
//! without a name, which takes what the guest writes.

use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use vm_memory::VolatileSlice;

use super::Buffers;
use super::granules::{GRANULE, Granules};
use super::medium::Raw;

/// A file without a name, and the folder whose file system it takes its room from.
#[derive(Debug)]
pub struct Scratch {
    /// The file: empty, open for reading and writing.
    pub file: File,
    /// The folder, for messages.
    pub folder: String,
}

/// A base and what was written over it.
///
/// A granule of the disk is wholly in one of both files. It begins in the base and goes to the
/// overlay when a part of it is written; its bit is set when all of it is there, and never cleared.
pub(super) struct Overlay {
    base: Raw,
    top: Raw,
    folder: String,
    /// Bytes of the disk.
    len: u64,
    /// Granules that are in `top`.
    present: RwLock<Granules>,
    /// Held by whoever brings granules into `top`: two writes to parts of one would otherwise each
    /// copy the rest of it from the base, and the later copy would undo the earlier write.
    bringing: Mutex<()>,
}

impl Overlay {
    pub(super) fn new(base: Raw, scratch: Scratch, len: u64) -> Self {
        let Scratch { file, folder } = scratch;
        let top = Raw::new(Arc::new(file));
        let (present, bringing) = (RwLock::default(), Mutex::new(()));
        Self { base, top, folder, len, present, bringing }
    }

    pub(super) fn folder(&self) -> &str {
        &self.folder
    }

    /// Fills `input`, each run of granules from where it is.
    pub(super) fn read(
        &self,
        offset: u64,
        input: &Buffers<'_>,
        slow: &mut dyn FnMut(),
    ) -> io::Result<()> {
        let mut slices = input.slices();
        let mut within = 0;
        let (mut offset, end) = (offset, offset.saturating_add(input.len()));
        while offset < end {
            let touched = Granules::touched(offset, end.saturating_sub(offset));
            let (present, next) = self.present().run(touched);
            let next = next.saturating_mul(GRANULE).min(end);
            let wanted = next.saturating_sub(offset);
            let (piece, rest) = cut(slices, within, wanted);
            (slices, within) = rest;
            let file = if present { &self.top } else { &self.base };
            file.read(offset, &piece, slow)?;
            offset = next;
        }
        Ok(())
    }

    /// Writes all of `output` to the overlay.
    pub(super) fn write(&self, offset: u64, output: &Buffers<'_>) -> io::Result<()> {
        let write = || self.top.write(offset, output.slices());
        self.change(offset, output.len(), write)
    }

    /// Puts zeros there. In the overlay they take no room.
    pub(super) fn zero(&self, offset: u64, len: u64) -> io::Result<()> {
        self.change(offset, len, || self.top.zero(offset, len, true))
    }

    /// Gives back what the overlay has of it. The base keeps what it has.
    pub(super) fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        // Whole granules alone: what is left of one must stay.
        let first = offset.div_ceil(GRANULE).saturating_mul(GRANULE);
        let end = offset.saturating_add(len);
        let last = if end == self.len { end } else { end / GRANULE * GRANULE };
        match last.checked_sub(first).filter(|len| *len > 0) {
            Some(len) => self.top.discard(first, len).map_err(|error| self.explain(error)),
            None => Ok(()),
        }
    }

    /// Changes `len` bytes of the overlay from `offset` on with `change`. What is in none of their
    /// granules yet is brought there around them.
    fn change(&self, offset: u64, len: u64, change: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let touched = Granules::touched(offset, len);
        if self.present().has_all(touched.clone()) {
            return change().map_err(|error| self.explain(error));
        }
        let _bringing = self.bringing.lock().unwrap_or_else(PoisonError::into_inner);
        let end = offset.saturating_add(len);
        if !offset.is_multiple_of(GRANULE) {
            self.bring(touched.start)?;
        }
        // The last granule of the disk may be a short one.
        if !end.is_multiple_of(GRANULE) && end != self.len {
            self.bring(end / GRANULE)?;
        }
        change().map_err(|error| self.explain(error))?;
        let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
        present.insert(touched);
        Ok(())
    }

    /// Copies a granule from the base into the overlay, unless it is there.
    fn bring(&self, granule: u64) -> io::Result<()> {
        if self.present().has(granule) {
            return Ok(());
        }
        let mut bytes = [0; GRANULE as usize];
        let offset = granule.saturating_mul(GRANULE);
        let len = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = bytes.get_mut(..len.min(GRANULE as usize)).unwrap_or_default();
        let slice = [VolatileSlice::from(bytes)];
        self.base.read(offset, &slice, &mut || ())?;
        self.top.write(offset, &slice).map_err(|error| self.explain(error))
    }

    fn present(&self) -> RwLockReadGuard<'_, Granules> {
        self.present.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error of the overlay is not one of the file that the user named.
    fn explain(&self, error: io::Error) -> io::Error {
        let folder = &self.folder;
        io::Error::new(
            error.kind(),
            format!("{error} in {folder}, where --ephemeral keeps what is written (see TMPDIR)"),
        )
    }
}

/// What is left of slices: from the first one on, without so many of its bytes.
type Rest<'s, 'm> = (&'s [VolatileSlice<'m>], usize);

/// The first `wanted` bytes of `slices`, whose first `within` bytes are done; and what is left.
fn cut<'s, 'm>(
    mut slices: &'s [VolatileSlice<'m>],
    mut within: usize,
    wanted: u64,
) -> (Vec<VolatileSlice<'m>>, Rest<'s, 'm>) {
    let mut piece = Vec::new();
    let mut wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
    while wanted > 0
        && let Some((first, others)) = slices.split_first()
    {
        let left = first.len().saturating_sub(within);
        let len = left.min(wanted);
        // It lies within the slice, so this cannot fail.
        piece.extend(first.subslice(within, len));
        wanted = wanted.saturating_sub(len);
        (slices, within) = match len == left {
            true => (others, 0),
            false => (slices, within.saturating_add(len)),
        };
    }
    (piece, (slices, within))
}
