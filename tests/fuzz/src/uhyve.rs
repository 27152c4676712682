//! Uhyve's hypercalls, of both versions: structures and calls as a guest may make them, most of them good, with two
//! folders, one of them only to be read. Whatever it does, nothing beside the folders is read or written.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::thread;

use hv::{GuestMemory, GuestRam, Width};
use runner::devices::hypercall::Guest;
use runner::devices::uhyve::desk::{Desk, Server};
use runner::devices::uhyve::files::{Files, Mapping};
use runner::devices::uhyve::{Door, Hypercalls, Machine, Place, Words, places};
use runner::family::ends::UHYVE;
use runner::machine::bus::{Caller, Device};
use runner::machine::stop::{Reason, Stop};
use runner::p9::Folder;
use tempfile::TempDir;
use vm_memory::{Bytes, GuestAddress};

use super::input::Input;

/// Memory begins and ends here.
const START: u64 = 0x10_0000;
const END: u64 = 0x12_0000;
/// Where structures are, mostly, and paths.
const AT: u64 = 0x10_1000;
const PATH: u64 = 0x10_2000;
/// Actions in one input, at most.
const ACTIONS: usize = 64;
/// What the guest has no way to.
const SECRET: &str = "nobody may read this";

/// Paths that lead somewhere, and that do not.
const PATHS: [&str; 16] = [
    "/a/f",
    "/a/d",
    "/a/d/f",
    "/a/new",
    "/a/link",
    "/a/out",
    "/a/loop",
    "/b/f",
    "/b/new",
    "/b",
    "/a",
    "/",
    "",
    "/a/../secret",
    "/secret",
    "/a/d/../../b/./f",
];

/// A vCPU that maps memory a page above where it is.
struct Vcpu(Option<u64>);

impl Caller for Vcpu {
    fn translate(&self, address: u64) -> Option<u64> {
        address.checked_sub(0x1000).filter(|gpa| (START..END).contains(gpa))
    }

    fn argument(&self) -> Option<u64> {
        self.0
    }
}

/// A list of actions.
pub fn uhyve(data: &[u8]) {
    let mut input = Input(data);
    let place = folders();
    let stop = Stop::default();
    let ram = GuestRam::new(END - START).expect("a page or two");
    let memory = hv::mem::memory([(START, ram)]).expect("one piece");
    let guest = Guest::new(memory.clone(), START, START, Vec::new());
    let desks = [(); 2].map(|()| Arc::new(Desk::default()));
    thread::scope(|scope| {
        let mut mappings = Vec::new();
        for (desk, (name, read_only)) in desks.iter().zip([("a", false), ("b", true)]) {
            let folder = Folder::open(&place.path().join(name), read_only).expect("it is there");
            let mut server = Server::new(folder, name, guest.clone()).expect("a path");
            mappings.push(Mapping::new(name, Arc::clone(desk)).expect("a path"));
            scope.spawn(move || desk.serve(&mut server));
        }
        let calls = Arc::new(Hypercalls::new(Machine {
            guest,
            console: Box::new(io::sink()),
            words: Words { arguments: vec!["fuzz".into(), "a b".into()], environment: vec![] },
            files: Files::new(mappings),
            code: UHYVE.code(),
            stop: stop.clone(),
        }));
        for _ in 0..ACTIONS {
            if input.is_empty() || stop.requested() {
                break;
            }
            act(&mut input, &calls, &memory);
        }
        calls.wake();
    });
    if let Some(reason) = stop.reason() {
        assert!(matches!(reason, Reason::Violation(_) | Reason::Exit { .. }), "{reason:?}");
    }
    check(&place, &memory);
}

fn act(input: &mut Input<'_>, calls: &Arc<Hypercalls>, memory: &GuestMemory) {
    let all: Vec<Place> = places().collect();
    let place = all[usize::from(input.byte()) % all.len()];
    let path = PATHS[usize::from(input.byte() % 16)];
    let put = |at: u64, bytes: &[u8]| {
        memory.write_slice(bytes, GuestAddress(at)).expect("it is memory");
    };
    put(PATH, path.as_bytes());
    put(PATH + path.len() as u64, &[0]);
    let at = if input.one_in(16) { address(input) } else { AT };
    if at == AT {
        for (index, word) in (0..).zip(words(input, place)) {
            put(AT + 4 * index, &word.to_le_bytes());
        }
    }
    let is_first = place.number < 0x1000;
    let door = Door::new(place, Width::W4, Arc::clone(calls));
    let (offset, width) = match input.byte() % 32 {
        0 => (u64::from(input.byte() % 4), input.width()),
        _ => (0, Width::W4),
    };
    let vcpu = Vcpu((!is_first).then_some(at));
    door.write_by(offset, width, if is_first { at & width.mask() } else { 0x1234 }, &vcpu);
}

