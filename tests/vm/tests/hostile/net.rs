//! What no good driver does with a network card (virtio 1.2 §5.1.6), and frames that nobody sends.

use super::driver::register::*;
use super::driver::*;
use super::script::{Bus, Script};
use super::{Guest, accelerator, bounded, or_skip};

/// Features of the driver's (§5.1.3).
const CSUM: u64 = 1;
const GUEST_CSUM: u64 = 1 << 1;
const GUEST_TSO4: u64 = 1 << 7;
const HOST_TSO4: u64 = 1 << 11;
const MERGEABLE: u64 = 1 << 15;
const ALL: u64 = CSUM | GUEST_CSUM | GUEST_TSO4 | HOST_TSO4 | MERGEABLE;

/// Bytes of struct virtio_net_hdr_v1 (§5.1.6).
const HEADER_LEN: u32 = 12;
/// Needs a checksum (§5.1.6.2).
const NEEDS_CSUM: u8 = 1;

/// Where the receive queue is; the transmit queue is where the disk's is.
const RECEIVE: Queue = Queue {
    size: 8,
    descriptors: RAM + 0x25_0000,
    available: RAM + 0x25_2000,
    used: RAM + 0x25_4000,
};
/// What is received.
const BUFFER: u64 = RAM + 0x26_0000;

/// The guest's Ethernet address is learned from what it sends.
const GUEST: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

/// A question for the gateway's address (RFC 826), which is answered, whatever has been before.
fn arp() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(GUEST);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(GUEST);
    frame.extend([10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2]);
    frame.resize(60, 0);
    frame
}

impl Script {
    /// Tells the device of one of its queues.
    pub(super) fn nth_queue(self, index: u64, queue: Queue) -> Self {
        let mut script = self.set(QUEUE_SEL, index).set(QUEUE_NUM, queue.size);
        for (register, address) in [
            (QUEUE_DESC, queue.descriptors),
            (QUEUE_AVAIL, queue.available),
            (QUEUE_USED, queue.used),
        ] {
            script = script.set(register, address & 0xffff_ffff).set(register + 4, address >> 32);
        }
        script.set(QUEUE_READY, 1)
    }

    /// Brings the card into service. What it is offered it takes.
    fn start_card(self, features: u64) -> Self {
        self.negotiate(VERSION_1 | features)
            .nth_queue(0, RECEIVE)
            .nth_queue(1, QUEUE)
            .set(STATUS, DRIVER_OK)
            .get(STATUS, 0xf)
    }

    /// A header and a frame behind it, at [`DATA`].
    fn frame(self, header: [u8; 12], frame: &[u8]) -> Self {
        self.copy(DATA, &[&header[..], frame].concat())
    }

    /// Sends chains, as the first since the card was started.
    fn send(self, heads: &[u16]) -> Self {
        self.place(heads)
            .add(AVAILABLE + 2, u16::try_from(heads.len()).unwrap())
            .set(QUEUE_NOTIFY, 1)
    }

    /// Makes room for frames.
    fn make_room(self, descriptors: &[Descriptor], heads: &[u16]) -> Self {
        let bytes: Vec<u8> = heads.iter().flat_map(|head| head.to_le_bytes()).collect();
        self.descriptors(RECEIVE.descriptors, descriptors)
            .copy(RECEIVE.available + 4, &bytes)
            .add(RECEIVE.available + 2, u16::try_from(heads.len()).unwrap())
            .set(QUEUE_NOTIFY, 0)
    }

    /// Resets the card, asks who the gateway is, and is told.
    fn card_recovers(self) -> Self {
        let script = [AVAILABLE, USED, RECEIVE.available, RECEIVE.used]
            .into_iter()
            .fold(self.reset().get(INTERRUPT_STATUS, 0), |script, ring| script.store(4, ring, 0));
        script
            .start_card(0)
            .store(4, BUFFER + 12, 0)
            .store(4, BUFFER + 16, 0)
            .make_room(&[(BUFFER, 2048, WRITE, 0)], &[0])
            .frame([0; 12], &arp())
            .chain(&[(DATA, HEADER_LEN + 60, 0, 0)])
            .send(&[0])
            .served(1)
            .wait(2, RECEIVE.used + 2, u64::MAX, 1)
            .copied(BUFFER + 12, &GUEST)
    }
}

