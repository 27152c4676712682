//! Numbers that must not grow: the size of what ships, and the instructions it takes to start.

use crate::command::Result;
use crate::guest::Guest;
use crate::protocol::{End, Job, Outcome, Plan, Report};
use std::fs;
use std::path::Path;

/// Bytes of the stripped static program. People copy it to machines and into containers; what a
/// dependency adds is easily tens of kilobytes and never seen in a review. Raise this for something
/// a user asked for, not for a convenience of ours.
const SIZE_LIMIT: u64 = 3_900_000;

/// User and system instructions of `runner hello`, from exec to exit. The smallest program that
/// boots a guest on the same KVM takes 1.5 million, nearly all of them the kernel's; the rest is
/// ours. A start that reads, zeroes or waits for more than it needs shows here, repeatable to a
/// fraction of a percent, where times drown in noise.
const INSTRUCTION_LIMIT: u64 = 3_900_000;

/// The first run warms the page cache, and a median wants a middle.
const RUNS: usize = 7;

/// What was measured, or why it will not do.
pub(crate) type Measured = Result<String>;

/// A limit that the lab enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Size,
    Instructions,
}

impl Gate {
    pub(crate) const ALL: [Self; 2] = [Self::Size, Self::Instructions];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Size => "gate::size_of_the_static_runner",
            Self::Instructions => "gate::instructions_of_runner_hello",
        }
    }

    /// Measures `runner`, booting `counting` where that takes a machine that counts instructions.
    pub(crate) fn check(self, runner: &Path, counting: &Guest<'_>) -> Measured {
        let (value, limit, unit) = match self {
            Self::Size => {
                let metadata = fs::metadata(runner)
                    .map_err(|e| format!("cannot read {}: {e}", runner.display()))?;
                (metadata.len(), SIZE_LIMIT, "bytes")
            }
            Self::Instructions => {
                (instructions(runner, counting)?, INSTRUCTION_LIMIT, "instructions")
            }
        };
        if value <= limit {
            Ok(format!("{value} {unit}, limit {limit}"))
        } else {
            Err(format!("{value} {unit}, limit {limit}"))
        }
    }
}

/// The median over some runs of user and system time, at one instruction per nanosecond.
fn instructions(runner: &Path, counting: &Guest<'_>) -> Result<u64> {
    let job = |run: usize| Job {
        name: format!("run {run}"),
        program: runner.to_owned(),
        arguments: vec!["hello".to_owned()],
        directory: "/".into(),
        environment: Vec::new(),
        deadline: 60,
    };
    // Being the first user of KVM is part of a start.
    let plan = Plan { jobs: (0..RUNS).map(job).collect(), hold_kvm: false };
    let mut outcomes = Vec::new();
    counting.run(&plan, &[runner.to_owned()], |report| {
        if let Report::Finished { outcome, .. } = report {
            outcomes.push(outcome.clone());
        }
    })?;
    median(&outcomes)
}

fn median(outcomes: &[Outcome]) -> Result<u64> {
    let mut figures = Vec::new();
    for outcome in outcomes {
        if outcome.end != End::Exited(0) || outcome.output.is_empty() {
            return Err(format!(
                "`runner hello` should greet and end with status 0; it ended {:?} and wrote {:?}",
                outcome.end, outcome.output
            ));
        }
        figures.push(outcome.cpu_microseconds.saturating_mul(1000));
    }
    figures.sort_unstable();
    match figures.get(figures.len() / 2) {
        Some(&figure) if figures.len() == RUNS => Ok(figure),
        _ => Err(format!("{} runs of {RUNS} were reported", figures.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(end: End, output: &str, cpu_microseconds: u64) -> Outcome {
        let output = output.to_owned();
        Outcome { end, skips: Vec::new(), output, milliseconds: 0, cpu_microseconds }
    }

    #[test]
    fn the_median_ignores_a_cold_first_run() {
        let times = [9000, 1462, 1461, 1463, 1460, 1465, 1464];
        let outcomes = times.map(|time| outcome(End::Exited(0), "hello\n", time));
        assert_eq!(median(&outcomes).unwrap(), 1_463_000);
    }

    #[test]
    fn a_run_that_greets_nobody_is_not_measured() {
        let silent = outcome(End::Exited(0), "", 10);
        assert!(median(&[silent]).unwrap_err().contains("greet"));
        let failed = outcome(End::Exited(125), "no /dev/kvm", 10);
        assert!(median(&[failed]).unwrap_err().contains("125"));
    }

    #[test]
    fn missing_runs_are_noticed() {
        let outcomes = [outcome(End::Exited(0), "hello\n", 10)];
        assert!(median(&outcomes).unwrap_err().contains("1 runs of 7"));
    }
}
