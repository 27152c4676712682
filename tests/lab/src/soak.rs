//! `lab soak`: what a test does a few times, many times over. Each line is printed as it comes, and
//! the last one says how often it was done.

use crate::architecture::X86_64;
use crate::command::Result;
use crate::guest::Clock;
use crate::lab::Lab;
use crate::protocol::{Job, Plan, Report};
use crate::results::{Verdict, judge, measured};
use std::time::{Duration, Instant};

/// What can be soaked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum What {
    Disk,
    Net,
}

impl What {
    /// The test, which does it as often as RUNNER_LAB_ROUNDS says.
    fn test(self) -> &'static str {
        match self {
            Self::Disk => {
                "runner/vm::linux::disk::what_linux_has_synced_outlives_a_runner_that_is_killed_at_any_moment"
            }
            // A round is a thousand connections at once and two thousand in a row, half of them each way.
            Self::Net => {
                "runner/vm::linux::net::connections::a_thousand_connections_at_once_and_two_thousand_in_a_row_leave_nothing_behind"
            }
        }
    }
}

/// How often one run of the test does it: what fails names this many rounds, and loses them.
const AT_ONCE: u32 = 50;

/// What a round may take at most, on a machine with other work.
const ROUND: Duration = Duration::from_secs(90);

/// Does it `rounds` times, and fails if any of them did.
pub(crate) fn run(what: What, rounds: u32) -> Result<()> {
    let lab = Lab::prepare(&X86_64)?;
    let plan = plan(lab.job(what.test())?, rounds);
    let files = lab.files(&plan)?;
    let begin = Instant::now();
    let (mut passed, mut failed) = (0, Vec::new());
    let time = ROUND.saturating_mul(rounds);
    let result = lab.guest(Clock::Host, time).run(&plan, &files, |report| {
        let Report::Finished { job, outcome } = report else { return };
        let Some(job) = plan.jobs.get(*job) else { return };
        let seconds = begin.elapsed().as_secs();
        match judge(outcome, None) {
            Verdict::Passed => {
                passed += rounds_of(job);
                let said: Vec<_> = measured(&outcome.output).collect();
                println!("{seconds} s, {}: {}", job.name, said.join("; "));
            }
            Verdict::Skipped(why) | Verdict::Failed(why) => {
                println!("{seconds} s, {}: FAILED: {why}\n{}", job.name, outcome.output);
                failed.push(job.name.clone());
            }
        }
    });
    println!("{passed} of {rounds} rounds passed in {} s", begin.elapsed().as_secs());
    result?;
    match failed.is_empty() && passed == rounds {
        true => Ok(()),
        false => Err(format!("failed: {}", failed.join(", "))),
    }
}

/// The test as often as it takes.
fn plan(test: &Job, rounds: u32) -> Plan {
    let mut jobs = Vec::new();
    let mut done = 0;
    while done < rounds {
        let some = AT_ONCE.min(rounds - done);
        let mut job = test.clone();
        job.name = format!("rounds {} to {}", done + 1, done + some);
        job.environment.push((VARIABLE.to_owned(), some.to_string()));
        job.deadline = ROUND.as_secs() * u64::from(some);
        jobs.push(job);
        done += some;
    }
    Plan { jobs }
}

const VARIABLE: &str = "RUNNER_LAB_ROUNDS";

fn rounds_of(job: &Job) -> u32 {
    let value = job.environment.iter().find(|(name, _)| name == VARIABLE);
    value.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_done_fifty_at_a_time_and_none_is_lost() {
        let test = Job {
            name: "t".to_owned(),
            program: "/t".into(),
            arguments: Vec::new(),
            directory: "/".into(),
            environment: Vec::new(),
            deadline: 1,
        };
        let jobs = plan(&test, 120).jobs;
        let rounds: Vec<_> = jobs.iter().map(rounds_of).collect();
        assert_eq!(rounds, [50, 50, 20]);
        assert_eq!(jobs[2].name, "rounds 101 to 120");
        assert!(plan(&test, 0).jobs.is_empty());
    }
}
