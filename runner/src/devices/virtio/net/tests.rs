//! The device with a driver in front of it and a scripted link behind it. Case numbers (N51 …) are
//! those of the list of what hostile guests do.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hv::{GuestMemory, GuestRam, Width};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_HOST_TSO4,
    VIRTIO_NET_F_MRG_RXBUF,
};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vm_memory::{Bytes as _, GuestAddress, VolatileSlice};

use super::{Nic, Scratch, Work, identity};
use crate::devices::virtio::mmio::Mmio;
use crate::devices::virtio::transport::Transport;
use crate::devices::virtio::worker::Commands;
use crate::io::event::Event;
use crate::io::event_loop::{Ready, Watcher};
use crate::machine::bus::Device;
use crate::net::frame::{Family, Frame, HEADER, LARGEST, Offload};
use crate::net::{Inbox, Link, Offer, Put, Sent};

const RAM: u64 = 8 << 20;
const SIZE: u16 = 8;
/// Where each queue's parts are, behind its own base.
const QUEUES: [u64; 2] = [0x1000, 0x8000];
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x4000;
/// Room for buffers of a MiB each queue.
const BUFFERS: [u64; 2] = [0x10_0000, 0x20_0000];

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// What the link was given, what it has, and how it behaves.
#[derive(Debug, Default)]
struct Script {
    sent: Vec<(Offload, Vec<u8>)>,
    waiting: VecDeque<(Offload, Vec<Vec<u8>>)>,
    /// Bytes that come by `fill`, with a header or without.
    reads: VecDeque<(bool, Vec<u8>)>,
    full: bool,
    activations: Vec<Option<u64>>,
    room: usize,
    receptions: usize,
    finished: bool,
}

#[derive(Clone, Debug, Default)]
struct Scripted(Arc<Mutex<Script>>);

impl Link for Scripted {
    fn offer(&self) -> Offer {
        let features = 1 << VIRTIO_NET_F_CSUM
            | 1 << VIRTIO_NET_F_GUEST_CSUM
            | 1 << VIRTIO_NET_F_HOST_TSO4
            | 1 << VIRTIO_NET_F_GUEST_TSO4;
        Offer { features, mac: [2, 3, 4, 5, 6, 7], mtu: 1500 }
    }

    fn descriptors(&self) -> u64 {
        0
    }

    fn watch(&mut self, _: Watcher) -> io::Result<()> {
        Ok(())
    }

    fn activate(&mut self, features: Option<u64>) {
        self.0.lock().unwrap().activations.push(features);
    }

    fn send(&mut self, frame: &Frame<'_>, _: Duration) -> Sent {
        let mut script = self.0.lock().unwrap();
        if script.full {
            return Sent::Later;
        }
        let mut bytes = vec![0; frame.bytes.len()];
        frame.bytes.copy_to(&mut bytes);
        script.sent.push((frame.offload, bytes));
        Sent::Done
    }

    fn receive(&mut self, inbox: &mut dyn Inbox, _: Duration) {
        let mut script = self.0.lock().unwrap();
        script.room = inbox.room(LARGEST);
        script.receptions += 1;
        while let Some((offload, pieces)) = script.waiting.pop_front() {
            let list: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            if inbox.put(offload, &list) == Put::Full {
                script.waiting.push_front((offload, pieces));
                break;
            }
        }
        while let Some((with_header, bytes)) = script.reads.pop_front() {
            let mut read = |slices: &[VolatileSlice<'_>]| {
                let mut rest = bytes.as_slice();
                for slice in slices {
                    let count = rest.len().min(slice.len());
                    slice.copy_from(&rest[..count]);
                    rest = &rest[count..];
                }
                Ok(bytes.len() - rest.len())
            };
            if inbox.fill(1514, with_header, &mut read).unwrap() == Put::Full {
                script.reads.push_front((with_header, bytes));
                break;
            }
        }
    }

    fn ready(&mut self, _: Ready, _: Duration) {}

    fn deadline(&self) -> Option<Duration> {
        None
    }

    fn finish(&mut self) {
        self.0.lock().unwrap().finished = true;
    }
}

struct Rig {
    memory: GuestMemory,
    mmio: Mmio,
    nic: Nic,
    link: Scripted,
    interrupts: Arc<AtomicU32>,
    available: [u16; 2],
}

