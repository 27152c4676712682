//! The arguments of libtest that make sense here (rustc book, "Tests", "CLI arguments").

/// Plays one case in this very process: how the suite calls itself.
pub(super) const CHILD: &str = "--child";

/// What to do with the chosen cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Run,
    List { terse: bool },
    Child,
}

/// Which cases, and what to do with them.
#[derive(Debug)]
pub(super) struct Args {
    pub(super) mode: Mode,
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    /// `--ignored`: no case is ignored before it is tried.
    none: bool,
}

impl Args {
    /// Reads arguments, without the program's name. Those that only change how libtest runs or
    /// shows tests are taken and change nothing.
    pub(super) fn parse<E>(
        arguments: impl IntoIterator<Item = Result<String, E>>,
    ) -> Result<Self, String> {
        let (mut list, mut child, mut terse) = (false, false, false);
        let (mut filters, mut skips, mut exact, mut none) = (Vec::new(), Vec::new(), false, false);
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let argument = argument.map_err(|_| "an argument is not UTF-8")?;
            let (name, mut value) = match argument.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (argument.as_str(), None),
            };
            if takes_value(name) && value.is_none() {
                let next = arguments.next().and_then(Result::ok);
                value = Some(next.ok_or_else(|| format!("{name} wants a value"))?);
            }
            match name {
                "--list" => list = true,
                "--exact" => exact = true,
                "--ignored" => none = true,
                CHILD => child = true,
                "--format" => terse = value.as_deref() == Some("terse"),
                "-q" | "--quiet" => terse = true,
                "--skip" => skips.extend(value),
                "--nocapture" | "--no-capture" | "--show-output" | "--include-ignored" => {}
                _ if takes_value(name) => {}
                _ if name.starts_with('-') => {
                    return Err(format!(
                        "unknown argument `{argument}`; the suite takes libtest's"
                    ));
                }
                _ => filters.push(argument),
            }
        }
        let mode = match (list, child) {
            (true, _) => Mode::List { terse },
            (false, true) => Mode::Child,
            (false, false) => Mode::Run,
        };
        Ok(Self { mode, filters, skips, exact, none })
    }

    /// Whether the case `name` is among the chosen.
    pub(super) fn chooses(&self, name: &str) -> bool {
        let matches = |pattern: &String| match self.exact {
            true => name == pattern,
            false => name.contains(pattern.as_str()),
        };
        !self.none
            && (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skips.iter().any(matches)
    }
}

fn takes_value(name: &str) -> bool {
    ["--test-threads", "--format", "--color", "--skip", "--logfile", "-Z"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::parse(line.split_whitespace().map(|word| Ok::<_, ()>(word.to_owned())))
    }

    #[test]
    fn a_filter_is_a_part_of_the_name_unless_it_must_be_exact() {
        let args = parse("kick --test-threads=1 --nocapture").unwrap();
        assert_eq!(args.mode, Mode::Run);
        assert!(args.chooses("a_kick_b") && !args.chooses("halt"));
        let args = parse("--exact kick halt --show-output").unwrap();
        assert!(args.chooses("kick") && args.chooses("halt") && !args.chooses("a_kick_b"));
        assert!(parse("").unwrap().chooses("anything"));
        assert!(!parse("--skip halt").unwrap().chooses("a_halt"));
        assert!(!parse("--ignored").unwrap().chooses("anything"));
    }

    #[test]
    fn a_list_can_be_terse() {
        assert_eq!(parse("--list --format terse").unwrap().mode, Mode::List { terse: true });
        assert_eq!(parse("--list --format=pretty").unwrap().mode, Mode::List { terse: false });
        assert_eq!(parse("--exact kick --child").unwrap().mode, Mode::Child);
    }

    #[test]
    fn unknown_arguments_and_missing_values_are_errors() {
        assert!(parse("--frobnicate").unwrap_err().contains("--frobnicate"));
        assert!(parse("--test-threads").unwrap_err().contains("wants a value"));
        assert!(Args::parse([Err(())]).unwrap_err().contains("UTF-8"));
    }
}
