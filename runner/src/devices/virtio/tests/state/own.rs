//! What devices have beside registers and queues.

use std::io::Read;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use virtio_bindings::virtio_blk::{VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_OUT};

use super::super::super::balloon::Balloon;
use super::super::super::block::{Disk, Scratch};
use super::super::super::console::{Console, Keyboard};
use super::super::super::state::{Own, PortState};
use super::super::super::vsock::{Sockets, Vsock};
use super::super::block::{DATA, LEN, file, request};
use super::super::{Kind, On, RAM, Rig, SEAM, WRITE, memory};
use super::subjects::{IN, OUT, Screen, block, keyboard, packet, share, vsock};
use super::through_a_file;
use crate::devices::state::Undescribed;
use crate::devices::uart::Uart;

#[test]
fn writes_that_are_not_durable_are_flushed_by_the_one_that_is_restored() {
    let subject = block();
    let mut rig = subject.started(On::Mmio);
    let own = |rig: &Rig| rig.describe().unwrap().0.own;
    let settled = Own::Block { unflushed: false, failed: false };
    let unflushed = Own::Block { unflushed: true, failed: false };
    assert_eq!(own(&rig), settled);
    request(&mut rig, VIRTIO_BLK_T_OUT, 1, &[(DATA, 512, 0)]);
    assert_eq!(own(&rig), unflushed);
    let saved = rig.describe().unwrap();
    let mut other = rig.moved_to(On::Mmio, (subject.make)());
    other.restore(&saved).unwrap();
    assert_eq!(own(&other), unflushed);
    assert_eq!(request(&mut other, VIRTIO_BLK_T_FLUSH, 0, &[]).0, 0);
    assert_eq!(own(&other), settled);
}

#[test]
fn a_flush_that_has_failed_goes_on_failing() {
    let subject = block();
    let mut saved = subject.started(On::Mmio).describe().unwrap();
    saved.0.own = Own::Block { unflushed: false, failed: true };
    let mut rig = Rig::on(On::Mmio, (subject.make)(), memory());
    rig.set_up_queues(1);
    rig.restore(&saved).unwrap();
    assert_eq!(request(&mut rig, VIRTIO_BLK_T_FLUSH, 0, &[]).0, 1);
}

#[test]
fn a_disk_whose_writes_are_in_a_scratch_file_says_that_it_cannot_be_kept() {
    let scratch = Scratch { file: Arc::new(file()), folder: "/tmp".into() };
    let disk = Disk::ephemeral("disk0", "d.img", Arc::new(file()), LEN, scratch);
    let rig = Rig::on(On::Mmio, Kind::Worker(disk.identity(), Box::new(disk)), memory());
    let never = rig.describe().unwrap_err();
    assert!(matches!(never, Undescribed::Never { .. }), "{never}");
    assert!(never.to_string().contains("disk0 (d.img) cannot be kept: what the guest has written"));
}

#[test]
fn half_a_line_on_the_screen_and_what_was_typed_are_kept() {
    let (screen, typed) = (Screen::default(), keyboard());
    let make = |keyboard: &Arc<Keyboard>| {
        let screen = Box::new(screen.clone());
        Kind::Loop(Box::new(Console::new(screen, Arc::clone(keyboard), None)))
    };
    let mut rig = Rig::on(On::Mmio, make(&typed), memory());
    rig.set_up_queues(2);
    rig.start(0);
    screen.0.lock().unwrap().1.extend([4, 0]);
    rig.write_bytes(OUT, b"half of it");
    rig.chain_of(1, &[(OUT, 10, 0)]);
    rig.offer_to(1, 0);
    rig.kick_queue(1);
    typed.receive(b"typed");
    let saved = through_a_file(&rig.describe().unwrap());
    let port = PortState { sent: 4, input: b"typed".to_vec(), ..PortState::default() };
    assert_eq!(saved.0.own, Own::Console { ports: vec![port] });
    let mut other = rig.moved_to(On::Mmio, make(&keyboard()));
    other.restore(&saved).unwrap();
    assert_eq!(other.describe().unwrap(), saved);
    other.chain_of(0, &[(IN, 64, WRITE)]);
    other.offer_to(0, 0);
    other.kick_queue(0);
    assert_eq!((other.used_of(0, 0), other.bytes(IN, 5)), ((0, 5), b"typed".to_vec()));
    assert_eq!((other.used_of(1, 0), other.used_index_of(1)), ((0, 0), 1));
    assert_eq!(screen.0.lock().unwrap().0, b"half of it");
}

