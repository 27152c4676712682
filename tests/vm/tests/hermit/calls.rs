//! Each of uhyve's hypercalls, of both versions, as a unikernel makes it that means well, and as one does that does
//! not (V77).

use super::super::support::files::Folder;
use super::super::support::host::accelerator;
use super::super::support::or_skip;
use super::super::support::program::says;
use super::super::support::script::{self, Script};
use super::{AT, CLOSE, CREATE, DATA, END, EXIT, MAKE_FOLDER, OPEN, PATH, READ_WRITE};
use super::{STAT, UNLINK, text, told, with};

/// Both versions of each call.
const WRITE: [u64; 2] = [0x400, 0x1100];
const READ: [u64; 2] = [0x500, 0x1130];
const SEEK: [u64; 2] = [0x580, 0x1140];
const BYTE: [u64; 2] = [0x800, 0x1020];
const SERIAL: [u64; 2] = [0x880, 0x1030];
/// The first version's alone, and the second's.
const COMMAND_SIZE: u64 = 0x740;
const COMMAND_VALUE: u64 = 0x780;
const LIST: u64 = 0x1160;
const STAT_OPEN: u64 = 0x1180;

/// What the interface numbers, and nobody answers.
const UNUSED: [u64; 7] = [0x640, 0x680, 0x700, 0x1040, 0x1050, 0x1200, 0x1210];

const DIRECTORY: u64 = 0o200_000;

/// Where the size is in what is known of a file.
const SIZE: u64 = 48;
/// How often two processors meet.
const ROUNDS: usize = 24;

const OUTSIDE: &str = "are not all in the guest's memory";

const NOENT: i32 = -2;
const BADF: i32 = -9;
const ISDIR: i32 = -21;
const INVAL: i32 = -22;
const ROFS: i32 = -30;
const TOO_LONG: i32 = -36;

/// Descriptors that nobody has opened.
const CLOSED: [i32; 5] = [-1, 77, i32::MAX, i32::MIN, 4];

/// A guest's calls, and what it prints when each is answered as it should be.
struct Told {
    script: Script,
    wanted: String,
}

impl Told {
    fn new() -> Self {
        Self { script: Script::at(AT), wanted: String::new() }
    }

    fn then(self, more: impl FnOnce(Script) -> Script) -> Self {
        Self { script: more(self.script), ..self }
    }

    /// What is at `at` has to be `wanted`.
    fn has(mut self, at: u64, wanted: u64) -> Self {
        self.wanted += &format!("{wanted:016x}\n");
        self.then(|script| script.print(at))
    }

    /// A call whose structure begins with `words`, where `answer` bytes from its beginning has to be `wanted`.
    fn call(self, number: u64, words: &[u64], answer: u64, wanted: u64) -> Self {
        self.then(|script| script.call(number, words)).has(AT + answer, wanted)
    }

    /// Opens a file by either version, as a descriptor or a failure.
    fn open(self, version: usize, path: &str, flags: u64, wanted: i32) -> Self {
        self.then(|script| text(script, PATH, path)).open_at(version, PATH, flags, wanted)
    }

    fn open_at(self, version: usize, path: u64, flags: u64, wanted: i32) -> Self {
        self.call(OPEN[version], &[path, flags | 0o644 << 32, 0], 16, told(wanted))
    }

    /// Closes a descriptor; its word has what was asked below what came of it.
    fn close(self, version: usize, fd: i32, wanted: i32) -> Self {
        self.call(CLOSE[version], &[told(fd)], 0, told(fd) | told(wanted) << 32)
    }

    /// Reads or writes. The first version's writes say nothing where they succeed.
    fn transfer(self, number: u64, fd: i32, at: u64, len: u64, wanted: i64) -> Self {
        let wanted = wanted.cast_unsigned();
        match number {
            0x400 => self.call(number, &packed(fd, at, len), 12, wanted),
            0x500 => self.call(number, &packed(fd, at, len), 20, wanted),
            _ => self.call(number, &[len, 0, at, told(fd)], 8, wanted),
        }
    }