impl Rig {
    /// A device that is in service with `features`.
    fn new(features: u64) -> Self {
        let memory = hv::mem::memory([(0, GuestRam::new(RAM).unwrap())]).unwrap();
        let link = Scripted::default();
        let interrupts = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&interrupts);
        let interrupt = move || {
            count.fetch_add(1, Ordering::SeqCst);
        };
        let event = || Arc::new(Event::new().unwrap());
        let (commands, receiver) = Commands::channel(event());
        let transport = Transport::new(
            identity("net0", &link.offer()),
            memory.clone(),
            Arc::new(interrupt),
            vec![event(), event()],
            commands,
        );
        let transport = Arc::new(transport);
        let nic = Nic::new(Arc::clone(&transport), receiver, Box::new(link.clone()));
        let available = [0; 2];
        let mut rig = Self { memory, mmio: Mmio(transport), nic, link, interrupts, available };
        rig.start(features);
        rig
    }

    fn write(&self, register: u64, value: u64) {
        self.mmio.write(register, Width::W4, value);
    }

    fn status(&self) -> u64 {
        self.mmio.read(0x70, Width::W4)
    }

    fn start(&mut self, features: u64) {
        for (register, value) in [(0x70, 1), (0x70, 3), (0x24, 0), (0x20, features & 0xffff_ffff)] {
            self.write(register, value);
        }
        let high = features >> 32 | 1 << (VIRTIO_F_VERSION_1 - 32);
        for (register, value) in [(0x24, 1), (0x20, high), (0x70, 0xb)] {
            self.write(register, value);
        }
        for (index, base) in (0..).zip(QUEUES) {
            self.write(0x30, index);
            self.write(0x38, SIZE.into());
            for (register, at) in [(0x80, base), (0x90, base + AVAILABLE), (0xa0, base + USED)] {
                self.write(register, at);
            }
            self.write(0x44, 1);
        }
        self.write(0x70, 0xf);
        self.serve(Work { commands: true, ..Work::default() });
        assert_eq!(self.status(), 0xf);
    }

    fn serve(&mut self, work: Work) -> bool {
        self.nic.serve(&self.memory, &mut Scratch::default(), work, Duration::ZERO)
    }

    fn kick(&mut self) {
        while self.serve(Work { transmit: true, receive: true, commands: false }) {}
    }

    /// Writes a chain at `head` of a queue and makes it available: address, length, flags.
    fn offer(&mut self, queue: usize, head: u16, buffers: &[(u64, u32, u16)]) {
        let last = buffers.len() - 1;
        for (step, (index, (address, len, flags))) in (head..).zip(buffers).enumerate() {
            let at = QUEUES[queue] + 16 * u64::from(index);
            let next = if step == last { 0 } else { NEXT };
            self.memory.write_obj(*address, GuestAddress(at)).unwrap();
            let rest = u64::from(*len) | u64::from(flags | next) << 32 | u64::from(index + 1) << 48;
            self.memory.write_obj(rest, GuestAddress(at + 8)).unwrap();
        }
        let ring = QUEUES[queue] + AVAILABLE;
        let slot = ring + 4 + 2 * u64::from(self.available[queue] % SIZE);
        self.memory.write_obj(head, GuestAddress(slot)).unwrap();
        self.available[queue] = self.available[queue].wrapping_add(1);
        self.memory.write_obj(self.available[queue], GuestAddress(ring + 2)).unwrap();
    }

    /// Sends `bytes`, header and all, as one buffer.
    fn send(&mut self, head: u16, bytes: &[u8]) {
        let at = BUFFERS[1] + 0x2_0000 * u64::from(head);
        self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
        self.offer(1, head, &[(at, u32::try_from(bytes.len()).unwrap(), 0)]);
    }

    /// Room for a frame, as one buffer.
    fn room(&mut self, head: u16, len: u32) -> u64 {
        let at = BUFFERS[0] + 0x2_0000 * u64::from(head);
        self.offer(0, head, &[(at, len, WRITE)]);
        at
    }

    fn used(&self, queue: usize) -> Vec<(u32, u32)> {
        let ring = QUEUES[queue] + USED;
        let index: u16 = self.memory.read_obj(GuestAddress(ring + 2)).unwrap();
        let element = |slot| {
            let at = ring + 4 + 8 * u64::from(slot % SIZE);
            let word = |at| self.memory.read_obj(GuestAddress(at)).unwrap();
            (word(at), word(at + 4))
        };
        (0..index).map(element).collect()
    }

    fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    fn give(&self, offload: Offload, pieces: &[&[u8]]) {
        let pieces = pieces.iter().map(|piece| piece.to_vec()).collect();
        self.link.0.lock().unwrap().waiting.push_back((offload, pieces));
    }

    fn sent(&self) -> Vec<(Offload, Vec<u8>)> {
        std::mem::take(&mut self.link.0.lock().unwrap().sent)
    }

    #[track_caller]
    fn expect_broken(&self) {
        assert_eq!(self.status(), 0x4f, "NEEDS_RESET");
    }
}

