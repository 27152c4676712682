//! The devices, each with a request of it that shows.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use virtio_bindings::virtio_blk::VIRTIO_BLK_T_IN;

use super::super::super::balloon::Balloon;
use super::super::super::block::Disk;
use super::super::super::console::{Console, Keyboard, Output, Wrote};
use super::super::super::p9::Share;
use super::super::super::rng::Rng;
use super::super::super::vsock::{HOST, Sockets, Vsock};
use super::super::block::{DATA, FLUSH, HEADER, LEN, STATUS, file, header};
use super::super::{Kind, On, Rig, SEAM, WRITE, memory, reg};
use crate::net::testing::Scripted;
use crate::p9::Folder;

/// Where a request's parts are.
pub(super) const OUT: u64 = SEAM - 0x800;
pub(super) const IN: u64 = SEAM + 0x10_0000;

type Check = Box<dyn Fn(&Rig, usize)>;

/// A device, and a request of it that shows.
pub(super) struct Subject {
    pub(super) make: Box<dyn Fn() -> Kind>,
    pub(super) features: u64,
    pub(super) queues: usize,
    /// The queue of that request.
    pub(super) queue: usize,
    /// Lays it out.
    pub(super) ask: Box<dyn Fn(&Rig)>,
    /// So many were carried out, the last one well.
    pub(super) done: Check,
}

pub(super) fn block() -> Subject {
    let file = file();
    Subject {
        make: Box::new(move || {
            let file = Arc::new(file.try_clone().unwrap());
            let disk = Disk::new("disk0", "d.img", file, LEN, false);
            Kind::Worker(disk.identity(), Box::new(disk))
        }),
        features: FLUSH,
        queues: 1,
        queue: 0,
        ask: Box::new(|rig| {
            header(rig, VIRTIO_BLK_T_IN, 3);
            rig.fill(DATA, 0xff, 512);
            rig.chain(&[(HEADER, 16, 0), (DATA, 512, WRITE), (STATUS, 1, WRITE)]);
        }),
        done: Box::new(|rig, _| assert_eq!(rig.bytes(DATA, 512), [3; 512])),
    }
}

pub(super) fn net() -> Subject {
    let link = Scripted::default();
    let other = link.clone();
    Subject {
        make: Box::new(move || Kind::Nic(Box::new(link.clone()))),
        features: 0,
        queues: 2,
        queue: 1,
        ask: Box::new(|rig| {
            rig.fill(OUT, 0, 12);
            rig.fill(OUT + 12, 7, 60);
            rig.chain_of(1, &[(OUT, 72, 0)]);
        }),
        done: Box::new(move |_, count| assert_eq!(other.sent(), vec![vec![7; 60]; count])),
    }
}

pub(super) fn rng() -> Subject {
    Subject {
        make: Box::new(|| Kind::Loop(Box::new(Rng::default()))),
        features: 0,
        queues: 1,
        queue: 0,
        ask: Box::new(|rig| {
            rig.fill(IN, 0, 64);
            rig.chain(&[(IN, 64, WRITE)]);
        }),
        done: Box::new(|rig, _| assert_ne!(rig.bytes(IN, 64), [0; 64])),
    }
}

pub(super) fn balloon() -> Subject {
    Subject {
        make: Box::new(|| Kind::Loop(Box::new(Balloon::new(4 << 20)))),
        features: 0,
        queues: 2,
        queue: 0,
        ask: Box::new(|rig| {
            rig.write(reg::CONFIG + 4, 1);
            rig.fill(IN, 7, 0x1_0000);
            let first = u32::try_from(IN / 0x1000).unwrap();
            let pages: Vec<_> = (first..first + 16).flat_map(u32::to_le_bytes).collect();
            rig.write_bytes(OUT, &pages);
            rig.chain(&[(OUT, 64, 0)]);
        }),
        done: Box::new(|rig, _| assert!(rig.is_gone(IN, 64))),
    }
}

/// A screen that takes so many bytes of each of the next writes, and then all.
#[derive(Clone, Debug, Default)]
pub(super) struct Screen(pub(super) Arc<Mutex<(Vec<u8>, VecDeque<usize>)>>);

impl Output for Screen {
    fn write(&mut self, bytes: &[u8]) -> Wrote {
        let (text, room) = &mut *self.0.lock().unwrap();
        let taken = room.pop_front().unwrap_or(usize::MAX).min(bytes.len());
        text.extend(&bytes[..taken]);
        if taken == 0 { Wrote::Full } else { Wrote::Taken(taken) }
    }

