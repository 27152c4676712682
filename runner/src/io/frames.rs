//! Frames read from a descriptor straight into guest memory, and written straight out of it: one call
//! of readv(2) or writev(2) a frame, for descriptors that keep frames apart (a tap device, a datagram
//! socket). None of it waits, if the descriptor does not.

// UNSAFETY: guest memory is handed to readv and writev as raw ranges.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use vm_memory::VolatileSlice;

/// Pieces of guest memory in one call: with buffers of 1.5 KiB, the largest frame has 44.
const PIECES: usize = 126;

/// Those, a header before them, and a byte behind.
const VECTORS: usize = PIECES + 2;

/// Reads one frame of at most `most` bytes into `buffers`.
///
/// # Errors
/// `InvalidData` for a frame that is longer, or than `buffers` are; it is lost. `UnexpectedEof` for one
/// of no bytes. Otherwise the operating system's, `WouldBlock` when there is none.
pub fn read(fd: BorrowedFd<'_>, most: usize, buffers: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let mut spilt = 0u8;
    let mut vectors = Vectors::default();
    for buffer in buffers {
        if vectors.count >= PIECES || vectors.bytes >= most {
            break;
        }
        let len = buffer.len().min(most.saturating_sub(vectors.bytes));
        vectors.add(buffer.ptr_guard_mut().as_ptr(), len);
    }
    let room = vectors.bytes;
    // What does not fit is cut off without a word: one byte more is enough to know.
    vectors.add(&raw mut spilt, 1);
    match transfer(|| {
        // SAFETY: every vector is a range of guest memory that outlives the call, which is plain bytes
        // that anybody may write at any time; the last is `spilt`.
        unsafe { libc::readv(fd.as_raw_fd(), vectors.as_ptr(), vectors.count()) }
    })? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read if read > room => Err(io::ErrorKind::InvalidData.into()),
        read => Ok(read),
    }
}

/// Writes one frame: `head`, and then what lies in `pieces`.
///
/// # Errors
/// `InvalidInput` for more than 126 pieces: nothing has been written. Otherwise the operating system's,
/// `WouldBlock` when there is no room.
pub fn write<'a>(
    fd: BorrowedFd<'_>,
    head: &[u8],
    pieces: impl Iterator<Item = VolatileSlice<'a>>,
) -> io::Result<usize> {
    let mut vectors = Vectors::default();
    if !head.is_empty() {
        vectors.add(head.as_ptr().cast_mut(), head.len());
    }
    for (index, piece) in pieces.enumerate() {
        if index >= PIECES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        vectors.add(piece.ptr_guard_mut().as_ptr(), piece.len());
    }
    transfer(|| {
        // SAFETY: every vector is a range of guest memory that outlives the call, and writev(2) only
        // reads it; the first may be `head`.
        unsafe { libc::writev(fd.as_raw_fd(), vectors.as_ptr(), vectors.count()) }
    })
}

struct Vectors {
    vectors: [libc::iovec; VECTORS],
    count: usize,
    bytes: usize,
}

impl Default for Vectors {
    fn default() -> Self {
        let nothing = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Self { vectors: [nothing; VECTORS], count: 0, bytes: 0 }
    }
}

impl Vectors {
    /// One more. There is room for as many as are added.
    fn add(&mut self, base: *mut u8, len: usize) {
        if let Some(vector) = self.vectors.get_mut(self.count) {
            *vector = libc::iovec { iov_base: base.cast(), iov_len: len };
            self.count = self.count.saturating_add(1);
            self.bytes = self.bytes.saturating_add(len);
        }
    }

    fn as_ptr(&self) -> *const libc::iovec {
        self.vectors.as_ptr()
    }

    fn count(&self) -> libc::c_int {
        libc::c_int::try_from(self.count).unwrap_or_default()
    }
}

/// `call`, repeated when a signal ended it.
fn transfer(call: impl Fn() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use hv::{GuestMemory, GuestRam};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;
    use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

    fn memory() -> GuestMemory {
        hv::mem::memory([(0, GuestRam::new(0x10000).unwrap())]).unwrap()
    }

    fn pair() -> (UnixDatagram, UnixDatagram) {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        (ours, theirs)
    }

    #[test]
    fn a_frame_is_read_into_scattered_guest_memory_and_written_back_behind_a_head() {
        let (ours, theirs) = pair();
        let memory = memory();
        let slice = |at, len| memory.get_slice(GuestAddress(at), len).unwrap();
        theirs.send(b"abcdefgh").unwrap();
        let buffers = [slice(0x100, 3), slice(0, 0), slice(0x2000, 9)];
        assert_eq!(read(ours.as_fd(), 12, &buffers).unwrap(), 8);
        let written = write(ours.as_fd(), b"12", [slice(0x100, 3), slice(0x2000, 2)].into_iter());
        assert_eq!(written.unwrap(), 7);
        let mut bytes = [0; 16];
        let len = theirs.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"12abcde");
        write(ours.as_fd(), b"", [slice(0x2003, 2)].into_iter()).unwrap();
        let len = theirs.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"gh");
    }

    #[test]
    fn a_frame_that_does_not_fit_is_lost_and_never_cut() {
        let (ours, theirs) = pair();
        let memory = memory();
        let slice = |at, len| memory.get_slice(GuestAddress(at), len).unwrap();
        let lost = |most, buffers: &[VolatileSlice<'_>]| {
            let before: u8 = memory.read_obj(GuestAddress(0x108)).unwrap();
            let kind = read(ours.as_fd(), most, buffers).unwrap_err().kind();
            assert_eq!(
                memory.read_obj::<u8>(GuestAddress(0x108)).unwrap(),
                before,
                "beyond `most`"
            );
            kind
        };
        theirs.send(b"abcdefghi").unwrap();
        assert_eq!(lost(8, &[slice(0x100, 64)]), io::ErrorKind::InvalidData);
        theirs.send(b"abcdefghi").unwrap();
        assert_eq!(lost(100, &[slice(0x100, 8)]), io::ErrorKind::InvalidData);
        theirs.send(b"abcdefgh").unwrap();
        assert_eq!(read(ours.as_fd(), 8, &[slice(0x100, 8)]).unwrap(), 8);
        theirs.send(b"").unwrap();
        assert_eq!(lost(8, &[slice(0x100, 8)]), io::ErrorKind::UnexpectedEof);
        assert_eq!(lost(8, &[slice(0x100, 8)]), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn more_pieces_than_one_call_takes_are_an_error_before_anything_is_written() {
        let (ours, theirs) = pair();
        let memory = memory();
        let slice = |at| memory.get_slice(GuestAddress(at), 1).unwrap();
        write(ours.as_fd(), b"h", (0..126).map(slice)).unwrap();
        assert_eq!(theirs.recv(&mut [0; 256]).unwrap(), 127);
        let error = write(ours.as_fd(), b"h", (0..127).map(slice)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(theirs.recv(&mut [0; 256]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_frame_is_read_into_more_pieces_than_one_call_takes_if_it_fits_into_those() {
        let (ours, theirs) = pair();
        let memory = memory();
        let buffers: Vec<_> =
            (0..500).map(|at| memory.get_slice(GuestAddress(at), 1).unwrap()).collect();
        theirs.send(&[7; 126]).unwrap();
        assert_eq!(read(ours.as_fd(), 500, &buffers).unwrap(), 126);
        theirs.send(&[7; 127]).unwrap();
        let error = read(ours.as_fd(), 500, &buffers).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