/// A frame behind a header of zeros.
fn plain(frame: &[u8]) -> Vec<u8> {
    [&[0; HEADER], frame].concat()
}

const FRAME: &[u8] = b"to.my.from.me.type and what else there is in it";
const MERGEABLE: u64 = 1 << VIRTIO_NET_F_MRG_RXBUF;

#[test]
fn a_frame_of_the_guests_reaches_the_link_in_however_many_pieces() {
    let mut rig = Rig::new(0);
    rig.send(0, &plain(FRAME));
    rig.kick();
    rig.memory.write_slice(&plain(FRAME), GuestAddress(BUFFERS[1])).unwrap();
    let at = BUFFERS[1];
    rig.offer(1, 2, &[(at, 5, 0), (at + 5, 10, 0), (at + 15, 0, 0), (at + 15, 44, 0)]);
    rig.kick();
    let wanted = (Offload::default(), FRAME.to_vec());
    assert_eq!(rig.sent(), [wanted.clone(), wanted]);
    assert_eq!(rig.used(1), [(0, 0), (2, 0)]);
    assert_eq!(rig.interrupts.load(Ordering::SeqCst), 2);
}

#[test]
fn frames_keep_their_order_and_a_link_that_is_full_gets_the_same_one_again() {
    let mut rig = Rig::new(0);
    for (head, text) in [(0, "frame number 1, first"), (1, "frame number 2, second")] {
        rig.send(head, &plain(text.as_bytes()));
    }
    rig.link.0.lock().unwrap().full = true;
    rig.kick();
    assert_eq!((rig.sent().len(), rig.used(1).len()), (0, 0));
    rig.link.0.lock().unwrap().full = false;
    assert!(!rig.serve(Work::default()), "it is not asked before it has been ready");
    assert_eq!(rig.used(1).len(), 0);
    rig.nic.unblock();
    rig.serve(Work::default());
    let sent: Vec<_> = rig.sent().into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(sent, [&b"frame number 1, first"[..], b"frame number 2, second"]);
    assert_eq!(rig.used(1), [(0, 0), (1, 0)]);
}

#[test]
fn a_link_gets_work_that_was_left_to_it_only_when_that_was_negotiated() {
    // N52
    let offload = Offload { checksum: Some((14, 16)), segment: Some((Family::V4, 1460)) };
    let frame = [&offload.header(40, 0)[..], FRAME].concat();
    let checksum = Offload { segment: None, ..offload };
    let simple = [&checksum.header(0, 0)[..], FRAME].concat();
    let mut rig = Rig::new(1 << VIRTIO_NET_F_CSUM | 1 << VIRTIO_NET_F_HOST_TSO4);
    rig.send(0, &frame);
    rig.kick();
    assert_eq!(rig.sent(), [(offload, FRAME.to_vec())]);
    let mut rig = Rig::new(1 << VIRTIO_NET_F_CSUM);
    rig.send(0, &frame);
    rig.send(1, &simple);
    rig.kick();
    assert_eq!(rig.sent(), [(checksum, FRAME.to_vec())]);
    assert_eq!(rig.used(1).len(), 2, "what is dropped is given back");
    let mut rig = Rig::new(0);
    rig.send(0, &simple);
    rig.kick();
    assert_eq!((rig.sent().len(), rig.used(1).len()), (0, 1));
}

#[test]
fn a_frame_without_a_whole_header_breaks_the_device_and_a_reset_mends_it() {
    // N51
    for len in [0, 1, 11] {
        let mut rig = Rig::new(0);
        rig.send(0, &[0; 11][..len]);
        rig.kick();
        rig.expect_broken();
        assert_eq!(rig.used(1).len(), 0);
        rig.write(0x70, 0);
        rig.serve(Work { commands: true, ..Work::default() });
        assert_eq!(rig.status(), 0);
        rig.memory.write_slice(&[0; 0x6000], GuestAddress(QUEUES[1])).unwrap();
        rig.available = [0; 2];
        rig.start(0);
        rig.send(0, &plain(FRAME));
        rig.kick();
        assert_eq!(rig.sent().len(), 1);
        let activations = rig.link.0.lock().unwrap().activations.clone();
        let is_on: Vec<bool> = activations.iter().map(Option::is_some).collect();
        assert_eq!(is_on, [true, false, true]);
    }
}

