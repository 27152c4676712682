//! The encoding of tuples (nanos `src/runtime/tuple.c`).
//!
//! A value begins with a header byte, `imm<<7 | type<<4 | ext<<3 | low3` in version 5 and `imm<<7 |
//! type<<6 | ext<<5 | low5` in version 4; with ext set, groups of seven bits follow, the last
//! without 0x80, and are shifted in below. Immediate tuples, immediate vectors and immediate keys
//! are numbered from 1 in order of appearance, over the whole log; references name those numbers.

use super::LogProblem;
use super::tree::{Known, Node, RawKey, RawValue, Span, Tree};

/// Levels of tuples within tuples. A directory takes two, and a path has at most 4096 bytes.
pub(super) const MAX_DEPTH: usize = 4096;

/// How the log around a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    V4,
    V5,
}

const BUFFER: u8 = 0;
pub(super) const TUPLE: u8 = 1;
pub(super) const VECTOR: u8 = 2;
const INTEGER: u8 = 3;
pub(super) const STRING: u8 = 4;

/// Adds the next seven bits, most significant first. `None`: more than 64 bits.
pub(super) fn shift_in(value: u64, byte: u8) -> Option<u64> {
    Some(value.checked_mul(128)? | u64::from(byte & 0x7f))
}

/// Decodes the record in the tree's text from `start` to its end, and applies it.
pub(super) fn decode(tree: &mut Tree, start: usize, encoding: Encoding) -> Result<(), LogProblem> {
    let mut decoder = Decoder { tree, at: start, encoding };
    let (_, opened) = decoder.value()?;
    let mut open = vec![opened.ok_or(LogProblem::NotTuple)?];
    while let Some(top) = open.last_mut() {
        let Some(left) = top.left.checked_sub(1) else {
            open.pop();
            continue;
        };
        top.left = left;
        let owner = top.node;
        let key = match top.index {
            Some(index) => {
                top.index = Some(index.checked_add(1).ok_or(LogProblem::Entries)?);
                RawKey::Index(index)
            }
            None => RawKey::Name(decoder.key()?),
        };
        let (value, opened) = decoder.value()?;
        decoder.tree.set(owner, key, value)?;
        if let Some(opened) = opened {
            if open.len() >= MAX_DEPTH {
                return Err(LogProblem::Depth);
            }
            open.push(opened);
        }
    }
    let left = decoder.tree.text().len().saturating_sub(decoder.at);
    if left > 0 {
        return Err(LogProblem::Trailing(u64::try_from(left).unwrap_or(u64::MAX)));
    }
    Ok(())
}

/// A tuple or vector whose contents come next.
struct Open {
    node: Node,
    left: u64,
    /// Of the next element, in a vector.
    index: Option<u32>,
}

struct Header {
    immediate: bool,
    kind: u8,
    /// Length, number of entries, or dictionary index.
    len: u64,
}

struct Decoder<'a> {
    tree: &'a mut Tree,
    at: usize,
    encoding: Encoding,
}

impl Decoder<'_> {
    fn byte(&mut self) -> Result<u8, LogProblem> {
        let byte = *self.tree.text().get(self.at).ok_or(LogProblem::Short)?;
        self.at = self.at.saturating_add(1);
        Ok(byte)
    }

    /// Seven-bit groups below `value`.
    fn groups(&mut self, mut value: u64) -> Result<u64, LogProblem> {
        loop {
            let byte = self.byte()?;
            value = shift_in(value, byte).ok_or(LogProblem::Number)?;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
    }

    fn header(&mut self) -> Result<Header, LogProblem> {
        let byte = self.byte()?;
        let (kind, extended, low) = match self.encoding {
            Encoding::V4 => (byte >> 6 & 1, byte & 0x20 != 0, byte & 0x1f),
            Encoding::V5 => (byte >> 4 & 7, byte & 0x08 != 0, byte & 0x07),
        };
        let len = if extended { self.groups(low.into())? } else { low.into() };
        Ok(Header { immediate: byte & 0x80 != 0, kind, len })
    }

    /// `len` bytes, left where they are.
    fn span(&mut self, len: u64) -> Result<Span, LogProblem> {
        let end = usize::try_from(len).ok().and_then(|len| self.at.checked_add(len));
        let end = end.filter(|end| *end <= self.tree.text().len()).ok_or(LogProblem::Short)?;
        let at = u32::try_from(self.at).map_err(|_| LogProblem::TooLong)?;
        let len = u32::try_from(len).map_err(|_| LogProblem::TooLong)?;
        self.at = end;
        Ok(Span { at, len })
    }

    fn symbol(&self, index: u64) -> Result<Span, LogProblem> {
        match self.tree.known(index) {
            Some(Known::Symbol(span)) => Ok(span),
            Some(Known::Node(_)) | None => Err(LogProblem::Reference(index)),
        }
    }

    fn key(&mut self) -> Result<Span, LogProblem> {
        let header = self.header()?;
        if !header.immediate {
            return self.symbol(header.len);
        }
        let span = self.span(header.len)?;
        self.tree.remember(Known::Symbol(span))?;
        Ok(span)
    }

    /// A value. When it is a tuple or a vector, what it holds is still to come.
    fn value(&mut self) -> Result<(RawValue, Option<Open>), LogProblem> {
        let header = self.header()?;
        let value = match header.kind {
            TUPLE | VECTOR => {
                let node = if header.immediate { self.tree.new_node()? } else { self.node()? };
                let index = (header.kind == VECTOR).then_some(0);
                return Ok((RawValue::Node(node), Some(Open { node, left: header.len, index })));
            }
            INTEGER if header.immediate => {
                RawValue::Integer { negative: header.len > 0, magnitude: self.groups(0)? }
            }
            BUFFER if header.len == 0 => RawValue::Deleted,
            BUFFER | STRING if header.immediate => RawValue::Text(self.span(header.len)?),
            BUFFER | STRING => RawValue::Text(self.symbol(header.len)?),
            kind => return Err(LogProblem::Type(kind)),
        };
        Ok((value, None))
    }

    /// A tuple or vector that has been, by the number that follows.
    fn node(&mut self) -> Result<Node, LogProblem> {
        let index = self.groups(0)?;
        match self.tree.known(index) {
            Some(Known::Node(node)) => Ok(node),
            Some(Known::Symbol(_)) | None => Err(LogProblem::Reference(index)),
        }
    }
}
