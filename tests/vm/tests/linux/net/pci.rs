//! The network card on the PCI bus.

use super::super::super::support::or_skip;
use super::{GATEWAY, Lan, PEER, forwarded};
use peer::ask;
use peer::monitor::Machine;

#[test]
fn a_network_card_on_pci_carries_bytes_and_datagrams_both_ways() {
    let lan = or_skip!(Lan::find());
    let options = vec!["--virtio=pci".to_owned()];
    let (machine, forwards) = forwarded(Machine { options, cpus: 2, ..lan.machine() }, &[PEER]);
    let mut guest = lan.start(&machine);
    if !lan.is_qemu() {
        guest.must("ls /sys/bus/pci/devices/*/virtio*/net/eth0/address").unwrap();
    }
    let (inside, outside) = (lan.at(GATEWAY), forwards[0]);
    for question in ["put SERVER 1000000", "get SERVER 1000000", "datagrams SERVER 1472 5"] {
        guest.must(&format!("peer {}", question.replace("SERVER", &inside.to_string()))).unwrap();
        let words = question.replace("SERVER", &outside.to_string());
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        ask::by_words(&words).unwrap();
    }
    lan.end(guest);
}