#[test]
fn frames_that_are_none_are_dropped_and_the_device_goes_on() {
    // N53
    let mut rig = Rig::new(0);
    for (head, len) in [(0, 0), (1, 13), (2, LARGEST + 1), (3, LARGEST), (4, 14)] {
        rig.send(head, &plain(&vec![7; len]));
    }
    rig.kick();
    let lengths: Vec<_> = rig.sent().iter().map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(lengths, [LARGEST, 14]);
    assert_eq!((rig.used(1).len(), rig.status()), (5, 0xf));
}

#[test]
fn a_frame_for_the_guest_lies_behind_its_header_in_one_buffer() {
    let mut rig = Rig::new(0);
    let at = rig.room(3, 2000);
    rig.give(Offload::default(), &[&FRAME[..20], &[], &FRAME[20..]]);
    rig.kick();
    let mut header = [0; HEADER];
    header[10] = 1;
    let total = HEADER + FRAME.len();
    assert_eq!(rig.bytes(at, total), [&header, FRAME].concat());
    assert_eq!(rig.used(0), [(3, u32::try_from(total).unwrap())]);
    assert_eq!(rig.interrupts.load(Ordering::SeqCst), 1);
}

#[test]
fn a_large_frame_is_spread_over_mergeable_buffers_which_appear_at_once() {
    let mut rig = Rig::new(MERGEABLE | 1 << VIRTIO_NET_F_GUEST_TSO4 | 1 << VIRTIO_NET_F_GUEST_CSUM);
    let headers: Vec<u8> = (0..54).collect();
    let data: Vec<u8> = (0..5000u32).map(|byte| byte.to_le_bytes()[0]).collect();
    let offload = Offload { checksum: Some((34, 16)), segment: Some((Family::V4, 1460)) };
    rig.give(offload, &[&headers, &data[..1234], &data[1234..]]);
    let places: Vec<_> = (0..2).map(|head| rig.room(head, 2000)).collect();
    rig.kick();
    assert_eq!(rig.used(0).len(), 0, "there is not enough room");
    let last = rig.room(2, 2000);
    rig.kick();
    assert_eq!(rig.used(0), [(0, 2000), (1, 2000), (2, 1066)]);
    let parts = [rig.bytes(places[0], 2000), rig.bytes(places[1], 2000), rig.bytes(last, 1066)];
    let all = parts.concat();
    assert_eq!(all[..HEADER], offload.header(54, 3));
    assert_eq!(all[HEADER..], [headers, data].concat());
}

#[test]
fn a_link_hears_how_much_room_there_is_and_what_it_does_not_use_stays() {
    let mut rig = Rig::new(MERGEABLE);
    rig.kick();
    assert_eq!(rig.link.0.lock().unwrap().room, 0);
    for head in 0..3 {
        rig.room(head, 1000);
    }
    rig.kick();
    assert_eq!(rig.link.0.lock().unwrap().room, 3000 - HEADER);
    rig.give(Offload::default(), &[FRAME]);
    rig.kick();
    assert_eq!(rig.used(0), [(0, 59)]);
    rig.kick();
    assert_eq!(rig.link.0.lock().unwrap().room, 2000 - HEADER);
    let mut rig = Rig::new(0);
    rig.room(0, 1000);
    rig.room(1, 1000);
    rig.kick();
    assert_eq!(rig.link.0.lock().unwrap().room, 1000 - HEADER, "one buffer is one frame's");
}

#[test]
fn a_frame_larger_than_the_guests_buffers_is_dropped_and_the_next_one_is_not() {
    // N54
    let mut rig = Rig::new(0);
    rig.room(0, 100);
    rig.give(Offload::default(), &[&[1; 1000]]);
    rig.give(Offload::default(), &[FRAME]);
    rig.kick();
    assert_eq!(rig.used(0), [(0, 59)]);
    assert_eq!(rig.status(), 0xf);
}

#[test]
fn room_that_cannot_take_a_header_or_is_not_to_be_written_breaks_the_device() {
    // N54
    for buffers in [&[(BUFFERS[0], 11, WRITE)][..], &[(BUFFERS[0], 2000, 0)]] {
        let mut rig = Rig::new(MERGEABLE);
        rig.offer(0, 0, buffers);
        rig.give(Offload::default(), &[FRAME]);
        rig.kick();
        rig.expect_broken();
        assert_eq!(rig.used(0).len(), 0);
    }
}

