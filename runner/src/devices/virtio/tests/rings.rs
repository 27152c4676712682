//! Rings and chains as hostile drivers lay them out.

use std::sync::{Arc, Mutex};

use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vm_memory::{Bytes, GuestAddress};

use super::super::chain::{Broken, Chain};
use super::super::worker::Backend;
use super::{
    AVAILABLE, DESCRIPTORS, INDIRECT, NEXT, RAM, Rig, SEAM, SIZE, USED, WRITE, identity, reg,
};

const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
const INDIRECT_DESC: u64 = 1 << VIRTIO_RING_F_INDIRECT_DESC;

/// What a chain held: readable and writable bytes, and the pieces they came in.
type Seen = (u64, u64, usize);

/// Notes every chain, and lets a test act in the middle of serving one.
struct Notes {
    seen: Arc<Mutex<Vec<Seen>>>,
    meanwhile: Mutex<Box<dyn FnMut() + Send>>,
}

impl std::fmt::Debug for Notes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notes")
    }
}

impl Backend for Notes {
    fn activate(&self, _features: u64) {}
    fn serve(&self, chain: Chain<'_>, _slow: &mut dyn FnMut()) -> Result<u32, Broken> {
        let pieces = chain.readable.slices().len() + chain.writable.slices().len();
        self.seen.lock().unwrap().push((chain.readable.len(), chain.writable.len(), pieces));
        (self.meanwhile.lock().unwrap())();
        Ok(7)
    }
    fn finish(&self) -> Result<(), String> {
        Ok(())
    }
}

fn rig_with(meanwhile: impl FnMut() + Send + 'static) -> (Rig, Arc<Mutex<Vec<Seen>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let backend = Notes { seen: Arc::clone(&seen), meanwhile: Mutex::new(Box::new(meanwhile)) };
    (Rig::new(identity(), Box::new(backend)), seen)
}

fn rig() -> (Rig, Arc<Mutex<Vec<Seen>>>) {
    rig_with(|| {})
}

/// Starts a device with every feature, offers the chain at 0 as `lay` made it, and expects that it
/// breaks the device and nothing is served.
#[track_caller]
fn breaks(lay: impl FnOnce(&mut Rig)) {
    breaks_with(INDIRECT_DESC, lay);
}

#[track_caller]
fn breaks_with(features: u64, lay: impl FnOnce(&mut Rig)) {
    let (mut rig, seen) = rig();
    rig.start(features);
    lay(&mut rig);
    rig.offer(0);
    rig.kick();
    rig.expect_broken();
    assert_eq!(*seen.lock().unwrap(), []);
    assert_eq!(rig.used_index(), 0);
    // And a reset makes it whole.
    rig.restart(features);
    rig.chain(&[(0x10000, 16, 0)]);
    rig.offer(0);
    rig.kick();
    assert_eq!(rig.used_index(), 1);
}

#[test]
fn chains_are_served_in_order_and_returned_with_their_lengths() {
    let (mut rig, seen) = rig();
    rig.start(0);
    rig.chain(&[(0x10000, 16, 0), (0x11000, 512, WRITE), (0x12000, 1, WRITE)]);
    rig.descriptor(5, (0x13000, 4, 0, 0));
    rig.offer(0);
    rig.offer(5);
    rig.kick();
    assert_eq!(*seen.lock().unwrap(), [(16, 513, 3), (4, 0, 1)]);
    assert_eq!((rig.used(0), rig.used(1), rig.used_index()), ((0, 7), (5, 7), 2));
    assert_eq!(rig.interrupts(), 1, "one for both");
}

#[test]
fn a_loop_breaks_the_device() {
    // R1, R2
    breaks(|rig| {
        rig.descriptor(0, (0x10000, 16, NEXT, 1));
        rig.descriptor(1, (0x10000, 16, NEXT, 0));
    });
    breaks(|rig| rig.descriptor(0, (0x10000, 16, NEXT, 0)));
    breaks(|rig| rig.descriptor(0, (0x10000, 0, NEXT, 0)));
}

