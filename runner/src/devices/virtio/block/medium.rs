//! What a disk's bytes lie on: a file, or a file and what was written since.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vm_memory::VolatileSlice;

use super::overlay::Overlay;
use super::patched::Patched;
use super::qcow2::Qcow2;
use crate::io::file::{self, Prompt};
use crate::io::space;

/// Where bytes are read from and written to. Offsets and lengths are on the disk, in bytes.
pub(super) enum Medium {
    /// What the user named.
    Base(Base),
    /// The file, and what lies over a place of it until the guest writes.
    Patched(Patched),
    /// The file, never written, and what lies over it.
    Overlay(Overlay),
}

impl Medium {
    /// Fills `input`. Calls `slow` before it knowingly waits for anything, or copies much.
    pub(super) fn read(
        &self,
        offset: u64,
        input: &[VolatileSlice<'_>],
        slow: &mut dyn FnMut(),
    ) -> io::Result<()> {
        match self {
            Medium::Base(base) => base.read(offset, input, slow),
            Medium::Patched(patched) => patched.read(offset, input, slow),
            Medium::Overlay(overlay) => overlay.read(offset, input, slow),
        }
    }

    /// Writes all of `output`.
    pub(super) fn write(&self, offset: u64, output: &[VolatileSlice<'_>]) -> io::Result<()> {
        match self {
            Medium::Base(base) => base.write(offset, output),
            Medium::Patched(patched) => patched.for_writing()?.write(offset, output),
            Medium::Overlay(overlay) => overlay.write(offset, output),
        }
    }

    /// Makes durable what was written.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self {
            Medium::Base(base) => base.sync(),
            Medium::Patched(patched) => patched.raw().sync(),
            // What ends with the run needs no more than to be read back during it.
            Medium::Overlay(_) => Ok(()),
        }
    }

    /// Gives room back, where the host can; the contents are anything then.
    pub(super) fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        match self {
            Medium::Base(base) => base.discard(offset, len),
            Medium::Patched(patched) => patched.for_writing()?.discard(offset, len),
            Medium::Overlay(overlay) => overlay.discard(offset, len),
        }
    }

    /// Puts zeros there; with `unmap` they need take no room.
    pub(super) fn zero(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        match self {
            Medium::Base(base) => base.zero(offset, len, unmap),
            Medium::Patched(patched) => patched.for_writing()?.zero(offset, len, unmap),
            Medium::Overlay(overlay) => overlay.zero(offset, len),
        }
    }

    /// The folder that takes what is written, when it is not the file's own.
    pub(super) fn scratch(&self) -> Option<&str> {
        match self {
            Medium::Base(_) | Medium::Patched(_) => None,
            Medium::Overlay(overlay) => Some(overlay.folder()),
        }
    }
}

/// A disk that a user named, as its file has it.
pub(super) enum Base {
    /// The file itself.
    Raw(Raw),
    /// The disk in an image, which is only read.
    Qcow2(Qcow2),
}

impl Base {
    /// See [`Medium`], for this and the others.
    pub(super) fn read(
        &self,
        offset: u64,
        input: &[VolatileSlice<'_>],
        slow: &mut dyn FnMut(),
    ) -> io::Result<()> {
        match self {
            Base::Raw(raw) => raw.read(offset, input, slow),
            Base::Qcow2(image) => {
                slow();
                image.read(offset, input)
            }
        }
    }

    fn write(&self, offset: u64, output: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.writable()?.write(offset, output)
    }

    /// Nothing was written where nothing can be.
    fn sync(&self) -> io::Result<()> {
        self.writable().map_or(Ok(()), Raw::sync)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.writable()?.discard(offset, len)
    }

    fn zero(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.writable()?.zero(offset, len, unmap)
    }

    /// The device refuses what would get an error here.
    fn writable(&self) -> io::Result<&Raw> {
        match self {
            Base::Raw(raw) => Ok(raw),
            Base::Qcow2(_) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }
}

/// Bytes that are copied from the page cache, or into it, at once, before anybody else gets a turn: some
/// 30 µs.
pub(super) const AT_ONCE: u64 = 256 << 10;

/// A file or a block device.
pub(super) struct Raw {
    file: Arc<File>,
    block_device: bool,
    /// It may be asked for what is in the page cache alone.
    prompt: AtomicBool,
}

impl Raw {
    pub(super) fn new(file: Arc<File>) -> Self {
        let kind = file.metadata().map(|metadata| metadata.file_type());
        let block_device = kind.is_ok_and(|kind| kind.is_block_device());
        Self { file, block_device, prompt: AtomicBool::new(true) }
    }

    /// Fills `buffers`: from the page cache at once, if all of it is there and it is not much. A file
    /// system that cannot be asked what is there mostly has its files in memory.
    pub(super) fn read(
        &self,
        offset: u64,
        buffers: &[VolatileSlice<'_>],
        slow: &mut dyn FnMut(),
    ) -> io::Result<()> {
        let len = buffers.iter().fold(0u64, |sum, buffer| sum.saturating_add(buffer.len() as u64));
        let prompt = match len <= AT_ONCE && self.prompt.load(Ordering::Relaxed) {
            true => file::read_cached_at(&self.file, offset, buffers)?,
            false => Prompt::Never,
        };
        match prompt {
            Prompt::Done => return Ok(()),
            Prompt::Later => slow(),
            Prompt::Never if len > AT_ONCE => slow(),
            Prompt::Never => self.prompt.store(false, Ordering::Relaxed),
        }
        file::read_exact_at(&self.file, offset, buffers)
    }

    pub(super) fn write(&self, offset: u64, buffers: &[VolatileSlice<'_>]) -> io::Result<()> {
        file::write_all_at(&self.file, offset, buffers)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    pub(super) fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        match self.block_device {
            true => space::discard_on_device(&self.file, offset, len),
            false => space::discard(&self.file, offset, len),
        }
    }

    pub(super) fn zero(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        space::zero(&self.file, offset, len, unmap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_read_is_slow_even_from_the_page_cache() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let at_once = usize::try_from(AT_ONCE).unwrap();
        let mut bytes = vec![0x5a; at_once + 1];
        file::write_all_at(&file, 0, &[bytes.as_mut_slice().into()]).unwrap();
        for len in [at_once, at_once + 1] {
            let raw = Raw::new(Arc::clone(&file));
            let mut slow = 0;
            let (first, second) = bytes[..len].split_at_mut(len / 3);
            let buffers = [first.into(), second.into()];
            // Not every file system reads from the page cache alone.
            let cached = file::read_cached_at(&file, 0, &buffers).unwrap();
            raw.read(0, &buffers, &mut || slow += 1).unwrap();
            assert_eq!(slow, u32::from(len > at_once || cached == Prompt::Later), "{len}");
        }
    }
}
