//! What the guest has shown of itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
