//! What the guest may reach, for every protocol alike.
//!
//! The gateway's address is the host, whose loopback is closed unless it is opened. The name server's
//! is answered by us. Loopback itself, multicast, and what is on no network cannot be reached; nor can
//! 169.254.0.0/16 and fe80::/10, where clouds keep the credentials of their machines, unless that is
//! allowed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::addresses::{DNS, DNS_6, GATEWAY, GATEWAY_6, is_local};

/// What has been opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The gateway's address is the host's loopback.
    pub host_loopback: bool,
    /// Link-local addresses, the metadata of clouds among them, can be reached.
    pub link_local: bool,
}

/// Where something of the guest's goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To this address of the outside world, or of the host.
    Host(SocketAddr),
    /// To the name server.
    Dns,
    /// Nowhere.
    Refused(Refusal),
}

/// Why the guest cannot reach an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The host's loopback.
    #[error("the host's own services; --host-loopback opens them to the guest")]
    HostLoopback,
    /// Link-local addresses.
    #[error(
        "link-local addresses, where clouds keep credentials; --link-local opens them to the guest"
    )]
    LinkLocal,
    /// An address that is nobody's.
    #[error("an address that cannot be reached from its network")]
    Nowhere,
}

impl Policy {
    /// Where what is sent to `destination` goes.
    pub fn destination(self, destination: SocketAddr) -> Destination {
        let port = destination.port();
        // ::ffff:127.0.0.1 is 127.0.0.1 to a socket.
        let address = destination.ip().to_canonical();
        if address == IpAddr::V4(GATEWAY) || address == IpAddr::V6(GATEWAY_6) {
            return match self.host_loopback {
                true => Destination::Host(SocketAddr::new(loopback(address), port)),
                false => Destination::Refused(Refusal::HostLoopback),
            };
        }
        if address == IpAddr::V4(DNS) || address == IpAddr::V6(DNS_6) {
            return match port {
                53 => Destination::Dns,
                _ => Destination::Refused(Refusal::Nowhere),
            };
        }
        match self.refuses(address) {
            Some(refusal) => Destination::Refused(refusal),
            None => Destination::Host(SocketAddr::new(address, port)),
        }
    }

    /// Who `source` is to the guest, when it sends something: the host's loopback is the gateway. `None`
    /// when the guest could not have sent it anything.
    pub fn seen_as(self, source: SocketAddr) -> Option<SocketAddr> {
        let address = source.ip().to_canonical();
        if address.is_loopback() {
            let gateway = match address {
                IpAddr::V4(_) => IpAddr::V4(GATEWAY),
                IpAddr::V6(_) => IpAddr::V6(GATEWAY_6),
            };
            return self.host_loopback.then(|| SocketAddr::new(gateway, source.port()));
        }
        let refused = self.refuses(address).is_some();
        (!refused).then(|| SocketAddr::new(address, source.port()))
    }

    fn refuses(self, address: IpAddr) -> Option<Refusal> {
        let link_local = match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        if link_local {
            return (!self.link_local).then_some(Refusal::LinkLocal);
        }
        let nowhere = match address {
            IpAddr::V4(v4) => v4.octets().first() == Some(&0) || v4.to_bits() >= 0xf000_0000,
            IpAddr::V6(v6) => v6.is_unspecified() || embeds_ipv4(v6),
        };
        let nowhere =
            nowhere || address.is_loopback() || address.is_multicast() || is_local(address);
        nowhere.then_some(Refusal::Nowhere)
    }
}

