use std::io;
use std::path::Path;

use hv::{GuestMemory, GuestRam, mem};
use vm_memory::{Bytes, GuestAddress};

use super::desk::{Desk, Server};
use super::files::Mapping;
use super::*;
use crate::p9::Folder;

const MIB: u64 = 1 << 20;
/// Where structures, paths and buffers are.
const AT: u64 = 0x1000;
const PATH: u64 = 0x2000;
const DATA: u64 = 0x1_0000;
const OTHER: u64 = 0x2_0000;

#[derive(Clone, Default)]
struct Console(Arc<Mutex<Vec<u8>>>);

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A vCPU whose virtual pages are 16 MiB above, each two in the other's place.
struct Vcpu(Option<u64>);

const VIRTUAL: u64 = 16 * MIB;

impl Caller for Vcpu {
    fn translate(&self, address: u64) -> Option<u64> {
        address.checked_sub(VIRTUAL).filter(|at| *at < MIB).map(|at| at ^ 0x1000)
    }

    fn argument(&self) -> Option<u64> {
        self.0
    }
}

struct Bench {
    calls: Arc<Hypercalls>,
    memory: GuestMemory,
    console: Console,
    stop: Stop,
    desks: Vec<Arc<Desk>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Bench {
    /// A guest of 1 MiB with each folder at its path, some of them only to be read.
    fn with(folders: &[(&Path, &str, bool)]) -> Self {
        let memory = mem::memory([(0, GuestRam::new(MIB).unwrap())]).unwrap();
        let guest = Guest::new(memory.clone(), 0, 0, Vec::new());
        let (console, stop) = (Console::default(), Stop::default());
        let (mut mappings, mut desks, mut threads) = (Vec::new(), Vec::new(), Vec::new());
        for (folder, path, read_only) in folders {
            let desk = Arc::new(Desk::default());
            let folder = Folder::open(folder, *read_only).unwrap();
            let mut server = Server::new(folder, path, guest.clone()).unwrap();
            mappings.push(Mapping::new(path, Arc::clone(&desk)).unwrap());
            desks.push(Arc::clone(&desk));
            threads.push(std::thread::spawn(move || desk.serve(&mut server)));
        }
        let words = Words {
            arguments: vec!["hello".to_owned(), "two words".to_owned()],
            environment: vec!["A=1".to_owned()],
        };
        let machine = Machine {
            guest,
            console: Box::new(console.clone()),
            words,
            files: Files::new(mappings),
            code: crate::family::ends::UHYVE.code(),
            stop: stop.clone(),
        };
        let calls = Arc::new(Hypercalls::new(machine));
        Self { calls, memory, console, stop, desks, threads }
    }

    fn new() -> Self {
        Self::with(&[])
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
    }

    fn get<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    fn i32(&self, at: u64) -> i32 {
        i32::from_le_bytes(self.get(at))
    }

    fn i64(&self, at: u64) -> i64 {
        i64::from_le_bytes(self.get(at))
    }

    fn words(&self, at: u64, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(at, &bytes);
    }

    fn path(&self, path: &str) {
        self.put(PATH, path.as_bytes());
        self.put(PATH + path.len() as u64, &[0]);
    }

    fn door(&self, number: u16) -> Door {
        let place = places().find(|place| place.number == number).unwrap();
        Door::new(place, Width::W4, Arc::clone(&self.calls))
    }

    /// Makes the call at `number` with the structure at `AT`, as a guest of its version does.
    fn call(&self, number: u16) {
        self.call_with(number, AT);
    }

    fn call_with(&self, number: u16, at: u64) {
        let vcpu = if number < 0x1000 { Vcpu(Some(7)) } else { Vcpu(Some(at)) };
        let value = if number < 0x1000 { at } else { 0x1234 };
        self.door(number).write_by(0, Width::W4, value, &vcpu);
    }

    /// How the run ended for its breaking of the rules.
    fn violation(&self) -> String {
        match self.stop.reason() {
            Some(Reason::Violation(what)) => what.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn printed(&self) -> String {
        String::from_utf8_lossy(&self.console.0.lock().unwrap()).into_owned()
    }

    /// Opens by version 1; the descriptor, or what is told in its place.
    fn open(&self, path: &str, flags: u32) -> i32 {
        self.path(path);
        self.words(AT, &[PATH]);
        self.put(AT + 8, &[flags.to_le_bytes(), 0o644_u32.to_le_bytes()].concat());
        self.call(0x440);
        self.i32(AT + 16)
    }

    fn close(&self, number: u16, fd: i32) -> i32 {
        self.put(AT, &fd.to_le_bytes());
        self.call(number);
        self.i32(AT + 4)
    }

    /// Reads or writes by version 2.
    fn transfer(&self, number: u16, fd: i32, at: u64, len: u64) -> i64 {
        self.words(AT, &[len, 99, at]);
        self.put(AT + 24, &fd.to_le_bytes());
        self.call(number);
        self.i64(AT + 8)
    }

    fn seek(&self, fd: i32, offset: i64, whence: u32) -> i64 {
        self.put(AT, &offset.to_le_bytes());
        self.put(AT + 8, &whence.to_le_bytes());
        self.put(AT + 12, &fd.to_le_bytes());
        self.call(0x1140);
        self.i64(AT)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.desks.iter().for_each(|desk| desk.close());
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

const WRITE: u16 = 0x1100;
const READ: u16 = 0x1130;
const CREATE: u32 = 0o100;
const TRUNCATE: u32 = 0o1000;
const APPEND: u32 = 0o2000;
const FOLDER: u32 = 0o200_000;

const NOENT: i32 = -2;
const BADF: i32 = -9;
const EXIST: i32 = -17;
const ISDIR: i32 = -21;
const INVAL: i32 = -22;
const ROFS: i32 = -30;

#[test]
fn both_versions_write_to_the_console() {
    let bench = Bench::new();
    bench.put(DATA, b"buffer");
    bench.words(AT, &[DATA, 6]);
    bench.call(0x880);
    bench.words(AT, &[6, DATA]);
    bench.call(0x1030);
    bench.door(0x800).write_by(0, Width::W1, u64::from(b'!'), &Vcpu(None));
    bench.call_with(0x1020, u64::from(b'?'));
    assert_eq!(bench.transfer(WRITE, 1, DATA, 3), 3);
    assert_eq!(bench.transfer(WRITE, 2, DATA, 0), 0);
    assert_eq!(bench.printed(), "bufferbuffer!?buf");
    assert!(bench.stop.reason().is_none());
}

#[test]
fn a_buffer_of_no_bytes_is_nowhere_and_harmless_wherever_it_is_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("f"), "12345").unwrap();
    let bench = Bench::with(&[(folder.path(), "/d", false)]);
    let (file, listing) = (bench.open("/d/f", 2), bench.open("/d", FOLDER));
    for nowhere in [0, 1, VIRTUAL, u64::MAX - 1, u64::MAX] {
        for fd in [1, 2, file] {
            assert_eq!(bench.transfer(WRITE, fd, nowhere, 0), 0, "{nowhere:#x}");
        }
        assert_eq!(bench.transfer(READ, file, nowhere, 0), 0, "{nowhere:#x}");
        bench.words(AT, &[u64::from(listing.cast_unsigned()), nowhere, 0, 0, 0]);
        bench.call(0x1160);
        assert_eq!([bench.i64(AT + 24), bench.i64(AT + 32)], [3, 22], "no room for one");
    }
    assert_eq!(bench.printed(), "");
    assert!(bench.stop.reason().is_none());
}

#[test]
fn a_buffer_of_version_1_is_virtual_and_each_of_its_pages_may_be_elsewhere() {
    let bench = Bench::new();
    bench.put(DATA + 0x1ffe, b"ab");
    bench.put(DATA, b"cd");
    bench.put(AT, &1_i32.to_le_bytes());
    bench.words(AT + 4, &[VIRTUAL + DATA + 0xffe, 4]);
    bench.call(0x400);
    assert_eq!(bench.printed(), "abcd");
    bench.words(AT + 4, &[VIRTUAL + MIB - 2, 4]);
    bench.call(0x400);
    assert_eq!(bench.violation(), "write: the address 0x1100000 is mapped nowhere");
}

#[test]
fn the_end_has_32_bits_of_status_by_either_version() {
    for (raw, status) in [(0_i32, 0), (7, 7), (-1, 255), (256, 255)] {
        for number in [0x540, 0x1010] {
            let bench = Bench::new();
            bench.put(AT, &raw.to_le_bytes());
            let value = if number == 0x540 { AT } else { u64::from(raw.cast_unsigned()) };
            bench.call_with(number, value);
            let raw = u64::from(raw.cast_unsigned());
            assert_eq!(bench.stop.reason(), Some(&Reason::Exit { raw, status }), "{number:#x}");
        }
    }
}

#[test]
fn arguments_and_environment_are_told_with_their_lengths_first() {
    let bench = Bench::new();
    bench.call(0x740);
    assert_eq!([0, 4, 8, 12, 516, 520, 524].map(|at| bench.i32(AT + at)), [2, 6, 10, 0, 1, 4, 0]);
    bench.words(OTHER, &[DATA, DATA + 0x100]);
    bench.words(OTHER + 0x100, &[DATA + 0x200]);
    bench.words(AT, &[OTHER, OTHER + 0x100]);
    bench.call(0x780);
    assert_eq!(bench.get(DATA), *b"hello\0");
    assert_eq!(bench.get(DATA + 0x100), *b"two words\0");
    assert_eq!(bench.get(DATA + 0x200), *b"A=1\0");
    bench.words(OTHER, &[DATA, MIB - 9]);
    bench.call(0x780);
    assert!(bench.violation().starts_with("command value: 10 bytes at 0xffff7"));
}

#[test]
fn files_are_opened_written_read_and_closed_where_the_guest_has_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::with(&[(folder.path(), "/data", false)]);
    let fd = bench.open("/data/new", CREATE | 2);
    assert!(fd >= 3, "{fd}");
    bench.put(DATA, &[b'x'; 0x2_0000]);
    assert_eq!(bench.transfer(WRITE, fd, DATA, 0x1_8000), 0x1_8000);
    assert_eq!(bench.seek(fd, -1, 2), 0x1_7fff);
    assert_eq!(bench.transfer(READ, fd, OTHER, 10), 1);
    assert_eq!(bench.transfer(READ, fd, OTHER, 10), 0);
    assert_eq!((bench.seek(fd, 4, 0), bench.seek(fd, 2, 1), bench.seek(fd, 0, 1)), (4, 6, 6));
    assert_eq!(bench.seek(fd, -7, 1), i64::from(INVAL));
    assert_eq!(bench.seek(fd, 0, 3), i64::from(INVAL));
    assert_eq!(bench.close(0x1120, fd), 0);
    assert_eq!(bench.close(0x1120, fd), BADF);
    assert_eq!(std::fs::read(folder.path().join("new")).unwrap(), [b'x'; 0x1_8000]);
    let fd = bench.open("/data/../data/./new", 1 | TRUNCATE);
    assert_eq!(bench.transfer(READ, fd, OTHER, 10), i64::from(BADF), "it is open to be written");
    bench.put(DATA, b"one");
    assert_eq!(bench.transfer(WRITE, fd, DATA, 3), 3);
    let other = bench.open("/data/new", 1 | APPEND);
    assert_ne!(other, fd);
    assert_eq!(bench.transfer(WRITE, other, DATA, 3), 3);
    assert_eq!(std::fs::read(folder.path().join("new")).unwrap(), b"oneone");
    bench.path("/data/new");
    bench.words(AT, &[PATH]);
    bench.call(0x1150);
    assert_eq!(bench.i32(AT + 8), 0);
    assert!(!folder.path().join("new").exists());
    assert!(bench.stop.reason().is_none());
}

#[test]
fn version_1_reads_and_writes_pages_that_are_not_together() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("f"), vec![7; 0x1800]).unwrap();
    let bench = Bench::with(&[(folder.path(), "root", false)]);
    let fd = bench.open("/root/f", 2);
    bench.put(AT, &fd.to_le_bytes());
    bench.words(AT + 4, &[VIRTUAL + DATA + 0x800, 0x2000, 99]);
    bench.call(0x500);
    assert_eq!(bench.i64(AT + 20), 0x1800);
    let places = [0x17ff, 0x1800, 0x1fff, 0, 0xfff, 0x1000].map(|at| bench.get(DATA + at));
    assert_eq!(places, [[0], [7], [7], [7], [7], [0]]);
    bench.words(AT + 4, &[VIRTUAL + DATA + 0x800, 0x1000]);
    bench.call(0x400);
    assert_eq!(bench.i64(AT + 12), 0x1000, "the length stays");
    assert_eq!(std::fs::metadata(folder.path().join("f")).unwrap().len(), 0x2800);
    bench.put(AT, &[fd.to_le_bytes(), 1_i32.to_le_bytes()].concat());
    bench.put(AT + 4, &(-3_i64).to_le_bytes());
    bench.put(AT + 12, &0_u32.to_le_bytes());
    bench.call(0x580);
    assert_eq!(bench.i64(AT + 4), -1, "of failures it knows one");
    bench.put(AT, &77_i32.to_le_bytes());
    bench.words(AT + 4, &[VIRTUAL + DATA, 4]);
    bench.call(0x400);
    assert_eq!(bench.i64(AT + 12), i64::from(BADF));
}

