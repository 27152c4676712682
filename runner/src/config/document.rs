//! A JSON text whose parts know their place.
//!
//! serde_json splits an object or a list into raw parts that borrow from the text, so a part's place is its offset.
//! Parts are opened only when somebody asks, so depth costs nothing, however deep the text.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Error;
use crate::log::printable;

/// A text and what errors call it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Document<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
}

impl<'a> Document<'a> {
    /// An error about a part of the text.
    pub(super) fn error(&self, part: &str, why: impl fmt::Display) -> Error {
        Error(format!("{}: {why}", self.place(self.offset(part))))
    }

    /// Where a part begins, in bytes from the start of the text.
    pub(super) fn offset(&self, part: &str) -> usize {
        part.as_ptr().addr().saturating_sub(self.text.as_ptr().addr())
    }

    /// `config.json:4:14` for an offset: line and column from 1, the column in characters.
    pub(super) fn place(&self, offset: usize) -> String {
        let before = self.before(offset);
        let line_start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        let column = column.saturating_add(1);
        format!("{}:{}:{column}", self.name, self.line(offset))
    }

    /// The line of an offset, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        let newlines = self.before(offset).matches('\n').count();
        newlines.saturating_add(1)
    }

    fn before(&self, offset: usize) -> &'a str {
        let end = self.text.floor_char_boundary(offset);
        self.text.get(..end).unwrap_or_default()
    }

    /// The members of an object as raw names, quotes and all, and raw values.
    pub(super) fn members(&self, raw: &'a str) -> Result<Vec<(&'a str, &'a str)>, Error> {
        let Members(members) = serde_json::from_str(raw).map_err(|e| self.syntax(raw, &e))?;
        Ok(members)
    }

    /// The raw items of a list.
    pub(super) fn items(&self, raw: &'a str) -> Result<Vec<&'a str>, Error> {
        let items: Vec<&RawValue> = serde_json::from_str(raw).map_err(|e| self.syntax(raw, &e))?;
        Ok(items.into_iter().map(RawValue::get).collect())
    }

    /// A raw string, decoded.
    pub(super) fn string(&self, raw: &'a str) -> Result<String, Error> {
        let text: String = serde_json::from_str(raw).map_err(|e| self.syntax(raw, &e))?;
        if text.contains('\0') {
            let why = format!("{} has a NUL character, which nothing here can take", show(raw));
            return Err(self.error(raw, why));
        }
        Ok(text)
    }

    /// What serde_json found wrong, at its place in the whole text.
    fn syntax(&self, raw: &str, error: &serde_json::Error) -> Error {
        let lines = raw.split_inclusive('\n').take(error.line().saturating_sub(1));
        let inside = match error.is_eof() {
            true => raw.len(),
            false => {
                lines.map(str::len).sum::<usize>().saturating_add(error.column().saturating_sub(1))
            }
        };
        let at = self.offset(raw).saturating_add(inside);
        let text = error.to_string();
        let why = text.split(" at line ").next().unwrap_or_default();
        let hint = self.hint(at);
        Error(format!("{}: not JSON: {why}{hint}", self.place(at)))
    }

    /// What people usually meant who wrote what is not JSON at this offset.
    fn hint(&self, at: usize) -> &'static str {
        let after_comma = || self.before(at).trim_end().ends_with(',');
        match self.text.get(at..).and_then(|rest| rest.chars().next()) {
            Some('/' | '#') => "; JSON has no comments",
            Some('\'') => "; JSON has strings in double quotes",
            Some(']' | '}') if after_comma() => "; take out the comma before it",
            _ => "",
        }
    }
}

/// What a raw value is, by its first character.
pub(super) fn describe(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// A raw part for people: short and printable.
pub(super) fn show(raw: &str) -> String {
    const LONGEST: usize = 60;
    match raw.char_indices().nth(LONGEST) {
        Some((end, _)) => printable(raw.get(..end).unwrap_or_default()) + "…",
        None => printable(raw),
    }
}

struct Members<'a>(Vec<(&'a str, &'a str)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    members.push((name.get(), value.get()));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
