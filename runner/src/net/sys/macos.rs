//! macOS has no tap devices: vmnet stands in for them, behind a helper's socket.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use tempfile::TempPath;

use crate::net::tap::Error;

/// None.
pub(in crate::net) const OFFLOADS: u64 = 0;

/// A tap device: its descriptor, its name, its MTU. There is none.
pub(in crate::net) type Tap = (OwnedFd, String, u16);

/// Refused.
pub(in crate::net) fn open(_name: Option<&str>, _bridge: Option<&str>) -> Result<Tap, Error> {
    Err(Error::System)
}

/// Refused.
pub(in crate::net) fn set_offload(_fd: BorrowedFd<'_>, _features: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A datagram socket with an address of its own, and the file that it is.
pub(in crate::net) fn own_socket() -> io::Result<(UnixDatagram, Option<TempPath>)> {
    let made = tempfile::Builder::new().prefix("runner-").make(|path| UnixDatagram::bind(path))?;
    let (socket, path) = made.into_parts();
    Ok((socket, Some(path)))
}
