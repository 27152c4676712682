//! Numbers that must not grow: the size of what ships, and the instructions it takes to start.

use crate::command::Result;
use crate::guest::{Clock, Guest};
use crate::linux::Guests;
use crate::protocol::{End, Job, Outcome, Plan, Report};
use crate::workspace::Workspace;
use std::fs;
use std::path::{Path, PathBuf};

/// The first run warms the page cache, and a median wants a middle. A boot of Linux takes long, and
/// its figure is the same to 0.05 % each time.
const RUNS: usize = 7;
const LINUX_RUNS: usize = 3;
const FAMILY_RUNS: usize = 5;

/// What was measured, or why it will not do.
pub(crate) type Measured = Result<String>;

/// A limit that the lab enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Bytes of the stripped static program.
    Size { limit: u64 },
    /// User and system instructions of `runner hello`, from exec to exit. A start that reads, zeroes or
    /// waits for more than it needs shows here, repeatable to a fraction of a percent, where times drown
    /// in noise.
    Hello { limit: u64 },
    /// The same of the smallest guest of each family, as far as what it says goes: none may cost more than a
    /// tenth above hello in the same boot, whatever protocol enters it and whatever it needs of old hardware.
    Families(&'static [Family]),
    /// The same of Debian's kernel, to an /init that does nothing but end the machine: 128 MiB, one CPU.
    /// Nearly all of it is the guest's: what we do to it shows here, a slow exit, a feature or a clock
    /// that is missing.
    Linux { limit: u64, start: LinuxStart },
}

/// A guest that stands for its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Family {
    /// The family, for the figures.
    pub(crate) name: &'static str,
    /// Its file, in `tests/guests`.
    pub(crate) kernel: &'static str,
    /// Its ram disk, there as well.
    pub(crate) initrd: Option<&'static str>,
    /// What is in its output.
    pub(crate) says: &'static str,
}

/// How that kernel is started, and how it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinuxStart {
    /// Its name in the folder of guests.
    pub(crate) kernel: &'static str,
    /// What it is told.
    pub(crate) words: &'static str,
    /// The status of the run.
    pub(crate) status: i32,
}

impl Gate {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Size { .. } => "gate::size_of_the_static_runner",
            Self::Hello { .. } => "gate::instructions_of_runner_hello",
            Self::Families(_) => "gate::instructions_of_a_guest_of_each_family",
            Self::Linux { .. } => "gate::instructions_of_linux_to_init",
        }
    }

    /// How the machine that it is measured in counts. A guest that uses all its memory shows what pages
    /// of 2 MiB save; beside it the chance of finding one is nothing.
    pub(crate) fn clock(self) -> Clock {
        Clock::Instructions { huge_pages: matches!(self, Self::Linux { .. }) }
    }

    /// Measures `runner`, booting `counting` where that takes a machine that counts instructions.
    pub(crate) fn check(self, runner: &Path, guests: &Guests, counting: &Guest<'_>) -> Measured {
        let (value, limit, unit) = match self {
            Self::Size { limit } => {
                let metadata = fs::metadata(runner)
                    .map_err(|e| format!("cannot read {}: {e}", runner.display()))?;
                (metadata.len(), limit, "bytes")
            }
            Self::Hello { limit } => {
                (Start::hello(RUNS).instructions(runner, counting)?, limit, "instructions")
            }
            Self::Families(families) => return check_families(families, runner, counting),
            Self::Linux { limit, start } => {
                (start.of(guests).instructions(runner, counting)?, limit, "instructions")
            }
        };
        if value <= limit {
            Ok(format!("{value} {unit}, limit {limit}"))
        } else {
            Err(format!("{value} {unit}, limit {limit}"))
        }
    }
}

