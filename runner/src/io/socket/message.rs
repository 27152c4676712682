//! Datagrams with what the system says beside them (recvmsg(2), cmsg(3)): which of our addresses one was
//! sent to, or what has become of an earlier one. And the other way: from which address one goes.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};

use super::{last_error, sys};

/// Level and type of a control message.
pub(super) type Kind = (libc::c_int, libc::c_int);

/// Bytes of control messages: the longest has an error, and the address of who complained.
const CONTROL: usize = 128;

/// The most that is looked at of one message's data, and the most that is sent.
const DATA: usize = size_of::<libc::in6_pktinfo>();

/// Which of our addresses is meant: struct in_pktinfo and struct in6_pktinfo.
const ADDRESSES: [Kind; 2] =
    [(libc::IPPROTO_IP, libc::IP_PKTINFO), (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO)];

/// What has the system say it of each datagram.
const SAY_ADDRESSES: [Kind; 2] =
    [(libc::IPPROTO_IP, libc::IP_PKTINFO), (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)];

/// `CONTROL` bytes as a control message must lie.
#[repr(C)]
union Space {
    bytes: [u8; CONTROL],
    _align: libc::cmsghdr,
}

/// What comes with a datagram, or goes with one.
pub(super) struct Control {
    space: Space,
    len: usize,
}

impl Control {
    fn new(len: usize) -> Self {
        Self { space: Space { bytes: [0; CONTROL] }, len: len.min(CONTROL) }
    }

    /// One message, of at most [`DATA`] bytes.
    fn with((level, kind): Kind, data: &[u8]) -> Self {
        let len = libc::c_uint::try_from(data.len()).unwrap_or_default();
        // SAFETY: both compute with numbers alone.
        let (space, own) = unsafe { (libc::CMSG_SPACE(len), libc::CMSG_LEN(len)) };
        let mut control = Self::new(usize::try_from(space).unwrap_or(CONTROL));
        let header = control.header();
        // SAFETY: the header's control is zeros that belong to us. The message is where it begins, with
        // room for what `CMSG_SPACE` has counted.
        unsafe {
            let message = libc::CMSG_FIRSTHDR(&raw const header);
            if !message.is_null() {
                ((*message).cmsg_level, (*message).cmsg_type) = (level, kind);
                set(&mut (*message).cmsg_len, own);
                libc::CMSG_DATA(message).copy_from_nonoverlapping(data.as_ptr(), data.len());
            }
        }
        control
    }

    /// A header with these control messages, and nothing else. For as long as they stay where they are.
    fn header(&mut self) -> libc::msghdr {
        // SAFETY: all zeros are a header without name, vectors and control.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_control = (&raw mut self.space).cast();
        set(&mut header.msg_controllen, self.len);
        header
    }

    /// The data of the first message of one of these kinds, and what is behind it, up to [`DATA`] bytes.
    pub(super) fn find(&mut self, kinds: &[Kind]) -> Option<[u8; DATA]> {
        let header = self.header();
        // SAFETY: the control is as the kernel has left it: zeros, and whole messages over them.
        let mut message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        while !message.is_null() {
            // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return messages that lie in the control, or null.
            let found = unsafe { &*message };
            if kinds.contains(&(found.cmsg_level, found.cmsg_type)) {
                // SAFETY: only the place is computed, which is behind the header.
                let at = unsafe { libc::CMSG_DATA(message) };
                let skip = at.addr().saturating_sub((&raw const self.space).addr());
                // SAFETY: every byte of the control was written, if only with zeros.
                let bytes = unsafe { &self.space.bytes };
                let mut data = [0; DATA];
                let there = bytes.iter().take(self.len).skip(skip);
                data.iter_mut().zip(there).for_each(|(to, from)| *to = *from);
                return Some(data);
            }
            // SAFETY: as for the first one.
            message = unsafe { libc::CMSG_NXTHDR(&raw const header, message) };
        }
        None
    }
}

/// Lengths have types that differ among C libraries.
fn set<T: Default, L: TryInto<T>>(place: &mut T, len: L) {
    *place = len.try_into().unwrap_or_default();
}

/// Turns an option on that takes an int.
pub(super) fn turn_on(fd: &OwnedFd, (level, name): Kind) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or_default();
    // SAFETY: the option takes an int, which lives as long as the call.
    match unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const on).cast(), len) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Has [`receive_at`] know the address that a datagram was sent to.
pub(super) fn say_addresses(fd: &OwnedFd, like: IpAddr) -> io::Result<()> {
    let [four, six] = SAY_ADDRESSES;
    turn_on(fd, if like.is_ipv4() { four } else { six })
}

