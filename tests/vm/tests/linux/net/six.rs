//! IPv6, which a guest has where its host has it.

use std::net::{Ipv6Addr, SocketAddr};

use super::PEER;
use peer::ask;
use peer::guest::Guest;
use peer::monitor::free_port;
use peer::serve::Server;

/// Where a second peer listens in the guest, by IPv6 as well.
const BOTH: u16 = 8;

/// The host's side, by IPv6.
pub(super) struct Six {
    server: Server,
    /// Ports that lead to a peer that listens by IPv4 alone, and to one that listens by both.
    tcp: [u16; 2],
    udp: u16,
}

impl Six {
    pub(super) fn start() -> Self {
        let server = Server::start((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
        let [four, six, udp] = [(); 3].map(|()| free_port().unwrap());
        Self { server, tcp: [four, six], udp }
    }

    /// What runner is told.
    pub(super) fn options(&self) -> Vec<String> {
        let [four, six] = self.tcp;
        let ports = format!("[::1]:{four}:{PEER},[::1]:{six}:{BOTH}");
        vec!["-p".to_owned(), ports, format!("--udp=[::]:{}:{BOTH}", self.udp)]
    }

    /// What holds of a guest that reaches no services of the host's loopback.
    pub(super) fn holds(&self, guest: &mut Guest) {
        // By the router's advertisement, and when it is known that nobody else has it.
        guest
            .must(
                "for turn in $(seq 100); do \
                     ip -6 addr show dev eth0 | grep fec0: | grep -v tentative && break; \
                     usleep 100000; \
                 done",
            )
            .unwrap();
        assert!(guest.must("ip -6 route").unwrap().contains("default via fe80::2 dev eth0"));
        for host in ["fec0::2", "fec0::3", "fe80::2%eth0", "2001:db8::1"] {
            guest.must(&format!("ping -6 -c 2 -A -W 5 {host}")).unwrap();
        }
        assert!(guest.must("nslookup -type=a a.test fec0::3").unwrap().contains("192.0.2.1"));

        let outside = format!("[2001:db8::1]:{}", self.server.port());
        for what in ["put", "get", "late"] {
            guest.must(&format!("peer {what} {outside} 1000000")).unwrap();
        }
        for size in [1, 1452, 1453, 9000] {
            guest.must(&format!("peer datagrams {outside} {size} 2")).unwrap();
        }
        guest.must(&format!("peer is-reset {outside}")).unwrap();
        for closed in ["[2001:db8::1]:9".to_owned(), format!("[fec0::2]:{}", self.server.port())] {
            let (said, status) = guest.ask(&format!("peer get {closed} 1")).unwrap();
            assert!(status == 1 && said.contains("ConnectionRefused"), "{closed}: {said}");
        }

        guest.must(&format!("(peer serve [::]:{BOTH} >/dev/null &); sleep 1")).unwrap();
        for port in self.tcp {
            let forward = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
            ask::put(forward, 1_000_000).unwrap();
            ask::get(forward, 1_000_000, Default::default()).unwrap();
            ask::reset_by_server(forward).unwrap();
        }
        // The second is not where answers to a client on this host come from by themselves.
        for ours in ["::1", "2001:db8::1"] {
            let forward = SocketAddr::new(ours.parse().unwrap(), self.udp);
            for size in [1, 1452, 9000] {
                ask::datagrams(forward, size, 2).unwrap();
            }
        }
    }
}