/// Every entry of a ring of eight, once.
const EACH: [u16; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

/// A guest with a card on the user-mode network, and no disk.
fn with_card(script: Script) -> Guest {
    Guest::new(script).without_disk().option("--net=user")
}

/// What a guest does with its card in service, of which runner has nothing to say; after it the card
/// serves as ever.
fn served(features: u64, steps: impl Fn(Script) -> Script) {
    for bus in [Bus::Mmio, Bus::Pci] {
        let script = steps(Script::on(bus).start_card(features)).card_recovers().end(0);
        with_card(script).passes();
    }
}

/// The same for what stops the card, with these words.
fn stops(features: u64, steps: impl Fn(Script) -> Script, fault: &str) {
    for bus in [Bus::Mmio, Bus::Pci] {
        let script = steps(Script::on(bus).start_card(features)).broken().card_recovers().end(0);
        let finished = with_card(script).ends_with(0);
        let wanted = format!("runner: net0: stopped until the driver resets it: {fault}\n");
        assert_eq!(finished.stderr, wanted, "{finished}");
    }
}

#[test]
fn n51_a_header_that_is_not_whole_stops_the_card_and_one_in_pieces_is_a_header() {
    or_skip!(accelerator());
    for len in [0, 1, 11] {
        let short = [(DATA, len, 0, 0)];
        let fault = "the chain at descriptor 0: no whole header";
        stops(0, |s| s.frame([0; 12], &arp()).chain(&short).send(&[0]), fault);
    }
    let pieces = [
        (DATA, 1, NEXT, 1),
        (DATA + 1, 10, NEXT, 2),
        (DATA + 11, 2, NEXT, 3),
        (DATA + 13, 13, NEXT, 4),
        (DATA + 26, 46, 0, 0),
    ];
    served(0, |s| {
        s.make_room(&[(BUFFER, 2048, WRITE, 0)], &[0])
            .frame([0; 12], &arp())
            .chain(&pieces)
            .send(&[0])
            .served(1)
            .wait(2, RECEIVE.used + 2, u64::MAX, 1)
    });
}

/// struct virtio_net_hdr_v1 with what is asked for.
fn header(flags: u8, gso: u8, length: u16, size: u16, start: u16, offset: u16) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..2].copy_from_slice(&[flags, gso]);
    for (at, half) in (2..).step_by(2).zip([length, size, start, offset]) {
        bytes[at..at + 2].copy_from_slice(&half.to_le_bytes());
    }
    bytes
}

#[test]
fn n52_offloads_that_make_no_sense_go_nowhere() {
    or_skip!(accelerator());
    let headers = [
        header(NEEDS_CSUM, 0, 0, 0, 0xffff, 0xffff),
        header(NEEDS_CSUM, 0, 0, 0, 59, 0),
        header(NEEDS_CSUM, 0, 0, 0, 0, 59),
        header(NEEDS_CSUM, 1, 54, 0, 34, 16),
        header(NEEDS_CSUM, 1, 0xffff, 0xffff, 34, 16),
        header(0, 1, 54, 1448, 34, 16),
        header(NEEDS_CSUM, 1, 0, 1, 34, 16),
        header(NEEDS_CSUM, 3, 42, 1448, 34, 6),
        header(NEEDS_CSUM, 4, 74, 1, 54, 16),
        header(NEEDS_CSUM, 0x81, 54, 1, 34, 16),
        header(0xff, 0xff, 0xffff, 0xffff, 0xffff, 0xffff),
        header(0x7e, 0x7f, 1, 1, 1, 1),
    ];
    for features in [0, CSUM, ALL] {
        served(features, |script| {
            (1u16..).zip(headers).fold(script, |s, (count, header)| {
                let head = count % 8;
                let table = DESCRIPTORS + 16 * u64::from(head);
                let entry = AVAILABLE + 4 + 2 * (u64::from(count - 1) % 8);
                s.frame(header, &tcp(1400))
                    .descriptors(table, &[(DATA, HEADER_LEN + 1454, 0, 0)])
                    .store(2, entry, head.into())
                    .add(AVAILABLE + 2, 1)
                    .set(QUEUE_NOTIFY, 1)
                    .served(count)
            })
        });
    }
}

