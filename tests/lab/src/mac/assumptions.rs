//! The table in `hv-hvf/ASSUMPTIONS.md`, and which of its lines the tests of `hv-hvf/tests/mac` settle.

use super::step::Done;
use crate::command::Result;

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assumption {
    /// Of its id, `A12`.
    pub(super) number: u32,
    pub(super) behaviour: String,
    pub(super) source: String,
    /// What settles it: `conformance CASE`, `hello`, `doctor`, or nothing that a program could do.
    pub(super) check: String,
}

/// What a run says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Confirmed,
    Refuted,
    /// Why it is not known yet.
    Open(String),
}

/// Reads the table: id, behaviour, source, what if it is wrong, what settles it, state.
pub(super) fn parse(text: &str) -> Result<Vec<Assumption>> {
    let mut assumptions = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let id = cells.get(1).and_then(|id| id.strip_prefix('A'));
        let Some(number) = id.and_then(|number| number.parse().ok()) else { continue };
        let [_, _, behaviour, source, _, check, _, _] = cells[..] else {
            return Err(format!("A{number} has not six columns: {line}"));
        };
        assumptions.push(Assumption {
            number,
            behaviour: behaviour.to_owned(),
            source: source.to_owned(),
            check: check.to_owned(),
        });
    }
    match assumptions.is_empty() {
        true => Err("no table of assumptions".to_owned()),
        false => Ok(assumptions),
    }
}

/// The assumptions that a test or step settles: `traps::assumption_12_and_13_what_is_so`.
pub(super) fn numbers(name: &str) -> Vec<u32> {
    let Some((_, rest)) = name.split_once("assumption_") else { return Vec::new() };
    let words = rest.split('_').take_while(|word| *word == "and" || word.parse::<u32>().is_ok());
    words.filter_map(|word| word.parse().ok()).collect()
}

/// What a step or test says of an assumption.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Evidence {
    For,
    Against,
    /// Nothing, and why.
    Nothing(String),
}

impl Assumption {
    /// Judges it by all that was run: what speaks against it outweighs all that speaks for it.
    pub(super) fn judge(&self, done: &[&Done]) -> Verdict {
        let evidence: Vec<Evidence> = done.iter().filter_map(|one| self.evidence(one)).collect();
        if evidence.contains(&Evidence::Against) {
            return Verdict::Refuted;
        }
        if evidence.contains(&Evidence::For) {
            return Verdict::Confirmed;
        }
        match evidence.into_iter().next() {
            Some(Evidence::Nothing(why)) => Verdict::Open(why),
            _ => Verdict::Open("nothing that was run settles it".to_owned()),
        }
    }

    /// What `done` says of it, if it is about it at all.
    fn evidence(&self, done: &Done) -> Option<Evidence> {
        if let Some(case) = self.case().filter(|_| done.name == "conformance") {
            return done.said.lines().find_map(|line| {
                match line.strip_prefix("test ")?.strip_prefix(case)?.strip_prefix(" ... ")? {
                    "ok" => Some(Evidence::For),
                    "FAILED" => Some(Evidence::Against),
                    other => Some(Evidence::Nothing(other.to_owned())),
                }
            });
        }
        let named = numbers(&done.name).contains(&self.number);
        let checked = (self.checks_by("`hello`") && done.name == "hello")
            || (self.checks_by("`doctor`") && done.name == "doctor --sign");
        (named || checked).then(|| match (done.passed(), done.skipped()) {
            (false, _) => Evidence::Against,
            (true, None) => Evidence::For,
            (true, Some(_)) => Evidence::Nothing(done.outcome()),
        })
    }

    /// The case of the conformance suite that settles it.
    fn case(&self) -> Option<&str> {
        let (case, _) = self.check.strip_prefix("`conformance ")?.split_once('`')?;
        Some(case)
    }

    fn checks_by(&self, what: &str) -> bool {
        self.check.starts_with(what)
    }
}

#[cfg(test)]
mod tests {
    use super::super::step::End;
    use super::*;
    use std::path::Path;
    use std::time::Duration;

