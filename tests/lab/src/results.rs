//! From what a job did to what the lab says about it.

use crate::protocol::{End, Outcome};

/// What the lab says about one test.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    /// It said why, and the list of allowed skips agrees.
    Skipped(String),
    Failed(String),
}

/// What a test measured, which is worth a line also where it passes: lines that begin with
/// `measured: `.
pub(crate) fn measured(output: &str) -> impl Iterator<Item = &str> {
    output.lines().filter_map(|line| line.strip_prefix("measured: "))
}

/// Judges one test of a libtest binary that ran alone in its process, and why it may skip, if it may.
pub(crate) fn judge(outcome: &Outcome, may_skip: Option<&str>) -> Verdict {
    match &outcome.end {
        End::NotStarted(why) => return Verdict::Failed(format!("could not start: {why}")),
        End::TimedOut => return Verdict::Failed("hangs: killed at its deadline".to_owned()),
        End::Killed(signal) => return Verdict::Failed(format!("killed by signal {signal}")),
        End::Exited(0) => {}
        End::Exited(code) => return Verdict::Failed(format!("exit status {code}")),
    }
    let reasons = outcome.skips.join("; ");
    if let (false, Some(because)) = (outcome.skips.is_empty(), may_skip) {
        return Verdict::Skipped(format!("{reasons} ({because})"));
    }
    if !outcome.skips.is_empty() {
        return Verdict::Failed(format!("skipped, and the lab should run it: {reasons}"));
    }
    // Status 0 is also what libtest gives when a name matched nothing, or the test is ignored.
    if !outcome.output.lines().any(|line| line.starts_with("test result: ok. 1 passed;")) {
        return Verdict::Failed("did not run: no `1 passed` in its output".to_owned());
    }
    match may_skip {
        None => Verdict::Passed,
        Some(_) => {
            Verdict::Failed("runs here now: take it off the list of allowed skips".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(end: End, skips: &[&str]) -> Outcome {
        Outcome {
            end,
            skips: skips.iter().map(|&skip| skip.to_owned()).collect(),
            output:
                "\nrunning 1 test\ntest x ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored"
                    .to_owned(),
            milliseconds: 0,
            cpu_microseconds: 0,
        }
    }

    fn failed(verdict: Verdict) -> String {
        match verdict {
            Verdict::Failed(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_test_measured_is_found_in_its_output() {
        let output = "test x ... measured: no\nmeasured: 7 ms\nok";
        assert_eq!(measured(output).collect::<Vec<_>>(), ["7 ms"]);
    }

    #[test]
    fn a_test_that_ran_to_its_end_passed() {
        let verdict = judge(&outcome(End::Exited(0), &[]), None);
        assert_eq!(verdict, Verdict::Passed);
    }

    #[test]
    fn a_test_that_never_ran_did_not_pass() {
        let mut ran = outcome(End::Exited(0), &[]);
        ran.output = "test result: ok. 0 passed; 0 failed; 1 ignored".to_owned();
        assert!(failed(judge(&ran, None)).contains("did not run"));
    }

    #[test]
    fn failures_crashes_and_hangs_are_told_apart() {
        let why = |end| failed(judge(&outcome(end, &[]), None));
        assert!(why(End::Exited(101)).contains("101"));
        assert!(why(End::Killed(11)).contains("signal 11"));
        assert!(why(End::TimedOut).contains("hangs"));
        assert!(why(End::NotStarted("no such file".to_owned())).contains("no such file"));
    }

    #[test]
    fn a_skip_counts_only_where_the_list_allows_it() {
        let skipped = outcome(End::Exited(0), &["no tap device"]);
        assert!(failed(judge(&skipped, None)).contains("no tap device"));
        assert_eq!(
            judge(&skipped, Some("no tap in the lab")),
            Verdict::Skipped("no tap device (no tap in the lab)".to_owned())
        );
    }

    #[test]
    fn a_skip_that_is_no_longer_needed_must_leave_the_list() {
        let ran = outcome(End::Exited(0), &[]);
        assert!(failed(judge(&ran, Some("no tap in the lab"))).contains("list of allowed skips"));
    }
}
