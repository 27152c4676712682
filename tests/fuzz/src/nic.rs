//! The network device: registers as any vCPU may write them, both rings as any driver may lay them out,
//! on the real transport and device, in front of a link that gives back what it was sent.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use runner::devices::virtio::net::{Nic, Scratch, Work, identity};
use runner::io::event_loop::{Ready, Watcher};
use runner::machine::bus::Device;
use runner::net::frame::{Frame, HEADER, LARGEST, Offload};
use runner::net::{ETHERNET, Inbox, Link, Offer, Put, Sent};
use vm_memory::{Bytes, GuestAddress, VolatileSlice};

use super::driver::{self, AVAILABLE, Behind, NOTIFY, STATUS};
use super::input::Input;

const RAM: u64 = 0x4_0000;
const SIZE: u16 = 8;

/// Where the driver has its queues: descriptors, then the rings.
const QUEUES: [u64; 2] = [0x1000, 0x5000];
const TABLE: u64 = 0x9000;
const BUFFERS: u64 = 0x1_0000;

const ACTIONS: usize = 256;

/// Checksums and segments, both ways, for both families.
const OFFLOADS: u64 = 1 | 1 << 1 | 1 << 7 | 1 << 8 | 1 << 11 | 1 << 12;
const MERGEABLE: u64 = 1 << 15;

/// A list of actions.
pub fn nic(data: &[u8]) {
    let mut input = Input(data);
    let mut driver = Machine::new();
    for _ in 0..ACTIONS {
        if input.is_empty() {
            break;
        }
        driver.act(&mut input);
    }
    driver.check();
}

/// Gives back up to so many frames; takes none while it has them.
const FRAMES: usize = 4;

#[derive(Debug, Default)]
struct Mirror {
    frames: VecDeque<(Offload, Vec<u8>)>,
    features: Option<u64>,
    turn: u8,
}

impl Link for Mirror {
    fn offer(&self) -> Offer {
        Offer { features: OFFLOADS, mac: [2; 6], mtu: 1500 }
    }

    fn descriptors(&self) -> u64 {
        0
    }

    fn watch(&mut self, _: Watcher) -> io::Result<()> {
        Ok(())
    }

    fn activate(&mut self, features: Option<u64>) {
        assert_ne!(self.features.is_some(), features.is_some(), "on and off, in turns");
        self.features = features;
        self.frames.clear();
    }

    fn send(&mut self, frame: &Frame<'_>, _: Duration) -> Sent {
        assert!(self.features.is_some(), "a frame of nobody's");
        assert!((ETHERNET..=LARGEST).contains(&frame.bytes.len()));
        if self.frames.len() == FRAMES {
            return Sent::Later;
        }
        let mut bytes = vec![0; frame.bytes.len()];
        assert_eq!(frame.bytes.copy_to(&mut bytes), bytes.len());
        self.frames.push_back((frame.offload, bytes));
        Sent::Done
    }

    fn receive(&mut self, inbox: &mut dyn Inbox, _: Duration) {
        while let Some((offload, bytes)) = self.frames.pop_front() {
            let room = inbox.room(LARGEST);
            self.turn = self.turn.wrapping_add(1);
            let (head, rest) = bytes.split_at(ETHERNET);
            let put = match self.turn % 3 {
                0 => inbox.fill(bytes.len(), false, &mut |slices| Ok(fill(slices, &[&bytes]))),
                1 => {
                    let header = offload.header(14, 9);
                    inbox
                        .fill(bytes.len(), true, &mut |slices| Ok(fill(slices, &[&header, &bytes])))
                }
                _ => Ok(inbox.put(offload, &[head, rest])),
            };
            if put.expect("no call that fails") == Put::Full {
                assert!(room < LARGEST, "a frame has no room where there was room for any");
                self.frames.push_front((offload, bytes));
                break;
            }
        }
    }

    fn ready(&mut self, _: Ready, _: Duration) {}

    fn deadline(&self) -> Option<Duration> {
        None
    }

    fn finish(&mut self) {}
}

