//! Runs tests in machines that boot for them: several at once, each again after a test that took it
//! down, and one more for tests whose failure nobody can repeat.

use crate::guest::Guest;
use crate::protocol::{Job, Outcome, Plan, Report};
use crate::results::{Verdict, judge};
use crate::skips::Skips;
use crate::tally::Tally;
use std::collections::BTreeSet;
use std::iter;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// Machines at once. Each has one CPU and takes one of the host's.
const MACHINES: usize = 2;

/// One boot of each should do; each of the others follows a test that took the machine down, or an emulator that
/// stood still, whose test begins again.
const BOOTS: usize = 6;

/// How many tests may fail and then pass: what the emulator (an interrupt delivered twice, guest.rs), or
/// a host with other work, is to blame for. More are a fault of ours.
const DOUBTFUL: usize = 3;

/// How often a test that failed has to pass after all, in another boot.
const REPEATS: usize = 2;

/// Tests, the files they need, and where to say how they went.
#[derive(Debug)]
pub(crate) struct Boots<'a> {
    files: &'a [PathBuf],
    skips: &'a Skips,
    tally: Mutex<&'a mut Tally>,
}

impl<'a> Boots<'a> {
    pub(crate) fn new(files: &'a [PathBuf], skips: &'a Skips, tally: &'a mut Tally) -> Self {
        Self { files, skips, tally: Mutex::new(tally) }
    }

    /// Runs all `jobs` in machines like `guest`.
    pub(crate) fn run(&self, guest: &Guest<'_>, jobs: Vec<Job>) {
        let failed = thread::scope(|scope| {
            let deal = dealt(jobs).into_iter().enumerate();
            let start = |(number, jobs)| {
                scope.spawn(move || self.until_done(&Guest { number, ..*guest }, jobs))
            };
            let machines: Vec<_> = deal.map(start).collect();
            let end = |machine: thread::ScopedJoinHandle<'_, Vec<Job>>| match machine.join() {
                Ok(failed) => failed,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            machines.into_iter().flat_map(end).collect::<Vec<_>>()
        });
        if !failed.is_empty() {
            self.repeat(guest, &failed);
        }
    }

    fn tally(&self) -> MutexGuard<'_, &'a mut Tally> {
        // A thread that panicked takes the lab with it: what it left unsaid is not said elsewhere.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Boots until every job has run, or too often. Gives those that failed.
    fn until_done(&self, guest: &Guest<'_>, mut jobs: Vec<Job>) -> Vec<Job> {
        let mut failed = Vec::new();
        for boot in 0..BOOTS {
            if boot > 0 {
                println!("lab: booting again for the other {} tests", jobs.len());
            }
            let (missing, may_go_on) = self.once(guest, jobs, &mut failed);
            jobs = missing;
            if jobs.is_empty() || !may_go_on {
                break;
            }
        }
        for job in jobs {
            let mut tally = self.tally();
            tally.failed(&job.name, "missing: the lab did not report it");
            tally.broken = true;
        }
        failed
    }

    /// One boot. Gives the jobs that it did not come to, and whether another boot may.
    fn once(&self, guest: &Guest<'_>, jobs: Vec<Job>, failed: &mut Vec<Job>) -> (Vec<Job>, bool) {
        let plan = Plan { jobs };
        let mut reported = BTreeSet::new();
        let mut started = None;
        let result = guest.run(&plan, self.files, |report| match report {
            Report::Started { job } => started = Some(*job),
            Report::Finished { job, outcome } if reported.insert(*job) => {
                if let Some(spec) = plan.jobs.get(*job)
                    && self.report(spec, outcome)
                {
                    failed.push(spec.clone());
                }
            }
            Report::Broken { .. } | Report::Finished { .. } | Report::Done => {}
        });
        let stood_still = result.as_ref().is_err_and(|failure| failure.stood_still);
        let fatal = started.filter(|job| !reported.contains(job) && !stood_still);
        let mut missing = Vec::new();
        for (index, job) in plan.jobs.into_iter().enumerate() {
            if Some(index) == fatal {
                self.tally().failed(&job.name, "took the machine down, see below");
                failed.push(job);
            } else if !reported.contains(&index) {
                missing.push(job);
            }
        }
        if let Err(failure) = result {
            println!("lab: {}", failure.why);
            self.tally().broken |= fatal.is_none() && !stood_still;
        }
        (missing, fatal.is_some() || stood_still)
    }

    /// Says how a test went. Gives whether it failed.
    fn report(&self, job: &Job, outcome: &Outcome) -> bool {
        let verdict = judge(outcome, self.skips.of(&job.name));
        self.tally().test(&job.name, &verdict, outcome);
        matches!(verdict, Verdict::Failed(_))
    }

    /// Runs each of a few failed tests again. The failure of one that now passes every time is
    /// taken back, with a word about it.
    fn repeat(&self, guest: &Guest<'_>, failed: &[Job]) {
        if failed.len() > DOUBTFUL {
            println!("lab: {} tests failed, too many to doubt it", failed.len());
            return;
        }
        println!("lab: booting again to repeat what failed, {REPEATS} times each");
        let again = failed.iter().flat_map(|job| iter::repeat_n(job.clone(), REPEATS));
        let plan = Plan { jobs: again.collect() };
        let mut passed = Vec::new();
        for _ in 0..BOOTS {
            passed.clear();
            let result = guest.run(&plan, self.files, |report| {
                if let Report::Finished { job, outcome } = report
                    && let Some(spec) = plan.jobs.get(*job)
                {
                    match judge(outcome, self.skips.of(&spec.name)) {
                        Verdict::Passed => passed.push(spec.name.clone()),
                        Verdict::Skipped(_) => {}
                        Verdict::Failed(why) => println!("lab: {} failed again: {why}", spec.name),
                    }
                }
            });
            let Err(failure) = result else { break };
            println!("lab: {}", failure.why);
            if !failure.stood_still {
                break;
            }
        }
        for job in failed {
            if passed.iter().filter(|name| **name == job.name).count() == REPEATS {
                self.tally().take_back(&job.name, REPEATS);
            }
        }
    }
}

/// The jobs for each machine, in their order: neighbours take about as long, so every machine gets
/// every other one.
fn dealt(jobs: Vec<Job>) -> Vec<Vec<Job>> {
    let machines = MACHINES.min(jobs.len());
    let mut deal = vec![Vec::new(); machines];
    for (hand, job) in (0..machines).cycle().zip(jobs) {
        deal[hand].push(job);
    }
    deal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_is_dealt_to_one_machine_and_none_boots_for_nothing() {
        let job = |name: &str| Job {
            name: name.to_owned(),
            program: "/t".into(),
            arguments: Vec::new(),
            directory: "/".into(),
            environment: Vec::new(),
            deadline: 1,
        };
        let names = |jobs: &Vec<Job>| jobs.iter().map(|job| job.name.clone()).collect::<Vec<_>>();
        let deal = |of: &[&str]| dealt(of.iter().map(|name| job(name)).collect());
        let hands: Vec<_> = deal(&["a", "b", "c"]).iter().map(names).collect();
        assert_eq!(hands, [vec!["a", "c"], vec!["b"]]);
        assert_eq!(deal(&["a"]).len(), 1);
        assert!(deal(&[]).is_empty());
    }
}