/// A structure, in words of 32 bits: each version has its own, and each a chance to be good.
fn words(input: &mut Input<'_>, place: Place) -> [u32; 10] {
    let [low, high] = halves(match input.byte() % 4 {
        0 => address(input),
        _ => PATH,
    });
    let [buffer, buffer_high] = halves(address(input));
    let [len, len_high] = halves(length(input));
    let fd = u32::from(input.byte() % 10);
    match place.number {
        0x400 | 0x500 => [fd, buffer, buffer_high, len, len_high, 0, 0, 0, 0, 0],
        0x580 => [fd, len, len_high, u32::from(input.byte() % 4), 0, 0, 0, 0, 0, 0],
        0x440 | 0x1110 => [low, high, flags(input), input.word(), 0, 0, 0, 0, 0, 0],
        0x880 => [buffer, buffer_high, len, len_high, 0, 0, 0, 0, 0, 0],
        0x1030 => [len, len_high, buffer, buffer_high, 0, 0, 0, 0, 0, 0],
        0x1100 | 0x1130 => [len, len_high, 0, 0, buffer, buffer_high, fd, 0, 0, 0],
        0x1140 => [len, len_high, u32::from(input.byte() % 4), fd, 0, 0, 0, 0, 0, 0],
        0x1160 | 0x1180 => [fd, 0, buffer, buffer_high, len, len_high, 0, 0, 0, 0],
        0x480 | 0x1120 => [fd; 10],
        _ => [low, high, u32::from(input.byte() % 3), 0, buffer, buffer_high, 0, 0, 0, 0],
    }
}

fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

fn flags(input: &mut Input<'_>) -> u32 {
    match input.byte() % 8 {
        0 => input.word(),
        1 => 0o200_000,
        2 => 0o102,
        3 => 0o301,
        4 => 0o1002,
        5 => 0o2001,
        other => u32::from(other % 3),
    }
}

fn address(input: &mut Input<'_>) -> u64 {
    match input.byte() % 16 {
        0 => input.long(),
        1 => END - u64::from(input.half() % 600),
        2 => END + 0x1000 - u64::from(input.byte()),
        3 => START.wrapping_add(u64::from(input.byte())).wrapping_sub(8),
        _ => AT + 0x2000 + u64::from(input.half() % 0x2000),
    }
}

fn length(input: &mut Input<'_>) -> u64 {
    match input.byte() % 8 {
        0 => input.long(),
        1 => u64::from(input.half()),
        2 => u64::MAX,
        _ => u64::from(input.byte()),
    }
}

/// Two folders, and a file beside them.
fn folders() -> TempDir {
    let place = tempfile::tempdir().expect("a place");
    for name in ["a", "b"] {
        let folder = place.path().join(name);
        fs::create_dir_all(folder.join("d")).expect("a folder");
        fs::write(folder.join("f"), name).expect("a file");
        fs::write(folder.join("d/f"), "deeper").expect("a file");
        symlink("d/f", folder.join("link")).expect("a link");
        symlink("../secret", folder.join("out")).expect("a link");
        symlink("loop", folder.join("loop")).expect("a link");
    }
    fs::write(place.path().join("secret"), SECRET).expect("a file");
    place
}

fn check(place: &TempDir, memory: &GuestMemory) {
    let path = place.path();
    assert_eq!(fs::read_to_string(path.join("secret")).expect("it stays"), SECRET);
    assert_eq!(fs::read_to_string(path.join("b/f")).expect("it stays"), "b");
    assert_eq!(fs::read_dir(path).expect("it stays").count(), 3);
    assert_eq!(fs::read_dir(path.join("b")).expect("it stays").count(), 5);
    let mut all = vec![0; usize::try_from(END - START).expect("it fits")];
    memory.read_slice(&mut all, GuestAddress(START)).expect("it is memory");
    let secret = SECRET.as_bytes();
    assert!(!all.windows(secret.len()).any(|part| part == secret), "the secret is out");
}
