use std::io::Read;
use std::net::Shutdown;

use super::*;
use crate::machine::map::Board;
use crate::machine::slot::VirtioBus;
use crate::net::testing::Scripted;
use hv::Arch;

/// A running cable: QEMU's end, the thread.
fn connected(link: &Scripted) -> (UnixStream, Relay) {
    let slot = Board::of(Arch::X86_64).virtio.on(VirtioBus::Mmio).next().unwrap();
    let plan = NetworkPlan::new(slot, "scripted", Box::new(link.clone()));
    let cable = Cable::new(&plan).unwrap();
    assert_eq!(cable.offer, link.offer());
    assert!(Cable::new(&plan).is_err(), "there is one network");
    let theirs = cable.theirs.try_clone().unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    (theirs, cable.connect().unwrap())
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    [&framing::length(bytes.len()).unwrap()[..], bytes].concat()
}

/// Waits until `done`, as long as it takes on a busy machine.
fn wait(done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < until);
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn frames_go_both_ways_and_the_end_of_qemu_is_the_end() {
    let link = Scripted::of([(false, vec![1; 60]), (true, vec![2; 1514])]);
    let (mut qemu, relay) = connected(&link);
    let wanted = [framed(&[1; 60]), framed(&[2; 1514])].concat();
    let mut found = vec![0; wanted.len()];
    qemu.read_exact(&mut found).unwrap();
    assert!(found == wanted);
    qemu.write_all(&[framed(&[3; 60]), framed(&[4; 1514])].concat()).unwrap();
    wait(|| link.sent() == [vec![3; 60], vec![4; 1514]]);
    assert_eq!(link.finished(), 0);
    drop(qemu);
    relay.finish();
    assert_eq!(link.finished(), 1);
}

#[test]
fn a_qemu_that_takes_nothing_has_the_network_wait_and_nothing_grow() {
    let frames = 2000;
    let link = Scripted::of((0..frames).map(|_| (false, vec![5; 1514])));
    let (mut qemu, relay) = connected(&link);
    thread::sleep(Duration::from_millis(50));
    let one = framed(&[5; 1514]);
    let mut found = vec![0; one.len()];
    // It wakes the network, which has nothing else to do it, by what it reads.
    for _ in 0..frames {
        qemu.read_exact(&mut found).unwrap();
        assert!(found == one);
    }
    drop(qemu);
    relay.finish();
}

#[test]
fn a_stream_that_makes_no_sense_ends_the_network_and_not_the_run() {
    let link = Scripted::default();
    let (mut qemu, relay) = connected(&link);
    qemu.write_all(&[0xff; 100]).unwrap();
    relay.finish();
    assert_eq!((link.finished(), link.sent().len()), (1, 0));
    // QEMU's end stays usable as far as QEMU is concerned: it finds it closed.
    assert_eq!(qemu.read(&mut [0; 1]).unwrap_or(0), 0);
    let _ = qemu.shutdown(Shutdown::Both);
}