    fn seek(self, version: usize, fd: i32, offset: i64, whence: u32, wanted: i64) -> Self {
        let (offset, wanted) = (offset.cast_unsigned(), wanted.cast_unsigned());
        match version {
            0 => self.call(SEEK[0], &packed(fd, offset, whence.into()), 4, wanted),
            _ => self.call(SEEK[1], &[offset, u64::from(whence) | told(fd) << 32], 0, wanted),
        }
    }

    /// Removes a file.
    fn unlink(self, version: usize, path: &str, wanted: i32) -> Self {
        let made = self.then(|script| text(script, PATH, path));
        made.call(UNLINK[version], &[PATH, 0], 8, told(wanted))
    }

    /// Looks at what is at a path, `at_link` at a link itself.
    fn stat(self, path: &str, at_link: u64, wanted: u64) -> Self {
        let made = self.then(|script| text(script, PATH, path));
        made.call(STAT, &[PATH, at_link, DATA, 0], 24, wanted)
    }

    fn make_folder(self, path: &str, wanted: u64) -> Self {
        let made = self.then(|script| text(script, PATH, path));
        made.call(MAKE_FOLDER, &[PATH, path.len() as u64 + 1, 0], 16, wanted)
    }

    /// Lists a folder: what kind of answer there is, and its number.
    fn list(self, fd: i32, len: u64, kind: u64, number: u64) -> Self {
        self.call(LIST, &[told(fd), DATA, len, 0, 0], 24, kind).has(AT + 32, number)
    }

    /// Says something in each way a version has.
    fn console(self, version: usize) -> Self {
        let buffer = [[DATA, 3], [3, DATA]];
        let said = self.then(|script| text(script, DATA, "one"));
        let said = said.then(|script| script.call(SERIAL[version], &buffer[version]));
        let said = b"\n".iter().fold(said, |said, byte| {
            said.then(|script| script.raw(BYTE[version], u64::from(*byte)))
        });
        // The write's words come before its answer.
        Self { wanted: said.wanted + "one\none", ..said }.transfer(WRITE[version], 1, DATA, 3, 3)
    }

    /// All of it is as wanted, and the guest ends well.
    fn holds(self, options: &[&str]) {
        let finished = with(options, &self.script).ends_with(0);
        let numbered = |text: &str| text.lines().map(str::to_owned).enumerate().collect::<Vec<_>>();
        let (said, wanted) = (numbered(finished.quiet_text()), numbered(&self.wanted));
        for (said, wanted) in said.iter().zip(&wanted) {
            assert_eq!(said, wanted);
        }
        assert_eq!(said.len(), wanted.len());
    }
}

/// An error in the answers that have one in their upper half.
fn failed(error: i32) -> u64 {
    2 | told(-error) << 32
}

/// A structure of the first version's, which has no gaps: 32 bits, and twice 64, and an answer behind them.
fn packed(fd: i32, middle: u64, last: u64) -> [u64; 4] {
    let [low, high] = [middle, last].map(|word| word << 32);
    [told(fd) | low, middle >> 32 | high, last >> 32, 0]
}

/// A folder to be shared with a file, a folder and links in it, and a secret beside it.
fn shared() -> (Folder, String) {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path().join("data/folder")).unwrap();
    for (name, bytes) in [("data/file", "content"), ("data/folder/one", ""), ("secret", "secret")] {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    for (name, target) in [("link", "file"), ("loop", "loop"), ("away", "../secret")] {
        std::os::unix::fs::symlink(target, folder.path().join("data").join(name)).unwrap();
    }
    std::fs::write(folder.path().join("data/long"), "a".repeat(5000)).unwrap();
    // Root's runner gives up its rights.
    folder.mode("data", 0o777);
    folder.mode("data/file", 0o666);
    let share = format!("--share={}:data", folder.path().join("data").display());
    (folder, share)
}