    fn done(name: &str, end: End, said: &str) -> Done {
        let (name, command, said) = (name.to_owned(), String::new(), said.to_owned());
        Done { name, command, end, took: Duration::ZERO, said }
    }

    #[test]
    fn a_tests_name_says_which_assumptions_it_settles() {
        assert_eq!(numbers("calls::assumption_1_an_exit_ends_it"), [1]);
        assert_eq!(numbers("a::assumption_12_and_13_registers"), [12, 13]);
        assert_eq!(numbers("hello in the jail, assumption_30"), [30]);
        assert_eq!(numbers("a::something_else_2"), [] as [u32; 0]);
    }

    fn assumption(check: &str) -> Assumption {
        let (behaviour, source, check) = ("it is so".into(), "Apple".into(), check.into());
        Assumption { number: 1, behaviour, source, check }
    }

    #[test]
    fn a_test_that_fails_refutes_and_one_that_is_skipped_says_nothing() {
        let ok = || done("a::assumption_1_x", End::Passed, "");
        let skipped = || done("b::assumption_1_y", End::Passed, "skipped: no VM\n");
        let bad = || done("c::assumption_1_z", End::Hung(Duration::ZERO), "");
        let judge = |done: &[Done]| assumption("`look`").judge(&done.iter().collect::<Vec<_>>());
        assert_eq!(judge(&[skipped(), ok()]), Verdict::Confirmed);
        assert_eq!(judge(&[ok(), bad()]), Verdict::Refuted);
        assert_eq!(judge(&[skipped()]), Verdict::Open("skipped: no VM".into()));
        assert!(matches!(judge(&[done("a::assumption_2_x", End::Passed, "")]), Verdict::Open(_)));
    }

    #[test]
    fn the_tables_own_check_is_looked_for_in_what_was_run() {
        let suite = |said| done("conformance", End::Failed("101".into()), said);
        let conformance = assumption("`conformance a_kick`, `hello`");
        let judge = |of: &Assumption, done: Done| of.judge(&[&done]);
        assert_eq!(judge(&conformance, suite("test a_kick ... ok\n")), Verdict::Confirmed);
        assert_eq!(judge(&conformance, suite("test a_kick ... FAILED\n")), Verdict::Refuted);
        assert!(matches!(judge(&conformance, suite("test a_kick_2 ... ok\n")), Verdict::Open(_)));
        assert!(matches!(judge(&assumption("`look`"), suite("test a ... ok\n")), Verdict::Open(_)));
        let hello = done("hello", End::Passed, "");
        assert_eq!(judge(&assumption("`hello`"), hello.clone()), Verdict::Confirmed);
        assert!(matches!(judge(&assumption("`doctor`"), hello), Verdict::Open(_)));
    }

    #[test]
    fn a_table_is_read_and_one_with_a_broken_line_is_not() {
        let text = "# A\n\n| Id | Behaviour | Source | If | Check | State |\n|---|---|---|---|---|---|\n\
                    | A1 | it is so | Apple | bad | `look` | open |\n";
        assert_eq!(parse(text).unwrap(), [assumption("`look`")]);
        assert!(parse("| A1 | it is so | Apple |").unwrap_err().contains("A1"));
        assert!(parse("nothing").is_err());
    }

    #[test]
    fn every_test_of_ours_settles_a_line_of_our_table() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hv-hvf");
        let table = std::fs::read_to_string(folder.join("ASSUMPTIONS.md")).unwrap();
        let known: Vec<u32> = parse(&table).unwrap().iter().map(|line| line.number).collect();
        let mut tests = 0;
        for entry in std::fs::read_dir(folder.join("tests/mac")).unwrap().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            for name in text.lines().filter_map(|line| line.strip_prefix("fn ")) {
                tests += numbers(name).len();
                assert!(numbers(name).iter().all(|number| known.contains(number)), "{name}");
            }
        }
        assert!(tests >= 10, "{tests}");
    }
}
