//! What the first person with a Mac gets to send: Markdown, with everything that was run and said.

use super::assumptions::{Assumption, Verdict};
use super::step::Done;
use std::fmt::Write as _;

/// Everything there is to say.
#[derive(Debug)]
pub(super) struct Report<'a> {
    /// What the machine is: a line each.
    pub(super) machine: &'a [String],
    /// Nothing of Apple's framework was seen.
    pub(super) stand_in: bool,
    pub(super) steps: &'a [Done],
    pub(super) tests: &'a [Done],
    pub(super) assumptions: &'a [Assumption],
}

impl Report<'_> {
    fn all(&self) -> impl Iterator<Item = &Done> {
        self.steps.iter().chain(self.tests)
    }

    /// Whether all went well, and no assumption is wrong.
    pub(super) fn is_good(&self) -> bool {
        self.all().all(Done::passed)
    }

    /// How many assumptions are confirmed, refuted, open.
    pub(super) fn count(&self) -> [usize; 3] {
        let done: Vec<&Done> = self.all().collect();
        let mut count = [0; 3];
        for assumption in self.assumptions {
            let index = match assumption.judge(&done) {
                Verdict::Confirmed => 0,
                Verdict::Refuted => 1,
                Verdict::Open(_) => 2,
            };
            count[index] += 1;
        }
        count
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = String::from("# runner on a Mac\n\n");
        if self.stand_in {
            text += "Over the stand-in: this shows nothing of Apple's framework.\n\n";
        }
        for line in self.machine {
            let _ = writeln!(text, "- {line}");
        }
        text += "\n| step | outcome | seconds |\n|---|---|---|\n";
        for step in self.steps {
            let seconds = step.took.as_secs_f32();
            let _ = writeln!(
                text,
                "| {} | {} | {seconds:.1} |",
                cell(&step.name),
                cell(&step.outcome())
            );
        }
        text += "\n| # | behaviour | source | check | state |\n|---|---|---|---|---|\n";
        let done: Vec<&Done> = self.all().collect();
        for assumption in self.assumptions {
            let Assumption { number, behaviour, source, check } = assumption;
            let state = match assumption.judge(&done) {
                Verdict::Confirmed if self.stand_in => "so in the stand-in".to_owned(),
                Verdict::Confirmed => "confirmed".to_owned(),
                Verdict::Refuted => "REFUTED".to_owned(),
                Verdict::Open(why) => format!("open ({})", cell(&why)),
            };
            let _ = writeln!(text, "| A{number} | {behaviour} | {source} | {check} | {state} |");
        }
        for step in self.all() {
            let _ =
                write!(text, "\n## {}: {}\n\n    $ {}\n", step.name, step.outcome(), step.command);
            for line in step.said.lines() {
                let _ = writeln!(text, "    {line}");
            }
        }
        text
    }
}

/// As it may stand in a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::super::step::End;
    use super::*;
    use std::time::Duration;

    fn done(name: &str, end: End, said: &str) -> Done {
        let (name, command, said) = (name.to_owned(), "a b".to_owned(), said.to_owned());
        Done { name, command, end, took: Duration::from_millis(1500), said }
    }

    fn assumption(number: u32) -> Assumption {
        let text = || "so".to_owned();
        Assumption { number, behaviour: text(), source: text(), check: text() }
    }

    #[test]
    fn every_step_and_every_assumption_has_its_line_and_what_was_said_follows() {
        let steps = [
            done("build", End::Passed, "built\n"),
            done("doctor", End::Failed("exit 1".into()), "no|\n"),
        ];
        let tests = [
            done("a::assumption_1_x", End::Passed, ""),
            done("a::assumption_2_x", End::Failed("exit 101".into()), "panicked\n"),
        ];
        let report = Report {
            machine: &["macOS 15.5".to_owned()],
            stand_in: false,
            steps: &steps,
            tests: &tests,
            assumptions: &[assumption(1), assumption(2), assumption(3)],
        };
        let text = report.markdown();
        for line in [
            "- macOS 15.5",
            "| build | ok | 1.5 |",
            "| doctor | FAILED: exit 1 | 1.5 |",
            "| A1 | so | so | so | confirmed |",
            "| A2 | so | so | so | REFUTED |",
            "| A3 | so | so | so | open (nothing that was run settles it) |",
            "## a::assumption_2_x: FAILED: exit 101",
            "    $ a b",
            "    panicked",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("stand-in"), "{text}");
        assert_eq!((report.is_good(), report.count()), (false, [1, 1, 1]));
    }

    #[test]
    fn a_report_over_the_stand_in_says_so_first() {
        let report =
            Report { machine: &[], stand_in: true, steps: &[], tests: &[], assumptions: &[] };
        assert!(report.markdown().lines().nth(2).unwrap().contains("stand-in"));
        assert!(report.is_good());
    }
}