    fn wait(&mut self, _: Duration) -> bool {
        false
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

pub(super) fn keyboard() -> Arc<Keyboard> {
    Arc::new(Keyboard::new(Box::new(|| ())).unwrap())
}

pub(super) fn console() -> Subject {
    let screen = Screen::default();
    let other = screen.clone();
    let make =
        move || Kind::Loop(Box::new(Console::new(Box::new(screen.clone()), keyboard(), None)));
    Subject {
        make: Box::new(make),
        features: 0,
        queues: 2,
        queue: 1,
        ask: Box::new(|rig| {
            rig.write_bytes(OUT, b"hello ");
            rig.chain_of(1, &[(OUT, 6, 0)]);
        }),
        done: Box::new(move |_, count| {
            assert_eq!(other.0.lock().unwrap().0, b"hello ".repeat(count));
        }),
    }
}

pub(super) fn vsock() -> Subject {
    let folder = tempfile::tempdir().unwrap();
    // Each has a socket of its own: the one before may still be there.
    let made = AtomicU32::new(0);
    let make = move || {
        let name = format!("v{}", made.fetch_add(1, Ordering::SeqCst));
        let sockets = Sockets::open(&folder.path().join(name)).unwrap();
        Kind::Loop(Box::new(Vsock::new(7, sockets)))
    };
    Subject {
        make: Box::new(make),
        features: 1,
        queues: 3,
        queue: 1,
        // A reset of a connection that there is not, which is not answered.
        ask: Box::new(|rig| {
            rig.write_bytes(OUT, &packet(3, 52));
            rig.chain_of(1, &[(OUT, 44, 0)]);
        }),
        done: Box::new(|_, _| ()),
    }
}

/// A guest's packet without bytes, from its port 5 to one of the host's.
pub(super) fn packet(op: u8, port: u32) -> Vec<u8> {
    let (cid, host) = (7u64.to_le_bytes(), HOST.to_le_bytes());
    let room = 4096u32.to_le_bytes();
    [
        &cid[..],
        &host,
        &[5, 0, 0, 0],
        &port.to_le_bytes(),
        &[0; 4],
        &[1, 0, op, 0],
        &[0; 4],
        &room,
        &[0; 4],
    ]
    .concat()
}

pub(super) fn share() -> Subject {
    /// Asks for the dialect, with messages of 8 KiB.
    const VERSION: &[u8] = b"\x15\0\0\0\x64\xff\xff\0\x20\0\0\x08\09P2000.L";
    let folder = tempfile::tempdir().unwrap();
    Subject {
        make: Box::new(move || {
            let open = Folder::open(folder.path(), false).unwrap();
            let share = Share::new("share0", "folder", "data", open);
            Kind::Worker(share.identity(), Box::new(share))
        }),
        features: 1,
        queues: 1,
        queue: 0,
        ask: Box::new(|rig| {
            rig.write_bytes(OUT, VERSION);
            rig.fill(IN, 0, 64);
            rig.chain(&[(OUT, 21, 0), (IN, 64, WRITE)]);
        }),
        done: Box::new(|rig, _| assert_eq!((rig.bytes(IN, 5)[4], rig.bytes(IN, 1)[0]), (101, 21))),
    }
}

pub(super) fn subjects() -> Vec<(&'static str, Subject)> {
    vec![
        ("block", block()),
        ("net", net()),
        ("rng", rng()),
        ("balloon", balloon()),
        ("console", console()),
        ("vsock", vsock()),
        ("share", share()),
    ]
}

impl Subject {
    pub(super) fn started(&self, bus: On) -> Rig {
        let mut rig = Rig::on(bus, (self.make)(), memory());
        rig.set_up_queues(self.queues);
        rig.start(self.features);
        rig
    }

    /// The driver offers a request, and says so; nobody serves.
    pub(super) fn offer(&self, rig: &mut Rig) {
        (self.ask)(rig);
        rig.offer_to(self.queue, 0);
        rig.write(reg::QUEUE_NOTIFY, self.queue as u64);
    }

    #[track_caller]
    pub(super) fn is_done(&self, rig: &Rig, count: usize) {
        assert_eq!(usize::from(rig.used_index_of(self.queue)), count);
        (self.done)(rig, count);
        assert!(rig.interrupts() > 0, "the driver is told");
        // It looks, and a pin goes down.
        match rig.on_pci() {
            true => {
                rig.read(reg::INTERRUPT_STATUS);
            }
            false => rig.write(reg::INTERRUPT_ACK, 3),
        }
    }
}
