//! What the parts of the network are given: an IP packet of the guest's that has passed the checks of
//! its IP header, reassembled if it came in fragments.

use std::net::IpAddr;

use smoltcp::wire::IpProtocol;

use super::fragments::Fragment;
use crate::net::frame::Bytes;

/// The most bytes of transport headers that are copied out of guest memory: TCP's with all its options
/// (60), and those of ICMP with the packet it quotes.
pub(super) const COPIED: usize = 96;

/// What an IP header says, after its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: IpProtocol,
    /// Bytes of the header. Options are not looked at.
    pub(super) len: usize,
    /// Bytes behind it. What the frame has beyond is padding.
    pub(super) body: usize,
    pub(super) hops: u8,
    /// Which part of a datagram this is, when it is not all of it.
    pub(super) fragment: Option<Fragment>,
}

/// An IP packet without its IP header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// Whose it is: an address that the guest may have.
    pub(super) source: IpAddr,
    /// Where it is to go. Not checked against any policy.
    pub(super) destination: IpAddr,
    /// Its first bytes, up to [`COPIED`], as they were when the guest's memory was read once. Whatever
    /// is decided is decided by these.
    pub(super) head: &'a [u8],
    /// All of it, `head`'s bytes included, as they are now.
    pub(super) body: Bytes<'a>,
    /// Whether the guest has left the transport's checksum to others. Otherwise it is to be checked.
    pub(super) unsummed: bool,
}

/// Which part of the network a watched descriptor belongs to: bits 28 to 30 of its key. Below them is
/// whatever number the part gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A TCP connection.
    TcpFlow = 0,
    /// A listening socket.
    TcpListener = 1,
    /// A UDP socket of a guest's port.
    UdpFlow = 2,
    /// A UDP socket that is forwarded.
    UdpForward = 3,
    /// A question to a name server.
    Dns = 4,
    /// A socket for pings.
    Ping = 5,
}

/// The numbers of one owner.
pub(super) const NUMBERS: usize = 1 << 28;

impl Owner {
    const ALL: [Self; 6] =
        [Self::TcpFlow, Self::TcpListener, Self::UdpFlow, Self::UdpForward, Self::Dns, Self::Ping];

    /// The key of this owner's descriptor `number`, which is below [`NUMBERS`].
    pub(super) fn key(self, number: usize) -> usize {
        (self as usize) << 28 | number & (NUMBERS - 1)
    }

    /// Whose key it is, and which number it has there.
    pub(super) fn of(key: usize) -> Option<(Self, usize)> {
        let owner = Self::ALL.get(key >> 28)?;
        Some((*owner, key & (NUMBERS - 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_leads_back_to_its_owner() {
        for (index, owner) in Owner::ALL.into_iter().enumerate() {
            assert_eq!(owner as usize, index);
            for number in [0, 1, NUMBERS - 1] {
                assert_eq!(Owner::of(owner.key(number)), Some((owner, number)));
            }
        }
        assert_eq!(Owner::of(6 << 28), None);
        assert_eq!(Owner::of(usize::MAX), None);
    }
}
