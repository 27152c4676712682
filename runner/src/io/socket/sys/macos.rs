//! macOS says nothing about datagrams of a socket that is not connected, and puts the IP header before
//! what a socket for pings receives.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use super::datagrams::Failure;

#[expect(clippy::unnecessary_wraps, reason = "other systems make a call")]
pub(super) fn keep(_: &OwnedFd, _: IpAddr) -> io::Result<()> {
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "as above")]
pub(super) fn next(_: &OwnedFd, _: &mut [u8]) -> io::Result<Option<Failure>> {
    Ok(None)
}

/// Without the header: four times as many bytes as its first byte's lower half says.
pub(super) fn reply(received: &[u8], from: IpAddr) -> &[u8] {
    let words = received.first().map_or(0, |first| usize::from(first & 0xf));
    let header = if from.is_ipv4() { words.saturating_mul(4) } else { 0 };
    received.get(header..).unwrap_or_default()
}