#[test]
fn what_a_link_reads_straight_into_the_guest_has_a_header_of_its_own_or_of_the_links() {
    let mut rig = Rig::new(MERGEABLE);
    let places: Vec<_> = (0..2).map(|head| rig.room(head, 1600)).collect();
    let mut header = Offload { checksum: Some((34, 16)), segment: None }.header(0, 0);
    let reads = [(true, [&header, FRAME].concat()), (false, FRAME.to_vec())];
    rig.link.0.lock().unwrap().reads.extend(reads);
    rig.kick();
    assert_eq!(rig.used(0), [(0, 59), (1, 59)]);
    header[10] = 1;
    assert_eq!(rig.bytes(places[0], 59), [&header, FRAME].concat());
    let plain = Offload::default().header(0, 1);
    assert_eq!(rig.bytes(places[1], 59), [&plain, FRAME].concat());
    rig.link.0.lock().unwrap().reads.push_back((false, FRAME.to_vec()));
    rig.kick();
    assert_eq!(rig.link.0.lock().unwrap().reads.len(), 1, "without room nothing is read");
}

#[test]
fn what_a_link_reads_goes_over_several_buffers_too() {
    let mut rig = Rig::new(MERGEABLE);
    let places: Vec<_> = (0..4).map(|head| rig.room(head, 500)).collect();
    let bytes: Vec<u8> = (0..700u32).map(|byte| byte.to_le_bytes()[0]).collect();
    rig.link.0.lock().unwrap().reads.push_back((false, bytes.clone()));
    rig.kick();
    assert_eq!(rig.used(0), [(0, 500), (1, 212)]);
    let all = [rig.bytes(places[0], 500), rig.bytes(places[1], 212)].concat();
    assert_eq!(all, [&Offload::default().header(0, 2)[..], &bytes].concat());
}

#[test]
fn a_link_is_called_without_a_driver_too_and_finds_no_room() {
    // N28: it has clients that wait, and a time at which they are told to go.
    let mut rig = Rig::new(MERGEABLE);
    rig.room(0, 500);
    rig.write(0x70, 0);
    rig.serve(Work { commands: true, ..Work::default() });
    rig.give(Offload::default(), &[FRAME]);
    let before = rig.link.0.lock().unwrap().receptions;
    rig.serve(Work::default());
    let script = rig.link.0.lock().unwrap();
    assert_eq!((script.receptions, script.room, script.waiting.len()), (before + 1, 0, 1));
}

#[test]
fn a_frame_that_the_whole_queue_has_no_room_for_is_dropped_and_smaller_ones_are_not() {
    // N54: mergeable, but even all buffers together are too small.
    let mut rig = Rig::new(MERGEABLE);
    for head in 0..SIZE {
        rig.room(head, 200);
    }
    rig.give(Offload::default(), &[&[7; 2000]]);
    rig.give(Offload::default(), &[FRAME]);
    rig.link.0.lock().unwrap().reads.push_back((false, FRAME.to_vec()));
    rig.kick();
    assert_eq!(rig.used(0), [(0, 59)]);
    for _ in 0..2 {
        rig.kick();
    }
    assert_eq!(rig.link.0.lock().unwrap().waiting.len(), 0);
}

#[test]
fn what_a_guest_has_sent_when_it_ends_goes_to_the_link() {
    let mut rig = Rig::new(0);
    for head in 0..4 {
        rig.send(head, &plain(FRAME));
    }
    rig.nic.finish(&rig.memory, &mut Scratch::default(), Duration::ZERO);
    assert_eq!(rig.sent().len(), 4);
    assert!(rig.link.0.lock().unwrap().finished);
}

#[test]
fn a_guest_that_asks_for_an_interrupt_later_gets_it_later() {
    let mut rig = Rig::new(MERGEABLE | 1 << VIRTIO_RING_F_EVENT_IDX);
    // used_event is behind the heads: not before the third.
    let event = QUEUES[0] + AVAILABLE + 4 + 2 * u64::from(SIZE);
    rig.memory.write_obj(2u16, GuestAddress(event)).unwrap();
    for head in 0..4 {
        rig.room(head, 500);
    }
    for wanted in [0, 0, 1, 1] {
        rig.give(Offload::default(), &[FRAME]);
        rig.kick();
        assert_eq!(rig.interrupts.load(Ordering::SeqCst), wanted);
    }
    assert_eq!(rig.used(0).len(), 4);
}

#[test]
fn a_reset_in_the_middle_lets_go_of_everything() {
    let mut rig = Rig::new(MERGEABLE);
    rig.room(0, 500);
    rig.send(0, &plain(FRAME));
    rig.link.0.lock().unwrap().full = true;
    rig.kick();
    rig.write(0x70, 0);
    assert_ne!(rig.status(), 0, "before the worker let go");
    rig.serve(Work { commands: true, ..Work::default() });
    assert_eq!(rig.status(), 0);
    rig.give(Offload::default(), &[FRAME]);
    rig.kick();
    assert_eq!((rig.used(0).len(), rig.used(1).len()), (0, 0));
}