#[test]
fn each_call_of_either_version_does_what_it_says() {
    or_skip!(accelerator());
    let (folder, share) = shared();
    let calls = (0..2).fold(Told::new(), files).console(0).console(1);
    let calls = calls
        .make_folder("/data/made", 1)
        .make_folder("/data/made", failed(-17))
        .open(1, "/data/folder", DIRECTORY, 3)
        .list(3, 0x1000, 1, 72)
        .list(3, 0x1000, 2, 0)
        .seek(1, 3, 0, 0, 0)
        .list(3, 48, 1, 48)
        .list(3, 48, 1, 24)
        .close(1, 3, 0)
        .open(1, "/data/file", 0, 3)
        .call(STAT_OPEN, &[3, DATA, 0], 16, 1)
        .has(DATA + SIZE, 7)
        .stat("/data/file", 0, 1)
        .has(DATA + SIZE, 7)
        .stat("/data/link", 0, 1)
        .has(DATA + SIZE, 7)
        .stat("/data/link", 1, 1)
        .has(DATA + SIZE, 4);
    calls.holds(&[&share]);
    assert_eq!(std::fs::read(folder.path().join("data/file")).unwrap(), b"content");
    assert!(folder.path().join("data/made").is_dir());
}

/// Each call of a version that both have for files, the descriptor being 3.
fn files(calls: Told, version: usize) -> Told {
    calls
        .open(version, "/data/file", READ_WRITE, 3)
        .then(|script| script.store(DATA, 0))
        .transfer(READ[version], 3, DATA, 100, 7)
        .has(DATA, u64::from_le_bytes(*b"content\0"))
        .seek(version, 3, -3, 2, 4)
        .then(|script| text(script, DATA, "ENTent"))
        .transfer(WRITE[version], 3, DATA, 3, 3)
        .seek(version, 3, 0, 1, 7)
        .seek(version, 3, 4, 0, 4)
        .transfer(WRITE[version], 3, DATA + 3, 3, 3)
        .close(version, 3, 0)
        .open(version, "/data/new", CREATE | READ_WRITE, 3)
        .close(version, 3, 0)
        .unlink(version, "/data/new", 0)
        .open(version, "/data/new", 0, -2)
}

#[test]
fn v77_what_a_call_cannot_do_is_its_answer_and_the_guest_goes_on() {
    or_skip!(accelerator());
    let (folder, share) = shared();
    let other = Folder::new();
    other.file("file", "");
    let calls = (0..2).fold(Told::new(), descriptors);
    let calls = (0..2).fold(calls, paths);
    let calls =
        UNUSED.into_iter().fold(calls, |calls, number| calls.then(|script| script.raw(number, AT)));
    let calls = calls.console(1);
    calls.holds(&[&share, &format!("--share={}:locked:ro", other.path().display())]);
    assert_eq!(std::fs::read(folder.path().join("data/file")).unwrap(), b"content");
    assert_eq!(std::fs::read(folder.path().join("secret")).unwrap(), b"secret");
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 1);
}

