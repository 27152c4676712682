//! A file system on our disk, and a `runner` that is killed at any moment: what the guest was told
//! is on the disk is there.

use std::env;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::super::support::files::Folder;
use super::super::support::or_skip;
use super::{Debian, Kernel};

/// How often it is killed, by two guests at once; another number in RUNNER_LAB_ROUNDS, which the lab's
/// soak sets.
const ROUNDS: u32 = 20;

#[test]
fn what_linux_has_synced_outlives_a_runner_that_is_killed_at_any_moment() {
    let debian = or_skip!(Debian::find());
    let rounds = env::var("RUNNER_LAB_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let folder = Folder::new();
    let chain = |name: &str, rounds| {
        let disk = folder.path().join(name);
        debian.make_ext4(&disk);
        Chain { debian: &debian, disk, from: 1, to: 0, seed: std::process::id() }.kill(rounds)
    };
    let (files, more) = thread::scope(|scope| {
        let first = scope.spawn(|| chain("a.img", rounds.div_ceil(2)));
        let second = chain("b.img", rounds / 2);
        (first.join().unwrap(), second)
    });
    println!(
        "measured: killed {rounds} times, found all of {} files that were synced",
        files + more
    );
}

/// One disk through all its rounds.
struct Chain<'a> {
    debian: &'a Debian,
    disk: PathBuf,
    /// Files that the guest has said are synced: `from` to `to`.
    from: u64,
    to: u64,
    seed: u32,
}

impl Chain<'_> {
    /// Kills that many times; how many files were synced.
    fn kill(mut self, rounds: u32) -> u64 {
        for round in 0..rounds {
            self.round(round);
            if let Err(why) = self.debian.check_ext4(&self.disk) {
                panic!("round {round} of {}: {why}", self.disk.display());
            }
        }
        // Once more, to find the last ones.
        self.round(rounds);
        self.to
    }

    fn round(&mut self, round: u32) {
        let kernel = if round.is_multiple_of(2) { Kernel::BzImage } else { Kernel::Pvh };
        let disk = self.disk.display().to_string();
        let job = format!("disk {} {}", self.from, self.to);
        // Linux needs some 100 MiB; a small one starts faster.
        let mut running = self.debian.boot(kernel, &["-m", "192", "--disk", &disk], &job).start();
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
