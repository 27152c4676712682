//! Sockets for datagrams: UDP's, and the pings that a system lets anybody send.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SocketType, ipproto, sockopt};

use super::{failures, family, local, message, open, sys, unless_busy};

/// A port that sends and takes datagrams.
#[derive(Debug)]
pub struct Datagrams(OwnedFd);

/// What has become of a datagram that somebody on its way has sent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Where it was sent to.
    pub to: SocketAddr,
    /// What ICMP, or ICMPv6 where it was sent by IPv6, has said: the type and the code.
    pub icmp: (u8, u8),
    /// How many of its first bytes there are.
    pub len: usize,
}

/// Between whom a datagram came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Arrival {
    /// Who has sent it.
    pub from: SocketAddr,
    /// To which of this host's addresses, if that is known and could be another.
    pub at: Option<IpAddr>,
}

impl Datagrams {
    /// At `address`; port 0: at one that is free. An IPv6 address takes no datagrams by IPv4.
    ///
    /// # Errors
    /// What the operating system says, `AddrInUse` or `PermissionDenied` for instance.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let fd = open(address.ip(), SocketType::DGRAM)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&fd, true)?;
        }
        rustix::net::bind(&fd, &address)?;
        Ok(Self(fd))
    }

    /// At whatever port the system gives it with the first datagram it sends, by the family of `like`.
    ///
    /// # Errors
    /// What the operating system says, when it has no descriptors left for instance.
    pub fn open(like: IpAddr) -> io::Result<Self> {
        Ok(Self(open(like, SocketType::DGRAM)?))
    }

    /// A socket for pings: what it sends are echo requests, whose identifier the system may replace,
    /// and what comes are replies to them.
    ///
    /// # Errors
    /// What the operating system says: `PermissionDenied` where not everybody may send pings.
    pub fn for_pings(like: IpAddr) -> io::Result<Self> {
        let protocol = if like.is_ipv4() { ipproto::ICMP } else { ipproto::ICMPV6 };
        Ok(Self(sys::socket(family(like), SocketType::DGRAM, Some(protocol))?))
    }

    /// Sends to `to` alone, and takes from there alone, from now on.
    ///
    /// # Errors
    /// What the operating system says, `NetworkUnreachable` for instance.
    pub fn connect(&self, to: SocketAddr) -> io::Result<()> {
        Ok(rustix::net::connect(&self.0, &to)?)
    }

    /// Where it is.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local(&self) -> io::Result<SocketAddr> {
        local(&self.0)
    }

    /// Sends one datagram. `false`: not now.
    ///
    /// # Errors
    /// What the operating system says, about an earlier datagram perhaps.
    pub fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<bool> {
        let sent = retry_on_intr(|| rustix::net::sendto(&self.0, bytes, sys::SEND, &to));
        Ok(unless_busy(sent)?.is_some())
    }

    /// Sends one datagram to where the socket is connected. `false`: not now.
    ///
    /// # Errors
    /// As [`Datagrams::send`].
    pub fn send_connected(&self, bytes: &[u8]) -> io::Result<bool> {
        let sent = retry_on_intr(|| rustix::net::send(&self.0, bytes, sys::SEND));
        Ok(unless_busy(sent)?.is_some())
    }

    /// Has [`Datagrams::receive_at`] know which of this host's addresses a datagram was sent to. `like` is
    /// where the socket was bound.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn say_addresses(&self, like: IpAddr) -> io::Result<()> {
        message::say_addresses(&self.0, like)
    }

    /// As [`Datagrams::receive`], with the address that it was sent to, where the socket says addresses.
    ///
    /// # Errors
    /// As there.
    pub fn receive_at(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, Arrival)>> {
        let Some((len, from, at)) = unless_busy(message::receive_at(&self.0, buffer))? else {
            return Ok(None);
        };
        Ok(Some((len, Arrival { from, at })))
    }

    /// Sends one datagram back to where another came from, from the address that it was sent to. `false`:
    /// not now.
    ///
    /// # Errors
    /// As [`Datagrams::send`].
    pub fn answer(&self, bytes: &[u8], to: Arrival) -> io::Result<bool> {
        let Some(at) = to.at else { return self.send(bytes, to.from) };
        match unless_busy(message::send_from(&self.0, bytes, to.from, at)) {
            // Nothing comes from an address of many, a broadcast for instance, or one that is gone.
            Err(_) => self.send(bytes, to.from),
            sent => Ok(sent?.is_some()),
        }
    }

    /// The next datagram, cut to `buffer`, and where it comes from; `None`: there is none yet.
    ///
    /// # Errors
    /// What the operating system says, `ConnectionRefused` about an earlier datagram for instance.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
        let flags = rustix::net::RecvFlags::empty();
        let received = retry_on_intr(|| rustix::net::recvfrom(&self.0, &mut *buffer, flags));
        let Some((len, _, from)) = unless_busy(received)? else { return Ok(None) };
        let from = from.ok_or(Errno::AFNOSUPPORT)?.try_into()?;
        Ok(Some((len, from)))
    }

    /// Keeps from now on what is said about datagrams that could not be delivered
    /// ([`Datagrams::failure`]), and has it end one call of another kind with an error. Where a system
    /// tells nothing about a socket that is not connected, which is macOS, nothing happens.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn keep_failures(&self, like: IpAddr) -> io::Result<()> {
        failures::keep(&self.0, like)
    }

    /// What has become of another datagram that could not be delivered; its first bytes are in
    /// `buffer`. `None`: there is no other.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn failure(&self, buffer: &mut [u8]) -> io::Result<Option<Failure>> {
        failures::next(&self.0, buffer)
    }

    /// The reply in what a socket for pings has received: some systems put an IP header before it.
    pub fn reply(received: &[u8], from: IpAddr) -> &[u8] {
        failures::reply(received, from)
    }
}

impl AsFd for Datagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