#[test]
fn nothing_is_reached_but_what_is_in_a_mapped_folder() {
    let place = tempfile::tempdir().unwrap();
    let inside = place.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(place.path().join("secret"), "secret").unwrap();
    std::fs::write(inside.join("file"), "file").unwrap();
    std::fs::create_dir(inside.join("folder")).unwrap();
    for (name, target) in [
        ("up", "../secret"),
        ("away", place.path().join("secret").to_str().unwrap()),
        ("link", "folder/../file"),
        ("guests", "/data/file"),
        ("loop", "loop"),
        ("way", "folder"),
    ] {
        std::os::unix::fs::symlink(target, inside.join(name)).unwrap();
    }
    let bench = Bench::with(&[(&inside, "/data", false)]);
    for path in
        ["/secret", "/data/../secret", "secret", "/", "", "/data/up", "/data/away", "/etc/passwd"]
    {
        let told = bench.open(path, 0);
        assert_eq!(told, NOENT, "{path}");
    }
    assert_eq!(bench.open("/data/loop", 0), -40);
    for path in ["/data/away", "/data/up"] {
        assert_eq!(bench.open(path, 1 | CREATE), NOENT, "{path}");
    }
    assert!(!inside.join("secret").exists());
    assert_eq!(bench.open("/data/file/x", 0), -20);
    for path in ["/data/link", "/data/guests", "/data/way/../file"] {
        let fd = bench.open(path, 0);
        assert!(fd >= 3, "{path}: {fd}");
        assert_eq!(bench.transfer(READ, fd, DATA, 10), 4);
        assert_eq!(bench.get(DATA), *b"file");
    }
    assert_eq!(bench.open("/data/folder", 1), ISDIR);
    assert_eq!(bench.open("/data/folder", CREATE), ISDIR);
    assert_eq!(bench.open("/data/file", CREATE | 0o200), EXIST);
    assert_eq!(bench.open("/data/x", CREATE | FOLDER), INVAL);
    assert_eq!(bench.open(&format!("/data/{}", "a".repeat(300)), 0), -36);
    assert_eq!(bench.open(&"/a".repeat(2100), 0), -36);
    assert!(bench.stop.reason().is_none());
}

