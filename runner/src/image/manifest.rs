//! The manifest of an image: the root tuple of its root file system.
//!
//! The guest reads it itself. Here it is only shown, so strings are made printable and nothing is
//! an error.

use super::tfs::{Filesystem, Key, Tuple, Value};

/// Of each kind of entry this many are shown. No program needs as many; a hostile image has a
/// million.
const SHOWN: usize = 1000;

/// What an image says about its program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Path of the program in the image.
    pub program: Option<String>,
    /// Arguments, the program's name first.
    pub arguments: Vec<String>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// All other settings that are a string or a number (debug flags, addresses, `klibs`, …).
    pub settings: Vec<(String, String)>,
}

impl Manifest {
    pub(super) fn of(filesystem: &Filesystem) -> Self {
        let root = filesystem.root();
        let mut manifest = Self { arguments: arguments(&root), ..Self::default() };
        if let Some(Value::Tuple(environment)) = root.get("environment") {
            manifest.environment = strings(&environment).take(SHOWN).collect();
        }
        for (name, value) in strings(&root).take(SHOWN) {
            if name == "program" {
                manifest.program = Some(value);
            } else {
                manifest.settings.push((name, value));
            }
        }
        manifest
    }
}

fn arguments(root: &Tuple<'_>) -> Vec<String> {
    let Some(Value::Tuple(arguments)) = root.get("arguments") else {
        return Vec::new();
    };
    let mut numbered: Vec<(u64, String)> = (arguments.entries().into_iter())
        .filter_map(|(key, value)| Some((key.number()?, printable(&value)?)))
        .collect();
    numbered.sort_by_key(|(number, _)| *number);
    numbered.into_iter().map(|(_, argument)| argument).collect()
}

fn strings(tuple: &Tuple<'_>) -> impl Iterator<Item = (String, String)> {
    tuple.entries().into_iter().filter_map(|(key, value)| match key {
        Key::Name(name) => Some((name.escape_ascii().to_string(), printable(&value)?)),
        Key::Index(_) => None,
    })
}

fn printable(value: &Value<'_>) -> Option<String> {
    match value {
        Value::Text(text) => Some(escaped(text)),
        Value::Integer { negative, magnitude } => {
            Some(format!("{}{magnitude}", if *negative { "-" } else { "" }))
        }
        Value::Tuple(_) => None,
    }
}

/// UTF-8 as it is; everything that a terminal may act upon as an escape.
fn escaped(text: &[u8]) -> String {
    let mut out = String::new();
    for c in String::from_utf8_lossy(text).chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}
