//! Connections both ways: whatever one end does reaches the other as it was done.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::super::super::support::or_skip;
use super::{GATEWAY, Holdings, Lan, PEER, forwarded};
use peer::ask;
use peer::guest::Guest;
use peer::monitor::Machine;

/// Everything that one end may ask of the other.
fn questions(mib: u64) -> Vec<String> {
    let bytes = mib << 20;
    [
        format!("put SERVER {bytes}"),
        format!("get SERVER {bytes}"),
        format!("echo SERVER {bytes}"),
        "put SERVER 0".to_owned(),
        "get SERVER 1".to_owned(),
        // Half-closed connections carry the other half.
        "late SERVER 300000".to_owned(),
        // Ends that do not read for a second.
        format!("put-slowly SERVER {bytes} 1000"),
        format!("get SERVER {bytes} 1000"),
        "datagrams SERVER 1 20".to_owned(),
        "datagrams SERVER 1472 5".to_owned(),
        "datagrams SERVER 1473 5".to_owned(),
        "datagrams SERVER 9000 5".to_owned(),
        "datagrams SERVER 60000 3".to_owned(),
    ]
    .into()
}

/// Asks in the guest, of a server outside.
fn from_guest(guest: &mut Guest, question: &str, server: SocketAddr) {
    guest.must(&format!("peer {}", question.replace("SERVER", &server.to_string()))).unwrap();
}

/// Asks here, of the guest.
fn from_host(question: &str, server: SocketAddr) {
    let words = question.replace("SERVER", &server.to_string());
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    ask::by_words(&words).unwrap();
}

fn both_ways(lan: &Lan, machine: Machine, mib: u64) {
    let (machine, forwards) = forwarded(machine, &[PEER]);
    let mut guest = lan.start(&machine);
    for question in questions(mib) {
        let begin = Instant::now();
        from_guest(&mut guest, &question, lan.at(GATEWAY).into());
        let middle = Instant::now();
        from_host(&question, forwards[0]);
        let (guests, hosts) = ((middle - begin).as_millis(), middle.elapsed().as_millis());
        println!("measured: {question}: {guests} ms by the guest, {hosts} ms by the host");
    }
    lan.end(guest);
}

#[test]
fn bytes_halves_ends_and_datagrams_arrive_as_they_were_sent_both_ways() {
    let lan = or_skip!(Lan::find());
    both_ways(&lan, Machine { cpus: 4, ..lan.machine() }, 4);
}

#[test]
fn they_arrive_as_well_without_offloads() {
    let lan = or_skip!(Lan::find());
    both_ways(&lan, Machine { driver: "csum=0 gso=0".to_owned(), ..lan.machine() }, 2);
}

#[test]
fn they_arrive_as_well_by_a_card_on_the_pci_bus_with_messages_or_pins() {
    let lan = or_skip!(Lan::find());
    for more in [&[][..], &["--append=pci=nomsi"]] {
        let options = ["--virtio=pci"].iter().chain(more).map(|&option| option.to_owned());
        both_ways(&lan, Machine { cpus: 2, options: options.collect(), ..lan.machine() }, 2);
    }
}

#[test]
fn a_reset_by_a_guest_is_a_reset_for_the_host_and_the_other_way_round() {
    let lan = or_skip!(Lan::find());
    let (machine, forwards) = forwarded(lan.machine(), &[PEER, 9]);
    let mut guest = lan.start(&machine);
    let server = lan.at(GATEWAY);
    guest.must(&format!("peer is-reset {server}")).unwrap();
    ask::reset_by_client(forwards[0], 20).unwrap();
    // Nobody listens there in the guest, which says so with a reset.
    let refused = ask::get(forwards[1], 1, Duration::ZERO).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionReset, "{refused}");
    let (said, status) = guest.ask(&format!("peer resets {server} 20")).unwrap();
    println!("{said}");
    let why = "QEMU ends a connection in good order where the guest has reset it";
    lan.differs(status == 0, why);
    lan.differs(ask::reset_by_server(forwards[0]).is_ok(), why);
    lan.end(guest);
}

#[test]
fn a_client_that_comes_before_the_guest_listens_is_served_when_it_does() {
    let lan = or_skip!(Lan::find());
    let (machine, forwards) = forwarded(lan.machine(), &[PEER]);
    let mut guest = Guest::launch(machine.command(&lan.monitor)).unwrap();
    let client = thread::spawn(move || {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            // The monitor may not listen yet; once it does, one connection has to be enough.
            match ask::http(forwards[0], "/1000") {
                Err(why) if why.contains("refused") && Instant::now() < until => {
                    thread::sleep(Duration::from_millis(10));
                }
                other => return (other, Instant::now()),
            }
        }
    });
    guest.answer("boot").unwrap();
    let ready = Instant::now();
    let (answer, at) = client.join().unwrap();
    assert_eq!(answer.unwrap().len(), 1000);
    let late = at.saturating_duration_since(ready);
    println!("measured: served {} ms after the guest was ready", late.as_millis());
    // QEMU waits longer and longer before it asks a guest again that did not answer.
    assert!(late < Duration::from_millis(1500) || lan.is_qemu(), "{late:?}");
    lan.end(guest);
}

#[test]
fn a_thousand_connections_at_once_and_two_thousand_in_a_row_leave_nothing_behind() {
    let lan = or_skip!(Lan::find());
    let (machine, forwards) = forwarded(lan.machine(), &[PEER]);
    let mut guest = lan.start(&machine);
    let server = lan.at(GATEWAY);
    let rounds = |guest: &mut Guest, at_once: u64, in_a_row: u64| {
        // QEMU has one of the host's clients wait for the next, and whoever comes besides calls again
        // a second later.
        let at_once = if lan.is_qemu() { 10 } else { at_once };
        guest.must(&format!("peer many {server} {at_once}")).unwrap();
        drop(ask::many(forwards[0], at_once).unwrap());
        guest.must(&format!("peer row {server} {in_a_row}")).unwrap();
        ask::row(forwards[0], in_a_row).unwrap();
    };
    // What is kept for the next time is there after the first.
    rounds(&mut guest, 1000, 100);
    let before = Holdings::of(guest.id());
    let soak = std::env::var("RUNNER_LAB_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    for _ in 0..soak {
        rounds(&mut guest, 1000, 1000);
    }
    // Connections that have ended are held for a moment by TCP.
    thread::sleep(Duration::from_secs(3));
    lan.differs(
        Holdings::of(guest.id()).are_no_more_than(&before),
        "QEMU keeps the sockets of connections that have ended for some time",
    );
    assert_eq!(lan.server.open(), 0);
    assert_eq!(ask::counters(forwards[0]).unwrap().1, 0);
    lan.end(guest);
}
