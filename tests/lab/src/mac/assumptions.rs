//! The table in `hv-hvf/ASSUMPTIONS.md`, and which of its lines the tests of `hv-hvf/tests/mac` settle.

use super::step::Done;
use crate::command::Result;

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assumption {
    pub(super) number: u32,
    pub(super) behaviour: String,
    pub(super) source: String,
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

/// Reads the table: number, behaviour, source, what if it is wrong, how to settle it, state.
pub(super) fn parse(text: &str) -> Result<Vec<Assumption>> {
    let mut assumptions = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let Some(number) = cells.get(1).and_then(|number| number.parse().ok()) else { continue };
        let [_, _, behaviour, source, _, check, _, _] = cells[..] else {
            return Err(format!("assumption {number} has not six columns: {line}"));
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

/// Judges assumption `number` by what was run: one that fails refutes it, whatever others say.
pub(super) fn judge<'a>(number: u32, done: impl IntoIterator<Item = &'a Done>) -> Verdict {
    let mine: Vec<&Done> =
        done.into_iter().filter(|one| numbers(&one.name).contains(&number)).collect();
    if mine.is_empty() {
        return Verdict::Open("no test settles it: see how".to_owned());
    }
    if mine.iter().any(|test| !test.passed()) {
        return Verdict::Refuted;
    }
    match mine.iter().all(|test| test.skipped().is_some()) {
        true => Verdict::Open(mine[0].outcome()),
        false => Verdict::Confirmed,
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

    #[test]
    fn a_test_that_fails_refutes_and_one_that_is_skipped_says_nothing() {
        let ok = || done("a::assumption_1_x", End::Passed, "");
        let skipped = || done("b::assumption_1_y", End::Passed, "skipped: no VM\n");
        let bad = || done("c::assumption_1_z", End::Hung(Duration::ZERO), "");
        assert_eq!(judge(1, &[ok(), skipped()]), Verdict::Confirmed);
        assert_eq!(judge(1, &[ok(), bad()]), Verdict::Refuted);
        assert_eq!(judge(1, &[skipped()]), Verdict::Open("skipped: no VM".into()));
        assert!(matches!(judge(2, &[ok()]), Verdict::Open(_)));
    }

    #[test]
    fn a_table_is_read_and_one_with_a_broken_line_is_not() {
        let text = "# A\n\n| # | Behaviour | Source | If | How | State |\n|---|---|---|---|---|---|\n\
                    | 1 | it is so | Apple | bad | look | open |\n";
        let wanted = Assumption {
            number: 1,
            behaviour: "it is so".into(),
            source: "Apple".into(),
            check: "look".into(),
        };
        assert_eq!(parse(text).unwrap(), [wanted]);
        assert!(parse("| 1 | it is so | Apple |").unwrap_err().contains("assumption 1"));
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
