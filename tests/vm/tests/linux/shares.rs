//! A folder of the host's in a Linux: Debian's kernel for any machine, as its kernel for virtual ones
//! has no 9P.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::super::support::files::Folder;
use super::super::support::or_skip;
use super::super::support::program::Finished;
use super::{Debian, number, quietly, values};

/// A machine, and what is done in it: Linux takes a third of the time, and boots once for all of that.
struct Machine {
    bus: &'static str,
    cpus: &'static str,
    /// How files are cached.
    cache: &'static str,
    /// What tests/vm/data/linux/share.sh does.
    jobs: &'static [Job],
}

/// One of those.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Job {
    /// A file goes through the guest and back.
    Copy,
    /// Files are made, moved, linked and removed.
    Files,
    /// Ten thousand names are listed.
    Names,
    /// A share that is only read stays as it is.
    ReadOnly,
    /// The driver gives the device up and takes it again, a hundred times.
    Rebind,
    /// Many processes write at once.
    AtOnce,
}

impl Job {
    fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Files => "files",
            Self::Names => "names",
            Self::ReadOnly => "read_only",
            Self::Rebind => "rebind",
            Self::AtOnce => "at_once",
        }
    }
}

/// A folder that everybody may write: root becomes nobody.
pub(super) struct Shared(Folder);

impl Shared {
    /// With what the guest finds there.
    pub(super) fn new(jobs: &[Job]) -> Self {
        let shared = Self(Folder::new());
        shared.file("copy/in", &noise(2_000_000));
        shared.file("files/.keep", b"");
        shared.file("at_once/.keep", b"");
        for name in ["same/in", "same/same"] {
            shared.file(name, &noise(10_000));
        }
        if jobs.contains(&Job::Names) {
            for n in 0..10_000 {
                shared.0.file(&format!("many/a name that is not short, number {n}"), "");
            }
        }
        for folder in ["", "copy", "files", "at_once"] {
            shared.0.mode(folder, 0o777);
        }
        shared
    }

    /// For runner.
    pub(super) fn option(&self) -> String {
        format!("--share={}:data", self.0.path().display())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        self.0.file(name, bytes);
    }

    /// The names in a folder, but those that keep it.
    fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.path(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != ".keep")
            .collect();
        names.sort();
        names
    }

    /// Looks at what a job has left, and has said.
    pub(super) fn check(&self, job: Job, finished: &Finished) {
        let text = finished.text();
        match job {
            Job::Copy => {
                let bytes = fs::read(self.path("copy/in")).unwrap();
                assert!(fs::read(self.path("copy/out")).unwrap() == bytes);
                let pieces = fs::read(self.path("copy/pieces")).unwrap();
                assert!(pieces[5 * 1001..] == bytes[3 * 1001..]);
                assert!(pieces[..5 * 1001].iter().all(|byte| *byte == 0));
            }
            Job::Files => {
                let hard = fs::metadata(self.path("files/hard")).unwrap();
                assert_eq!((hard.len(), hard.mode() & 0o7777, hard.nlink()), (3, 0o640, 2));
                let link = fs::read_link(self.path("files/soft")).unwrap();
                assert_eq!(link, PathBuf::from("x/c/file"));
                assert_eq!(self.names("files"), ["hard", "soft", "up", "x"]);
            }
            Job::Names => {
                assert_eq!(number(text, "names"), 10_000, "{finished}");
                assert_eq!(number(text, "made"), 60, "{finished}");
                assert!(!self.path("more").exists());
            }
            Job::AtOnce => {
                assert_eq!(values(text, "ended").len(), 8, "{finished}");
                assert_eq!(number(text, "done"), 40, "{finished}");
                assert_eq!(self.names("at_once").len(), 40);
            }
            Job::ReadOnly | Job::Rebind => {}
        }
    }
}

/// Bytes of no pattern.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len / 8).flat_map(|_| next()).collect()
}

/// Boots `machine` with a folder to write and one that is only read, for jobs that have to be done without a
/// word of runner's.
fn all_is_done_in(machine: &Machine) {
    let debian = or_skip!(Debian::find());
    let Machine { bus, cpus, cache, jobs } = machine;
    let shared = Shared::new(jobs);
    let only_read = Folder::new();
    for name in ["in", "same"] {
        only_read.file(name, noise(100_000));
    }
    // Whoever may write it, may not by this share.
    only_read.mode("", 0o777);
    let share = shared.option();
    let read = format!("--share={}:only:ro", only_read.path().display());
    let virtio = format!("--virtio={bus}");
    let args = ["-m", "384", "--cpus", cpus, &virtio, &share, &read];
    let names: Vec<_> = jobs.iter().map(|job| job.name()).collect();
    let job = format!("share {cache} {}", names.join(" "));
    let finished = quietly(debian.boot_general(&args, &job).run());
    assert_eq!(values(finished.text(), "done with"), names, "{finished}");
    for job in *jobs {
        shared.check(*job, &finished);
    }
    assert!(fs::read(only_read.path().join("in")).unwrap() == noise(100_000));
    assert_eq!(fs::read_dir(only_read.path()).unwrap().count(), 2);
}

#[test]
fn a_folder_is_shared_over_mmio_with_one_processor() {
    let jobs = &[Job::Copy, Job::Names, Job::ReadOnly, Job::Rebind];
    all_is_done_in(&Machine { bus: "mmio", cpus: "1", cache: "cache=none", jobs });
}

#[test]
fn a_folder_is_shared_over_mmio_with_four_processors() {
    let jobs = &[Job::Copy, Job::Files, Job::AtOnce];
    all_is_done_in(&Machine { bus: "mmio", cpus: "4", cache: "cache=loose", jobs });
}

#[test]
fn a_folder_is_shared_over_pci_with_one_processor() {
    let jobs = &[Job::Copy, Job::Names, Job::ReadOnly, Job::Rebind];
    all_is_done_in(&Machine { bus: "pci", cpus: "1", cache: "cache=loose", jobs });
}

#[test]
fn a_folder_is_shared_over_pci_with_four_processors() {
    let jobs = &[Job::Copy, Job::Files, Job::AtOnce];
    all_is_done_in(&Machine { bus: "pci", cpus: "4", cache: "cache=none", jobs });
}