#[test]
fn a_folder_that_is_only_to_be_read_does_not_change_and_the_deeper_mapping_counts() {
    let (upper, lower) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(upper.path().join("f"), "upper").unwrap();
    std::fs::write(lower.path().join("f"), "lower").unwrap();
    let bench = Bench::with(&[(upper.path(), "/", true), (lower.path(), "/deep/er", false)]);
    for flags in [1, 2, TRUNCATE, CREATE] {
        assert_eq!(bench.open("/f", flags), ROFS, "{flags:o}");
    }
    assert_eq!(bench.open("/new", CREATE | 1), ROFS);
    for number in [0x840, 0x1150, 0x1190] {
        bench.path("/f");
        bench.words(AT, &[PATH, 9]);
        bench.call(number);
        let told = if number == 0x1190 { -bench.i32(AT + 20) } else { bench.i32(AT + 8) };
        assert_eq!(told, ROFS, "{number:#x}");
    }
    for (path, wanted) in [("/f", b"upper"), ("/deep/er/f", b"lower")] {
        let fd = bench.open(path, 0);
        assert_eq!(bench.transfer(READ, fd, DATA, 10), 5);
        assert_eq!(bench.get(DATA), *wanted);
    }
    assert_eq!(std::fs::read(upper.path().join("f")).unwrap(), b"upper");
}

