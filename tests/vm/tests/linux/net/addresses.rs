//! What a guest gets by DHCP, and what it reaches and does not reach with it.

use super::super::super::support::or_skip;
use super::six::Six;
use super::{GATEWAY, Lan, METADATA, OUTSIDE};
use peer::monitor::{Link, Machine};

#[test]
fn a_guest_gets_its_addresses_and_reaches_what_it_may_and_nothing_else() {
    let lan = or_skip!(Lan::find());
    let link = Link::User { tcp: Vec::new(), udp: Vec::new(), host_loopback: false };
    let six = Six::start();
    let mut guest = lan.start(&Machine { link, options: six.options(), ..lan.machine() });
    assert_eq!(guest.must("cat /lease").unwrap(), "10.0.2.15 24 10.0.2.2 10.0.2.3 10.0.2.2");

    for host in ["10.0.2.2", "10.0.2.3", "192.0.2.1"] {
        guest.must(&format!("ping -c 2 -A -W 5 {host}")).unwrap();
    }
    assert_ne!(guest.ask("ping -c 1 -W 1 10.0.2.77").unwrap().1, 0, "nobody has that address");
    assert!(guest.must("nslookup -type=a a.test").unwrap().contains("192.0.2.1"));

    let outside = lan.at(OUTSIDE);
    guest.must(&format!("peer put {outside} 1000000")).unwrap();
    for size in [1, 1400, 1472, 1473, 4000, 20_000] {
        guest.must(&format!("peer datagrams {outside} {size} 5")).unwrap();
    }

    // Nobody listens at port 9, and a guest is told at once.
    for what in ["get 192.0.2.1:9 1", "datagrams 192.0.2.1:9 10 2"] {
        let (said, status) = guest.ask(&format!("peer {what}")).unwrap();
        assert!(status == 1 && said.contains("ConnectionRefused"), "{what}: {said}");
        let milliseconds: u64 = said.rsplit(' ').nth(1).unwrap().parse().unwrap();
        assert!(milliseconds < 2500, "{what}: {said}");
    }

    let (said, _) = guest.ask(&format!("peer put {} 10", lan.at(GATEWAY))).unwrap();
    lan.differs(
        said.contains("ConnectionRefused"),
        "QEMU opens the services of the host's loopback to every guest; here they are asked for",
    );
    let (said, _) = guest.ask(&format!("peer put {} 10", lan.at(METADATA))).unwrap();
    lan.differs(
        said.contains("ConnectionRefused"),
        "QEMU lets every guest read the credentials of a cloud's machine",
    );
    if !lan.is_qemu() {
        // It forwards nothing by IPv6.
        six.holds(&mut guest);
    }
    let before = lan.server.all();
    guest.must("ip addr add 1.2.3.4/32 dev eth0").unwrap();
    guest.must("ip route add 192.0.2.1/32 via 10.0.2.2 src 1.2.3.4").unwrap();
    guest.ask(&format!("timeout 3 peer put {outside} 10")).unwrap();
    lan.differs(
        lan.server.all() == before,
        "QEMU carries what claims to come from an address that is not in the guest's network",
    );
    lan.end_whatever_was_said(guest, &["--host-loopback", "--link-local"]);
}

impl Lan {
    /// Ends a guest that was refused something, which the monitor has to have said, in few lines.
    fn end_whatever_was_said(&self, guest: peer::guest::Guest, wanted: &[&str]) {
        let said = guest.end().unwrap();
        if !self.is_qemu() {
            for wanted in wanted {
                assert!(said.contains(wanted), "{wanted} is not in: {said}");
            }
            assert!(said.lines().count() <= 10, "{said}");
        }
    }
}
