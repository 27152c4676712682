//! A folder of the host's in a Linux: Debian's kernel for any machine, as its kernel for virtual ones
//! has no 9P.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::super::support::files::Folder;
use super::super::support::or_skip;
use super::super::support::program::Finished;
use super::{Debian, number, quietly, values};

/// Where devices are, how many processors look at them, and how files are cached.
const MACHINES: [(&str, &str, &str); 4] = [
    ("mmio", "1", "cache=none"),
    ("mmio", "4", "cache=loose"),
    ("pci", "1", "cache=loose"),
    ("pci", "4", "cache=none"),
];

/// A folder that everybody may write: root becomes nobody.
struct Shared(Folder);

impl Shared {
    fn new() -> Self {
        let folder = Folder::new();
        folder.mode("", 0o777);
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file of no pattern.
    fn noise(&self, name: &str, len: usize) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        let bytes: Vec<u8> = (0..len / 8).flat_map(|_| next()).collect();
        self.0.file(name, &bytes);
        bytes
    }

    /// Boots a machine with the folder, for a job that has to be done without a word of runner's.
    fn does(&self, (bus, cpus, cache): (&str, &str, &str), how: &str, job: &str) -> Finished {
        let debian = Debian::find().unwrap();
        let share = format!("--share={}:data{how}", self.0.path().display());
        let virtio = format!("--virtio={bus}");
        let args = ["-m", "384", "--cpus", cpus, &virtio, &share];
        quietly(debian.boot_general(&args, &format!("share {job} {cache}")).run())
    }
}

#[test]
fn a_file_that_goes_through_a_guest_and_back_is_the_same() {
    or_skip!(Debian::find());
    for machine in MACHINES {
        let shared = Shared::new();
        let bytes = shared.noise("in", 2_000_000);
        shared.does(machine, "", "copy");
        assert!(fs::read(shared.path("out")).unwrap() == bytes, "{machine:?}");
        let pieces = fs::read(shared.path("pieces")).unwrap();
        assert!(pieces[5 * 1001..] == bytes[3 * 1001..], "{machine:?}");
        assert!(pieces[..5 * 1001].iter().all(|byte| *byte == 0), "{machine:?}");
    }
}

#[test]
fn files_are_made_moved_linked_and_removed() {
    or_skip!(Debian::find());
    for machine in [MACHINES[1], MACHINES[3]] {
        let shared = Shared::new();
        shared.does(machine, "", "files");
        let hard = fs::metadata(shared.path("hard")).unwrap();
        assert_eq!((hard.len(), hard.mode() & 0o7777, hard.nlink()), (3, 0o640, 2), "{machine:?}");
        let link = fs::read_link(shared.path("soft")).unwrap();
        assert_eq!(link, PathBuf::from("x/c/file"), "{machine:?}");
        let mut names: Vec<_> = fs::read_dir(shared.path(""))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["hard", "soft", "up", "x"], "{machine:?}");
    }
}

#[test]
fn ten_thousand_names_are_all_listed() {
    or_skip!(Debian::find());
    for machine in [MACHINES[0], MACHINES[3]] {
        let shared = Shared::new();
        for n in 0..10_000 {
            shared.0.file(&format!("many/a name that is not short, number {n}"), "");
        }
        shared.0.mode("many", 0o777);
        let finished = shared.does(machine, "", "names");
        assert_eq!(number(finished.text(), "names"), 10_000, "{finished}");
        assert_eq!(number(finished.text(), "made"), 60, "{finished}");
        assert!(!shared.path("more").exists());
    }
}

#[test]
fn a_folder_that_is_only_read_stays_as_it_is() {
    or_skip!(Debian::find());
    for machine in [MACHINES[0], MACHINES[2]] {
        let shared = Shared::new();
        let bytes = shared.noise("in", 100_000);
        fs::copy(shared.path("in"), shared.path("same")).unwrap();
        shared.does(machine, ":ro", "read_only");
        assert!(fs::read(shared.path("in")).unwrap() == bytes);
        assert_eq!(fs::read_dir(shared.path("")).unwrap().count(), 2);
    }
}

#[test]
fn a_device_is_unbound_and_bound_a_hundred_times() {
    or_skip!(Debian::find());
    for machine in [MACHINES[0], MACHINES[3]] {
        let shared = Shared::new();
        shared.noise("in", 10_000);
        fs::copy(shared.path("in"), shared.path("same")).unwrap();
        shared.does(machine, "", "rebind");
    }
}

#[test]
fn many_processes_at_once_find_what_they_wrote() {
    or_skip!(Debian::find());
    for machine in [MACHINES[1], MACHINES[3]] {
        let shared = Shared::new();
        let finished = shared.does(machine, "", "at_once");
        assert_eq!(values(finished.text(), "ended").len(), 8, "{finished}");
        assert_eq!(number(finished.text(), "done"), 40, "{finished}");
        assert_eq!(fs::read_dir(shared.path("")).unwrap().count(), 40);
    }
}
