//! What a network in user space is opened with, before the guest runs: the guest's address, and the
//! host's ports that are forwarded.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::addresses::{GATEWAY, GUEST, NETMASK, may_be_guest};
use super::policy::Policy;
use super::sockets::out_of_descriptors;
use crate::io::lock::Holders;
use crate::io::ports;
use crate::io::socket::Datagrams;
use crate::net::{Forward, Transport};

/// What a network is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the guest may reach.
    pub policy: Policy,
    /// The host's ports that go to the guest.
    pub forwards: Vec<Forward>,
    /// The host's name servers, in the order in which they are asked ([`super::resolvers`]).
    pub resolvers: Vec<SocketAddr>,
    /// The guest's hardware address, the device's. Frames from any other are dropped.
    pub mac: [u8; 6],
    /// The address that the guest has, or is given by DHCP.
    pub guest: GuestAddress,
    /// For so long, from the guest's start on, a client whom the guest refuses waits on, and the guest is
    /// called again: what is to listen there may not do so yet. TCP alone.
    pub port_wait: Duration,
}

/// The guest's address. Without further ado 10.0.2.15, as QEMU has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestAddress(Ipv4Addr);

impl Default for GuestAddress {
    fn default() -> Self {
        Self(GUEST)
    }
}

impl GuestAddress {
    /// The address that a configuration gives the guest, with the gateway and the mask it names there.
    ///
    /// # Errors
    /// When they are not of this network, whose addresses are fixed: the guest would reach nothing.
    pub fn new(
        address: Ipv4Addr,
        gateway: Option<Ipv4Addr>,
        netmask: Option<Ipv4Addr>,
    ) -> Result<Self, Error> {
        if !may_be_guest(address.into()) {
            return Err(Error::Address { what: "address", found: address });
        }
        match (gateway.filter(|found| *found != GATEWAY), netmask.filter(|found| *found != NETMASK))
        {
            (Some(found), _) => Err(Error::Address { what: "gateway", found }),
            (_, Some(found)) => Err(Error::Address { what: "netmask", found }),
            (None, None) => Ok(Self(address)),
        }
    }

    /// It.
    pub fn get(self) -> Ipv4Addr {
        self.0
    }
}

/// Why there is no such network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A static address that is not of this network.
    #[error(
        "{what} {found}: the user-mode network is 10.0.2.0/24 with gateway 10.0.2.2; give the guest \
         one of 10.0.2.4 to 10.0.2.254, or use a tap device"
    )]
    Address {
        /// Of what.
        what: &'static str,
        /// What it is.
        found: Ipv4Addr,
    },
    /// The same port of the same address is forwarded twice.
    #[error("forward {transport} {host}: named twice; leave one out", transport = .0.transport, host = .0.host)]
    Twice(Forward),
    /// Another process has the port.
    #[error(
        "forward {transport} {host}: the port is taken by {holders}; stop that first, or forward \
         another port: {option} {other}:{guest}",
        transport = .forward.transport, host = .forward.host, guest = .forward.guest,
        option = option(.forward.transport), other = other(.forward.host)
    )]
    Taken {
        /// What was to be forwarded.
        forward: Forward,
        /// Who has it, as far as we may know.
        holders: Holders,
    },
    /// A port that not everybody may have.
    #[error(
        "forward {transport} {host}: only root may listen there; forward a port from 1024 on, for \
         instance {option} {other}:{guest}",
        transport = .0.transport, host = .0.host, guest = .0.guest,
        option = option(.0.transport), other = .0.guest.saturating_add(8000)
    )]
    Privileged(Forward),
    /// An address that this host does not have.
    #[error(
        "forward {transport} {host}: this host has no such address; 127.0.0.1 is reached from this \
         host alone, 0.0.0.0 from everywhere",
        transport = .0.transport, host = .0.host
    )]
    NoAddress(Forward),
    /// One more file than this process may have open.
    #[error(
        "forward {transport} {host}: no more files may be open here: raise the limit (ulimit -n), or \
         forward fewer ports",
        transport = .0.transport, host = .0.host
    )]
    Files(Forward),
    /// Anything else that the operating system said.
    #[error("forward {transport} {host}: {error}", transport = .forward.transport, host = .forward.host)]
    Refused {
        /// What was to be forwarded.
        forward: Forward,
        /// What it said.
        error: io::Error,
    },
}

/// The option that forwards.
fn option(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "-p",
        Transport::Udp => "--udp",
    }
}

/// Another port than this, which may be free.
fn other(host: SocketAddr) -> u16 {
    host.port().checked_add(1).unwrap_or(8080)
}

/// The same port twice, which no system would tell from one that somebody else has.
pub(super) fn check(forwards: &[Forward]) -> Result<(), Error> {
    let mut seen = std::collections::HashSet::new();
    for forward in forwards {
        if forward.host.port() != 0 && !seen.insert((forward.transport, forward.host)) {
            return Err(Error::Twice(*forward));
        }
    }
    Ok(())
}