#[test]
fn a_next_or_a_head_beyond_the_table_breaks_the_device() {
    // R3, R4
    for next in [SIZE, 255, 0xffff] {
        breaks(|rig| rig.descriptor(0, (0x10000, 16, NEXT, next)));
    }
    for head in [SIZE, 255, 256, 0xffff] {
        let (mut rig, _) = rig();
        rig.start(0);
        rig.offer(head);
        rig.kick();
        rig.expect_broken();
    }
}

#[test]
fn an_available_index_that_runs_ahead_breaks_the_device() {
    // R5
    for index in [SIZE + 1, 0x8000, 0xffff] {
        let (mut rig, seen) = rig();
        rig.start(0);
        rig.set_available_index(index);
        rig.kick();
        rig.expect_broken();
        assert_eq!(*seen.lock().unwrap(), []);
    }
}

#[test]
fn indices_wrap_around() {
    // R6
    let (mut rig, _) = rig();
    rig.start(0);
    rig.chain(&[(0x10000, 16, 0)]);
    for round in 0..0x1_0010u32 {
        rig.offer(0);
        rig.kick();
        assert_eq!(u32::from(rig.used_index()), (round + 1) & 0xffff);
    }
    assert_eq!(rig.status(), 0xf);
}

#[test]
fn what_comes_while_a_queue_is_served_waits_for_the_next_turn() {
    // R7; CH fbcf2fd6b: an index that keeps moving must not keep the thread.
    let shared: Arc<Mutex<Option<hv::GuestMemory>>> = Arc::default();
    let memory = Arc::clone(&shared);
    let (mut rig, seen) = rig_with(move || {
        if let Some(memory) = &*memory.lock().unwrap() {
            let at = GuestAddress(AVAILABLE + 2);
            let index: u16 = memory.read_obj(at).unwrap();
            memory.write_obj(index.wrapping_add(1), at).unwrap();
        }
    });
    *shared.lock().unwrap() = Some(rig.memory.clone());
    rig.start(0);
    for head in 0..SIZE {
        rig.descriptor(head, (0x10000, 16, 0, 0));
        rig.memory.write_obj(head, GuestAddress(AVAILABLE + 4 + 2 * u64::from(head))).unwrap();
    }
    // Two: what comes while the last one is served is the driver's to announce.
    rig.set_available_index(2);
    rig.kick();
    assert_eq!(seen.lock().unwrap().len(), 2);
    for turns in 2..20 {
        rig.turn();
        assert_eq!(seen.lock().unwrap().len(), 2 * turns, "two more, without a notification");
    }
}

#[test]
fn a_chain_that_is_available_twice_breaks_the_device() {
    // R8, CVE-2026-45782
    let (mut rig, seen) = rig();
    rig.start(0);
    rig.chain(&[(0x10000, 16, 0)]);
    rig.offer(0);
    rig.offer(0);
    rig.kick();
    rig.expect_broken();
    assert_eq!(*seen.lock().unwrap(), []);
}

#[test]
fn buffers_outside_of_ram_break_the_device() {
    // R9, R10
    for (address, len) in [
        (RAM, 1),
        (RAM - 1, 2),
        (0xfeb0_0000, 16),
        (u64::MAX, 1),
        (u64::MAX - 15, 16),
        (u64::MAX - 15, 17),
        (0x10000, u32::MAX),
    ] {
        breaks(|rig| rig.chain(&[(address, len, 0)]));
        breaks(|rig| rig.chain(&[(0x10000, 16, 0), (address, len, WRITE)]));
    }
}

#[test]
fn buffers_without_bytes_are_allowed_anywhere() {
    // R12, R13
    let (mut rig, seen) = rig();
    rig.start(0);
    rig.chain(&[(0, 0, 0), (0x10000, 16, 0), (u64::MAX, 0, WRITE), (RAM, 0, WRITE)]);
    rig.offer(0);
    rig.kick();
    rig.chain(&[(u64::MAX, 0, 0)]);
    rig.offer(0);
    rig.kick();
    assert_eq!(*seen.lock().unwrap(), [(16, 0, 1), (0, 0, 0)]);
    assert_eq!(rig.status(), 0xf);
}

