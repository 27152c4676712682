use std::io;
use std::time::Instant;

use hv::{Address, GuestMemory, GuestRam, mem};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::boot::hvt::{BOOT_INFO, KERNELS};
use crate::devices::virtio::block::Disk;
use crate::machine::bus::Stray;
use crate::machine::stop::Reason;

const MIB: u64 = 1 << 20;
/// Where tests put structures and buffers.
const AT: u64 = 2 * MIB;
const DATA: u64 = AT + 0x1000;
/// The guest's memory ends here.
const END: u64 = 4 * MIB;

/// A console that can be read.
#[derive(Clone, Default)]
struct Console(Arc<Mutex<Vec<u8>>>);

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A machine with storage of 8 sectors (handle 1, blocks of 1024; handle 2 read-only) and a network
/// (handle 3), in whose memory 1 MiB to 1 MiB and 8 KiB is read-only.
struct Bench {
    calls: Hypercalls,
    memory: GuestMemory,
    console: Console,
    desk: Arc<Desk>,
    file: Arc<std::fs::File>,
    stop: Stop,
}

impl Bench {
    fn new(shift: u32) -> Self {
        let pieces = [(0, MIB), (MIB, 0x2000), (MIB + 0x2000, 3 * MIB - 0x2000)];
        let ram = pieces.map(|(at, len)| (at, GuestRam::new(len).unwrap()));
        let memory = mem::memory(ram).unwrap();
        let file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut &file, &[7; 4096]).unwrap();
        let file = Arc::new(file);
        let disk = |id, read_only| Disk::new(id, "file", Arc::clone(&file), 4096, read_only);
        let blocks = vec![
            (1, Block::new(disk("one", false), 4096, 1024)),
            (2, Block::new(disk("two", true), 4096, 512)),
        ];
        let (console, stop) = (Console::default(), Stop::default());
        let desk = Arc::new(Desk::new([(3, 1500)], None));
        let protected = MIB..MIB + 0x2000;
        let machine = Machine {
            guest: Guest::new(memory.clone(), BOOT_INFO, KERNELS, vec![protected]),
            console: Box::new(console.clone()),
            clock: || Duration::new(1_000_000_000, 7),
            blocks,
            desk: Arc::clone(&desk),
            code: crate::family::ends::HVT.code(),
            stop: stop.clone(),
        };
        Self { calls: Hypercalls::new(shift, machine), memory, console, desk, file, stop }
    }

    fn put(&self, at: u64, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.memory.write_slice(&bytes, GuestAddress(at)).unwrap();
    }

    fn word(&self, at: u64) -> u64 {
        self.memory.read_obj(GuestAddress(at)).unwrap()
    }

    /// Makes a call with a structure at `AT`, which begins with these words.
    fn call(&self, number: u64, words: &[u64]) {
        self.put(AT, words);
        self.calls.write(number, Width::W4, AT);
    }

    /// `ret`, so many bytes into the structure.
    fn ret(&self, offset: u64) -> u64 {
        assert_eq!(self.stop.reason(), None);
        self.word(AT + offset) & 0xffff_ffff
    }

    /// How the guest broke the rules.
    fn violation(&self) -> String {
        match self.stop.reason() {
            Some(Reason::Violation(what)) => what.clone(),
            other => panic!("{other:?}"),
        }
    }
}

const OK: u64 = 0;
const AGAIN: u64 = 1;
const INVALID: u64 = 2;
const FAILED: u64 = 3;

#[test]
fn the_wall_clock_is_in_nanoseconds() {
    let bench = Bench::new(0);
    bench.call(1, &[0]);
    assert_eq!(bench.word(AT), 1_000_000_000_000_000_007);
}