/// Measures hello and each family, in one boot of the machine.
fn check_families(families: &[Family], runner: &Path, counting: &Guest<'_>) -> Measured {
    let folder = Workspace::find()?.root.join("tests/guests");
    let start = |family: &Family| {
        let kernel = folder.join(family.kernel);
        let initrd = family.initrd.map(|initrd| folder.join(initrd));
        let mut words = vec![kernel.display().to_string()];
        words.extend(initrd.iter().map(|initrd| format!("--initrd={}", initrd.display())));
        Start {
            words,
            says: family.says,
            status: 0,
            files: [kernel].into_iter().chain(initrd).collect(),
            runs: FAMILY_RUNS,
        }
    };
    let hello = Start::hello(FAMILY_RUNS);
    let starts: Vec<_> = [hello].into_iter().chain(families.iter().map(start)).collect();
    let figures = instructions(&starts, runner, counting)?;
    let [hello, figures @ ..] = figures.as_slice() else {
        return Err("nothing was measured".to_owned());
    };
    let limit = hello + hello / 10;
    let named = families.iter().zip(figures);
    let text: Vec<_> = named.map(|(family, figure)| format!("{} {figure}", family.name)).collect();
    let text =
        format!("{} instructions, limit {limit}: hello's {hello} and a tenth", text.join(", "));
    if figures.iter().all(|figure| *figure <= limit) { Ok(text) } else { Err(text) }
}

impl LinuxStart {
    fn of(self, guests: &Guests) -> Start {
        let (kernel, initrd) = (guests.folder.join(self.kernel), guests.folder.join("tiny"));
        let text = |path: &Path| path.display().to_string();
        let words =
            ["-m", "128M", "--append", self.words, "--initrd", &text(&initrd), &text(&kernel)];
        Start {
            words: words.map(str::to_owned).into(),
            says: "",
            status: self.status,
            files: vec![kernel, initrd],
            runs: LINUX_RUNS,
        }
    }
}

/// What [`Start::instructions`] says of each of these, in one boot.
fn instructions(starts: &[Start], runner: &Path, counting: &Guest<'_>) -> Result<Vec<u64>> {
    let plan = Plan { jobs: starts.iter().flat_map(|start| start.jobs(runner)).collect() };
    let files = starts.iter().flat_map(|start| start.files.iter().cloned());
    let files: Vec<_> = files.chain([runner.to_owned()]).collect();
    let boot = || {
        let mut outcomes = Vec::new();
        counting.run(&plan, &files, |report| {
            if let Report::Finished { outcome, .. } = report {
                outcomes.push(outcome.clone());
            }
        })?;
        let mut rest = outcomes.as_slice();
        let median = |start: &Start| {
            let (own, behind) = rest.split_at(start.runs.min(rest.len()));
            rest = behind;
            start.median(own)
        };
        starts.iter().map(median).collect::<Result<Vec<_>>>()
    };
    // The emulator's fault, most likely: a figure that is too high is not asked for again.
    boot().or_else(|why| {
        println!("lab: {why}\nlab: booting again to measure");
        boot()
    })
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
    /// The built-in guest's.
    fn hello(runs: usize) -> Self {
        Self { words: vec!["hello".into()], says: "Hello", status: 0, files: vec![], runs }
    }

    /// The median over some runs of user and system time, at one instruction per nanosecond.
    fn instructions(&self, runner: &Path, counting: &Guest<'_>) -> Result<u64> {
        let figures = instructions(std::slice::from_ref(self), runner, counting)?;
        figures.first().copied().ok_or_else(|| "nothing was measured".to_owned())
    }

    fn jobs(&self, runner: &Path) -> impl Iterator<Item = Job> {
        let job = |run: usize| Job {
            name: format!("{} run {run}", self.words.join(" ")),
            program: runner.to_owned(),
            arguments: self.words.clone(),
            directory: "/".into(),
            environment: Vec::new(),
            deadline: 120,
        };
        (0..self.runs).map(job)
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
        println!("lab: `runner {}` took {figures:?} instructions", self.words.join(" "));
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