#[test]
fn folders_are_made_and_listed_and_what_is_known_of_files_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::with(&[(folder.path(), "/d", false)]);
    bench.path("/d/sub");
    bench.words(AT, &[PATH, 6, 0]);
    bench.call(0x1190);
    assert_eq!(bench.i32(AT + 16), 1);
    bench.call(0x1190);
    assert_eq!([bench.i32(AT + 16), bench.i32(AT + 20)], [2, 17]);
    std::fs::write(folder.path().join("sub/one"), "12345").unwrap();
    let fd = bench.open("/d/sub", FOLDER);
    let mut names = Vec::new();
    loop {
        bench.words(AT, &[u64::from(fd.cast_unsigned()), DATA, 60, 0, 0]);
        bench.call(0x1160);
        match bench.i32(AT + 24) {
            1 => {}
            2 => break,
            other => panic!("{other}: {}", bench.i64(AT + 32)),
        }
        let len = u64::from_le_bytes(bench.get(AT + 32));
        let mut at = 0;
        while at < len {
            let record = u64::from(u16::from_le_bytes(bench.get(DATA + at + 16)));
            let [kind] = bench.get(DATA + at + 18);
            let name: [u8; 24] = bench.get(DATA + at + 19);
            let end = name.iter().position(|byte| *byte == 0).unwrap();
            names.push((String::from_utf8_lossy(&name[..end]).into_owned(), kind));
            at += record;
        }
    }
    names.sort();
    let wanted = [(".", 4), ("..", 4), ("one", 8)].map(|(name, kind)| (name.to_owned(), kind));
    assert_eq!(names, wanted);
    assert_eq!(bench.seek(fd, 0, 0), 0);
    bench.words(AT, &[u64::from(fd.cast_unsigned()), DATA, 8, 0, 0]);
    bench.call(0x1160);
    assert_eq!([bench.i64(AT + 24), bench.i64(AT + 32)], [3, 22], "no room for one");
    bench.path("/d/sub/one");
    bench.words(AT, &[PATH, 0, DATA, 0]);
    bench.call(0x1170);
    assert_eq!((bench.i32(AT + 24), bench.i64(DATA + 48)), (1, 5));
    assert_eq!(bench.i32(DATA + 24) & 0o170_000, 0o100_000);
    bench.path("/d/none");
    bench.call(0x1170);
    assert_eq!([bench.i32(AT + 24), bench.i32(AT + 28)], [2, 2]);
    bench.words(AT, &[u64::from(fd.cast_unsigned()), DATA, 0]);
    bench.call(0x1180);
    assert_eq!((bench.i32(AT + 16), bench.i32(DATA + 24) & 0o170_000), (1, 0o040_000));
    bench.words(AT, &[1, DATA, 0]);
    bench.call(0x1180);
    assert_eq!([bench.i32(AT + 16), bench.i32(AT + 20)], [2, 9], "the console is no file");
    assert_eq!(bench.close(0x480, 1), 0, "and stays");
}

