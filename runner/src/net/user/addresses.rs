//! The address plan: 10.0.2.0/24, as QEMU has it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The gateway's hardware address. The name server's ends in 3.
pub const GATEWAY_MAC: [u8; 6] = [0x52, 0x55, 0x0a, 0x00, 0x02, 0x02];
/// The name server's.
pub const DNS_MAC: [u8; 6] = [0x52, 0x55, 0x0a, 0x00, 0x02, 0x03];
/// The guest's, where nobody wants another: QEMU's first.
pub const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// The gateway, the DHCP server, and the host.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The name server.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The guest, by DHCP.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// The network's mask.
pub const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
/// The network's broadcast address.
pub const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 255);

/// The gateway on the IPv6 network fec0::/64.
pub const GATEWAY_6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 2);
/// The gateway as a router: it is known by its address on the link (RFC 4861 §4.2).
pub const ROUTER_6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
/// The name server there.
pub const DNS_6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 3);

/// Bytes of the largest IP packet on this network.
pub const MTU: u16 = 1500;

/// Whether `address` is on the guest's network.
pub fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.to_bits() & NETMASK.to_bits() == GATEWAY.to_bits() & NETMASK.to_bits()
        }
        IpAddr::V6(address) => {
            let network = |address: Ipv6Addr| address.to_bits() >> 64;
            network(address) == network(GATEWAY_6) || address.is_unicast_link_local()
        }
    }
}

/// Whether a guest may have `address`: one of its network's that nobody else has.
pub fn may_be_guest(address: IpAddr) -> bool {
    let taken = match address {
        IpAddr::V4(address) => {
            let network = Ipv4Addr::from_bits(GATEWAY.to_bits() & NETMASK.to_bits());
            [network, GATEWAY, DNS, BROADCAST].contains(&address)
        }
        IpAddr::V6(address) => {
            [GATEWAY_6, DNS_6, ROUTER_6].contains(&address) || address.is_multicast()
        }
    };
    is_local(address) && !taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_may_have_any_address_of_its_network_but_those_that_are_taken() {
        let of = |text: &str| may_be_guest(text.parse().unwrap());
        for good in [
            "10.0.2.15",
            "10.0.2.4",
            "10.0.2.254",
            "fec0::15",
            "fe80::1",
            "fec0::5054:ff:fe12:3456",
        ] {
            assert!(of(good), "{good}");
        }
        for bad in [
            "10.0.2.0",
            "10.0.2.2",
            "10.0.2.3",
            "10.0.2.255",
            "10.0.3.15",
            "1.2.3.4",
            "127.0.0.1",
            "0.0.0.0",
            "fec0::2",
            "fec0::3",
            "fe80::2",
            "::1",
            "ff02::1",
            "2001:db8::1",
        ] {
            assert!(!of(bad), "{bad}");
        }
    }
}
