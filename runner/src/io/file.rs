//! Files read and written straight into and out of guest memory, at an offset.
//!
//! Never through a mapping: any file can shrink under one.

// UNSAFETY: guest memory is handed to preadv and pwritev as raw ranges.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use vm_memory::VolatileSlice;

use super::sys;

/// Buffers in one call: more would be refused (IOV_MAX on every system of ours).
const MAX_BUFFERS: usize = 1024;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

/// Fills `buffers` from byte `offset` of `file` on.
///
/// # Errors
/// `UnexpectedEof` when the file ends before the buffers do; otherwise the operating system's.
pub fn read_exact_at(file: &File, offset: u64, buffers: &[VolatileSlice<'_>]) -> io::Result<()> {
    transfer(file, offset, buffers, Direction::Read)
}

/// Writes all of `buffers` to `file` from byte `offset` on.
///
/// # Errors
/// `WriteZero` when the file takes no more; otherwise the operating system's.
pub fn write_all_at(file: &File, offset: u64, buffers: &[VolatileSlice<'_>]) -> io::Result<()> {
    transfer(file, offset, buffers, Direction::Write)
}

/// What came of a read that was not to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// The buffers are full.
    Done,
    /// Not all of it was there.
    Later,
    /// This file, or this system, has no such reads.
    Never,
}

/// Fills `buffers` from byte `offset` of `file` on if all of it is in the page cache; the buffers may
/// have been filled partly when not.
///
/// # Errors
/// What the operating system says, but for what [`Prompt`] has a word for.
pub fn read_cached_at(
    file: &File,
    offset: u64,
    buffers: &[VolatileSlice<'_>],
) -> io::Result<Prompt> {
    let vectors = vectors(buffers);
    let wanted: usize = buffers.iter().map(VolatileSlice::len).sum();
    let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    if wanted == 0 {
        return Ok(Prompt::Done);
    }
    let vectors = vectors.get(..vectors.len().min(MAX_BUFFERS)).unwrap_or_default();
    match sys::read_cached(file, vectors, offset) {
        Ok(read) if read == wanted => Ok(Prompt::Done),
        Ok(_) => Ok(Prompt::Later),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Prompt::Later),
            io::ErrorKind::Unsupported => Ok(Prompt::Never),
            _ => Err(error),
        },
    }
}

fn vectors(buffers: &[VolatileSlice<'_>]) -> Vec<libc::iovec> {
    let buffers = buffers.iter().filter(|buffer| !buffer.is_empty());
    buffers
        .map(|buffer| libc::iovec {
            // The pointer stays valid while `buffers` is borrowed: RAM is never unmapped under it.
            iov_base: buffer.ptr_guard_mut().as_ptr().cast(),
            iov_len: buffer.len(),
        })
        .collect()
}

fn transfer(
    file: &File,
    mut offset: u64,
    buffers: &[VolatileSlice<'_>],
    direction: Direction,
) -> io::Result<()> {
    let mut vectors = vectors(buffers);
    let mut rest = vectors.as_mut_slice();
    while !rest.is_empty() {
        let moved = once(file, offset, rest, direction)?;
        if moved == 0 {
            return Err(match direction {
                Direction::Read => io::ErrorKind::UnexpectedEof.into(),
                Direction::Write => io::ErrorKind::WriteZero.into(),
            });
        }
        offset = offset.saturating_add(moved as u64);
        rest = advance(rest, moved);
    }
    Ok(())
}

/// One system call, repeated when a signal ended it. Returns the bytes moved.
fn once(
    file: &File,
    offset: u64,
    vectors: &[libc::iovec],
    direction: Direction,
) -> io::Result<usize> {
    let out_of_range = || io::Error::from(io::ErrorKind::InvalidInput);
    let offset = libc::off_t::try_from(offset).map_err(|_| out_of_range())?;
    let vectors = vectors.get(..vectors.len().min(MAX_BUFFERS)).unwrap_or_default();
    let count = libc::c_int::try_from(vectors.len()).map_err(|_| out_of_range())?;
    loop {
        // SAFETY: every vector is a range of guest memory that outlives the call, and guest memory
        // is plain bytes that anybody may write at any time.
        let moved = unsafe {
            match direction {
                Direction::Read => libc::preadv(file.as_raw_fd(), vectors.as_ptr(), count, offset),
                Direction::Write => {
                    libc::pwritev(file.as_raw_fd(), vectors.as_ptr(), count, offset)
                }
            }
        };
        match usize::try_from(moved) {
            Ok(moved) => return Ok(moved),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// What is left of `vectors` behind the first `moved` bytes.
fn advance(vectors: &mut [libc::iovec], mut moved: usize) -> &mut [libc::iovec] {
    let mut done = 0;
    while let Some(vector) = vectors.get(done).filter(|vector| vector.iov_len <= moved) {
        moved -= vector.iov_len;
        done += 1;
    }
    let rest = vectors.get_mut(done..).unwrap_or_default();
    if let Some(first) = rest.first_mut() {
        first.iov_base = first.iov_base.wrapping_byte_add(moved);
        first.iov_len -= moved;
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use hv::GuestRam;
    use std::io::Write;
    use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

    #[test]
    fn a_file_is_read_into_scattered_guest_memory_and_written_back() {
        let memory = hv::mem::memory([(0, GuestRam::new(1 << 20).unwrap())]).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let slice = |at, len| memory.get_slice(GuestAddress(at), len).unwrap();
        read_exact_at(&file, 2, &[slice(0x100, 3), slice(0x5000, 0), slice(0x2000, 4)]).unwrap();
        let mut back = [0; 4];
        memory.read_slice(&mut back, GuestAddress(0x2000)).unwrap();
        assert_eq!(&back, b"5678");
        write_all_at(&file, 8, &[slice(0x100, 3)]).unwrap();
        read_exact_at(&file, 7, &[slice(0x3000, 4)]).unwrap();
        memory.read_slice(&mut back, GuestAddress(0x3000)).unwrap();
        assert_eq!(&back, b"7234");
    }

    #[test]
    fn the_end_of_the_file_is_an_error_and_not_zeros() {
        let memory = hv::mem::memory([(0, GuestRam::new(4096).unwrap())]).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123").unwrap();
        let slice = memory.get_slice(GuestAddress(0), 8).unwrap();
        let error = read_exact_at(&file, 0, &[slice]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(read_exact_at(&file, u64::MAX, &[slice]).is_err());
    }

    #[test]
    fn more_buffers_than_one_call_takes_are_all_filled() {
        let memory = hv::mem::memory([(0, GuestRam::new(1 << 20).unwrap())]).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[9; 3000]).unwrap();
        let at = |index: u64| memory.get_slice(GuestAddress(2 * index), 1).unwrap();
        let buffers: Vec<_> = (0..3000).map(at).collect();
        read_exact_at(&file, 0, &buffers).unwrap();
        assert_eq!(memory.read_obj::<u8>(GuestAddress(2 * 2999)).unwrap(), 9);
    }

    #[test]
    fn a_short_transfer_goes_on_where_it_stopped() {
        let vector = |base: usize, len| libc::iovec {
            iov_base: std::ptr::without_provenance_mut(base),
            iov_len: len,
        };
        let mut vectors = [vector(0x100, 4), vector(0x200, 4), vector(0x300, 4)];
        let rest = advance(&mut vectors, 6);
        assert_eq!(rest.len(), 2);
        assert_eq!((rest[0].iov_base.addr(), rest[0].iov_len), (0x202, 2));
        assert!(advance(&mut vectors, 100).is_empty());
    }
}
