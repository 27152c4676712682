//! What the guest has shown of itself, and where clients of its find it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::addresses::{GATEWAY, GATEWAY_6, GUEST, is_local};

/// Where clients find the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) four: Ipv4Addr,
    /// If it has one that is not of the link alone.
    pub(super) six: Option<Ipv6Addr>,
}

impl Default for Addresses {
    fn default() -> Self {
        Self { four: GUEST, six: None }
    }
}

impl Addresses {
    /// Where to a client comes, and as whom: by its own address where the guest can answer that, else
    /// as the gateway. A client that comes by IPv6 reaches a guest that has none by IPv4.
    pub(super) fn ends(self, client: IpAddr) -> (IpAddr, IpAddr) {
        let ours = client.is_loopback() || is_local(client);
        match (client, self.six) {
            (IpAddr::V6(_), Some(six)) if ours => (six.into(), GATEWAY_6.into()),
            (IpAddr::V6(_), Some(six)) => (six.into(), client),
            (IpAddr::V4(_), _) if !ours => (self.four.into(), client),
            _ => (self.four.into(), GATEWAY.into()),
        }
    }
}

/// The guest's addresses, as far as forwards need to know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guest {
    /// The one it should have.
    given: Ipv4Addr,
    /// It has spoken from that one.
    given_spoke: bool,
    others: Others,
    /// Its address of IPv6's, that is not of the link alone.
    six: Option<Ipv6Addr>,
}

/// Other addresses that it has spoken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    None,
    One(Ipv4Addr),
    /// None of which is more the guest's than another.
    Several,
}

impl Guest {
    /// A guest that has not spoken, and should have address `given`.
    pub(super) fn new(given: Ipv4Addr) -> Self {
        Self { given, given_spoke: false, others: Others::None, six: None }
    }

    /// It has spoken from `address`, one that it may have. Whether something is new: it is the first
    /// time that it speaks at all, or forwards go to another address from now on.
    pub(super) fn spoke(&mut self, address: IpAddr) -> bool {
        let before = *self;
        match (address, self.others) {
            (IpAddr::V4(address), _) if address == self.given => self.given_spoke = true,
            (IpAddr::V4(address), Others::None) => self.others = Others::One(address),
            (IpAddr::V4(address), Others::One(one)) if one != address => {
                self.others = Others::Several;
            }
            (IpAddr::V6(address), _) if !address.is_unicast_link_local() => {
                self.six = Some(address);
            }
            _ => {}
        }
        let moves = self.address() != before.address() || self.six != before.six;
        *self != before && (!before.has_spoken() || moves)
    }

    /// Where forwards go: the address that it was given, unless it has only spoken from another.
    pub(super) fn address(&self) -> Ipv4Addr {
        match self.others {
            Others::One(other) if !self.given_spoke => other,
            _ => self.given,
        }
    }

    /// The addresses that clients come to.
    pub(super) fn addresses(&self) -> Addresses {
        Addresses { four: self.address(), six: self.six }
    }

    fn has_spoken(&self) -> bool {
        self.given_spoke || self.others != Others::None || self.six.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 20);
    const THIRD: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 21);

    #[test]
    fn forwards_go_to_the_given_address_or_to_the_only_other_one_that_spoke() {
        let mut guest = Guest::new(GIVEN);
        assert_eq!(guest.address(), GIVEN);
        assert!(guest.spoke(OTHER.into()));
        assert_eq!(guest.address(), OTHER);
        assert!(!guest.spoke(OTHER.into()));
        assert!(guest.spoke(GIVEN.into()), "forwards go there from now on");
        assert_eq!(guest.address(), GIVEN);
        assert!(!guest.spoke(OTHER.into()) && !guest.spoke(GIVEN.into()));
    }

    #[test]
    fn a_client_comes_as_itself_where_the_guest_can_answer_that() {
        let (four, six) = (OTHER, Some("fec0::15".parse().unwrap()));
        let of = |six, client: &str| {
            let (guest, seen) = Addresses { four, six }.ends(client.parse().unwrap());
            format!("{guest} {seen}")
        };
        for (client, by_four, by_six) in [
            ("192.168.1.7", "10.0.2.20 192.168.1.7", "10.0.2.20 192.168.1.7"),
            ("127.0.0.1", "10.0.2.20 10.0.2.2", "10.0.2.20 10.0.2.2"),
            ("10.0.2.15", "10.0.2.20 10.0.2.2", "10.0.2.20 10.0.2.2"),
            ("::1", "10.0.2.20 10.0.2.2", "fec0::15 fec0::2"),
            ("fe80::7", "10.0.2.20 10.0.2.2", "fec0::15 fec0::2"),
            ("2001:db8::7", "10.0.2.20 10.0.2.2", "fec0::15 2001:db8::7"),
        ] {
            assert_eq!((of(None, client), of(six, client)), (by_four.into(), by_six.into()));
        }
    }

    #[test]
    fn of_several_other_addresses_none_is_the_guests() {
        let mut guest = Guest::new(GIVEN);
        assert!(guest.spoke(OTHER.into()) && guest.spoke(THIRD.into()));
        assert_eq!(guest.address(), GIVEN);
        assert!(!guest.spoke("fe80::1".parse().unwrap()));
        assert!(guest.spoke("fec0::15".parse().unwrap()));
        assert!(!guest.spoke("fec0::15".parse().unwrap()));
        assert!(guest.spoke("fec0::16".parse().unwrap()), "a connection by IPv6 goes there");
    }
}
