//! Numbers that must not grow: the size of what ships, and the instructions it takes to start.

use crate::command::Result;
use crate::guest::{Clock, Guest};
use crate::linux::Guests;
use crate::protocol::{End, Job, Outcome, Plan, Report};
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of the stripped static program. People copy it to machines and into containers; what a
/// dependency adds is easily tens of kilobytes and never seen in a review. Raise this for something
/// a user asked for, not for a convenience of ours.
const SIZE_LIMIT: u64 = 3_900_000;

/// User and system instructions of `runner hello`, from exec to exit. The smallest program that
/// boots a guest on the same KVM takes 1.5 million, nearly all of them the kernel's; the rest is
/// ours. A start that reads, zeroes or waits for more than it needs shows here, repeatable to a
/// fraction of a percent, where times drown in noise.
const INSTRUCTION_LIMIT: u64 = 3_900_000;

/// The same of Debian's kernel, by its PVH entry, to an /init that does nothing but end the machine:
/// 128 MiB, one CPU. 1.01 times what Firecracker 1.17 took for that kernel in this lab, 1325.8
/// million. Nearly all of it is the guest's: what we do to it shows here, a slow exit, a feature or a
/// clock that is missing.
const LINUX_LIMIT: u64 = 1_339_000_000;

/// What the kernel is told; its /init is `outb`, and writes the status of the run. `no-kvmapf`: the
/// interrupt that begins asynchronous page faults goes through 256 locks, and QEMU may deliver it twice
/// (see guest.rs), always at the same instruction when instructions are its clock: half of the boots
/// hung there.
const LINUX_WORDS: &str = "console=ttyS0 quiet panic=-1 no-kvmapf -- 1281 7";

/// The first run warms the page cache, and a median wants a middle. A boot of Linux takes long, and
/// its figure is the same to 0.05 % each time.
const RUNS: usize = 7;
const LINUX_RUNS: usize = 3;

/// What was measured, or why it will not do.
pub(crate) type Measured = Result<String>;

/// A limit that the lab enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Size,
    Instructions,
    Linux,
}

impl Gate {
    pub(crate) const ALL: [Self; 3] = [Self::Size, Self::Instructions, Self::Linux];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Size => "gate::size_of_the_static_runner",
            Self::Instructions => "gate::instructions_of_runner_hello",
            Self::Linux => "gate::instructions_of_linux_to_init",
        }
    }

    /// How the machine that it is measured in counts. A guest that uses all its memory shows what pages
    /// of 2 MiB save; beside it the chance of finding one is nothing.
    pub(crate) fn clock(self) -> Clock {
        Clock::Instructions { huge_pages: self == Self::Linux }
    }

    /// Measures `runner`, booting `counting` where that takes a machine that counts instructions.
    pub(crate) fn check(self, runner: &Path, guests: &Guests, counting: &Guest<'_>) -> Measured {
        let (value, limit, unit) = match self {
            Self::Size => {
                let metadata = fs::metadata(runner)
                    .map_err(|e| format!("cannot read {}: {e}", runner.display()))?;
                (metadata.len(), SIZE_LIMIT, "bytes")
            }
            Self::Instructions => {
                let hello = Start {
                    words: vec!["hello".into()],
                    says: "Hello",
                    status: 0,
                    files: vec![],
                    runs: RUNS,
                };
                (hello.instructions(runner, counting)?, INSTRUCTION_LIMIT, "instructions")
            }
            Self::Linux => {
                (linux(guests).instructions(runner, counting)?, LINUX_LIMIT, "instructions")
            }
        };
        if value <= limit {
            Ok(format!("{value} {unit}, limit {limit}"))
        } else {
            Err(format!("{value} {unit}, limit {limit}"))
        }
    }
}

fn linux(guests: &Guests) -> Start {
    let (kernel, initrd) = (guests.folder.join("vmlinux"), guests.folder.join("tiny"));
    let text = |path: &Path| path.display().to_string();
    let words = ["-m", "128M", "--append", LINUX_WORDS, "--initrd", &text(&initrd), &text(&kernel)];
    Start {
        words: words.map(str::to_owned).into(),
        says: "",
        status: 7,
        files: vec![kernel, initrd],
        runs: LINUX_RUNS,
    }
}

/// A run of `runner` that is measured.
#[derive(Debug)]
struct Start {
    words: Vec<String>,
    /// What is in its output.
    says: &'static str,
    /// What it ends with when the guest has come to its end.
    status: i32,
    /// What it reads.
    files: Vec<PathBuf>,
    runs: usize,
}

impl Start {
    /// The median over some runs of user and system time, at one instruction per nanosecond.
    fn instructions(&self, runner: &Path, counting: &Guest<'_>) -> Result<u64> {
        let job = |run: usize| Job {
            name: format!("run {run}"),
            program: runner.to_owned(),
            arguments: self.words.clone(),
            directory: "/".into(),
            environment: Vec::new(),
            deadline: 120,
        };
        let plan = Plan { jobs: (0..self.runs).map(job).collect() };
        let files: Vec<_> = self.files.iter().cloned().chain([runner.to_owned()]).collect();
        let boot = || {
            let mut outcomes = Vec::new();
            counting.run(&plan, &files, |report| {
                if let Report::Finished { outcome, .. } = report {
                    outcomes.push(outcome.clone());
                }
            })?;
            self.median(&outcomes)
        };
        // The emulator's fault, most likely: a figure that is too high is not asked for again.
        boot().or_else(|why| {
            println!("lab: {why}\nlab: booting again to measure");
            boot()
        })
    }

    fn median(&self, outcomes: &[Outcome]) -> Result<u64> {
        let mut figures = Vec::new();
        for outcome in outcomes {
            if outcome.end != End::Exited(self.status) || !outcome.output.contains(self.says) {
                return Err(format!(
                    "`runner {}` should say {:?} and end with status {}; it ended {:?} and wrote {:?}",
                    self.words.join(" "),
                    self.says,
                    self.status,
                    outcome.end,
                    outcome.output
                ));
            }
            figures.push(outcome.cpu_microseconds.saturating_mul(1000));
        }
        figures.sort_unstable();
        match figures.get(figures.len() / 2) {
            Some(&figure) if figures.len() == self.runs => Ok(figure),
            _ => Err(format!("{} runs of {} were reported", figures.len(), self.runs)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(end: End, output: &str, cpu_microseconds: u64) -> Outcome {
        let output = output.to_owned();
        Outcome { end, skips: Vec::new(), output, milliseconds: 0, cpu_microseconds }
    }

    fn hello() -> Start {
        let words = vec!["hello".to_owned()];
        Start { words, says: "Hello", status: 0, files: Vec::new(), runs: RUNS }
    }

    #[test]
    fn the_median_ignores_a_cold_first_run() {
        let times = [9000, 1462, 1461, 1463, 1460, 1465, 1464];
        let outcomes = times.map(|time| outcome(End::Exited(0), "Hello!\n", time));
        assert_eq!(hello().median(&outcomes).unwrap(), 1_463_000);
    }

    #[test]
    fn a_run_that_greets_nobody_is_not_measured() {
        let silent = outcome(End::Exited(0), "", 10);
        assert!(hello().median(&[silent]).unwrap_err().contains("Hello"));
        let failed = outcome(End::Exited(125), "no /dev/kvm", 10);
        assert!(hello().median(&[failed]).unwrap_err().contains("125"));
    }

    #[test]
    fn missing_runs_are_noticed() {
        let outcomes = [outcome(End::Exited(0), "Hello!\n", 10)];
        assert!(hello().median(&outcomes).unwrap_err().contains("1 runs of 7"));
    }
}