/// As a system call would: as far as there is room.
fn fill(slices: &[VolatileSlice<'_>], pieces: &[&[u8]]) -> usize {
    let bytes = pieces.concat();
    let mut rest = bytes.as_slice();
    for slice in slices {
        let (now, later) = rest.split_at(rest.len().min(slice.len()));
        slice.copy_from(now);
        rest = later;
    }
    bytes.len() - rest.len()
}

struct Machine {
    driver: driver::Driver,
    nic: Nic,
}

impl Input<'_> {
    /// A place for a buffer: mostly in RAM, sometimes near an end of something, sometimes anything.
    fn buffer(&mut self) -> u64 {
        match self.byte() % 8 {
            0 => self.long(),
            1 => RAM - u64::from(self.byte()),
            2 => RAM / 2 - u64::from(self.byte()),
            _ => BUFFERS + u64::from(self.byte()) * 0x100,
        }
    }

    /// A length: mostly of a frame or a piece of one.
    fn size(&mut self) -> u32 {
        match self.byte() % 8 {
            0 => self.word(),
            1 => self.byte().into(),
            2 => 65_562 + u32::from(self.byte() % 4),
            3 => 12,
            _ => u32::from(self.half() % 2048),
        }
    }
}

impl Machine {
    fn new() -> Self {
        let link = Mirror::default();
        let identity = identity("net0", &link.offer());
        let (driver, Behind { transport, commands, .. }) =
            driver::Driver::new(identity, driver::memory(RAM), QUEUES.into(), SIZE);
        Self { driver, nic: Nic::new(transport, commands, Box::new(link)) }
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let action = input.byte();
        let queue = usize::from(action >> 7);
        match action % 12 {
            0 => {
                let (offset, width) = (u64::from(input.half() % 0x220), input.width());
                self.driver.mmio.write(offset, width, input.long() & width.mask());
            }
            1 => {
                let (offset, width) = (u64::from(input.half() % 0x220), input.width());
                self.driver.mmio.read(offset, width);
            }
            2 => {
                let features = u64::from(input.word()) & (OFFLOADS | MERGEABLE | 0x3000_0000);
                self.driver.start(features);
            }
            3 => {
                let descriptor = (input.buffer(), input.size(), input.half() % 8, input.half() % 9);
                let table = if input.one_in(4) { TABLE } else { QUEUES[queue] };
                self.driver.descriptor_at(table, u64::from(input.byte() % 8), descriptor);
            }
            4 => {
                let (at, bytes) = (input.buffer(), input.bytes::<12>());
                let _ = self.driver.memory.write_slice(&bytes, GuestAddress(at));
            }
            5 => self.driver.offer(queue, input.half() % 10),
            6 => self.driver.write(QUEUES[queue] + AVAILABLE + 2, &input.half().to_le_bytes()),
            7 => self.serve(Work { transmit: true, receive: input.one_in(2), commands: false }),
            8 => {
                self.driver.set(STATUS, 0);
                self.driver.offered.fill(0);
            }
            9 => {
                // Room, or a frame, as good drivers have them.
                let flags = if queue == 0 { 2 } else { 0 };
                let (at, len) = (BUFFERS + u64::from(input.byte()) * 0x100, input.size());
                let head = input.half() % 8;
                self.driver.descriptor(queue, head.into(), (at, len, flags, 0));
                self.driver.offer(queue, head);
            }
            10 => self.driver.set(NOTIFY, input.byte().into()),
            _ => self.serve(Work { transmit: true, receive: true, commands: true }),
        }
    }

    fn serve(&mut self, work: Work) {
        self.nic.unblock();
        self.nic.serve(&self.driver.memory, &mut Scratch::default(), work, Duration::ZERO);
    }

    /// Whatever was done to it, the device can be reset, and then brings a frame to its link and back.
    fn check(mut self) {
        let all = Work { transmit: true, receive: true, commands: true };
        self.driver.set(STATUS, 0);
        self.serve(all);
        assert_eq!(self.driver.get(STATUS), 0, "a reset that does not end");
        self.driver.clear();
        self.driver.start(MERGEABLE);
        let frame = [[0; HEADER].as_slice(), &[0x5a; 60]].concat();
        self.driver.write(BUFFERS, &frame);
        self.driver.descriptor(1, 0, (BUFFERS, 72, 0, 0));
        self.driver.descriptor(0, 0, (BUFFERS + 0x1000, 40, 2, 0));
        self.driver.descriptor(0, 1, (BUFFERS + 0x2000, 40, 2, 0));
        for (queue, head) in [(0, 0), (0, 1), (1, 0)] {
            self.driver.offer(queue, head);
        }
        self.serve(all);
        let mut parts = [vec![0; 40], vec![0; 32]];
        for (part, at) in parts.iter_mut().zip([BUFFERS + 0x1000, BUFFERS + 0x2000]) {
            self.driver.read(at, part);
        }
        assert_eq!(self.driver.get(STATUS), 0xf, "it works");
        assert_eq!(parts.concat()[HEADER..], [0x5a; 60]);
    }
}