/// A datagram, cut to `buffer`: its bytes, where it comes from, and what the system says beside it.
pub(super) fn receive(
    fd: &OwnedFd,
    buffer: &mut [u8],
    flags: libc::c_int,
) -> Result<(usize, Option<SocketAddr>, Control), Errno> {
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control::new(CONTROL);
    let mut header = control.header();
    header.msg_name = name.as_mut_ptr().cast();
    set(&mut header.msg_namelen, size_of::<libc::sockaddr_storage>());
    header.msg_iov = &raw mut vector;
    sys::set_length(&mut header, 1);
    let len = retry_on_intr(|| {
        // SAFETY: the header's name, vector and control live as long as the call and have the lengths
        // that it says.
        let len = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, flags) };
        usize::try_from(len).map_err(|_| last_error())
    })?;
    set(&mut control.len, header.msg_controllen);
    control.len = control.len.min(CONTROL);
    // SAFETY: all zeros are an address of no family, and the kernel has written one over it at most.
    let from = address(unsafe { name.assume_init_ref() });
    Ok((len, from, control))
}

/// A datagram, where it comes from, and the address of ours that it was sent to, if the system says so.
pub(super) fn receive_at(
    fd: &OwnedFd,
    buffer: &mut [u8],
) -> Result<(usize, SocketAddr, Option<IpAddr>), Errno> {
    let (len, from, mut control) = receive(fd, buffer, 0)?;
    let from = from.ok_or(Errno::AFNOSUPPORT)?;
    let info = control.find(&ADDRESSES);
    let at = info.and_then(|info| match from {
        // Behind the interface and another address.
        SocketAddr::V4(_) => Some(Ipv4Addr::from(*info.get(8..)?.first_chunk::<4>()?).into()),
        SocketAddr::V6(_) => Some(Ipv6Addr::from(*info.first_chunk::<16>()?).into()),
    });
    Ok((len, from, at))
}

/// Sends a datagram to `to` from `from`, one of our addresses.
pub(super) fn send_from(
    fd: &OwnedFd,
    bytes: &[u8],
    to: SocketAddr,
    from: IpAddr,
) -> Result<usize, Errno> {
    let [four, six] = ADDRESSES;
    let mut control = match from {
        IpAddr::V4(from) => {
            // The interface is the kernel's to choose.
            let mut info = [0; size_of::<libc::in_pktinfo>()];
            info.iter_mut().skip(4).zip(from.octets()).for_each(|(place, byte)| *place = byte);
            Control::with(four, &info)
        }
        IpAddr::V6(from) => {
            let mut info = [0; DATA];
            info.iter_mut().zip(from.octets()).for_each(|(place, byte)| *place = byte);
            Control::with(six, &info)
        }
    };
    let (mut name, len) = sockaddr(to);
    let mut vector =
        libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut header = control.header();
    header.msg_name = (&raw mut name).cast();
    set(&mut header.msg_namelen, len);
    header.msg_iov = &raw mut vector;
    sys::set_length(&mut header, 1);
    retry_on_intr(|| {
        // SAFETY: the header's name, vector and control live as long as the call, which writes to none
        // of them.
        let sent = unsafe {
            libc::sendmsg(fd.as_raw_fd(), &raw const header, sys::SEND.bits().cast_signed())
        };
        usize::try_from(sent).map_err(|_| last_error())
    })
}

/// The system's form of an address, and its length.
fn sockaddr(address: SocketAddr) -> (libc::sockaddr_storage, usize) {
    // SAFETY: all zeros are an address of no family.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let place = &raw mut storage;
    match address {
        SocketAddr::V4(address) => {
            // SAFETY: there is room and alignment for an address of any family.
            let name = unsafe { &mut *place.cast::<libc::sockaddr_in>() };
            set(&mut name.sin_family, libc::AF_INET.unsigned_abs());
            name.sin_port = address.port().to_be();
            name.sin_addr.s_addr = address.ip().to_bits().to_be();
            (storage, size_of::<libc::sockaddr_in>())
        }
        SocketAddr::V6(address) => {
            // SAFETY: as above.
            let name = unsafe { &mut *place.cast::<libc::sockaddr_in6>() };
            set(&mut name.sin6_family, libc::AF_INET6.unsigned_abs());
            name.sin6_port = address.port().to_be();
            name.sin6_addr.s6_addr = address.ip().octets();
            name.sin6_scope_id = address.scope_id();
            (storage, size_of::<libc::sockaddr_in6>())
        }
    }
}

fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: a name of this family is a sockaddr_in, which is smaller and aligned the same.
            let name = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from_bits(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddr::new(ip.into(), u16::from_be(name.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, of a sockaddr_in6.
            let name = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            let (ip, port) = (Ipv6Addr::from(name.sin6_addr.s6_addr), u16::from_be(name.sin6_port));
            Some(SocketAddrV6::new(ip, port, 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}
