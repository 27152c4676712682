//! Runs the cases, one process each, and reports as libtest does (rustc book, "Tests"), so that
//! cargo and the labs need not know the difference.

mod args;
mod child;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use args::{Args, Mode};

use super::{Case, Outcome, cases};
use crate::arch::Arch;
use crate::traits::Hypervisor;

/// How long a case may take. The longest took 10 seconds on a KVM inside QEMU, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// The exit status of libtest when a test failed.
const FAILED: u8 = 101;

/// The `main` of a conformance test: takes libtest's arguments, runs the cases that they choose,
/// and returns libtest's exit status.
///
/// Where the hypervisor cannot be opened it says why on a line that begins `skipped: `, counts
/// every case as ignored and succeeds.
pub fn main<H: Hypervisor>() -> ExitCode {
    run::<H>(None)
}

/// The same over a stand-in that plays a few forms of instructions. Cases whose guests need a whole
/// processor are skipped for the reason `why`.
pub fn main_without_processor<H: Hypervisor>(why: &'static str) -> ExitCode {
    run::<H>(Some(why))
}

fn run<H: Hypervisor>(no_processor: Option<&'static str>) -> ExitCode {
    let arguments = std::env::args_os().skip(1).map(OsString::into_string);
    let args = match Args::parse(arguments) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let opened = H::open();
    let arch = match &opened {
        Ok(hypervisor) => Some(hypervisor.caps().arch),
        // A hypervisor's guests are of its host's architecture.
        Err(_) => Arch::HOST,
    };
    let all = arch.map(cases::<H>).unwrap_or_default();
    let before = all.len();
    let chosen: Vec<_> = all.into_iter().filter(|case| args.chooses(case.name())).collect();
    let mut report = Report::new(io::stdout(), before - chosen.len());
    let result = match (args.mode, opened) {
        (Mode::List { terse }, _) => report.list(chosen.iter().map(Case::name), terse),
        (Mode::Child, Ok(hypervisor)) => return child::play(&chosen, &hypervisor),
        (Mode::Child, Err(error)) => {
            eprintln!("{error}");
            return ExitCode::from(FAILED);
        }
        (Mode::Run, Ok(_)) => report.run(chosen.iter().map(Case::name), |name| {
            let case = chosen.iter().find(|case| case.name() == name);
            match no_processor {
                Some(why) if case.is_some_and(Case::needs_processor) => {
                    Outcome::Skipped(why.into())
                }
                _ => supervised(name),
            }
        }),
        (Mode::Run, Err(error)) => report.ignore(chosen.iter().map(Case::name), &error),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("cannot report: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// Runs a case in a process of its own.
fn supervised(name: &str) -> Outcome {
    let run = || {
        let mut command = Command::new(std::env::current_exe()?);
        child::supervise(command.args(["--exact", name, args::CHILD]), DEADLINE)
    };
    run().unwrap_or_else(|error| Outcome::Failed(format!("cannot start its process: {error}")))
}

/// Writes libtest's lines and counts.
struct Report<W> {
    out: W,
    began: Instant,
    passed: usize,
    ignored: usize,
    filtered: usize,
    failed: Vec<(String, String)>,
}

impl<W: Write> Report<W> {
    fn new(out: W, filtered: usize) -> Self {
        let (passed, ignored) = (0, 0);
        Self { out, began: Instant::now(), passed, ignored, filtered, failed: Vec::new() }
    }

    fn list<'a>(&mut self, names: impl Iterator<Item = &'a str>, terse: bool) -> io::Result<bool> {
        let mut count = 0;
        for name in names {
            writeln!(self.out, "{name}: test")?;
            count += 1;
        }
        if !terse {
            writeln!(self.out, "\n{count} tests, 0 benchmarks")?;
        }
        Ok(true)
    }

    /// Runs the cases one after the other: a case may keep all of a small host busy.
    fn run<'a>(
        &mut self,
        names: impl ExactSizeIterator<Item = &'a str>,
        run: impl Fn(&str) -> Outcome,
    ) -> io::Result<bool> {
        writeln!(self.out, "\nrunning {} tests", names.len())?;
        for name in names {
            write!(self.out, "test {name} ... ")?;
            self.out.flush()?;
            match run(name) {
                Outcome::Passed => {
                    self.passed += 1;
                    writeln!(self.out, "ok")?;
                }
                Outcome::Skipped(why) => {
                    self.ignored += 1;
                    writeln!(self.out, "skipped: {why}")?;
                }
                Outcome::Failed(why) => {
                    self.failed.push((name.to_owned(), why));
                    writeln!(self.out, "FAILED")?;
                }
            }
        }
        self.summary()
    }

    /// None can run, for one reason.
    fn ignore<'a>(
        &mut self,
        names: impl ExactSizeIterator<Item = &'a str>,
        why: &impl std::fmt::Display,
    ) -> io::Result<bool> {
        writeln!(self.out, "\nrunning {} tests\nskipped: {why}", names.len())?;
        for name in names {
            self.ignored += 1;
            writeln!(self.out, "test {name} ... ignored")?;
        }
        self.summary()
    }

    /// Says what failed, and counts. Whether nothing did.
    fn summary(&mut self) -> io::Result<bool> {
        if !self.failed.is_empty() {
            writeln!(self.out, "\nfailures:")?;
            for (name, why) in &self.failed {
                writeln!(self.out, "\n---- {name} ----\n{}", why.trim_end())?;
            }
            writeln!(self.out, "\nfailures:")?;
            for (name, _) in &self.failed {
                writeln!(self.out, "    {name}")?;
            }
        }
        let succeeded = self.failed.is_empty();
        writeln!(
            self.out,
            "\ntest result: {}. {} passed; {} failed; {} ignored; 0 measured; {} filtered out; \
             finished in {:.2}s\n",
            if succeeded { "ok" } else { "FAILED" },
            self.passed,
            self.failed.len(),
            self.ignored,
            self.filtered,
            self.began.elapsed().as_secs_f64(),
        )?;
        Ok(succeeded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a report of these outcomes says, and whether it is a success.
    fn said(outcomes: &[(&'static str, Outcome)]) -> (String, bool) {
        let mut report = Report::new(Vec::new(), 7);
        let find =
            |name: &str| outcomes.iter().find(|(known, _)| *known == name).unwrap().1.clone();
        let succeeded = report.run(outcomes.iter().map(|(name, _)| *name), find).unwrap();
        (String::from_utf8(report.out).unwrap(), succeeded)
    }

    #[test]
    fn every_case_has_a_line_and_the_last_line_counts_them() {
        let skipped = Outcome::Skipped("no such thing here".into());
        let (text, succeeded) = said(&[("a", Outcome::Passed), ("b", skipped)]);
        assert!(succeeded);
        assert!(text.starts_with("\nrunning 2 tests\ntest a ... ok\n"), "{text}");
        assert!(text.contains("\ntest b ... skipped: no such thing here\n"), "{text}");
        let counts =
            "\ntest result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out;";
        assert!(text.contains(counts), "{text}");
    }

    #[test]
    fn one_failure_fails_the_run_and_is_shown_with_its_reason() {
        let failed = Outcome::Failed("expected this and got that\n".into());
        let (text, succeeded) = said(&[("a", failed), ("b", Outcome::Passed)]);
        assert!(!succeeded);
        assert!(text.contains("test a ... FAILED\ntest b ... ok\n"), "{text}");
        assert!(text.contains("\n---- a ----\nexpected this and got that\n"), "{text}");
        assert!(text.contains("\ntest result: FAILED. 1 passed; 1 failed;"), "{text}");
    }

    #[test]
    fn a_list_names_each_case_and_nothing_else_when_terse() {
        let mut report = Report::new(Vec::new(), 0);
        report.list(["a", "b"].into_iter(), true).unwrap();
        assert_eq!(String::from_utf8(report.out).unwrap(), "a: test\nb: test\n");
    }

    #[test]
    fn without_a_hypervisor_all_are_ignored_for_one_reason_and_that_is_no_failure() {
        let mut report = Report::new(Vec::new(), 0);
        assert!(report.ignore(["a", "b"].into_iter(), &"open /dev/kvm: no").unwrap());
        let text = String::from_utf8(report.out).unwrap();
        assert_eq!(text.matches("\nskipped: open /dev/kvm: no\n").count(), 1, "{text}");
        assert!(text.contains("test a ... ignored\ntest b ... ignored\n"), "{text}");
        assert!(text.contains("test result: ok. 0 passed; 0 failed; 2 ignored;"), "{text}");
    }
}