#[test]
fn what_is_put_on_the_console_is_there_however_long_and_wherever_it_lies() {
    let bench = Bench::new(0);
    // Over the edges of two pieces of memory, read-only in the middle.
    let long: Vec<u8> = (0..0x4000).map(|index: u32| index.to_le_bytes()[0]).collect();
    bench.memory.write_slice(&long, GuestAddress(MIB - 0x1000)).unwrap();
    bench.call(2, &[MIB - 0x1000, 0x4000]);
    assert_eq!(*bench.console.0.lock().unwrap(), long);
    bench.call(2, &[END, 0]);
    assert_eq!(bench.stop.reason(), None);
}

#[test]
fn blocks_are_written_and_read_back() {
    let bench = Bench::new(0);
    bench.memory.write_slice(&[9; 2048], GuestAddress(DATA)).unwrap();
    bench.call(4, &[1, 1024, DATA, 2048, u64::MAX]);
    assert_eq!(bench.ret(32), OK);
    bench.call(5, &[1, 0, DATA + 0x1000, 4096, u64::MAX]);
    assert_eq!(bench.ret(32), OK);
    let mut read = [0; 4096];
    bench.memory.read_slice(&mut read, GuestAddress(DATA + 0x1000)).unwrap();
    assert_eq!((read[1023], read[1024], read[3071], read[3072]), (7, 9, 9, 7));
    // The bytes beside `ret` are the guest's.
    assert_eq!(bench.word(AT + 32) >> 32, 0xffff_ffff);
    bench.calls.finish().unwrap();
}

#[test]
fn requests_that_are_not_whole_blocks_on_the_device_are_invalid() {
    let bench = Bench::new(0);
    for (handle, offset, len) in [
        (0, 0, 1024),
        (3, 0, 1024),
        (4, 0, 1024),
        (u64::MAX, 0, 1024),
        (1, 4096, 0),
        (1, 4096, 1024),
        (1, 3072, 2048),
        (1, 512, 1024),
        (1, 0, 512),
        (1, 0, 1),
        (1, u64::MAX - 1023, 1024),
        (1, 1024, u64::MAX - 1023),
        (1, u64::MAX, u64::MAX),
    ] {
        for number in [4, 5] {
            bench.call(number, &[handle, offset, DATA, len, 0]);
            assert_eq!(bench.ret(32), INVALID, "{number} {handle} {offset} {len}");
        }
    }
    bench.call(5, &[1, 0, DATA, 0, 9]);
    assert_eq!(bench.ret(32), OK);
}

#[test]
fn what_the_host_cannot_do_with_a_disk_is_told_and_ends_nothing() {
    let bench = Bench::new(0);
    bench.call(4, &[2, 0, DATA, 512, 0]);
    assert_eq!(bench.ret(32), FAILED, "read-only");
    bench.file.set_len(1024).unwrap();
    bench.call(5, &[1, 3072, DATA, 1024, 0]);
    assert_eq!(bench.ret(32), FAILED, "the file has become shorter");
}

#[test]
fn a_frame_is_sent_and_one_that_came_is_read() {
    let bench = Bench::new(0);
    bench.memory.write_slice(b"a frame of the guest's", GuestAddress(DATA)).unwrap();
    bench.call(6, &[3, DATA, 22, 9]);
    assert_eq!(bench.ret(24), OK);
    let mut frame = [0; 1514];
    assert_eq!(bench.desk.take(3, &mut frame), Some(22));
    assert_eq!(&frame[..22], b"a frame of the guest's");
    assert_eq!(bench.desk.take(3, &mut frame), None);

    bench.call(7, &[3, DATA, 1514, 9]);
    assert_eq!((bench.ret(24), bench.word(AT + 16)), (AGAIN, 1514));
    bench.desk.bring(3, &[b"one for", b" the guest"]);
    bench.call(7, &[3, DATA, 1514, 9]);
    assert_eq!((bench.ret(24), bench.word(AT + 16)), (OK, 17));
    // Cut off where there is no room.
    bench.desk.bring(3, &[b"another one that is long"]);
    bench.call(7, &[3, DATA, 3, 9]);
    assert_eq!((bench.ret(24), bench.word(AT + 16)), (OK, 3));
    assert_eq!(bench.word(DATA), u64::from_le_bytes(*b"ano for "));
}