#[test]
fn no_more_files_are_open_than_there_may_be() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("f"), "").unwrap();
    let bench = Bench::with(&[(folder.path(), "/", false)]);
    let most = i32::try_from(crate::p9::MAX_OPEN).unwrap();
    // The process may have fewer.
    let opened: Vec<i32> =
        (0..most).map(|_| bench.open("/f", 0)).take_while(|fd| *fd >= 3).collect();
    let told = bench.open("/f", 0);
    assert!([-23, -24].contains(&told), "{told} after {}", opened.len());
    assert_eq!(bench.close(0x1120, opened[5]), 0);
    assert_eq!(bench.open("/f", 0), opened[5]);
}

#[test]
fn whoever_breaks_the_rules_ends_the_run() {
    let outside = "are not all in the guest's memory";
    // A structure, for each call that has one.
    for place in places().filter(|place| ![0x800, 0x1010, 0x1020].contains(&place.number)) {
        for at in [MIB - 3, MIB, u64::MAX - 3] {
            let bench = Bench::new();
            bench.call_with(place.number, at);
            assert!(bench.violation().ends_with(outside), "{place:?} {at:#x}");
        }
    }
    // What it points to.
    for at in [MIB - 3, MIB, u64::MAX - 1, u64::MAX] {
        let bench = Bench::new();
        bench.words(AT, &[4, at]);
        bench.call(0x1030);
        assert!(bench.violation().ends_with(outside), "{at:#x}");
        for number in [0x440, 0x840, 0x1150, 0x1170, 0x1190] {
            let bench = Bench::new();
            if at < MIB {
                bench.put(at, b"abc");
            }
            bench.words(AT, &[at]);
            bench.call(number);
            assert!(bench.violation().ends_with(outside), "{number:#x} {at:#x}");
        }
    }
    // Who reads where it should write finds nothing, wherever.
    assert_eq!(Bench::new().door(0x880).read(0, Width::W4), u64::from(u32::MAX));
    for (width, offset) in [(Width::W1, 0), (Width::W2, 0), (Width::W8, 0), (Width::W4, 1)] {
        let bench = Bench::new();
        bench.door(0x880).write_by(offset, width, AT, &Vcpu(None));
        assert!(bench.violation().contains("a hypercall is a write of 32 bits"), "{width:?}");
    }
}

