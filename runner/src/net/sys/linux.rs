//! Tap devices as Linux has them (Documentation/networking/tuntap.rst, `include/uapi/linux/if_tun.h`)
//! and what is done to network interfaces (netdevice(7), `include/uapi/linux/sockios.h`).

// UNSAFETY: ioctl(2) has no safe interface, as it trusts that a request's argument is what it takes.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, Opcode, Setter, Updater, ioctl};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tempfile::TempPath;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
    VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
};

use crate::net::frame::HEADER;
use crate::net::tap::Error;

/// What a tap device can do for a guest: checksums and segmentation both ways.
pub(in crate::net) const OFFLOADS: u64 = 1 << VIRTIO_NET_F_CSUM
    | 1 << VIRTIO_NET_F_HOST_TSO4
    | 1 << VIRTIO_NET_F_HOST_TSO6
    | 1 << VIRTIO_NET_F_GUEST_CSUM
    | 1 << VIRTIO_NET_F_GUEST_TSO4
    | 1 << VIRTIO_NET_F_GUEST_TSO6;

const CONTROL: &str = "/dev/net/tun";

/// Kernels of ours are for 64 bits, where these are the same on all architectures.
const SET_INTERFACE: Opcode = 0x4004_54ca;
const SET_OFFLOAD: Opcode = 0x4004_54d0;
const SET_HEADER_SIZE: Opcode = 0x4004_54d8;
const GET_FLAGS: Opcode = 0x8913;
const SET_FLAGS: Opcode = 0x8914;
const GET_MTU: Opcode = 0x8921;
const GET_INDEX: Opcode = 0x8933;
const ETHTOOL: Opcode = 0x8946;
const ADD_TO_BRIDGE: Opcode = 0x89a2;

const IFF_UP: i16 = 1;
const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;

const TUN_F_CSUM: usize = 1;
const TUN_F_TSO4: usize = 2;
const TUN_F_TSO6: usize = 4;

/// struct ifreq: an interface's name, and a union.
#[repr(C)]
#[derive(Clone, Copy)]
struct Request {
    name: [u8; 16],
    value: [u8; 24],
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());

impl Request {
    fn new(name: &str) -> Self {
        let mut request = Self { name: [0; 16], value: [0; 24] };
        // The last stays NUL.
        for (to, from) in request.name.iter_mut().take(15).zip(name.bytes()) {
            *to = from;
        }
        request
    }

    fn name(&self) -> String {
        let name = self.name.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }

    fn set(&mut self, value: &[u8]) {
        for (to, from) in self.value.iter_mut().zip(value) {
            *to = *from;
        }
    }

    fn flags(&self) -> i16 {
        self.value.first_chunk().map_or(0, |bytes| i16::from_ne_bytes(*bytes))
    }

    fn number(&self) -> i32 {
        self.value.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes))
    }

    /// Has `OPCODE` read and write it.
    fn carry_out<const OPCODE: Opcode>(&mut self, fd: impl AsFd) -> io::Result<()> {
        // SAFETY: every request that is made here takes a pointer to a struct ifreq, whose layout this
        // is, and keeps none; the one that has a pointer in it has one to a `Driver`.
        Ok(unsafe { ioctl(fd, Updater::<OPCODE, Request>::new(self)) }?)
    }
}

/// struct ethtool_drvinfo (`include/uapi/linux/ethtool.h`): a command, a driver's name, and more.
#[repr(C)]
struct Driver {
    command: u32,
    name: [u8; 32],
    rest: [u8; 160],
}

/// ETHTOOL_GDRVINFO.
const GET_DRIVER: u32 = 3;

const _: () = assert!(size_of::<Driver>() == 196);

/// Whether the interface `name` is something else than a bridge. Anybody may ask; where the kernel does
/// not say, it may be one.
fn is_another_kind(socket: BorrowedFd<'_>, name: &str) -> bool {
    let mut driver = Driver { command: GET_DRIVER, name: [0; 32], rest: [0; 160] };
    let mut request = Request::new(name);
    request.set(&(&raw mut driver).expose_provenance().to_ne_bytes());
    // The kernel writes into `driver`, which is as long as the command has it, while the call lasts.
    match request.carry_out::<ETHTOOL>(socket) {
        Ok(()) => !driver.name.starts_with(b"bridge\0"),
        Err(error) => error.raw_os_error() == Some(libc::EOPNOTSUPP),
    }
}

/// A tap device: its descriptor, its name, its MTU.
pub(in crate::net) type Tap = (OwnedFd, String, u16);