#[test]
fn frames_of_no_networks_and_of_no_length_are_invalid() {
    let bench = Bench::new(0);
    for (handle, len) in [(0, 60), (1, 60), (64, 60), (u64::MAX, 60), (3, 0), (3, 13), (3, 1515)] {
        bench.call(6, &[handle, DATA, len, 9]);
        assert_eq!(bench.ret(24), INVALID, "{handle} {len}");
    }
    for handle in [0, 1, 64, u64::MAX] {
        bench.call(7, &[handle, DATA, 1514, 9]);
        assert_eq!(bench.ret(24), INVALID, "{handle}");
    }
}

#[test]
fn a_buffer_of_no_bytes_is_nowhere_and_harmless_wherever_it_is_said_to_be() {
    let bench = Bench::new(0);
    bench.desk.bring(3, &[&[1; 60]]);
    for nowhere in [0, 1, 0x8000, MIB, END, END + 1, u64::MAX] {
        bench.call(2, &[nowhere, 0]);
        bench.call(4, &[1, 0, nowhere, 0, 9]);
        assert_eq!(bench.ret(32), OK, "{nowhere:#x}");
        bench.call(5, &[1, 0, nowhere, 0, 9]);
        assert_eq!(bench.ret(32), OK, "{nowhere:#x}");
        bench.call(6, &[3, nowhere, 0, 9]);
        assert_eq!(bench.ret(24), INVALID, "{nowhere:#x}");
        bench.call(7, &[3, nowhere, 0, 9]);
        assert_eq!((bench.ret(24), bench.word(AT + 16)), (AGAIN, 0), "{nowhere:#x}");
    }
    // The frame is still there.
    bench.call(7, &[3, DATA, 1514, 9]);
    assert_eq!((bench.ret(24), bench.word(AT + 16)), (OK, 60));
}

#[test]
fn poll_says_who_has_frames_and_else_waits_for_its_time() {
    let bench = Bench::new(0);
    let started = Instant::now();
    bench.call(3, &[20_000_000, u64::MAX, u64::MAX]);
    assert!(started.elapsed() >= Duration::from_millis(20));
    assert_eq!((bench.word(AT + 8), bench.ret(16)), (0, 0));
    bench.desk.bring(3, &[&[1; 60]]);
    bench.call(3, &[u64::MAX, u64::MAX, u64::MAX]);
    assert_eq!((bench.word(AT + 8), bench.ret(16)), (1 << 3, 1));
    assert_eq!(bench.word(AT + 16) >> 32, 0xffff_ffff);
}

#[test]
fn poll_is_ended_by_a_frame_and_by_the_end_of_the_run() {
    let bench = Bench::new(0);
    for end in [|desk: &Desk| desk.bring(3, &[&[1; 60]]), Desk::close] {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                end(&bench.desk);
            });
            bench.call(3, &[u64::MAX, 0, 0]);
        });
        bench.call(7, &[3, DATA, 1514, 0]);
    }
}

#[test]
fn a_guest_that_floods_a_network_which_takes_nothing_goes_on_and_its_frames_are_dropped() {
    let bench = Bench::new(0);
    let mut sent = 0;
    while bench.desk.dropped(3) == 0 {
        bench.call(6, &[3, DATA, 60, 9]);
        assert_eq!(bench.ret(24), OK);
        sent += 1;
    }
    let mut frame = [0; 1514];
    let mut taken = 0;
    while bench.desk.take(3, &mut frame).is_some() {
        taken += 1;
    }
    assert_eq!(taken + 1, sent);
}