#[test]
fn readable_behind_writable_breaks_the_device() {
    // R14
    breaks(|rig| rig.chain(&[(0x10000, 16, 0), (0x11000, 16, WRITE), (0x12000, 16, 0)]));
    breaks(|rig| rig.chain(&[(0x11000, 0, WRITE), (0x12000, 16, 0)]));
}

#[test]
fn a_buffer_across_two_pieces_of_ram_is_whole() {
    // R16
    let (mut rig, seen) = rig();
    rig.start(0);
    rig.chain(&[(SEAM - 8, 16, 0)]);
    rig.offer(0);
    rig.kick();
    assert_eq!(*seen.lock().unwrap(), [(16, 0, 2)]);
}

#[test]
fn indirect_tables_are_followed_alone_and_behind_direct_buffers() {
    let (mut rig, seen) = rig();
    rig.start(INDIRECT_DESC);
    rig.chain_at(0x20000, &[(0x10000, 16, 0), (0x11000, 8, WRITE), (0x12000, 1, WRITE)]);
    rig.descriptor(0, (0x20000, 48, INDIRECT, 0xffff));
    rig.offer(0);
    rig.kick();
    rig.descriptor(1, (0x10000, 4, NEXT, 2));
    rig.descriptor(2, (0x20000, 48, INDIRECT, 0));
    rig.offer(1);
    rig.kick();
    assert_eq!(*seen.lock().unwrap(), [(16, 9, 3), (20, 9, 4)]);
}

#[test]
fn an_indirect_table_may_have_more_entries_than_the_queue_and_as_many_as_any_queue() {
    // R17 stays with the file layer, whose vectors are cut.
    let (mut rig, seen) = rig();
    rig.start(INDIRECT_DESC);
    for (len, count) in [(256u32, 256u32), (257, 256)] {
        rig.chain_at(0x20000, &vec![(0x10000, 1, WRITE); count as usize]);
        rig.descriptor(0, (0x20000, len * 16, INDIRECT, 0));
        rig.offer(0);
        rig.kick();
    }
    assert_eq!(*seen.lock().unwrap(), [(0, 256, 256), (0, 256, 256)]);
    breaks(|rig| {
        rig.chain_at(0x20000, &vec![(0x10000, 1, WRITE); 300]);
        rig.descriptor(0, (0x20000, 300 * 16, INDIRECT, 0));
    });
}

#[test]
fn indirect_tables_that_were_not_negotiated_break_the_device() {
    // R18
    breaks_with(0, |rig| {
        rig.chain_at(0x20000, &[(0x10000, 16, 0)]);
        rig.descriptor(0, (0x20000, 16, INDIRECT, 0));
    });
}

#[test]
fn nested_indirect_tables_and_descriptors_behind_one_break_the_device() {
    // R19, R20
    breaks(|rig| {
        rig.descriptor_at(0x20000, 0, (0x20000, 16, INDIRECT, 0));
        rig.descriptor(0, (0x20000, 16, INDIRECT, 0));
    });
    breaks(|rig| {
        rig.chain_at(0x20000, &[(0x10000, 16, 0)]);
        rig.descriptor(0, (0x20000, 16, INDIRECT | NEXT, 1));
        rig.descriptor(1, (0x10000, 16, 0, 0));
    });
}

#[test]
fn indirect_tables_of_odd_lengths_or_outside_of_ram_break_the_device() {
    // R21
    for len in [0, 1, 15, 17, 16 * 65536, u32::MAX] {
        breaks(|rig| {
            rig.chain_at(0x20000, &[(0x10000, 16, 0)]);
            rig.descriptor(0, (0x20000, len, INDIRECT, 0));
        });
    }
    for table in [RAM, RAM - 8, u64::MAX, u64::MAX - 15] {
        breaks(|rig| rig.descriptor(0, (table, 16, INDIRECT, 0)));
    }
    breaks(|rig| {
        // Its second half is outside.
        rig.descriptor_at(RAM - 16, 0, (0x10000, 16, NEXT, 1));
        rig.descriptor(0, (RAM - 16, 32, INDIRECT, 0));
    });
    breaks(|rig| {
        rig.descriptor_at(0x20000, 0, (0x10000, 16, NEXT, 1));
        rig.descriptor(0, (0x20000, 16, INDIRECT, 0));
    });
}

