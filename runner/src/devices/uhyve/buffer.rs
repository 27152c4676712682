//! A guest's buffer: by its physical address, where it is one piece, or by its virtual one, where each page may be
//! elsewhere.

use crate::devices::hypercall::{Guest, Violation};
use crate::machine::bus::Caller;

/// Bytes of the smallest page.
const PAGE: u64 = 0x1000;
/// Bytes that are looked at before anybody asks whether the run is over.
const MOST: u64 = 1 << 20;

/// A buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Whose it is.
    pub call: &'static str,
    /// Where it begins.
    pub at: u64,
    /// Its bytes.
    pub len: u64,
    /// Whether that is a virtual address.
    is_virtual: bool,
}

impl Buffer {
    /// One at a physical address.
    #[must_use]
    pub fn physical(call: &'static str, at: u64, len: u64) -> Self {
        Self { call, at, len, is_virtual: false }
    }

    /// One at a virtual address.
    #[must_use]
    pub fn by_virtual(call: &'static str, at: u64, len: u64) -> Self {
        Self { call, at, len, is_virtual: true }
    }

    /// The buffer, if all of it is in the guest's memory, as far as that can be said: of one at a virtual address each
    /// page is looked for when its turn comes.
    ///
    /// # Errors
    /// It is not.
    pub fn within(self, guest: &Guest) -> Result<Self, Violation> {
        if !self.is_virtual {
            guest.contains(self.call, self.at, self.len)?;
        }
        Ok(self)
    }

    /// Its parts, each of which is in one piece.
    pub fn pieces(self) -> impl Iterator<Item = Result<Piece, Violation>> {
        let mut next = Some((self.at, self.len)).filter(|(_, len)| *len > 0);
        std::iter::from_fn(move || {
            let (at, left) = next?;
            let len = match self.is_virtual {
                true => PAGE.saturating_sub(at & 0xfff),
                false => MOST,
            };
            let len = len.min(left);
            let Some(behind) = at.checked_add(len) else {
                next = None;
                return Some(Err(Violation::Outside { call: self.call, gpa: at, len: left }));
            };
            next = Some((behind, left.saturating_sub(len))).filter(|(_, left)| *left > 0);
            Some(Ok(Piece { call: self.call, at, len, is_virtual: self.is_virtual }))
        })
    }
}

/// A part of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Whose it is.
    pub call: &'static str,
    at: u64,
    /// Its bytes.
    pub len: u64,
    is_virtual: bool,
}

impl Piece {
    /// Where it is physically, as `caller` has it.
    ///
    /// # Errors
    /// It is mapped nowhere.
    pub fn physical(&self, caller: &dyn Caller) -> Result<u64, Violation> {
        match self.is_virtual {
            false => Ok(self.at),
            true => {
                let Self { call, at, .. } = *self;
                caller.translate(at).ok_or(Violation::Unmapped { call, at })
            }
        }
    }
}
