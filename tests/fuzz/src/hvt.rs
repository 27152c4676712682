//! Solo5's hypercalls: structures and calls as a guest may make them, most of them good, with storage and two
//! networks. Whatever it does, nothing is written where the guest cannot write, and to what it cannot
//! reach.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use hv::{GuestMemory, GuestRam, Width};
use runner::boot::hvt::{BOOT_INFO, KERNELS};
use runner::devices::hvt::desk::Desk;
use runner::devices::hvt::{Block, Hypercalls, Machine};
use runner::devices::hypercall::Guest;
use runner::devices::virtio::block::Disk;
use runner::family::ends::HVT;
use runner::machine::bus::Device;
use runner::machine::stop::{Reason, Stop};
use vm_memory::{Bytes, GuestAddress};

use super::input::Input;

/// Memory ends here.
const END: u64 = 0x11_0000;
/// What the guest cannot write, behind the first MiB.
const READ_ONLY: Range<u64> = 0x10_2000..0x10_4000;
/// Where structures are, mostly.
const AT: u64 = 0x10_8000;
/// Bytes of each disk.
const LEN: u64 = 4096;
/// What is in what cannot be written.
const MARK: u8 = 0xa5;
/// Actions in one input, at most.
const ACTIONS: usize = 128;

/// A list of actions. The first byte: how far apart calls are.
pub fn hvt(data: &[u8]) {
    let mut input = Input(data);
    let shift = u32::from(input.byte() % 2) * 3;
    let (memory, stop) = (memory(), Stop::default());
    let (own, other) = (file(), file());
    let desk = Arc::new(Desk::new([(3, 64), (63, 1500)], None));
    // Nobody waits: there is one thread.
    desk.close();
    let disk = |id, file: &File, read_only| {
        let file = Arc::new(file.try_clone().expect("a descriptor"));
        Disk::new(id, "fuzz", file, LEN, read_only)
    };
    let calls = Hypercalls::new(
        shift,
        Machine {
            guest: Guest::new(memory.clone(), BOOT_INFO, KERNELS, vec![READ_ONLY]),
            console: Box::new(io::sink()),
            clock: || Duration::from_secs(1),
            blocks: vec![
                (1, Block::new(disk("one", &own, false), LEN, 512)),
                (2, Block::new(disk("two", &other, true), LEN, 1024)),
            ],
            desk: Arc::clone(&desk),
            code: HVT.code(),
            stop: stop.clone(),
        },
    );
    for _ in 0..ACTIONS {
        if input.is_empty() || stop.requested() {
            break;
        }
        act(&mut input, &calls, shift, &memory, &desk);
    }
    if let Some(reason) = stop.reason() {
        assert!(matches!(reason, Reason::Violation(_) | Reason::Exit { .. }), "{reason:?}");
    }
    check(&memory, &own, &other);
    calls.finish().expect("a file takes a flush");
}

fn act(input: &mut Input<'_>, calls: &Hypercalls, shift: u32, memory: &GuestMemory, desk: &Desk) {
    match input.byte() % 8 {
        0 => {
            let (offset, width) = (input.long() % 0x60, input.width());
            calls.write(offset, width, input.long() & width.mask());
        }
        1 => {
            let frame = [input.byte(); 80];
            let (first, second) = frame.split_at(usize::from(input.byte() % 80));
            desk.bring(handle(input), &[first, second]);
        }
        2 => {
            let mut frame = [0; 2048];
            let taken = desk.take(handle(input), &mut frame);
            assert!(taken.is_none_or(|len| (14..=1514).contains(&len)), "{taken:?}");
        }
        _ => {
            let number = 1 + u64::from(input.byte() % 8);
            // A guest that ends does no more.
            let number = if number == 8 && !input.one_in(16) { 2 } else { number };
            let at = address(input, AT);
            let words: [u64; 5] = match number {
                4 | 5 => [handle(input), offset(input), address(input, AT), length(input), 0],
                6 | 7 => [handle(input), address(input, AT), length(input), 0, 0],
                _ => [address(input, AT), length(input), 0, 0, 0],
            };
            for (index, word) in (0..).zip(words) {
                // Where there is no memory there is nothing to put.
                let place = at.wrapping_add(8 * index);
                if (AT..END - 8).contains(&place) {
                    memory.write_obj(word, GuestAddress(place)).expect("it is memory");
                }
            }
            calls.write(number << shift, Width::W4, at & Width::W4.mask());
        }
    }
}

/// Mostly near `usual`, sometimes near an end of something, sometimes anything.
fn address(input: &mut Input<'_>, usual: u64) -> u64 {
    match input.byte() % 16 {
        0 => input.long(),
        1 => END - u64::from(input.half() % 600),
        2 => READ_ONLY.start - u64::from(input.byte()),
        3 => READ_ONLY.end - u64::from(input.byte()),
        4 => 0x1_0000 - u64::from(input.byte()),
        _ => usual + u64::from(input.half() % 0x4000),
    }
}

fn length(input: &mut Input<'_>) -> u64 {
    match input.byte() % 8 {
        0 => input.long(),
        1 => u64::from(input.half()),
        2 => u64::MAX,
        3 => 60,
        _ => 512 * u64::from(input.byte() % 8),
    }
}

fn offset(input: &mut Input<'_>) -> u64 {
    match input.byte() % 8 {
        0 => input.long(),
        _ => 512 * u64::from(input.byte() % 9),
    }
}

fn handle(input: &mut Input<'_>) -> u64 {
    match input.byte() % 8 {
        0 => input.long(),
        1 => 63,
        2 | 3 => 3,
        4 => 2,
        _ => 1,
    }
}

fn memory() -> GuestMemory {
    let pieces =
        [(0, READ_ONLY.start), (READ_ONLY.start, 0x2000), (READ_ONLY.end, END - READ_ONLY.end)];
    let pieces = pieces.map(|(at, len)| (at, GuestRam::new(len).expect("memory")));
    let memory = hv::mem::memory(pieces).expect("memory in pieces");
    let mark = [MARK; 0x2000];
    memory.write_slice(&mark, GuestAddress(READ_ONLY.start)).expect("it is memory");
    memory
}

fn file() -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&[MARK; 4096]).expect("room in a file");
    file
}

/// What nobody may have written is as it was.
fn check(memory: &GuestMemory, own: &File, other: &File) {
    let mut protected = [0; 0x2000];
    memory.read_slice(&mut protected, GuestAddress(READ_ONLY.start)).expect("it is memory");
    assert!(protected.iter().all(|byte| *byte == MARK), "read-only memory was written");
    let mut low = vec![0; 0x10_0000];
    memory.read_slice(&mut low, GuestAddress(0)).expect("it is memory");
    assert!(low.iter().all(|byte| *byte == 0), "the first MiB was written");
    for file in [own, other] {
        assert_eq!(file.metadata().expect("a length").len(), LEN, "a disk keeps its length");
    }
    let mut bytes = Vec::new();
    let mut other = other;
    other.rewind().expect("a file");
    io::Read::read_to_end(&mut other, &mut bytes).expect("a file can be read");
    assert!(bytes.iter().all(|byte| *byte == MARK), "a read-only disk was written");
}
