//! Tests of configs: what is read, what wins, and that the documents say what the table says.

mod documents;
mod parse;
mod read;
mod settle;
mod values;

use super::{Settings, parse_str};
use crate::cli::{Command, Options, parse as command_line};

/// The options of a command line without the program's name.
fn options(line: &str) -> Options {
    match command_line(std::iter::once("runner").chain(line.split_whitespace())) {
        Ok(Command::Run(options)) => *options,
        other => panic!("{line}: {other:?}"),
    }
}

/// What `line` and the config texts, one after the other, come to.
pub(super) fn settled(line: &str, texts: &[&str]) -> Settings {
    try_settled(line, texts).unwrap_or_else(|error| panic!("{line} {texts:?}: {error}"))
}

pub(super) fn try_settled(line: &str, texts: &[&str]) -> Result<Settings, String> {
    let mut config = parse_str("first.json", "{}").expect("an empty object is a config");
    for (text, name) in texts.iter().zip(["a.json", "b.json", "c.json"]) {
        config.read(name, text).map_err(|e| e.to_string())?;
    }
    super::settle(options(line), &config).map_err(|e| e.to_string())
}

/// The error of a config text called `c.json`.
pub(super) fn error(text: &str) -> String {
    match parse_str("c.json", text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => {
            let error = error.to_string();
            assert!(!error.contains('\n'), "{error}");
            error
        }
    }
}