fn loopback(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

/// Addresses through which a system may reach an IPv4 address that is refused by its own name:
/// IPv4-compatible (RFC 4291 §2.5.5.1), 6to4 (RFC 3056), and NAT64's well-known prefix (RFC 6052).
fn embeds_ipv4(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, ..] = address.segments();
    let zeros = [a, b, c, d, e, f] == [0; 6] && !address.is_loopback();
    zeros || a == 0x2002 || [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(policy: Policy, text: &str) -> Destination {
        policy.destination(text.parse().unwrap())
    }

    #[test]
    fn the_outside_world_is_reached_under_its_own_addresses() {
        for text in ["1.1.1.1:443", "192.168.1.7:80", "10.0.3.1:1", "[2606:4700::1111]:53"] {
            let wanted = Destination::Host(text.parse().unwrap());
            assert_eq!(destination(Policy::default(), text), wanted);
        }
    }

    #[test]
    fn the_gateway_is_the_hosts_loopback_only_when_that_is_open() {
        // N57
        let closed = destination(Policy::default(), "10.0.2.2:80");
        assert_eq!(closed, Destination::Refused(Refusal::HostLoopback));
        let policy = Policy { host_loopback: true, ..Policy::default() };
        for (asked, reached) in [("10.0.2.2:80", "127.0.0.1:80"), ("[fec0::2]:80", "[::1]:80")] {
            let wanted = Destination::Host(reached.parse().unwrap());
            assert_eq!(destination(policy, asked), wanted);
        }
    }

    #[test]
    fn loopback_by_any_name_and_what_is_nobodys_are_refused_whatever_is_open() {
        // N57
        let policy = Policy { host_loopback: true, link_local: true };
        for text in [
            "127.0.0.1:80",
            "127.8.8.8:80",
            "0.0.0.0:80",
            "0.1.2.3:80",
            "224.0.0.1:80",
            "255.255.255.255:67",
            "240.0.0.1:9",
            "10.0.2.15:80",
            "10.0.2.77:80",
            "10.0.2.255:80",
            "10.0.2.3:80",
            "[::1]:80",
            "[::]:80",
            "[::ffff:127.0.0.1]:80",
            "[::127.0.0.1]:80",
            "[ff02::1]:80",
            "[fec0::77]:80",
            "[2002:7f00:1::]:80",
            "[64:ff9b::127.0.0.1]:80",
            "[::ffff:10.0.2.15]:80",
        ] {
            let found = destination(policy, text);
            assert_eq!(found, Destination::Refused(Refusal::Nowhere), "{text}");
        }
    }

    #[test]
    fn the_metadata_of_clouds_is_refused_until_it_is_open() {
        // N57
        for text in ["169.254.169.254:80", "[::ffff:169.254.169.254]:80", "169.254.0.1:1"] {
            let closed = destination(Policy::default(), text);
            assert_eq!(closed, Destination::Refused(Refusal::LinkLocal), "{text}");
            let open = destination(Policy { link_local: true, ..Policy::default() }, text);
            assert!(matches!(open, Destination::Host(address) if address.ip().is_ipv4()), "{text}");
        }
    }

    #[test]
    fn the_guest_hears_from_whom_it_may_reach_and_under_the_same_address() {
        let seen = |policy: Policy, text: &str| {
            policy.seen_as(text.parse().unwrap()).map(|seen| seen.to_string())
        };
        let closed = Policy::default();
        let open = Policy { host_loopback: true, link_local: true };
        assert_eq!(seen(closed, "1.1.1.1:53").as_deref(), Some("1.1.1.1:53"));
        for (from, as_whom) in [
            ("127.0.0.1:80", "10.0.2.2:80"),
            ("[::1]:80", "[fec0::2]:80"),
            ("169.254.0.1:1", "169.254.0.1:1"),
        ] {
            assert_eq!(seen(closed, from), None, "{from}");
            assert_eq!(seen(open, from).as_deref(), Some(as_whom));
        }
        for from in ["10.0.2.3:53", "10.0.2.2:80", "10.0.2.15:80", "0.0.0.0:1", "[fec0::2]:80"] {
            assert_eq!(seen(open, from), None, "{from}");
        }
    }

    #[test]
    fn names_are_asked_for_at_port_53_alone() {
        assert_eq!(destination(Policy::default(), "10.0.2.3:53"), Destination::Dns);
        assert_eq!(destination(Policy::default(), "[fec0::3]:53"), Destination::Dns);
    }
}
