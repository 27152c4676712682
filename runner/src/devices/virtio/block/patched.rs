//! A disk whose file is shown with other bytes in one place, until the guest writes to it.
//!
//! What a guest is told in a record of its file system (`image::tfs::append`) stays out of a file that
//! it only reads. When it writes, what it writes builds upon what it has read, so the record goes to the
//! file before.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use vm_memory::{Bytes, VolatileSlice};

use super::SECTOR;
use super::medium::Raw;
use crate::image::Patch;

/// Puts `patch` into `file`, as a guest's first write would.
///
/// # Errors
/// What the operating system said.
pub fn write_patch(file: Arc<File>, patch: Patch) -> io::Result<()> {
    Patched::new(Raw::new(file), patch).for_writing().map(drop)
}

/// A file and what lies over it.
pub(super) struct Patched {
    raw: Raw,
    patch: Patch,
    /// The patch is in the file.
    written: AtomicBool,
    /// Held while it is being written.
    writing: Mutex<()>,
}

impl Patched {
    pub(super) fn new(raw: Raw, patch: Patch) -> Self {
        Self { raw, patch, written: AtomicBool::new(false), writing: Mutex::new(()) }
    }

    /// The file, with the patch in it from now on. A file that the guest writes to takes it, too.
    pub(super) fn for_writing(&self) -> io::Result<&Raw> {
        if !self.is_written() {
            let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            if !self.is_written() {
                self.commit()?;
                self.written.store(true, Ordering::Release);
            }
        }
        Ok(&self.raw)
    }

    /// The file as it is.
    pub(super) fn raw(&self) -> &Raw {
        &self.raw
    }

    pub(super) fn read(
        &self,
        offset: u64,
        input: &[VolatileSlice<'_>],
        slow: &mut dyn FnMut(),
    ) -> io::Result<()> {
        // Asked before: a write that comes meanwhile may or may not be seen, but never in part.
        let written = self.is_written();
        self.raw.read(offset, input, slow)?;
        if written { Ok(()) } else { self.lay_over(offset, input) }
    }

    fn is_written(&self) -> bool {
        self.written.load(Ordering::Acquire)
    }

    /// The first sector says where the log goes on, so it comes last.
    fn commit(&self) -> io::Result<()> {
        let mut bytes = self.patch.bytes.clone();
        let first = usize::try_from(SECTOR).unwrap_or(usize::MAX).min(bytes.len());
        let (first, rest) = bytes.split_at_mut(first);
        let behind = self.patch.at.saturating_add(SECTOR);
        if !rest.is_empty() {
            self.raw.write(behind, &[rest.into()])?;
            self.raw.sync()?;
        }
        self.raw.write(self.patch.at, &[first.into()])
    }

    /// Puts those bytes of the patch into `input` that it has a place for.
    fn lay_over(&self, offset: u64, input: &[VolatileSlice<'_>]) -> io::Result<()> {
        let mut start = offset;
        for slice in input {
            let end = start.saturating_add(u64::try_from(slice.len()).unwrap_or(u64::MAX));
            let from = start.max(self.patch.at);
            let skip = usize::try_from(from.saturating_sub(self.patch.at)).unwrap_or(usize::MAX);
            let len = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX);
            let bytes = self.patch.bytes.get(skip..).unwrap_or_default();
            let bytes = bytes.get(..len.min(bytes.len())).unwrap_or_default();
            if !bytes.is_empty() {
                let at = usize::try_from(from.saturating_sub(start)).unwrap_or(usize::MAX);
                slice.write_slice(bytes, at).map_err(io::Error::other)?;
            }
            start = end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::file;

    const AT: usize = 1024;

    fn disk(patch: usize) -> (Arc<File>, Patched) {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let mut bytes: Vec<u8> = (0..4096usize).map(|byte| byte.to_le_bytes()[0] | 1).collect();
        file::write_all_at(&file, 0, &[bytes.as_mut_slice().into()]).unwrap();
        let patch = Patch { at: AT as u64, bytes: vec![0; patch] };
        (file.clone(), Patched::new(Raw::new(file), patch))
    }

    /// All of the disk, read from `from` on in pieces of `len` bytes.
    fn read(disk: &Patched, from: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0xee; 4096 - from];
        let slices: Vec<VolatileSlice<'_>> = bytes.chunks_mut(len).map(Into::into).collect();
        disk.read(from as u64, &slices, &mut || ()).unwrap();
        bytes
    }

    #[test]
    fn reads_see_the_patch_wherever_they_begin_and_end_and_the_file_does_not() {
        let (file, disk) = disk(512);
        for (from, len) in [(0, 4096), (512, 512), (1024, 100), (1100, 7), (1536, 512), (0, 1300)] {
            for (at, byte) in (from..).zip(read(&disk, from, len)) {
                assert_eq!(byte == 0, (AT..AT + 512).contains(&at), "{from} {len} {at}");
            }
        }
        let mut bytes = [0; 4096];
        file::read_exact_at(&file, 0, &[bytes.as_mut_slice().into()]).unwrap();
        assert!(bytes.iter().all(|byte| *byte != 0));
    }

    #[test]
    fn the_first_write_brings_the_patch_into_the_file_and_what_is_written_stays() {
        for patch in [512, 1536] {
            let (file, disk) = disk(patch);
            let mut new = [0xaa; 512];
            disk.for_writing().unwrap().write(AT as u64, &[new.as_mut_slice().into()]).unwrap();
            let mut bytes = vec![0; 4096];
            file::read_exact_at(&file, 0, &[bytes.as_mut_slice().into()]).unwrap();
            assert_eq!(bytes[AT..AT + 512], [0xaa; 512]);
            assert!(bytes[AT + 512..AT + patch].iter().all(|byte| *byte == 0));
            assert!(bytes[AT + patch..].iter().all(|byte| *byte != 0));
            assert_eq!(read(&disk, 0, 4096), bytes);
        }
    }

    #[test]
    fn a_patch_that_cannot_be_written_fails_the_write_and_is_still_seen() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        std::fs::write(&path, [1; 4096]).unwrap();
        let file = Arc::new(File::open(&path).unwrap());
        let disk = Patched::new(Raw::new(file), Patch { at: 0, bytes: vec![0; 512] });
        assert!(disk.for_writing().is_err());
        assert!(read(&disk, 0, 512)[..512].iter().all(|byte| *byte == 0));
    }
}
