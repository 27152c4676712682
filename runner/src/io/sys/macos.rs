//! What macOS, and any system but Linux, does this way.

// UNSAFETY: sysctlbyname and F_PUNCHHOLE have no safe interface.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{
    AddressFamily, Protocol, SendFlags, SocketAddrAny, SocketType, acceptfrom, sockopt,
};

use crate::io::lock::Holder;
use crate::net::Transport;

pub(super) use crate::io::posix::{Set, event, lock, unlock};

/// RAM in bytes: sysctl `hw.memsize` (sysctl(3)).
pub(super) fn host_memory() -> Option<u64> {
    let mut bytes = 0u64;
    let mut len = size_of::<u64>();
    // SAFETY: the buffer is a u64 and `len` its size; nothing is set.
    let result = unsafe {
        libc::sysctlbyname(
            c"hw.memsize".as_ptr(),
            (&raw mut bytes).cast(),
            &raw mut len,
            std::ptr::null_mut(),
            0,
        )
    };
    (result == 0 && len == size_of::<u64>()).then_some(bytes)
}

/// There is no such wish.
pub(super) fn give_way() {}

/// The system does not say who has a file open without a private interface.
pub(super) fn holders(_file: &File) -> Vec<Holder> {
    Vec::new()
}

/// Nor who listens at a port.
pub(super) fn port_holders(_: Transport, _: u16) -> Vec<Holder> {
    Vec::new()
}

/// There is no such read here.
pub(super) fn read_cached(_: &File, _: &[libc::iovec], _: i64) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// fcntl(2), F_PUNCHHOLE: a hole, which reads as zeros. Both ends must be the file system's blocks'.
#[cfg(target_os = "macos")] // no other system but Linux has holes to punch in libc
pub(super) fn punch_hole(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let narrow = |value| libc::off_t::try_from(value).map_err(|_| io::ErrorKind::InvalidInput);
    let hole = libc::fpunchhole_t {
        fp_flags: 0,
        reserved: 0,
        fp_offset: narrow(offset)?,
        fp_length: narrow(len)?,
    };
    // SAFETY: F_PUNCHHOLE reads an fpunchhole_t, which lives as long as the call.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PUNCHHOLE, &raw const hole) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(not(target_os = "macos"))] // see above
pub(super) fn punch_hole(_: &File, _: u64, _: u64) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
}

/// It is not told.
pub(super) fn listener(_: &OwnedFd) -> Option<Holder> {
    None
}

/// The system has no such call.
pub(super) fn zero_range(_: &File, _: u64, _: u64) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
}

/// The system has DKIOCUNMAP for this, whose structures are not in libc.
pub(super) fn discard_on_device(_: &File, _: u64, _: u64) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
}

/// Flags of everything that is sent: the socket itself knows of no SIGPIPE.
pub(super) const SEND: SendFlags = SendFlags::empty();

/// A socket that does not wait, and that no child has.
pub(super) fn socket(
    family: AddressFamily,
    kind: SocketType,
    protocol: Option<Protocol>,
) -> Result<OwnedFd, Errno> {
    prepare(rustix::net::socket(family, kind, protocol)?)
}

/// The next connection, which does not wait either, and where it comes from.
pub(super) fn accept(fd: &OwnedFd) -> Result<(OwnedFd, Option<SocketAddrAny>), Errno> {
    let (fd, from) = acceptfrom(fd)?;
    Ok((prepare(fd)?, from))
}

fn prepare(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    fcntl_setfl(&fd, OFlags::NONBLOCK)?;
    // A connection that was reset before it was accepted has no options to set, and raises no signal.
    match sockopt::set_socket_nosigpipe(&fd, true) {
        Err(Errno::INVAL) | Ok(()) => Ok(fd),
        Err(error) => Err(error),
    }
}

/// How many vectors a message has.
pub(super) fn set_length(header: &mut libc::msghdr, count: usize) {
    header.msg_iovlen = count.try_into().unwrap_or_default();
}
