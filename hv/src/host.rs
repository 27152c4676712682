//! What a host offers, found out by looking and never by failing: the findings behind
//! `runner doctor` and behind the one line a failed start prints.

use std::fmt;

/// The outcome of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Guests run, and something about it is worth knowing.
    Warn,
    /// Guests will not run on this accelerator until it is mended.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// A stable short name: `kvm-device`.
    pub id: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found, one line.
    pub finding: String,
    /// What to do about it, a command where there is one. Never present when all is well.
    pub remedy: Option<String>,
}

impl Check {
    /// All is well.
    pub fn ok(id: &'static str, finding: impl Into<String>) -> Self {
        Self { id, verdict: Verdict::Ok, finding: finding.into(), remedy: None }
    }

    /// It works, but.
    pub fn warn(id: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { id, verdict: Verdict::Warn, finding: finding.into(), remedy: Some(remedy.into()) }
    }

    /// It does not work.
    pub fn fail(id: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(id, finding, remedy) }
    }
}

/// Everything a backend looked at, in the order a person would.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostReport {
    /// The checks, the likeliest cause of trouble first.
    pub checks: Vec<Check>,
}

impl HostReport {
    /// Whether guests will run on this accelerator.
    pub fn usable(&self) -> bool {
        self.checks.iter().all(|check| check.verdict != Verdict::Fail)
    }

    /// The first check that fails: what a failed start shows.
    pub fn failure(&self) -> Option<&Check> {
        self.checks.iter().find(|check| check.verdict == Verdict::Fail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_warnings_is_usable_and_one_with_a_failure_is_not() {
        let mut report = HostReport { checks: vec![Check::ok("a", "fine")] };
        report.checks.push(Check::warn("b", "slow", "wait"));
        assert!(report.usable());
        report.checks.push(Check::fail("c", "missing", "install it"));
        report.checks.push(Check::fail("d", "also missing", "install that"));
        assert!(!report.usable());
        assert_eq!(report.failure().unwrap().id, "c");
    }
}
