//! The kernel's command line, and how arguments, environment and addresses reach a Nanos guest by
//! it.
//!
//! Nanos splits at spaces, knows no quoting, and takes any `path=value` as an entry of its root
//! tuple, over what the image has (nanos, `src/x86_64/kernel_machine.c`, measured).

use super::Error;

const BAKE: &str = "put it into the image's config.json and build the image again with `ops`";

/// A command line without NUL bytes. Whether it fits, `BootPlan::tell` knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine(String);

impl CommandLine {
    /// `words` with a space between each, empty ones left out.
    ///
    /// # Errors
    /// When a word holds a NUL byte.
    pub fn new(words: impl IntoIterator<Item = String>) -> Result<Self, Error> {
        let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let line = words.join(" ");
        if line.contains('\0') {
            return Err(Error::Unpassable {
                what: "command line",
                value: line,
                why: "it contains a NUL byte",
                remedy: "remove it",
            });
        }
        Ok(Self(line))
    }

    /// The line.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Length in bytes, without a NUL.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes for the guest, NUL at the end.
    pub(super) fn terminated(&self) -> Vec<u8> {
        let mut bytes = self.0.clone().into_bytes();
        bytes.push(0);
        bytes
    }
}

/// A word as shells quote it, for kernels that take a command line apart as they do (POSIX, "Quoting").
#[must_use]
pub fn shell_word(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-+=./,:@%".contains(letter);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// What a Nanos guest is told over what its image says.
///
/// `args` replace the arguments behind the program's name, of which the image has `baked`: entries
/// can be replaced and added, never removed.
///
/// # Errors
/// [`Error::Unpassable`] for a value that this way cannot carry.
pub fn nanos_overrides(
    args: &[String],
    baked: usize,
    env: &[(String, String)],
    addresses: &[(&'static str, String)],
) -> Result<Vec<String>, Error> {
    if !args.is_empty() && args.len() < baked {
        return Err(Error::Unpassable {
            what: "arguments",
            value: args.join(" "),
            why: "the image has more arguments than these, and the rest would stay behind them",
            remedy: "give at least as many, or build the image again with `ops`",
        });
    }
    let mut words = Vec::new();
    for (index, arg) in (1..).zip(args) {
        words.push(format!("arguments.{index}={}", value("argument", arg)?));
    }
    for (name, text) in env {
        if name.is_empty() || name.contains(['=', '.', ' ']) {
            return Err(Error::Unpassable {
                what: "environment variable",
                value: name.clone(),
                why: "a name with dots or spaces, or none, cannot be told from a path",
                remedy: BAKE,
            });
        }
        let text = value("environment variable", text).map_err(|error| match error {
            Error::Unpassable { what, value, why, remedy } => {
                Error::Unpassable { what, value: format!("{name}={value}"), why, remedy }
            }
            other => other,
        })?;
        words.push(format!("environment.{name}={text}"));
    }
    for (path, address) in addresses {
        words.push(format!("{path}={address}"));
    }
    Ok(words)
}

/// Which volumes a Nanos guest mounts where, beside those its image says.
///
/// # Errors
/// [`Error::Unpassable`] for a name or a path that this way cannot carry.
pub fn nanos_mounts(mounts: &[(String, String)]) -> Result<Vec<String>, Error> {
    let word = |(name, path): &(String, String)| {
        if name.contains(['=', '.', ' ']) {
            return Err(Error::Unpassable {
                what: "volume",
                value: name.clone(),
                why: "a name with dots or spaces cannot be told from a path",
                remedy: BAKE,
            });
        }
        Ok(format!("mounts.{name}={}", value("place of a volume", path)?))
    };
    mounts.iter().map(word).collect()
}

/// Arguments as words of a kernel's command line.
///
/// # Errors
/// [`Error::Unpassable`] for an argument that is no single word.
pub fn plain_words(args: &[String]) -> Result<Vec<String>, Error> {
    args.iter().map(|arg| value("argument", arg).map(str::to_owned)).collect()
}

/// A value that survives being split at spaces.
fn value<'a>(what: &'static str, value: &'a str) -> Result<&'a str, Error> {
    let why = if value.is_empty() {
        "it is empty, and the guest takes that for no value"
    } else if value.contains(|c: char| c.is_ascii_whitespace() || c == '\0') {
        "it contains white space, and the guest splits its command line there"
    } else {
        return Ok(value);
    };
    Err(Error::Unpassable { what, value: value.to_owned(), why, remedy: BAKE })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn arguments_environment_and_addresses_become_paths_of_the_root_tuple() {
        let env = [("GREETING".to_owned(), "hello".to_owned())];
        let addresses = [("en1.ipaddr", "10.0.0.2".to_owned())];
        let words = nanos_overrides(&strings(&["-p", "80"]), 0, &env, &addresses).unwrap();
        assert_eq!(
            words,
            [
                "arguments.1=-p",
                "arguments.2=80",
                "environment.GREETING=hello",
                "en1.ipaddr=10.0.0.2"
            ]
        );
    }

    #[test]
    fn volumes_become_entries_of_mounts_where_their_names_and_places_can() {
        let mounts = |name: &str, path: &str| nanos_mounts(&[(name.to_owned(), path.to_owned())]);
        assert_eq!(mounts("data", "/a.b:ro").unwrap(), ["mounts.data=/a.b:ro"]);
        for (name, path) in [("a.b", "/d"), ("a=b", "/d"), ("a b", "/d"), ("a", "/two words")] {
            let error = mounts(name, path).unwrap_err().to_string();
            assert!(error.contains("build the image again"), "{error}");
        }
    }

    #[test]
    fn a_value_that_the_guest_would_split_is_refused_with_what_to_do() {
        for bad in ["two words", "tab\there", "", "line\nbreak"] {
            let error = nanos_overrides(&strings(&[bad]), 0, &[], &[]).unwrap_err().to_string();
            assert!(error.contains("build the image again"), "{error}");
        }
        let env = [("A.B".to_owned(), "x".to_owned())];
        assert!(nanos_overrides(&[], 0, &env, &[]).is_err());
    }

    #[test]
    fn fewer_arguments_than_the_image_has_are_refused_because_the_rest_would_stay() {
        assert!(nanos_overrides(&strings(&["one"]), 2, &[], &[]).is_err());
        assert!(nanos_overrides(&[], 2, &[], &[]).unwrap().is_empty());
    }

    #[test]
    fn a_command_line_that_does_not_fit_or_holds_a_nul_is_refused() {
        assert!(CommandLine::new(["a\0b".to_owned()]).is_err());
        let line = CommandLine::new(strings(&["a", "", "b"])).unwrap();
        assert_eq!((line.as_str(), line.terminated()), ("a b", b"a b\0".to_vec()));
    }
}
