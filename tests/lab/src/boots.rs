//! Runs tests in machines that boot for them: several at once, each again after a test that took it
//! down, and one more for tests whose failure nobody can repeat.

use crate::command::Result;
use crate::guest::Guest;
use crate::protocol::{Job, Outcome, Plan, Report};
use crate::queue::{Place, Queue};
use crate::results::{Verdict, judge};
use crate::skips::Skips;
use crate::tally::Tally;
use std::cell::Cell;
use std::iter;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

/// Machines at once. Each of the first two takes one of the processors of CI's machine, and each of the second two
/// one of those.
const MACHINES: [Place; 4] = [Place::First, Place::First, Place::Second, Place::Second];

/// One boot of each should do; each of the others follows a test that took the machine down, or an emulator that
/// stood still, whose test begins again.
const BOOTS: usize = 6;

/// How many tests may fail and then pass: what the emulator (an interrupt delivered twice, guest.rs), or
/// a host with other work, is to blame for. More are a fault of ours.
const DOUBTFUL: usize = 3;

/// How often a test that failed has to pass after all, in another boot.
const REPEATS: usize = 2;

/// The files that tests need, and where to say how they went.
#[derive(Debug)]
pub(crate) struct Boots<'a> {
    files: &'a [PathBuf],
    skips: &'a Skips,
    tally: Mutex<&'a mut Tally>,
}

/// Tests, and those of them that no machine has begun.
struct Work {
    plan: Plan,
    initrd: PathBuf,
    waiting: Queue,
}

impl<'a> Boots<'a> {
    pub(crate) fn new(files: &'a [PathBuf], skips: &'a Skips, tally: &'a mut Tally) -> Self {
        Self { files, skips, tally: Mutex::new(tally) }
    }

    /// Runs all `jobs` in machines like `guest`, several at once: whichever has nothing to do takes the next. Who
    /// finds none left does what is `behind` them.
    pub(crate) fn run(
        &self,
        guest: &Guest<'_>,
        jobs: Vec<Job>,
        behind: &(impl Fn(Place) + Sync),
    ) -> Result<()> {
        let waiting = Queue::of(&jobs);
        let plan = Plan { jobs };
        let work = Work { initrd: guest.initrd(&plan, self.files)?, plan, waiting };
        let failed = thread::scope(|scope| {
            let machine = |number, place| {
                let failed = self.until_done(&Guest { number, place, ..*guest }, &work);
                behind(place);
                failed
            };
            let start = |(number, place)| scope.spawn(move || machine(number, place));
            let machines: Vec<_> = MACHINES.into_iter().enumerate().map(start).collect();
            let end = |machine: thread::ScopedJoinHandle<'_, Vec<usize>>| match machine.join() {
                Ok(failed) => failed,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            machines.into_iter().flat_map(end).collect::<Vec<_>>()
        });
        let Plan { jobs } = work.plan;
        for job in work.waiting.rest() {
            let mut tally = self.tally();
            tally.failed(&jobs[job].name, "missing: the lab did not report it");
            tally.broken = true;
        }
        if !failed.is_empty() {
            let failed: Vec<_> = failed.iter().map(|job| jobs[*job].clone()).collect();
            self.repeat(guest, &failed);
        }
        Ok(())
    }

    fn tally(&self) -> MutexGuard<'_, &'a mut Tally> {
        // A thread that panicked takes the lab with it: what it left unsaid is not said elsewhere.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Boots until no test waits, or too often. Gives those that failed.
    fn until_done(&self, guest: &Guest<'_>, work: &Work) -> Vec<usize> {
        let mut failed = Vec::new();
        for boot in 0..BOOTS {
            let waiting = work.waiting.len(guest.place);
            if waiting == 0 {
                break;
            }
            if boot > 0 {
                println!("lab: booting again for the other {waiting} tests");
            }
            if !self.once(guest, work, &mut failed) {
                break;
            }
        }
        failed
    }

    /// One boot. Gives whether another may follow.
    fn once(&self, guest: &Guest<'_>, work: &Work, failed: &mut Vec<usize>) -> bool {
        // What the machine is at.
        let at = Cell::new(None);
        let next = || {
            at.set(work.waiting.take(guest.place));
            at.get()
        };
        let result = guest.run_each(&work.plan, &work.initrd, next, |report| match report {
            Report::Finished { job, outcome } if at.get() == Some(*job) => {
                at.set(None);
                if let Some(spec) = work.plan.jobs.get(*job)
                    && self.report(spec, outcome)
                {
                    failed.push(*job);
                }
            }
            _ => {}
        });
        let Err(failure) = result else { return true };
        if let Some(job) = at.get() {
            if failure.stood_still {
                work.waiting.put_back(job, guest.place);
            } else {
                self.tally().failed(&work.plan.jobs[job].name, "took the machine down, see below");
                failed.push(job);
            }
        }
        println!("lab: {}", failure.why);
        let expected = at.get().is_some() || failure.stood_still;
        self.tally().broken |= !expected;
        expected
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