#[test]
fn a_chain_of_more_than_4_gibibytes_breaks_the_device() {
    // R11: all of RAM, over and over.
    let len = u32::try_from(RAM).unwrap();
    let most = (1u64 << 32) / RAM;
    let lay = |rig: &mut Rig, count: u64| {
        rig.chain_at(0x20000, &vec![(0, len, WRITE); usize::try_from(count).unwrap()]);
        rig.descriptor(0, (0x20000, u32::try_from(count * 16).unwrap(), INDIRECT, 0));
    };
    breaks(|rig| lay(rig, most + 1));
    let (mut rig, seen) = rig();
    rig.start(INDIRECT_DESC);
    lay(&mut rig, most);
    rig.offer(0);
    rig.kick();
    assert_eq!(seen.lock().unwrap()[0].1, most * RAM);
}

#[test]
fn a_driver_that_wants_no_interrupt_gets_none() {
    let (mut rig, _) = rig();
    rig.start(0);
    rig.chain(&[(0x10000, 16, 0)]);
    rig.memory.write_obj(1u16, GuestAddress(AVAILABLE)).unwrap();
    rig.offer(0);
    rig.kick();
    assert_eq!((rig.used_index(), rig.interrupts()), (1, 0));
    rig.memory.write_obj(0u16, GuestAddress(AVAILABLE)).unwrap();
    rig.offer(0);
    rig.kick();
    assert_eq!((rig.used_index(), rig.interrupts()), (2, 1));
}

#[test]
fn with_event_indices_an_interrupt_comes_when_the_named_chain_is_used() {
    let (mut rig, _) = rig();
    rig.start(EVENT_IDX);
    rig.chain(&[(0x10000, 16, 0)]);
    let used_event = GuestAddress(AVAILABLE + 4 + 2 * u64::from(SIZE));
    rig.memory.write_obj(2u16, used_event).unwrap();
    for interrupts in [0, 0, 1, 0] {
        rig.offer(0);
        rig.kick();
        assert_eq!(rig.interrupts(), interrupts);
    }
    let avail_event = GuestAddress(USED + 4 + 8 * u64::from(SIZE));
    assert_eq!(rig.memory.read_obj::<u16>(avail_event).unwrap(), 4, "notify at the next chain");
}

#[test]
fn event_indices_of_garbage_cost_at_most_interrupts() {
    // R25
    let (mut rig, _) = rig();
    rig.start(EVENT_IDX);
    rig.chain(&[(0x10000, 16, 0)]);
    let used_event = GuestAddress(AVAILABLE + 4 + 2 * u64::from(SIZE));
    for (round, garbage) in (1..).zip([0xffff, 0x8000, 0x7fff, 0, 1]) {
        rig.memory.write_obj::<u16>(garbage, used_event).unwrap();
        rig.memory.write_obj::<u16>(garbage, GuestAddress(USED + 4 + 64)).unwrap();
        rig.offer(0);
        rig.kick();
        assert_eq!((rig.used_index(), rig.status()), (round, 0xf));
    }
}

#[test]
fn a_used_ring_that_the_driver_scribbles_on_is_the_drivers_loss() {
    // R24: the device keeps its own count.
    let (mut rig, _) = rig();
    rig.start(0);
    rig.chain(&[(0x10000, 16, 0)]);
    for round in 1..5 {
        rig.fill(USED, 0xff, 0x40);
        rig.offer(0);
        rig.kick();
        assert_eq!((rig.used_index(), rig.status()), (round, 0xf));
    }
    // Buffers that are the rings themselves.
    rig.chain(&[(DESCRIPTORS, 0x80, 0), (AVAILABLE, 0x16, WRITE), (USED, 0x46, WRITE)]);
    rig.offer(0);
    rig.kick();
    assert_eq!((rig.used_index(), rig.read(reg::STATUS)), (5, 0xf));
}
