//! Linux keeps what ICMP says about datagrams in a queue of the socket's (ip(7), `IP_RECVERR`).

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};

use super::datagrams::Failure;

/// Bytes of control messages: one of a struct sock_extended_err with the address of who complained.
const CONTROL: usize = 128;

/// `CONTROL` bytes as a control message must lie.
#[repr(C)]
union Control {
    bytes: [u8; CONTROL],
    _align: libc::cmsghdr,
}

pub(super) fn keep(fd: &OwnedFd, like: IpAddr) -> io::Result<()> {
    let (level, name) = match like {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVERR),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    };
    let on: libc::c_int = 1;
    let len = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or_default();
    // SAFETY: both options take an int, which lives as long as the call.
    match unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const on).cast(), len) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
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
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut control = Control { bytes: [0; CONTROL] };
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros are a header without name, vectors and control.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = name.as_mut_ptr().cast();
    header.msg_namelen =
        libc::socklen_t::try_from(size_of::<libc::sockaddr_storage>()).unwrap_or_default();
    header.msg_iov = &raw mut vector;
    super::sys::set_length(&mut header, 1);
    header.msg_control = (&raw mut control).cast();
    set_control_length(&mut header);
    let len = retry_on_intr(|| {
        // SAFETY: the header's name, vector and control live as long as the call and have the lengths
        // that it says.
        let len = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut header, libc::MSG_ERRQUEUE) };
        usize::try_from(len)
            .map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
    })?;
    // SAFETY: all zeros are an address of no family, and the kernel has written one over it at most.
    let to = address(unsafe { name.assume_init_ref() });
    // SAFETY: the kernel has filled in the control messages and their length.
    let icmp = unsafe { icmp(&header) };
    Ok(to.zip(icmp).map(|(to, icmp)| Failure { to, icmp, len }))
}

/// Its type differs among C libraries.
fn set_control_length(header: &mut libc::msghdr) {
    #[allow(clippy::useless_conversion, reason = "glibc's type is usize")]
    {
        header.msg_controllen = CONTROL.try_into().unwrap_or_default();
    }
}

/// What ICMP said, out of the control messages.
///
/// # Safety
/// `header` is one that recvmsg(2) has filled in, and its control messages are still there.
unsafe fn icmp(header: &libc::msghdr) -> Option<(u8, u8)> {
    let kinds = [(libc::IPPROTO_IP, libc::IP_RECVERR), (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)];
    // SAFETY: see above.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return messages that lie in the control, or null.
        let found = unsafe { &*message };
        if kinds.contains(&(found.cmsg_level, found.cmsg_type)) {
            // SAFETY: a message of this kind has a sock_extended_err (linux/errqueue.h), which may lie
            // anywhere.
            let error = unsafe {
                libc::CMSG_DATA(message).cast::<libc::sock_extended_err>().read_unaligned()
            };
            let said = [libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6];
            return said.contains(&error.ee_origin).then_some((error.ee_type, error.ee_code));
        }
        // SAFETY: as for the first one.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
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
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(SocketAddr::new(ip.into(), u16::from_be(name.sin6_port)))
        }
        _ => None,
    }
}

pub(super) fn reply(received: &[u8], _from: IpAddr) -> &[u8] {
    received
}
