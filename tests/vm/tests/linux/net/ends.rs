//! Guests and drivers that come to an end in the middle of it.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use super::super::super::support::or_skip;
use super::{GATEWAY, Lan, PEER, forwarded};
use peer::ask;
use peer::monitor::Machine;

#[test]
fn a_guest_that_is_killed_in_the_middle_leaves_no_connection_and_no_port() {
    let lan = or_skip!(Lan::find());
    let (machine, forwards) = forwarded(lan.machine(), &[PEER]);
    let mut guest = lan.start(&machine);
    guest.must(&format!("(peer idle {} 20 >/dev/null &)", lan.at(GATEWAY))).unwrap();
    let forward = forwards[0];
    let down = thread::spawn(move || ask::bulk_down(forward, 2, Duration::from_secs(60)));
    let idle = ask::one_by_one(forward, 20).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while lan.server.open() < 20 {
        assert!(Instant::now() < until, "{} open", lan.server.open());
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(200));
    guest.kill().unwrap();
    // Both ends of the host's see it.
    assert!(down.join().unwrap().is_err(), "the end of a guest is not the end of its data");
    while lan.server.open() > 0 {
        assert!(Instant::now() < until, "{} still open", lan.server.open());
        thread::sleep(Duration::from_millis(10));
    }
    drop(idle);
    TcpListener::bind(forward).expect("the port is free again");
}

#[test]
fn a_driver_may_be_taken_from_a_network_under_load_and_come_back() {
    let lan = or_skip!(Lan::find());
    let (machine, forwards) = forwarded(Machine { cpus: 2, ..lan.machine() }, &[PEER]);
    let mut guest = lan.start(&machine);
    let server = lan.at(GATEWAY);
    let rebind = format!(
        "device=$(basename $(readlink -f /sys/class/net/eth0/device)); \
         driver=/sys/bus/virtio/drivers/virtio_net; \
         for time in 1 2 3 4 5 6 7 8 9 10; do \
           peer up {server} 2 20000 >/dev/null & up=$!; \
           peer down {server} 2 20000 >/dev/null & down=$!; \
           usleep $((100000 + time * 9970)); \
           echo $device >$driver/unbind || fail unbind; \
           kill $up $down; \
           echo $device >$driver/bind || fail bind; up >/dev/null || fail up; \
         done"
    );
    guest.must(&rebind).unwrap();
    guest.must(&format!("peer echo {server} 1000000")).unwrap();
    // The host's clients find the guest again, whose server never went.
    ask::echo(forwards[0], 1_000_000).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while lan.server.open() > 0 {
        lan.differs_later(Instant::now() < until);
        if lan.is_qemu() && Instant::now() > until {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    lan.end(guest);
}

impl Lan {
    /// A reset of the device ends its connections; QEMU keeps them until the guest speaks of them again.
    fn differs_later(&self, in_time: bool) {
        assert!(in_time || self.is_qemu(), "{} still open", self.server.open());
    }
}