#[test]
fn what_comes_in_has_a_bound_and_what_is_too_long_is_dropped() {
    let bench = Bench::new(0);
    let mut brought = 0;
    while bench.desk.room(3) > 0 {
        bench.desk.bring(3, &[&[brought; 100]]);
        brought = brought.wrapping_add(1);
    }
    bench.desk.bring(3, &[&[0xaa; 100]]);
    for number in 0..=255 {
        bench.call(7, &[3, DATA, 1514, 9]);
        assert_eq!((bench.ret(24), bench.word(DATA) & 0xff), (OK, number));
    }
    bench.desk.bring(3, &[&[0; 1000], &[0; 515]]);
    bench.call(7, &[3, DATA, 1514, 9]);
    assert_eq!(bench.ret(24), AGAIN);
}

#[test]
fn the_status_of_halt_is_the_runs() {
    for (status, raw, wanted) in [(0, 0, 0), (7, 7, 7), (255, 255, 255), (256, 256, 255)] {
        let bench = Bench::new(0);
        // What lies behind the 32 bits is nobody's.
        bench.call(8, &[DATA, 0xdead_beef_0000_0000 | status]);
        assert_eq!(bench.stop.reason(), Some(&Reason::Exit { raw, status: wanted }));
    }
    let bench = Bench::new(0);
    bench.call(8, &[0, u64::from(u32::MAX)]);
    assert_eq!(bench.stop.reason(), Some(&Reason::Exit { raw: 0xffff_ffff, status: 255 }));
}

#[test]
fn a_structure_that_is_not_all_in_memory_ends_the_run_by_its_calls_name() {
    for (number, size, name) in [
        (1, 8, "walltime"),
        (2, 16, "puts"),
        (3, 20, "poll"),
        (4, 36, "block_write"),
        (5, 36, "block_read"),
        (6, 28, "net_write"),
        (7, 28, "net_read"),
        (8, 16, "halt"),
    ] {
        for at in [0, 0x1000, 0xfff8, END - size + 1, END, u64::from(u32::MAX), u64::MAX] {
            let bench = Bench::new(0);
            bench.calls.write(number, Width::W4, at);
            let what = bench.violation();
            assert!(what.starts_with(name), "{at:#x}: {what}");
        }
    }
}

#[test]
fn a_buffer_that_is_not_all_the_guests_ends_the_run() {
    let outside = |number, words: &[u64]| {
        let bench = Bench::new(0);
        bench.call(number, words);
        let what = bench.violation();
        assert!(what.contains("not all"), "{what}");
        assert!(bench.console.0.lock().unwrap().is_empty());
    };
    for (data, len) in [
        (END - 1, 2),
        (DATA, u64::MAX),
        (u64::MAX, 1),
        (u64::MAX, u64::MAX),
        (0, 1),
        (0xffff, 2),
        (4 << 30, 1),
    ] {
        outside(2, &[data, len]);
        outside(6, &[3, data, len, 0]);
        outside(7, &[3, data, len, 0]);
    }
    for data in [0, 0x8000, END - 1023, END, u64::MAX, u64::MAX - 1023] {
        outside(4, &[1, 0, data, 1024, 0]);
        outside(5, &[1, 0, data, 1024, 0]);
    }
    outside(8, &[END - 511, 0]);
    outside(8, &[u64::MAX, 0]);
}

#[test]
fn what_a_guest_cannot_write_nobody_writes_for_it() {
    for at in [0x1_0000, MIB - 8, MIB, MIB + 0x1ff8, MIB + 0x1ffc] {
        let bench = Bench::new(0);
        bench.calls.write(1, Width::W4, at);
        assert!(bench.violation().ends_with("not all the guest's to write"));
        assert_eq!(bench.word(at), 0);
        let bench = Bench::new(0);
        bench.call(5, &[1, 0, at, 1024, 0]);
        assert!(bench.violation().ends_with("not all the guest's to write"));
        assert_eq!(bench.word(at), 0);
        let bench = Bench::new(0);
        bench.desk.bring(3, &[&[1; 60]]);
        bench.call(7, &[3, at, 60, 0]);
        assert!(bench.violation().ends_with("not all the guest's to write"));
    }
    // Boot info may be read, and constants.
    let bench = Bench::new(0);
    bench.call(2, &[0x1_0000, MIB + 0x1000]);
    assert_eq!(bench.stop.reason(), None);
}

