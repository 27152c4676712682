//! Predicates of conditional compilation (The Rust Reference, "Conditional compilation").

use std::fmt;

/// A system that is asked about, with any processor and any kind of build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    Linux,
    Macos,
}

/// `all(unix, not(target_os = "linux"))`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Predicate {
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
    /// A name, and the value it has to have.
    Name(String, Option<String>),
}

impl Predicate {
    /// Reads the first one in `text`: an attribute `cfg_attr` has more behind it.
    ///
    /// # Errors
    /// What it is that cannot be read.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text;
        parse(&mut rest)
    }

    /// Whether it is about operating systems.
    pub(super) fn names_a_system(&self) -> bool {
        match self {
            Self::Not(inner) => inner.names_a_system(),
            Self::All(list) | Self::Any(list) => list.iter().any(Self::names_a_system),
            Self::Name(name, _) => ["target_os", "target_vendor"].contains(&name.as_str()),
        }
    }

    /// Whether it holds in some build for `system`.
    pub(super) fn possible(&self, system: System) -> bool {
        self.bounds(system).1
    }

    /// Whether it holds in every build for `system`, and whether in some. What depends on more than the
    /// system may be either.
    fn bounds(&self, system: System) -> (bool, bool) {
        match self {
            Self::Not(inner) => {
                let (always, ever) = inner.bounds(system);
                (!ever, !always)
            }
            Self::All(list) => list.iter().fold((true, true), |(always, ever), one| {
                let one = one.bounds(system);
                (always && one.0, ever && one.1)
            }),
            Self::Any(list) => list.iter().fold((false, false), |(always, ever), one| {
                let one = one.bounds(system);
                (always || one.0, ever || one.1)
            }),
            Self::Name(name, value) => match (name.as_str(), value.as_deref(), system) {
                ("unix", ..)
                | ("target_family", Some("unix"), _)
                | ("target_os", Some("linux"), System::Linux)
                | ("target_os", Some("macos"), System::Macos)
                | ("target_vendor", Some("apple"), System::Macos) => (true, true),
                ("windows" | "target_os" | "target_vendor" | "target_family", ..) => (false, false),
                _ => (false, true),
            },
        }
    }
}

fn parse(rest: &mut &str) -> Result<Predicate, String> {
    let name = word(rest)?;
    if let Some(list) = rest.strip_prefix('(') {
        *rest = list;
        let mut list = parse_list(rest)?;
        return match (name.as_str(), list.len()) {
            ("all", _) => Ok(Predicate::All(list)),
            ("any", _) => Ok(Predicate::Any(list)),
            ("not", 1) => Ok(Predicate::Not(Box::new(list.remove(0)))),
            _ => Err(format!("`{name}(…)` is no predicate")),
        };
    }
    let Some(value) = rest.strip_prefix('=') else { return Ok(Predicate::Name(name, None)) };
    let quoted = value.trim_start().strip_prefix('"').and_then(|value| value.split_once('"'));
    let (value, after) = quoted.ok_or_else(|| format!("`{name} =` wants a value in quotes"))?;
    *rest = after.trim_start();
    Ok(Predicate::Name(name, Some(value.to_owned())))
}

fn parse_list(rest: &mut &str) -> Result<Vec<Predicate>, String> {
    let mut list = Vec::new();
    loop {
        *rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(')') {
            *rest = after.trim_start();
            return Ok(list);
        }
        list.push(parse(rest)?);
        *rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn word(rest: &mut &str) -> Result<String, String> {
    let text = rest.trim_start();
    let len = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    if len == 0 {
        return Err(format!("`{text}` is no predicate"));
    }
    let (word, after) = text.split_at(len);
    *rest = after.trim_start();
    Ok(word.to_owned())
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |list: &[Self]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Not(inner) => write!(f, "not({inner})"),
            Self::All(all) => write!(f, "all({})", list(all)),
            Self::Any(any) => write!(f, "any({})", list(any)),
            Self::Name(name, None) => f.write_str(name),
            Self::Name(name, Some(value)) => write!(f, "{name} = {value:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_predicate_is_read_and_shown() {
        for text in ["unix", "all(unix, not(target_os = \"linux\"))", "any(test, feature = \"a\")"]
        {
            assert_eq!(Predicate::parse(text).unwrap().to_string(), text);
        }
        let multi = "all(\n    unix,\n    test,\n), path = \"a.rs\"";
        assert_eq!(Predicate::parse(multi).unwrap().to_string(), "all(unix, test)");
        for text in ["", "a = ", "a = b", "not(a, b)", "all(a", "what(a)"] {
            assert!(Predicate::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_depends_on_more_than_the_system_may_hold_and_may_not() {
        let possible = |text: &str| {
            let predicate = Predicate::parse(text).unwrap();
            [System::Linux, System::Macos].map(|system| predicate.possible(system))
        };
        assert_eq!(possible("target_os = \"linux\""), [true, false]);
        assert_eq!(possible("not(target_os = \"linux\")"), [false, true]);
        assert_eq!(possible("all(target_vendor = \"apple\", test)"), [false, true]);
        assert_eq!(possible("any(target_os = \"macos\", test)"), [true, true]);
        assert_eq!(possible("not(any(target_os = \"macos\", test))"), [true, false]);
        assert_eq!(possible("windows"), [false, false]);
    }
}
