//! Linux keeps what ICMP says about datagrams in a queue of the socket's (ip(7), `IP_RECVERR`).

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::datagrams::Failure;
use super::message::{self, Kind};

/// What turns that on, and is said then (linux/errqueue.h).
const ERRORS: [Kind; 2] =
    [(libc::IPPROTO_IP, libc::IP_RECVERR), (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)];

pub(super) fn keep(fd: &OwnedFd, like: IpAddr) -> io::Result<()> {
    let [four, six] = ERRORS;
    message::turn_on(fd, if like.is_ipv4() { four } else { six })
}

pub(super) fn next(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<Failure>> {
    loop {
        match read(fd, buffer) {
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
            // Of this host's own making: the call that sent it has said so already.
            Ok(None) => {}
            Ok(failure) => return Ok(failure),
        }
    }
}

/// Takes one out of the queue. `None`: it is not about what ICMP has said.
fn read(fd: &OwnedFd, buffer: &mut [u8]) -> Result<Option<Failure>, Errno> {
    let (len, to, mut control) = message::receive(fd, buffer, libc::MSG_ERRQUEUE)?;
    // struct sock_extended_err: the error's number, and whose it is.
    let icmp = control.find(&ERRORS).and_then(|[_, _, _, _, origin, kind, code, ..]| {
        let said = [libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6];
        said.contains(&origin).then_some((kind, code))
    });
    Ok(to.zip(icmp).map(|(to, icmp)| Failure { to, icmp, len }))
}

pub(super) fn reply(received: &[u8], _from: IpAddr) -> &[u8] {
    received
}
