//! Sockets: opened, read and written here alone. None of them waits: what cannot be done now says so,
//! and whoever wants it done has the socket watched ([`super::event_loop::Watcher`]).
//!
//! Bytes of streams are sent straight out of guest memory, and read into memory of ours; datagrams are
//! of ours both ways. Nothing is allocated. No write to a socket whose other end is gone raises SIGPIPE.

// UNSAFETY: guest memory is handed to sendmsg as raw ranges, and control messages are read and written,
// which no safe interface does.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendFlags, SocketType, sockopt};
use vm_memory::VolatileSlice;

use super::sys;

mod datagrams;
#[cfg_attr(target_os = "linux", path = "socket/sys/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "socket/sys/macos.rs")]
mod failures;
pub mod local;
mod message;

pub use datagrams::{Arrival, Datagrams, Failure};

/// Pieces of guest memory in one call. A frame of a Linux guest's has 18 at most.
const PIECES: usize = 32;

/// Connections that wait to be accepted, as far as the system allows so many: one for which there is no
/// room tries again after a second. What the guest is given is bounded elsewhere.
const BACKLOG: i32 = 4096;

fn open(like: IpAddr, kind: SocketType) -> io::Result<OwnedFd> {
    Ok(sys::socket(family(like), kind, None)?)
}

fn family(like: IpAddr) -> AddressFamily {
    match like {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    }
}

/// Where the socket is.
fn local(fd: &OwnedFd) -> io::Result<SocketAddr> {
    Ok(rustix::net::getsockname(fd)?.try_into()?)
}

/// `None` instead of an error that says "not now".
fn unless_busy<T>(result: Result<T, Errno>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Writes what `fd` takes of `buffers` now.
fn write(fd: &OwnedFd, buffers: [&[u8]; 2]) -> io::Result<usize> {
    let buffers = buffers.map(IoSlice::new);
    let sent = retry_on_intr(|| {
        let mut nothing = SendAncillaryBuffer::default();
        rustix::net::sendmsg(fd, &buffers, &mut nothing, sys::SEND)
    });
    Ok(unless_busy(sent)?.unwrap_or(0))
}

/// The same with guest memory.
fn write_guest<'a>(
    fd: &OwnedFd,
    pieces: impl Iterator<Item = VolatileSlice<'a>>,
) -> io::Result<usize> {
    let mut pieces = pieces.fuse();
    let mut written = 0usize;
    loop {
        let vectors = Vectors::gather(&mut pieces);
        if vectors.is_empty() {
            return Ok(written);
        }
        let sent = match unless_busy(vectors.send(fd.as_fd())) {
            Err(_) if written > 0 => return Ok(written),
            sent => sent?.unwrap_or(0),
        };
        written = written.saturating_add(sent);
        if sent < vectors.bytes {
            return Ok(written);
        }
    }
}

/// A connection of TCP's.
#[derive(Debug)]
pub struct Stream(OwnedFd);