#[test]
fn a_buffer_may_lie_over_its_own_structure() {
    let bench = Bench::new(0);
    bench.call(5, &[1, 0, AT, 1024, 0]);
    assert_eq!(bench.ret(32), OK);
    assert_eq!(
        (bench.word(AT), bench.word(AT + 40)),
        (0x0707_0707_0707_0707, 0x0707_0707_0707_0707)
    );
    let bench = Bench::new(0);
    bench.desk.bring(3, &[&[0xff; 60]]);
    bench.call(7, &[3, AT, 60, 0]);
    assert_eq!((bench.ret(24), bench.word(AT + 16), bench.word(AT)), (OK, 60, u64::MAX));
}

#[test]
fn calls_that_do_not_exist_and_accesses_that_are_none_end_the_run() {
    for number in [0, 9, 11] {
        let bench = Bench::new(0);
        bench.calls.write(number, Width::W4, AT);
        assert_eq!(bench.violation(), format!("hypercall {number} does not exist"));
    }
    for width in [Width::W1, Width::W2, Width::W8] {
        let bench = Bench::new(0);
        bench.calls.write(1, width, AT);
        assert!(bench.violation().contains("32 bits"));
    }
    let bench = Bench::new(0);
    assert_eq!(bench.calls.read(1, Width::W4), 0);
    assert!(bench.violation().starts_with("a read"));
}

#[test]
fn on_arm64_calls_are_eight_bytes_apart() {
    let bench = Bench::new(3);
    bench.put(AT, &[0]);
    bench.calls.write(8, Width::W4, AT);
    assert_eq!(bench.word(AT), 1_000_000_000_000_000_007);
    for offset in [1, 4, 9, 12] {
        let bench = Bench::new(3);
        bench.calls.write(offset, Width::W4, AT);
        assert!(bench.violation().contains("32 bits"), "{offset}");
    }
}

#[test]
fn whatever_is_nobodys_ends_the_run_at_any_access_in_the_tenders_words() {
    let read_only = 0x1000..0x2000;
    for (at, write, words) in [
        (Address::Port(0x60), false, "a read of port 0x60 (invalid guest port access)"),
        (Address::Port(0x60), true, "a write to port 0x60 (invalid guest port access)"),
        (Address::Mmio(0x1010), false, "a read of no memory at 0x1010 (invalid guest mmio access)"),
        (Address::Mmio(0x2000), true, "a write to no memory at 0x2000 (invalid guest mmio access)"),
        (
            Address::Mmio(0x1010),
            true,
            "a write to read-only memory at 0x1010 (host/guest translation fault)",
        ),
    ] {
        let stop = Stop::default();
        Guard::new(vec![read_only.clone()], stop.clone()).stray(at, write);
        assert_eq!(stop.reason(), Some(&Reason::Violation(words.to_owned())));
    }
}

#[test]
fn at_the_end_every_disk_gets_its_own_whatever_becomes_of_the_others() {
    let mut bench = Bench::new(0);
    // Nobody can write at a place of a pipe, or have it flushed.
    let (_end, pipe) = io::pipe().unwrap();
    let pipe = Arc::new(std::fs::File::from(std::os::fd::OwnedFd::from(pipe)));
    for (handle, name) in [(5, "five"), (6, "six")] {
        let disk = Disk::new(name, "pipe", Arc::clone(&pipe), 1024, false);
        bench.calls.blocks.push((handle, Block::new(disk, 1024, 512)));
        bench.call(4, &[handle, 0, DATA, 512, 7]);
        assert_eq!(bench.ret(32), FAILED);
    }
    let failures = bench.calls.finish().unwrap_err();
    assert!(failures.contains("five (pipe)") && failures.contains("six (pipe)"), "{failures}");
}