/// Opens the tap device `name`, which is made where it is for `bridge` and we may; `None` makes one with a
/// name of the kernel's choice. It is put into `bridge`, and is up.
pub(in crate::net) fn open(name: Option<&str>, bridge: Option<&str>) -> Result<Tap, Error> {
    let socket = control_socket()
        .map_err(|error| Error::Refused { name: name.unwrap_or_default().to_owned(), error })?;
    if let Some(bridge) = bridge {
        let found = Request::new(bridge).carry_out::<GET_INDEX>(&socket);
        found.map_err(|_| Error::NoBridge { bridge: bridge.to_owned() })?;
        if is_another_kind(socket.as_fd(), bridge) {
            return Err(Error::NotBridge { name: bridge.to_owned() });
        }
    }
    let fd = open_control()?;
    if let (Some(name), None) = (name, bridge) {
        // The kernel would make it for root, and nobody is at the other end of a device of a mistyped name.
        let found = Request::new(name).carry_out::<GET_INDEX>(&socket);
        found.map_err(|_| Error::MayNot { name: name.to_owned() })?;
    }
    let mut request = Request::new(name.unwrap_or("runner%d"));
    request.set(&(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR).to_ne_bytes());
    let asked = || name.or(bridge).unwrap_or_default().to_owned();
    request.carry_out::<SET_INTERFACE>(&fd).map_err(|error| {
        let name = asked();
        match error.raw_os_error() {
            Some(libc::EPERM) => match (name.as_str(), bridge) {
                (_, Some(bridge)) => Error::MayNotBridge { bridge: bridge.into() },
                (_, None) => Error::MayNot { name },
            },
            Some(libc::EBUSY) => Error::Busy { name },
            Some(libc::EINVAL) => Error::Kind { name },
            _ => Error::Refused { name, error },
        }
    })?;
    let name = request.name();
    let refused = |error| Error::Refused { name: name.clone(), error };
    let size = i32::try_from(HEADER).unwrap_or_default();
    // SAFETY: TUNSETVNETHDRSZ takes a pointer to an int, and keeps none.
    unsafe { ioctl(&fd, Setter::<SET_HEADER_SIZE, i32>::new(size)) }
        .map_err(|error| refused(error.into()))?;
    if let Some(bridge) = bridge {
        join(socket.as_fd(), &name, bridge)?;
    }
    up(socket.as_fd(), &name)?;
    let mut request = Request::new(&name);
    request.carry_out::<GET_MTU>(&socket).map_err(refused)?;
    // virtio has it in 16 bits, and none below 68 is allowed (§5.1.4.1).
    let mtu = u16::try_from(request.number()).unwrap_or(u16::MAX).max(68);
    Ok((fd, name, mtu))
}

fn open_control() -> Result<OwnedFd, Error> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(CONTROL, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOENT | Errno::NXIO | Errno::NODEV => Error::NoDriver,
        Errno::ACCESS | Errno::PERM => Error::NoAccess,
        other => Error::Refused { name: CONTROL.into(), error: other.into() },
    })
}

/// Any socket will do for requests about interfaces.
fn control_socket() -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
    Ok(rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?)
}

/// Puts the interface `name` into `bridge`, if it is not there.
fn join(socket: BorrowedFd<'_>, name: &str, bridge: &str) -> Result<(), Error> {
    let master = Path::new("/sys/class/net").join(name).join("master");
    let master = std::fs::read_link(master).ok();
    let master = master.as_deref().and_then(Path::file_name);
    if master.is_some_and(|master| master == bridge) {
        return Ok(());
    }
    let mut request = Request::new(name);
    let index = request.carry_out::<GET_INDEX>(socket).map(|()| request.number());
    let refused = |error| Error::Refused { name: name.to_owned(), error };
    let mut request = Request::new(bridge);
    request.set(&index.map_err(refused)?.to_ne_bytes());
    let (name, bridge) = (name.to_owned(), bridge.to_owned());
    request.carry_out::<ADD_TO_BRIDGE>(socket).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => Error::NotInBridge { name, bridge },
        Some(libc::EBUSY) => Error::OtherBridge { name, bridge },
        Some(libc::ENODEV) => Error::NoBridge { bridge },
        Some(libc::EOPNOTSUPP) => Error::NotBridge { name: bridge },
        _ => Error::Refused { name: bridge, error },
    })
}

/// Brings the interface up, or says that somebody else has to.
fn up(socket: BorrowedFd<'_>, name: &str) -> Result<(), Error> {
    let refused = |error| Error::Refused { name: name.to_owned(), error };
    let mut request = Request::new(name);
    request.carry_out::<GET_FLAGS>(socket).map_err(refused)?;
    let flags = request.flags();
    if flags & IFF_UP != 0 {
        return Ok(());
    }
    request.set(&(flags | IFF_UP).to_ne_bytes());
    match request.carry_out::<SET_FLAGS>(socket) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(Error::Down { name: name.to_owned() })
        }
        result => result.map_err(refused),
    }
}

/// What the guest can do with frames, by its features: what it cannot, the kernel does for it.
pub(in crate::net) fn set_offload(fd: BorrowedFd<'_>, features: u64) -> io::Result<()> {
    let has = |feature: u32| features & 1 << feature != 0;
    let mut flags = 0;
    // Without checksums there is no segmentation.
    if has(VIRTIO_NET_F_GUEST_CSUM) {
        flags |= TUN_F_CSUM;
        flags |= if has(VIRTIO_NET_F_GUEST_TSO4) { TUN_F_TSO4 } else { 0 };
        flags |= if has(VIRTIO_NET_F_GUEST_TSO6) { TUN_F_TSO6 } else { 0 };
    }
    // SAFETY: TUNSETOFFLOAD takes a number and no pointer.
    Ok(unsafe { ioctl(fd, IntegerSetter::<SET_OFFLOAD>::new_usize(flags)) }?)
}

/// A datagram socket with an address of its own, and the file that it is, if it is one: here it is a
/// name in no folder (unix(7), "abstract"), which goes with the socket.
pub(in crate::net) fn own_socket() -> io::Result<(UnixDatagram, Option<TempPath>)> {
    let mut tries = 0..16;
    loop {
        let name = format!("runner-{}-{:016x}", std::process::id(), super::random());
        let address = SocketAddr::from_abstract_name(name)?;
        match UnixDatagram::bind_addr(&address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries.next().is_some() => {}
            bound => return Ok((bound?, None)),
        }
    }
}