/// Descriptors that are none or of the wrong kind, and numbers that are too large. There are two folders: every other
/// descriptor is one's.
fn descriptors(calls: Told, version: usize) -> Told {
    let failure = |error: i32| if version == 0 { -1 } else { i64::from(error) };
    let mut calls = calls.open(version, "/data/file", READ_WRITE, 3);
    for fd in CLOSED {
        calls = calls
            .close(version, fd, BADF)
            .transfer(READ[version], fd, DATA, 4, BADF.into())
            .transfer(WRITE[version], fd, DATA, 4, BADF.into())
            // Nothing is at that address, and nothing is asked for.
            .transfer(READ[version], fd, u64::MAX, 0, BADF.into())
            .seek(version, fd, 0, 0, failure(BADF));
        if version == 1 {
            calls = calls.list(fd, 0x100, 3, told(-BADF));
            calls = calls.call(STAT_OPEN, &[told(fd), END, 0], 16, failed(BADF));
        }
    }
    calls = calls
        .close(version, 0, 0)
        .transfer(READ[version], 0, DATA, 4, BADF.into())
        .transfer(WRITE[version], 1, u64::MAX, 0, 0)
        .transfer(READ[version], 3, u64::MAX, 0, 0)
        .seek(version, 3, 0, 3, failure(INVAL))
        .seek(version, 3, 0, u32::MAX, failure(INVAL))
        .seek(version, 3, i64::MIN, 0, failure(INVAL))
        .seek(version, 3, i64::MAX, 2, failure(INVAL))
        // Behind the end there is nothing, however far.
        .seek(version, 3, i64::MAX, 0, i64::MAX)
        .seek(version, 3, 1 << 40, 0, 1 << 40)
        .transfer(READ[version], 3, DATA, 4, 0);
    if version == 1 {
        calls = calls.list(3, 0x100, 3, 20);
    }
    calls = calls.open(version, "/data/folder", DIRECTORY, 5);
    calls = calls.transfer(READ[version], 5, DATA, 4, ISDIR.into());
    calls = calls.transfer(WRITE[version], 5, DATA, 4, BADF.into());
    if version == 1 {
        for (len, kind, number) in [(0, 3, 22), (23, 3, 22), (24, 1, 24)] {
            calls = calls.list(5, len, kind, number);
        }
    }
    calls.close(version, 5, 0).close(version, 5, BADF).close(version, 3, 0)
}

/// Paths that lead away, are too long or no text, and a folder that is only to be read.
fn paths(calls: Told, version: usize) -> Told {
    let mut calls = calls
        .open(version, "/data/long", 0, 3)
        .transfer(READ[version], 3, DATA, 5000, 5000)
        // A page without a NUL.
        .open_at(version, DATA, 0, TOO_LONG)
        .call(UNLINK[version], &[DATA, 0], 8, told(TOO_LONG))
        .close(version, 3, 0);
    for path in ["", "/", "..", "/data/../secret", "data2", "/data/\u{fffd}"] {
        calls = calls.open(version, path, 0, NOENT).unlink(version, path, NOENT);
    }
    calls = calls
        .open(version, "/data/loop", 0, -40)
        .open(version, "/data/away", 0, NOENT)
        .open(version, "/data/away", CREATE | READ_WRITE, NOENT)
        .open(version, "/data/file", DIRECTORY, -20)
        .open(version, "/data/folder", READ_WRITE, ISDIR)
        .open(version, "/data/file", told(-1), INVAL)
        .unlink(version, "/data/folder", ISDIR)
        .open(version, "/locked/file", READ_WRITE, ROFS)
        .open(version, "/locked/new", CREATE, ROFS)
        .unlink(version, "/locked/file", ROFS);
    if version == 0 {
        return calls;
    }
    for path in ["/", "/data/../new", "/data/away/new"] {
        calls = calls.make_folder(path, failed(NOENT)).stat(path, 0, failed(NOENT));
    }
    calls.make_folder("/locked/new", failed(ROFS)).stat("/data/loop", 0, failed(-40))
}