/// An IPv4 packet of TCP with `len` bytes of data, from the guest to the world; no checksum is right.
fn tcp(len: u16) -> Vec<u8> {
    let mut frame = vec![0x52, 0x55, 10, 0, 2, 2];
    frame.extend(GUEST);
    frame.extend([8, 0, 0x45, 0]);
    frame.extend((40 + len).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 2, 15, 192, 0, 2, 1]);
    frame.extend([0x12, 0x34, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    frame.resize(54 + usize::from(len), 0x5a);
    frame
}

#[test]
fn n53_frames_of_no_length_and_of_any_length_go_nowhere() {
    or_skip!(accelerator());
    // Memory that is all zeros but for what the guest keeps in it; 65,549 bytes are a frame, and no more.
    for len in [0, 1, 13, 14, 60, 65_535, 65_549, 65_550, 1 << 20, 4 << 20] {
        served(ALL, |s| {
            s.frame([0; 12], &[])
                .chain(&[(DATA, HEADER_LEN, NEXT, 1), (BIG, len, 0, 0)])
                .send(&[0])
                .served(1)
        });
    }
}

#[test]
fn n54_a_guest_without_room_or_with_too_little_loses_frames_and_nothing_else() {
    or_skip!(accelerator());
    // No room at all while answers come; then a little, for a frame of 60 bytes and its header.
    let asks = |s: Script, count: u16| {
        let s = s.frame([0; 12], &arp()).chain(&[(DATA, HEADER_LEN + 60, 0, 0)]);
        (1..=count).fold(s, |s, count| s.add(AVAILABLE + 2, 1).set(QUEUE_NOTIFY, 1).served(count))
    };
    served(0, |s| asks(s, 600));
    served(MERGEABLE, |s| asks(s, 600));
    for len in [12, 13, 30] {
        served(0, |s| asks(s.make_room(&[(BUFFER, len, WRITE, 0)], &[0]), 40));
    }
    // What the device may not write to, and what cannot even hold a header.
    for (buffer, fault) in
        [((BUFFER, 2048, 0, 0), "no whole header"), ((BUFFER, 11, WRITE, 0), "no whole header")]
    {
        let fault = format!("the chain at descriptor 0: {fault}");
        let ask = |s: Script| s.frame([0; 12], &arp()).chain(&[(DATA, HEADER_LEN + 60, 0, 0)]);
        stops(0, |s| ask(s.make_room(&[buffer], &[0])).send(&[0]), &fault);
    }
    // With mergeable buffers a frame takes as many as it needs: a header, and an answer of 42 bytes.
    let buffers: Vec<_> = (0..8).map(|n| (BUFFER + 16 * n, 16, WRITE, 0)).collect();
    served(MERGEABLE, |s| {
        let s = s.make_room(&buffers, &EACH);
        asks(s, 1).wait(2, RECEIVE.used + 2, u64::MAX, 4).expect(2, BUFFER + 10, 4)
    });
}

#[test]
fn n55_there_is_no_control_queue_and_no_third_one() {
    or_skip!(accelerator());
    for queue in [2, 3, 0xffff] {
        served(0, |s| s.set(QUEUE_SEL, queue).get(QUEUE_NUM_MAX, 0).set(QUEUE_NOTIFY, queue));
    }
}

#[test]
fn a_card_that_is_reset_while_it_works_is_reset_and_works_again() {
    or_skip!(accelerator());
    let script = Script::default().times(300, |s| {
        let s = [AVAILABLE, USED, RECEIVE.available, RECEIVE.used]
            .into_iter()
            .fold(s, |script, ring| script.store(4, ring, 0));
        s.start_card(0)
            .make_room(&[(BUFFER, 2048, WRITE, 0); 8], &EACH)
            .frame([0; 12], &arp())
            .chain(&[(DATA, HEADER_LEN + 60, 0, 0); 8])
            .send(&EACH)
            .reset()
    });
    with_card(script.card_recovers().end(0)).passes();
}

#[test]
fn a_storm_of_notifications_and_of_frames_is_served_with_bounded_words() {
    or_skip!(accelerator());
    let frames: [Vec<u8>; 4] = [arp(), tcp(10), vec![0xff; 60], tcp(0)];
    let script = frames.iter().fold(Script::default(), |s, frame| {
        let s = [AVAILABLE, USED, RECEIVE.available, RECEIVE.used]
            .into_iter()
            .fold(s, |script, ring| script.store(4, ring, 0));
        s.start_card(0)
            .frame([0; 12], frame)
            .chain(&[(DATA, HEADER_LEN + u32::try_from(frame.len()).unwrap(), 0, 0); 8])
            .place(&EACH)
            .times(2000, |s| s.add(AVAILABLE + 2, 8).set(QUEUE_NOTIFY, 1).set(QUEUE_NOTIFY, 0))
            .reset()
    });
    let guest = with_card(script.card_recovers().end(0));
    let finished = guest.ends_with(0);
    assert!(finished.stderr.lines().count() < 10, "{finished}");
    bounded(super::MEMORY, finished);
}
