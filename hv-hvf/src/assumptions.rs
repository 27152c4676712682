//! That every line of `ASSUMPTIONS.md` has its number, and says what settles it and how it stands.

/// A line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Assumption {
    /// `A1` and so on; never used for another.
    id: &'static str,
    /// What the framework is taken to do.
    behaviour: &'static str,
    /// What settles it: `conformance CASE`, `hello`, `doctor`, `look`, `none`.
    check: &'static str,
    /// `open`, `confirmed: …` or `wrong: …`.
    state: &'static str,
}

impl Assumption {
    fn of(line: &'static str) -> Option<Self> {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", id, behaviour, _source, _otherwise, check, state, ""] = cells[..] else {
            return None;
        };
        id.strip_prefix('A')?.parse::<u32>().ok()?;
        Some(Self { id, behaviour, check, state })
    }
}

/// All lines, in order.
fn all() -> impl Iterator<Item = Assumption> {
    include_str!("../ASSUMPTIONS.md").lines().filter_map(Assumption::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_read_and_has_a_number_of_its_own() {
        let numbers: Vec<String> = all().map(|assumption| assumption.id.into()).collect();
        let expected: Vec<String> =
            (1..=numbers.len()).map(|number| format!("A{number}")).collect();
        assert_eq!(numbers, expected);
        let lines = include_str!("../ASSUMPTIONS.md").lines();
        assert_eq!(lines.filter(|line| line.starts_with("| A")).count(), numbers.len());
    }

    #[test]
    fn every_line_says_what_settles_it_and_how_it_stands() {
        const CHECKS: [&str; 5] = ["`conformance ", "`hello`", "`doctor`", "`look`", "`none`"];
        for Assumption { id, behaviour, check, state } in all() {
            assert!(!behaviour.is_empty(), "{id}");
            assert!(CHECKS.iter().any(|word| check.starts_with(word)), "{id}: {check}");
            let settled = state.starts_with("confirmed: ") || state.starts_with("wrong: ");
            assert!(state == "open" || settled, "{id}: {state}");
        }
    }

    #[test]
    fn every_case_that_settles_a_line_is_one_of_the_suites() {
        let cases = hv::conformance::cases::<crate::Hvf>(hv::Arch::Aarch64);
        for Assumption { id, check, .. } in all() {
            let Some((name, _)) =
                check.strip_prefix("`conformance ").and_then(|rest| rest.split_once('`'))
            else {
                continue;
            };
            assert!(cases.iter().any(|case| case.name() == name), "{id}: {name}");
        }
    }

    #[test]
    fn a_line_that_is_no_assumption_is_none() {
        assert_eq!(Assumption::of("| Id | Behaviour | Source | If | Check | State |"), None);
        assert_eq!(Assumption::of("|---|---|---|---|---|---|"), None);
        assert_eq!(Assumption::of("| A1 | too | few |"), None);
    }
}
