//! Ports of the host's that lead to the guest.

use std::io;
use std::net::SocketAddr;

use crate::io::socket::Acceptor;
use crate::net::Forward;

/// A port that listens. Bound before the jail, and before the guest is there: whoever connects waits
/// until the guest answers.
#[derive(Debug)]
pub(in super::super) struct Listener {
    pub(super) acceptor: Acceptor,
    /// The guest's port.
    pub(super) guest: u16,
    local: SocketAddr,
    /// Whether there may be connections to accept.
    pub(super) pending: bool,
}

impl Listener {
    /// Listens where `forward` says.
    ///
    /// # Errors
    /// What the operating system says, `AddrInUse` for instance.
    pub(in super::super) fn bind(forward: Forward) -> io::Result<Self> {
        let acceptor = Acceptor::listen(forward.host)?;
        let local = acceptor.local()?;
        Ok(Self { acceptor, guest: forward.guest, local, pending: false })
    }

    /// Where it listens: with the port that was free, if any was asked for.
    pub(in super::super) fn local(&self) -> SocketAddr {
        self.local
    }
}
