//! What the lab prints of its tests, and the numbers at the end.

use crate::command::Result;
use crate::evidence::Seen;
use crate::gates;
use crate::protocol::Outcome;
use crate::results::{Verdict, measured};
use std::collections::BTreeMap;

/// What was printed so far, in numbers.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    passed: usize,
    skipped: usize,
    /// Names, and why.
    failures: Vec<(String, String)>,
    /// Failed, and then passed every time.
    doubtful: Vec<String>,
    /// How each went in the end.
    pub(crate) seen: BTreeMap<String, Seen>,
    /// The machine itself failed, whatever its tests say.
    pub(crate) broken: bool,
}

impl Tally {
    pub(crate) fn test(&mut self, name: &str, verdict: &Verdict, outcome: &Outcome) {
        self.add(name, verdict, &format!(" ({} ms)", outcome.milliseconds));
        for line in measured(&outcome.output) {
            println!("    | {line}");
        }
        if matches!(verdict, Verdict::Failed(_)) {
            for line in outcome.output.lines().filter(|line| !line.is_empty()) {
                println!("    | {line}");
            }
        }
    }

    pub(crate) fn gate(&mut self, name: &str, verdict: gates::Measured) {
        match verdict {
            Ok(figures) => self.add(name, &Verdict::Passed, &format!(" ({figures})")),
            Err(why) => self.failed(name, &why),
        }
    }

    fn add(&mut self, name: &str, verdict: &Verdict, note: &str) {
        let seen = match verdict {
            Verdict::Passed => Seen::Passed,
            Verdict::Skipped(_) => Seen::Skipped,
            Verdict::Failed(_) => Seen::Failed,
        };
        self.seen.insert(name.to_owned(), seen);
        match verdict {
            Verdict::Passed => {
                self.passed += 1;
                println!("test {name} ... ok{note}");
            }
            Verdict::Skipped(why) => {
                self.skipped += 1;
                println!("test {name} ... skipped: {why}");
            }
            // It may be taken back: what counts is said at the end.
            Verdict::Failed(why) => {
                self.failures.push((name.to_owned(), why.clone()));
                println!("lab: {name} failed: {why}{note}");
            }
        }
    }

    pub(crate) fn failed(&mut self, name: &str, why: &str) {
        self.add(name, &Verdict::Failed(why.to_owned()), "");
    }

    pub(crate) fn take_back(&mut self, name: &str, repeats: usize) {
        println!("test {name} ... ok, after a failure that {repeats} repetitions did not show");
        self.failures.retain(|(failed, _)| failed != name);
        self.seen.insert(name.to_owned(), Seen::Passed);
        self.passed += 1;
        self.doubtful.push(name.to_owned());
    }

    pub(crate) fn finish(self) -> Result<()> {
        for name in &self.doubtful {
            println!("doubtful: {name}");
        }
        for (name, why) in &self.failures {
            println!("test {name} ... FAILED: {why}");
        }
        println!("lab: {} skipped as its list allows", self.skipped);
        println!("{} passed, {} failed", self.passed, self.failures.len());
        if self.failures.is_empty() && !self.broken {
            Ok(())
        } else {
            Err("the lab failed; the reasons are above".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_is_taken_back_is_a_pass_and_no_other_is() {
        let mut tally = Tally::default();
        for name in ["a", "b"] {
            tally.failed(name, "hangs");
        }
        tally.take_back("a", 2);
        assert_eq!((tally.passed, tally.failures.len(), tally.failures[0].0.as_str()), (1, 1, "b"));
        assert!(tally.finish().is_err());
        let mut tally = Tally::default();
        tally.failed("a", "hangs");
        tally.take_back("a", 2);
        assert!(tally.finish().is_ok());
    }
}