#[test]
fn buffers_that_reach_out_of_memory_end_the_run_before_a_file_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("f"), "content").unwrap();
    for number in [WRITE, READ] {
        let bench = Bench::with(&[(folder.path(), "/", false)]);
        let fd = bench.open("/f", 2);
        bench.transfer(number, fd, MIB - 4, 8);
        assert!(bench.violation().contains("8 bytes at 0xffffc"), "{number:#x}");
        // However much of it is in memory.
        let bench = Bench::with(&[(folder.path(), "/", false)]);
        let fd = bench.open("/f", 2);
        bench.transfer(number, fd, 0, u64::MAX);
        assert!(bench.violation().ends_with("are not all in the guest's memory"));
        let bench = Bench::with(&[(folder.path(), "/", false)]);
        let fd = bench.open("/f", 2);
        bench.transfer(number, fd, u64::MAX - 4, u64::MAX);
        assert!(bench.violation().ends_with("are not all in the guest's memory"));
    }
    assert_eq!(std::fs::read(folder.path().join("f")).unwrap(), b"content");
}

#[test]
fn once_the_run_is_over_nobody_waits() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::with(&[(folder.path(), "/", false)]);
    bench.calls.wake();
    assert_eq!(bench.open("/f", CREATE | 1), -5);
    assert!(!folder.path().join("f").exists());
}