#[test]
fn v77_what_is_not_in_memory_ends_the_run_whichever_call_names_it() {
    or_skip!(accelerator());
    let (_folder, share) = shared();
    let violates = |script: &Script, wanted: &str| {
        script::violates(with(&[&share], script), wanted);
    };
    // Structures; both versions, and each end of memory, are the device's own tests'.
    let places = [END - 3, END, 0xffff_fffc].into_iter().cycle();
    for (number, at) in [EXIT[0], COMMAND_SIZE, CLOSE[1], SEEK[0]].into_iter().zip(places) {
        violates(&Script::at(AT).raw(number, at), OUTSIDE);
    }
    // What is in them.
    let cases: [(u64, &[u64]); 10] = [
        (OPEN[0], &[END, 0]),
        (UNLINK[1], &[1 << 63]),
        (SERIAL[0], &[AT, u64::MAX]),
        (WRITE[1], &[16, 0, END - 8, 1]),
        (READ[1], &[u64::MAX, 0, u64::MAX, 3]),
        (LIST, &[3, END - 8, 16]),
        (STAT, &[PATH, 0, END - 8]),
        (STAT_OPEN, &[3, END - 8]),
        (MAKE_FOLDER, &[END, 2]),
        (COMMAND_VALUE, &[AT, END]),
    ];
    let opened = Told::new().open(1, "/data/long", 0, 3).script;
    for (number, words) in cases {
        violates(&opened.clone().call(number, words), OUTSIDE);
    }
    // A path whose NUL would be behind the end, where the guest itself cannot write.
    let script = opened.call(READ[1], &[8, 0, END - 8, 3]).call(OPEN[1], &[END - 8]);
    violates(&script, OUTSIDE);
    // A virtual address that is mapped nowhere.
    let script = Script::at(AT).call(WRITE[0], &packed(1, 1 << 46, 4));
    violates(&script, "write: the address 0x400000000000 is mapped nowhere");
    violates(&Script::at(AT).word(format!("o{LIST:x},1")), "a hypercall is a write of");
}

#[test]
fn v77_a_path_that_another_processor_changes_meanwhile_is_one_or_the_other() {
    or_skip!(accelerator());
    let (_folder, share) = shared();
    // Eight bytes that change between a file and what is outside, and what is behind them.
    let [inside, outside] = [*b"data/fil", *b"../../se"].map(u64::from_le_bytes);
    let read = [AT, AT + 0x100, AT + 0x200];
    let script = text(Script::at(AT), PATH + 8, "e");
    let script = script.store(PATH, inside).store(read[0], PATH).store(read[0] + 8, 0);
    let script = script.store(read[1], 7).store(read[1] + 16, DATA).store(read[1] + 24, 3);
    let script = script.store(read[2], 3).word(format!("x{PATH:x},{outside:x}"));
    let script = script.store(DATA, 0).raw(OPEN[1], read[0]).print(AT + 16);
    let script = script.raw(READ[1], read[1]).print(read[1] + 8).print(DATA);
    let script = script.raw(CLOSE[1], read[2]).word(format!("n{ROUNDS:x}"));
    let finished = with(&["--cpus=2", &share], &script).ends_with(0);
    let content = u64::from_le_bytes(*b"content\0");
    let answers = script::printed(&finished);
    assert_eq!(answers.len(), 3 * ROUNDS);
    for answer in answers.chunks(3) {
        let is_one = [[3, 7, content], [told(NOENT), i64::from(BADF).cast_unsigned(), 0]];
        assert!(is_one.iter().any(|one| one == answer), "{answer:x?}");
    }
}

#[test]
fn v77_a_length_that_another_processor_changes_meanwhile_is_looked_at_as_it_is_used() {
    or_skip!(accelerator());
    let (folder, share) = shared();
    let script = Told::new().open(1, "/data/new", CREATE | READ_WRITE, 3).script;
    let script = text(script, DATA, "four").store(AT, 4).store(AT + 16, DATA).store(AT + 24, 3);
    let script = script.word(format!("x{AT:x},{:x}", u64::MAX)).raw(WRITE[1], AT);
    let script = script.word(format!("n{:x}", 100 * ROUNDS));
    let finished = with(&["--cpus=2", &share], &script).run();
    // Whether it is seen is the processors' business.
    match finished.status {
        Some(0) => assert_eq!(finished.stderr, ""),
        _ => says(&finished.stderr, &["the guest broke the rules", OUTSIDE]),
    }
    assert!(matches!(finished.status, Some(0 | 126)), "{finished}");
    let written = std::fs::read(folder.path().join("data/new")).unwrap();
    assert!(written.len() <= 400 * ROUNDS, "{}", written.len());
    assert!(written.chunks(4).all(|four| four == b"four"), "{}", written.len());
}