/// Whether this host has a way to the world by IPv6. A guest that is told so and has none waits for it
/// to fail, each time. Nothing is sent: it is how to ask for a route.
pub(super) fn has_ipv6() -> bool {
    let world = SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9));
    Datagrams::open(world.ip()).and_then(|socket| socket.connect(world)).is_ok()
}

/// Why a port cannot be listened at.
fn refused(forward: Forward, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => Error::Taken {
            forward,
            holders: ports::holders(forward.transport, forward.host.port()),
        },
        io::ErrorKind::PermissionDenied => Error::Privileged(forward),
        io::ErrorKind::AddrNotAvailable => Error::NoAddress(forward),
        _ if out_of_descriptors(&error) => Error::Files(forward),
        _ => Error::Refused { forward, error },
    }
}

/// What `listen` makes of the host's port, or why it cannot be had.
pub(super) fn bind<T>(
    forward: Forward,
    listen: impl FnOnce(Forward) -> io::Result<T>,
) -> Result<T, Error> {
    listen(forward).map_err(|error| refused(forward, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::user::tcp::Listener;

    fn forward(transport: Transport, host: &str) -> Forward {
        Forward { transport, host: host.parse().unwrap(), guest: 80 }
    }

    #[test]
    fn a_guest_has_an_address_of_its_network_or_is_told_which_those_are() {
        let of = |text: &str| GuestAddress::new(text.parse().unwrap(), Some(GATEWAY), None);
        assert_eq!(of("10.0.2.20").unwrap().get(), Ipv4Addr::new(10, 0, 2, 20));
        for bad in ["10.0.2.2", "192.168.1.5", "10.0.2.255"] {
            let text = of(bad).unwrap_err().to_string();
            assert!(text.starts_with(&format!("address {bad}: the user-mode network")), "{text}");
        }
        let text = GuestAddress::new(GUEST, Some(GUEST), None).unwrap_err().to_string();
        assert!(text.starts_with("gateway 10.0.2.15"), "{text}");
        let mask = Some(Ipv4Addr::new(255, 0, 0, 0));
        let text = GuestAddress::new(GUEST, None, mask).unwrap_err().to_string();
        assert!(text.starts_with("netmask 255.0.0.0"), "{text}");
    }

    #[test]
    fn a_port_that_is_forwarded_twice_is_refused_but_0_is_any() {
        let (tcp, udp) = (Transport::Tcp, Transport::Udp);
        let host = "127.0.0.1:8080";
        check(&[forward(tcp, host), forward(udp, host), forward(tcp, "127.0.0.2:8080")]).unwrap();
        check(&[forward(udp, "127.0.0.1:0"), forward(udp, "127.0.0.1:0")]).unwrap();
        let text = check(&[forward(tcp, host), forward(tcp, host)]).unwrap_err().to_string();
        assert_eq!(text, "forward TCP 127.0.0.1:8080: named twice; leave one out");
    }

    #[test]
    fn a_port_that_is_taken_is_named_with_its_address_and_another_one() {
        let udp = |forward: Forward| bind(forward, |forward| Datagrams::bind(forward.host));
        let first = udp(forward(Transport::Udp, "127.0.0.1:0")).unwrap();
        let host = first.local().unwrap();
        let taken = Forward { transport: Transport::Udp, host, guest: 53 };
        let text = udp(taken).unwrap_err().to_string();
        assert!(text.starts_with(&format!("forward UDP {host}: the port is taken by ")), "{text}");
        assert!(text.ends_with(&format!("--udp {}:53", other(host))), "{text}");

        let first = bind(forward(Transport::Tcp, "127.0.0.1:0"), Listener::bind).unwrap();
        let taken = Forward { host: first.local(), ..forward(Transport::Tcp, "127.0.0.1:1") };
        let text = bind(taken, Listener::bind).unwrap_err().to_string();
        let port = first.local().port();
        let wanted = format!("forward TCP 127.0.0.1:{port}: the port is taken by ");
        assert!(text.starts_with(&wanted), "{text}");
        assert!(text.contains(&format!("-p {}:80", other(first.local()))), "{text}");
    }

    #[test]
    fn an_address_of_another_host_and_a_port_of_roots_are_said_as_such() {
        let text = bind(forward(Transport::Tcp, "192.0.2.1:5000"), Listener::bind);
        let text = text.unwrap_err().to_string();
        assert!(text.contains("TCP 192.0.2.1:5000: this host has no such address"), "{text}");
        let denied = io::ErrorKind::PermissionDenied.into();
        let text = refused(forward(Transport::Tcp, "127.0.0.1:80"), denied).to_string();
        assert!(text.contains("only root") && text.ends_with("-p 8080:80"), "{text}");
    }
}
