//! The tuples of a file system, as they were logged.
//!
//! A tuple is not kept as a map: every change is one more entry, chained to the tuple's last, and
//! what is looked up is the latest entry for its key. Few lookups are ever made, and so hostile
//! metadata costs 32 bytes an entry and little else. Strings stay in the bytes of the log.

use std::collections::HashMap;
use std::num::NonZeroU32;

use super::LogProblem;

/// Entries a log may have. An image has about eight for a file.
pub(super) const MAX_ENTRIES: usize = 1 << 20;

/// A range of the log's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) at: u32,
    pub(super) len: u32,
}

/// A tuple or a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Node(u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RawKey {
    Name(Span),
    Index(u32),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum RawValue {
    Deleted,
    Text(Span),
    Node(Node),
    Integer { negative: bool, magnitude: u64 },
}

/// What a reference in the log may point to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known {
    Symbol(Span),
    Node(Node),
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// The entry that its tuple had before.
    previous: Last,
    key: RawKey,
    value: RawValue,
}

/// An entry by its index in the tree.
type Last = Option<NonZeroU32>;

/// All tuples. Node 0 is the root.
#[derive(Debug, Default)]
pub(super) struct Tree {
    text: Vec<u8>,
    /// The latest entry of each.
    nodes: Vec<Last>,
    entries: Vec<Entry>,
    dictionary: Vec<Known>,
}

impl Tree {
    /// The log's bytes, to append to; spans are ranges of it.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(super) fn text_mut(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// A new tuple or vector, which later records refer to by its place in the dictionary.
    pub(super) fn new_node(&mut self) -> Result<Node, LogProblem> {
        let node = Node(u32::try_from(self.nodes.len()).map_err(|_| LogProblem::Entries)?);
        push_limited(&mut self.nodes, None)?;
        self.remember(Known::Node(node))?;
        Ok(node)
    }

    pub(super) fn remember(&mut self, known: Known) -> Result<(), LogProblem> {
        push_limited(&mut self.dictionary, known)
    }

    /// Entry `index` of the dictionary, counted from 1.
    pub(super) fn known(&self, index: u64) -> Option<Known> {
        let index = usize::try_from(index.checked_sub(1)?).ok()?;
        self.dictionary.get(index).copied()
    }

    pub(super) fn set(
        &mut self,
        owner: Node,
        key: RawKey,
        value: RawValue,
    ) -> Result<(), LogProblem> {
        let last = usize::try_from(owner.0).ok().and_then(|owner| self.nodes.get_mut(owner));
        let last = last.ok_or(LogProblem::Entries)?;
        push_limited(&mut self.entries, Entry { previous: *last, key, value })?;
        // Entries are counted from 1 here, so that none is 0.
        *last = u32::try_from(self.entries.len()).ok().and_then(NonZeroU32::new);
        Ok(())
    }

    /// The entries of a tuple, the latest first.
    fn latest_first(&self, node: Node) -> impl Iterator<Item = &Entry> {
        let last = usize::try_from(node.0).ok().and_then(|node| self.nodes.get(node));
        let entry = |last: Last| {
            let index = usize::try_from(last?.get()).ok()?.checked_sub(1)?;
            self.entries.get(index)
        };
        std::iter::successors(last.and_then(|last| entry(*last)), move |latest| {
            entry(latest.previous)
        })
    }

    pub(super) fn has_root(&self) -> bool {
        !self.nodes.is_empty()
    }

    pub(super) fn root(&self) -> Tuple<'_> {
        Tuple { tree: self, node: Node(0) }
    }

    fn bytes(&self, span: Span) -> &[u8] {
        let range = usize::try_from(span.at).ok().zip(usize::try_from(span.len).ok());
        range.and_then(|(at, len)| self.text.get(at..)?.get(..len)).unwrap_or_default()
    }

    fn key(&self, key: RawKey) -> Key<'_> {
        match key {
            RawKey::Name(span) => Key::Name(self.bytes(span)),
            RawKey::Index(index) => Key::Index(index),
        }
    }

    fn value(&self, value: RawValue) -> Option<Value<'_>> {
        Some(match value {
            RawValue::Deleted => return None,
            RawValue::Text(span) => Value::Text(self.bytes(span)),
            RawValue::Node(node) => Value::Tuple(Tuple { tree: self, node }),
            RawValue::Integer { negative, magnitude } => Value::Integer { negative, magnitude },
        })
    }
}

fn push_limited<T>(list: &mut Vec<T>, item: T) -> Result<(), LogProblem> {
    if list.len() >= MAX_ENTRIES {
        return Err(LogProblem::Entries);
    }
    list.push(item);
    Ok(())
}

/// The key of an entry. Vectors have indices; TFS version 4 writes vectors as tuples with the names
/// `0`, `1`, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key<'a> {
    /// A name. The bytes are the image's: they may be anything.
    Name(&'a [u8]),
    /// A place in a vector, from 0.
    Index(u32),
}

impl Key<'_> {
    /// The number it is, or is the decimal digits of.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Name(name) => decimal(name),
            Self::Index(index) => Some((*index).into()),
        }
    }
}

/// The value of an entry.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// A string. The bytes are the image's: they may be anything.
    Text(&'a [u8]),
    /// A tuple or a vector. It may be one that contains this very entry.
    Tuple(Tuple<'a>),
    /// An integer.
    Integer {
        /// Its sign.
        negative: bool,
        /// Its distance from 0.
        magnitude: u64,
    },
}

impl<'a> Value<'a> {
    /// The number it is: C `mkfs` writes integers, `ops` writes decimal digits.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Text(text) => decimal(text),
            Self::Integer { negative: false, magnitude } => Some(*magnitude),
            Self::Integer { .. } | Self::Tuple(_) => None,
        }
    }

    /// The string it is.
    #[must_use]
    pub fn text(&self) -> Option<&'a [u8]> {
        match self {
            Self::Text(text) => Some(text),
            Self::Integer { .. } | Self::Tuple(_) => None,
        }
    }
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A tuple or a vector of a file system.
#[derive(Clone, Copy)]
pub struct Tuple<'a> {
    tree: &'a Tree,
    node: Node,
}

impl std::fmt::Debug for Tuple<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not its entries: tuples may contain each other.
        write!(f, "Tuple({})", self.node.0)
    }
}

impl<'a> Tuple<'a> {
    /// Which one it is: references make the same tuple turn up in several places.
    pub(super) fn node(&self) -> Node {
        self.node
    }

    /// The value of a name, if it has one. Takes time in proportion to the changes of the tuple
    /// that were logged.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        let mut entries = self.tree.latest_first(self.node);
        let entry = entries.find(|entry| self.tree.key(entry.key) == Key::Name(name.as_bytes()))?;
        self.tree.value(entry.value)
    }

    /// All that it has, each key once, in the order in which they were first written.
    #[must_use]
    pub fn entries(&self) -> Vec<(Key<'a>, Value<'a>)> {
        let mut changes: Vec<&Entry> = self.tree.latest_first(self.node).collect();
        changes.reverse();
        let mut order = Vec::new();
        let mut places: HashMap<Key<'a>, usize> = HashMap::new();
        for entry in changes {
            let (key, value) = (self.tree.key(entry.key), self.tree.value(entry.value));
            let place = *places.entry(key).or_insert(order.len());
            match order.get_mut(place) {
                Some(slot) => *slot = (key, value),
                None => order.push((key, value)),
            }
        }
        order.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}