impl Stream {
    /// Begins to connect to `to`. It is done, or has failed, when [`Stream::connected`] says so, which
    /// is worth asking whenever it becomes writable.
    ///
    /// # Errors
    /// What the operating system says at once.
    pub fn connect(to: SocketAddr) -> io::Result<Self> {
        let stream = Self(open(to.ip(), SocketType::STREAM)?);
        stream.prepare()?;
        match rustix::net::connect(&stream.0, &to) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(stream),
            Err(error) => Err(error.into()),
        }
    }

    /// What every connection has: small writes leave at once, and a peer that is gone is found out.
    fn prepare(&self) -> io::Result<()> {
        sockopt::set_tcp_nodelay(&self.0, true)?;
        Ok(sockopt::set_socket_keepalive(&self.0, true)?)
    }

    /// Whether the connection is there; `false` while it is being made.
    ///
    /// # Errors
    /// Why it could not be made.
    pub fn connected(&self) -> io::Result<bool> {
        self.error()?;
        match rustix::net::getpeername(&self.0) {
            Ok(_) => Ok(true),
            // Some systems say the second when the connection has failed meanwhile.
            Err(Errno::NOTCONN | Errno::INVAL) => self.error().map(|()| false),
            Err(error) => Err(error.into()),
        }
    }

    /// What has gone wrong since it was last asked (SO_ERROR).
    ///
    /// # Errors
    /// That.
    pub fn error(&self) -> io::Result<()> {
        Ok(sockopt::socket_error(&self.0)??)
    }

    /// Asks the other end, every `interval` in which nothing comes, whether it is still there.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn probe_every(&self, interval: Duration) -> io::Result<()> {
        sockopt::set_tcp_keepidle(&self.0, interval)?;
        Ok(sockopt::set_tcp_keepintvl(&self.0, interval)?)
    }

    /// Reads into `buffers`, in this order. `None`: there is nothing yet. 0: the other end sends no
    /// more.
    ///
    /// # Errors
    /// What the operating system says, `ConnectionReset` for one.
    pub fn read(&self, buffers: [&mut [u8]; 2]) -> io::Result<Option<usize>> {
        let mut buffers = buffers.map(IoSliceMut::new);
        unless_busy(retry_on_intr(|| rustix::io::readv(&self.0, &mut buffers)))
    }

    /// Writes what it takes of `buffers` now, and returns how many bytes those are.
    ///
    /// # Errors
    /// What the operating system says, `ConnectionReset` or `BrokenPipe` for instance.
    pub fn write(&self, buffers: [&[u8]; 2]) -> io::Result<usize> {
        write(&self.0, buffers)
    }

    /// Writes what it takes of guest memory now, and returns how many bytes those are.
    ///
    /// # Errors
    /// As [`Stream::write`]. Not when some bytes have been taken: then the next call says it.
    pub fn write_guest<'a>(
        &self,
        pieces: impl Iterator<Item = VolatileSlice<'a>>,
    ) -> io::Result<usize> {
        write_guest(&self.0, pieces)
    }

    /// Says that nothing more is written: the other end reads to the last byte, and then an end.
    ///
    /// # Errors
    /// What the operating system says, `NotConnected` when the other end has reset it.
    pub fn shut(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0, rustix::net::Shutdown::Write)?)
    }

    /// Closes it so that the other end is told of a reset, and what was not sent is lost.
    pub fn reset(self) {
        // Where this fails, it is closed all the same, more politely.
        let _ = sockopt::set_socket_linger(&self.0, Some(Duration::ZERO));
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A port that takes connections of TCP's.
#[derive(Debug)]
pub struct Acceptor(OwnedFd);

impl Acceptor {
    /// Listens at `address`. An IPv6 address takes no connections by IPv4.
    ///
    /// # Errors
    /// What the operating system says, `AddrInUse` or `PermissionDenied` for instance.
    pub fn listen(address: SocketAddr) -> io::Result<Self> {
        let fd = open(address.ip(), SocketType::STREAM)?;
        // Else a port that was ours a moment ago is taken for a minute.
        sockopt::set_socket_reuseaddr(&fd, true)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&fd, true)?;
        }
        rustix::net::bind(&fd, &address)?;
        rustix::net::listen(&fd, BACKLOG)?;
        Ok(Self(fd))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local(&self) -> io::Result<SocketAddr> {
        local(&self.0)
    }

    /// The next connection and where it comes from; `None`: there is none yet.
    ///
    /// # Errors
    /// What the operating system says, when it has no descriptors left for instance.
    pub fn accept(&self) -> io::Result<Option<(Stream, SocketAddr)>> {
        loop {
            let (fd, from) = match sys::accept(&self.0) {
                // Gone before we came.
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                accepted => match unless_busy(accepted)? {
                    Some(accepted) => accepted,
                    None => return Ok(None),
                },
            };
            let stream = Stream(fd);
            // macOS refuses both for a connection that has been reset already.
            if let (Some(from), Ok(())) = (from, stream.prepare()) {
                return Ok(Some((stream, from.try_into()?)));
            }
        }
    }
}

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Pieces of guest memory for one call.
struct Vectors {
    vectors: [libc::iovec; PIECES],
    count: usize,
    bytes: usize,
}

impl Vectors {
    /// As many pieces as fit. What they point to is valid for as long as the guest memory they come
    /// from, which the caller borrows.
    fn gather<'a>(pieces: &mut impl Iterator<Item = VolatileSlice<'a>>) -> Self {
        let nothing = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut all = Self { vectors: [nothing; PIECES], count: 0, bytes: 0 };
        for (vector, piece) in all.vectors.iter_mut().zip(pieces) {
            vector.iov_base = piece.ptr_guard_mut().as_ptr().cast();
            vector.iov_len = piece.len();
            all.count = all.count.saturating_add(1);
            all.bytes = all.bytes.saturating_add(piece.len());
        }
        all
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One readv(2), repeated when a signal ended it.
    fn receive(&self, fd: BorrowedFd<'_>) -> Result<usize, Errno> {
        let count = libc::c_int::try_from(self.count).unwrap_or_default();
        retry_on_intr(|| {
            // SAFETY: as for sending; and what is read into guest memory may be anything.
            let read = unsafe { libc::readv(fd.as_raw_fd(), self.vectors.as_ptr(), count) };
            usize::try_from(read).map_err(|_| last_error())
        })
    }

    /// One sendmsg(2), repeated when a signal ended it.
    fn send(&self, fd: BorrowedFd<'_>) -> Result<usize, Errno> {
        // SAFETY: all zeros are a header without name, vectors and control.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = self.vectors.as_ptr().cast_mut();
        sys::set_length(&mut header, self.count);
        let flags = sys::SEND.union(SendFlags::DONTWAIT).bits().cast_signed();
        retry_on_intr(|| {
            // SAFETY: every vector is a range of guest memory that outlives the call, and guest memory
            // is plain bytes that anybody may write at any time.
            let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const header, flags) };
            usize::try_from(sent).map_err(|_| last_error())
        })
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests;
