//! A file system on our disk, and a `runner` that is killed at any moment: what the guest was told
//! is on the disk is there.

use std::env;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::super::support::files::Folder;
use super::super::support::or_skip;
use super::super::support::program::Silence;
use super::{Debian, Kernel};

/// How often it is killed, by two guests at once: each by every kernel and bus. Another number in
/// RUNNER_LAB_ROUNDS, which the lab's soak sets.
const ROUNDS: u32 = 12;

/// Of so many rounds one may hang before Linux has come to its /init: QEMU 7.2 now and then delivers an
/// interrupt twice (tests/lab/src/guest.rs). None may in the tests' few.
const ROUNDS_PER_HANG: u32 = 50;

#[test]
fn what_linux_has_synced_outlives_a_runner_that_is_killed_at_any_moment() {
    let debian = or_skip!(Debian::find());
    let rounds = env::var("RUNNER_LAB_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let folder = Folder::new();
    let chain = |name: &str, rounds, seed| {
        let disk = folder.path().join(name);
        debian.make_ext4(&disk);
        let mut chain = Chain { debian: &debian, disk, from: 1, to: 0, hung: 0, seed };
        chain.kill(rounds);
        (chain.to, chain.hung)
    };
    let seed = std::process::id();
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| chain("a.img", rounds.div_ceil(2), seed));
        let second = chain("b.img", rounds / 2, !seed);
        (first.join().unwrap(), second)
    });
    let (files, hung) = (first.0 + second.0, first.1 + second.1);
    println!(
        "measured: killed {rounds} times, found all of {files} files that were synced; \
         {hung} times Linux hung before its /init"
    );
    assert!(hung <= rounds / ROUNDS_PER_HANG, "{hung} of {rounds} boots hung");
}

/// One disk through all its rounds.
struct Chain<'a> {
    debian: &'a Debian,
    disk: PathBuf,
    /// Files that the guest has said are synced: `from` to `to`.
    from: u64,
    to: u64,
    /// How many boots hung before they came to the disk.
    hung: u32,
    seed: u32,
}

impl Chain<'_> {
    /// Kills that many times.
    fn kill(&mut self, rounds: u32) {
        for round in 0..rounds {
            self.round(round);
            if let Err(why) = self.debian.check_ext4(&self.disk) {
                panic!("round {round} of {}: {why}", self.disk.display());
            }
        }
        // Once more, to find the last ones.
        self.round(rounds);
    }

    fn round(&mut self, round: u32) {
        let round_of = usize::try_from(round).unwrap();
        let kernel = Kernel::ALL[round_of % Kernel::ALL.len()];
        // Every kernel finds what was written by way of the other bus.
        let bus = ["--virtio=mmio", "--virtio=pci"][round_of / Kernel::ALL.len() % 2];
        let disk = self.disk.display().to_string();
        let job = format!("disk {} {}", self.from, self.to);
        let mut running = loop {
            // Linux needs some 100 MiB; a small one starts faster.
            let mut running =
                self.debian.boot(kernel, &["-m", "192", bus, "--disk", &disk], &job).start();
            match running.says_in_time("begin\r\n") {
                Err(Silence::TimeIsUp) if self.hung < 10 => self.hung += 1,
                _ => break running,
            }
        };
        running.wait_until_it_says("ready\r\n");
        thread::sleep(self.moment());
        running.signal(Signal::KILL);
        let finished = running.finish();
        assert_eq!(finished.status, None, "round {round}: {finished}");
        let printed = finished.quiet_text();
        let found = format!("found {} to {}\r\n", self.from, self.to);
        assert!(printed.contains(&found), "round {round}: {finished}");
        self.from = self.to + 1;
        self.to = last_synced(printed).unwrap_or(self.to);
    }

    /// Up to a second, anywhere in it: xorshift.
    fn moment(&mut self) -> Duration {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 17;
        self.seed ^= self.seed << 5;
        Duration::from_micros(u64::from(self.seed % 1_000_000))
    }
}

/// The last whole line of its kind.
fn last_synced(printed: &str) -> Option<u64> {
    let whole = &printed[..printed.rfind('\n')?];
    let number = |line: &str| line.trim_end().strip_prefix("synced ")?.parse().ok();
    whole.lines().rev().find_map(number)
}

#[test]
fn a_line_that_was_cut_off_is_not_counted() {
    assert_eq!(last_synced("ready\r\nsynced 8\r\nsynced 9\r\nsynced 10"), Some(9));
    assert_eq!(last_synced("ready\r\nsyn"), None);
}