#[test]
fn a_report_of_free_pages_goes_on_where_it_was() {
    const REPORTING: u64 = 1 << 5;
    let make = || Kind::Loop(Box::new(Balloon::new(0)));
    let mut rig = Rig::on(On::Mmio, make(), memory());
    rig.set_up_queues(3);
    rig.start(REPORTING);
    let len = u32::try_from(RAM - SEAM).unwrap();
    let last = RAM - 0x1_0000;
    rig.fill(SEAM, 7, 0x1_0000);
    rig.fill(last, 7, 0x1_0000);
    rig.chain_of(2, &[(SEAM, len, WRITE)]);
    rig.offer_to(2, 0);
    rig.kick_queue(2);
    assert!(rig.more());
    let saved = rig.describe().unwrap();
    assert!(matches!(saved.0.own, Own::Balloon { reported: 1.. }), "{saved:?}");
    let mut other = rig.moved_to(On::Mmio, make());
    other.restore(&saved).unwrap();
    assert_eq!(other.describe().unwrap(), saved);
    other.fill(SEAM, 9, 0x1_0000);
    while other.used_index_of(2) == 0 {
        other.turn();
    }
    assert_eq!(other.bytes(SEAM, 0x1_0000), vec![9; 0x1_0000], "not from the beginning");
    assert!(other.is_gone(last, 64));
}

#[test]
fn a_session_with_a_share_is_over_and_its_driver_hears_so_at_once() {
    let subject = share();
    let mut rig = subject.started(On::Mmio);
    let own = |rig: &Rig| rig.describe().unwrap().0.own;
    assert_eq!(own(&rig), Own::Share { lost: false });
    subject.offer(&mut rig);
    rig.turn();
    assert_eq!(own(&rig), Own::Share { lost: true });
    let saved = rig.describe().unwrap();
    let mut other = rig.moved_to(On::Mmio, (subject.make)());
    other.restore(&saved).unwrap();
    // Tgetattr of a fid that it had.
    other.write_bytes(OUT, b"\x13\0\0\0\x18\x01\0\0\0\0\0\xff\0\0\0\0\0\0\0");
    other.chain(&[(OUT, 19, 0), (IN, 64, WRITE)]);
    other.offer(0);
    other.kick();
    // Rlerror, and the number of EPROTO.
    assert_eq!(other.bytes(IN, 11), b"\x0b\0\0\0\x07\x01\0\x47\0\0\0");
    subject.offer(&mut other);
    other.turn();
    (subject.done)(&other, 0);
}

#[test]
fn a_driver_whose_connections_are_lost_is_told_so_once_and_starts_anew() {
    const ROOM: u64 = IN;
    const EVENT: u64 = IN + 0x1000;
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let sockets = Sockets::open(&folder.path().join(name)).unwrap();
        Kind::Loop(Box::new(Vsock::new(7, sockets)))
    };
    let listener = UnixListener::bind(folder.path().join("v_52")).unwrap();
    let send = |rig: &mut Rig, op| {
        rig.write_bytes(OUT, &packet(op, 52));
        rig.chain_of(1, &[(OUT, 44, 0)]);
        rig.offer_to(1, 0);
        rig.chain_of(0, &[(ROOM, 4096, WRITE)]);
        rig.offer_to(0, 0);
        rig.kick_queue(1);
        // The operation of the answer.
        rig.bytes(ROOM + 30, 1)[0]
    };
    let mut rig = Rig::on(On::Mmio, make("v"), memory());
    rig.set_up_queues(3);
    rig.start(1);
    let own = |rig: &Rig| rig.describe().unwrap().0.own;
    assert_eq!(own(&rig), Own::Vsock { interrupted: false });
    assert_eq!(send(&mut rig, 1), 2, "accepted");
    let (mut program, _) = listener.accept().unwrap();
    assert_eq!(own(&rig), Own::Vsock { interrupted: true });
    let saved = rig.describe().unwrap();
    let mut other = rig.moved_to(On::Mmio, make("w"));
    drop(rig);
    assert_eq!(program.read(&mut [0]).unwrap(), 0, "its end is gone with the process");
    other.restore(&saved).unwrap();
    assert_eq!(other.describe().unwrap(), saved);
    // There is no room for the event yet, and it is not forgotten.
    other.turn();
    assert_eq!(other.describe().unwrap(), saved);
    other.fill(EVENT, 0xff, 8);
    other.chain_of(2, &[(EVENT, 8, WRITE)]);
    other.offer_to(2, 0);
    other.kick_queue(2);
    assert_eq!(
        (other.used_of(2, 0), other.bytes(EVENT, 8)),
        ((0, 4), [0, 0, 0, 0, 255, 255, 255, 255].into())
    );
    assert!(other.interrupts() > 0);
    assert_eq!(own(&other), Own::Vsock { interrupted: false });
    // What it still sends on a connection that was is answered by RST.
    assert_eq!(send(&mut other, 5), 3);
    other.offer_to(2, 0);
    other.kick_queue(2);
    assert_eq!(other.used_index_of(2), 1, "once");
}

#[test]
fn an_event_that_has_no_room_in_its_buffer_stops_the_device() {
    let subject = vsock();
    let mut saved = subject.started(On::Mmio).describe().unwrap();
    saved.0.own = Own::Vsock { interrupted: true };
    for (len, flags) in [(3, WRITE), (8, 0)] {
        let mut rig = Rig::on(On::Mmio, (subject.make)(), memory());
        rig.set_up_queues(3);
        rig.restore(&saved).unwrap();
        rig.chain_of(2, &[(IN, len, flags)]);
        rig.offer_to(2, 0);
        rig.kick_queue(2);
        assert_eq!(rig.status(), 0x4f);
        rig.restart(1);
    }
}
