//! The guest's memory as hypercalls reach it, for Solo5's hvt and Hermit's uhyve: what the guest itself may read
//! to read, what it may write to write. Who breaks the rules ends the run.

use std::ops::Range;

use hv::GuestMemory;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, VolatileSlice};

use crate::machine::stop::{Reason, Stop};

/// Bytes that are copied to the console at once.
const CHUNK: usize = 4096;

/// How a guest broke the rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A call that there is not.
    #[error("hypercall {0} does not exist")]
    Call(u64),
    /// A call by a write of another width, or beside its place.
    #[error(
        "a hypercall is a write of {bits} bits, and this was another, {behind:#x} behind {place}"
    )]
    Width {
        /// How wide calls are.
        bits: u32,
        /// Where this one was.
        behind: u64,
        /// Behind what.
        place: &'static str,
    },
    /// A call whose pointer, or a pointer it points to, is mapped nowhere.
    #[error("{call}: the address {at:#x} is mapped nowhere")]
    Unmapped {
        /// Which call.
        call: &'static str,
        /// The virtual address.
        at: u64,
    },
    /// A read where hypercalls are.
    #[error("a read where hypercalls are written, {0:#x} behind the first one's place")]
    Read(u64),
    /// A structure or a buffer that is not in memory.
    #[error("{call}: {len} bytes at {gpa:#x} are not all in the guest's memory")]
    Outside {
        /// Which call.
        call: &'static str,
        /// Where it begins.
        gpa: u64,
        /// How much.
        len: u64,
    },
    /// A structure or a buffer to be written that the guest cannot write itself.
    #[error("{call}: {len} bytes at {gpa:#x} are not all the guest's to write")]
    ReadOnly {
        /// Which call.
        call: &'static str,
        /// Where it begins.
        gpa: u64,
        /// How much.
        len: u64,
    },
    /// An access to memory that forbids it, or to where nothing is.
    #[error("{what} {at:#x} ({why})")]
    Access {
        /// The access.
        what: &'static str,
        /// Where.
        at: u64,
        /// In the tender's words.
        why: &'static str,
    },
}

impl From<Violation> for Reason {
    fn from(violation: Violation) -> Self {
        Reason::Violation(violation.to_string())
    }
}

/// A guest's memory.
#[derive(Clone, Debug)]
pub struct Guest {
    memory: GuestMemory,
    /// What the guest may read.
    readable: Range<u64>,
    /// Where what it may write begins, but for what is below.
    writable: u64,
    read_only: Vec<Range<u64>>,
}

/// Gives what is in `slice` to `say`, a copy of a piece at a time, until the run is to end.
pub(super) fn copied(slice: &VolatileSlice<'_>, stop: &Stop, mut say: impl FnMut(&[u8])) {
    let (mut buffer, mut at) = ([0; CHUNK], 0);
    while let Ok(read @ 1..) = slice.read(&mut buffer, at) {
        say(buffer.get(..read).unwrap_or_default());
        at = at.saturating_add(read);
        if stop.requested() {
            return;
        }
    }
}

impl Guest {
    /// Memory without gaps, which the guest may read from `readable` on, and write from `writable` on but
    /// for `read_only`.
    pub fn new(
        memory: GuestMemory,
        readable: u64,
        writable: u64,
        read_only: Vec<Range<u64>>,
    ) -> Self {
        let readable = readable..memory.last_addr().0.saturating_add(1);
        Self { memory, readable, writable, read_only }
    }

    /// The fields of 64 bits of a structure.
    pub(super) fn words<const N: usize>(
        &self,
        call: &'static str,
        gpa: u64,
    ) -> Result<[u64; N], Violation> {
        let mut words = [0; N];
        let mut bytes = [0; 64];
        let len = words.len().saturating_mul(8);
        let bytes = bytes.get_mut(..len).unwrap_or_default();
        self.structure(call, gpa, bytes)?;
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        Ok(words)
    }

    /// A structure, as long as `bytes`.
    pub(super) fn structure(
        &self,
        call: &'static str,
        gpa: u64,
        bytes: &mut [u8],
    ) -> Result<(), Violation> {
        let len = bytes.len() as u64;
        let outside = || Violation::Outside { call, gpa, len };
        self.within(gpa, len).ok_or_else(outside)?;
        self.memory.read_slice(bytes, GuestAddress(gpa)).map_err(|_| outside())
    }

    /// Text up to its NUL; nothing where that is not among the first `most` bytes.
    pub(super) fn text(
        &self,
        call: &'static str,
        gpa: u64,
        most: usize,
    ) -> Result<Option<Vec<u8>>, Violation> {
        let room = self.readable.end.saturating_sub(gpa);
        let len = usize::try_from(room).unwrap_or(usize::MAX).min(most);
        let mut text = vec![0; len.max(1)];
        self.structure(call, gpa, &mut text)?;
        match text.iter().position(|byte| *byte == 0) {
            Some(end) => {
                text.truncate(end);
                Ok(Some(text))
            }
            None if len < most => {
                Err(Violation::Outside { call, gpa, len: room.saturating_add(1) })
            }
            None => Ok(None),
        }
    }

    /// Writes `bytes` into a structure.
    pub(super) fn answer(
        &self,
        call: &'static str,
        gpa: u64,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let len = bytes.len() as u64;
        self.may_write(call, gpa, len)?;
        self.memory.write_slice(bytes, GuestAddress(gpa)).map_err(|_| Violation::Outside {
            call,
            gpa,
            len,
        })
    }

    /// A buffer, all of which the guest may read. One of no bytes is nowhere.
    pub(super) fn contains(&self, call: &'static str, gpa: u64, len: u64) -> Result<(), Violation> {
        match len == 0 || self.within(gpa, len).is_some() {
            true => Ok(()),
            false => Err(Violation::Outside { call, gpa, len }),
        }
    }

    /// A buffer that is read. One of no bytes is nowhere.
    pub(super) fn readable(
        &self,
        call: &'static str,
        gpa: u64,
        len: u64,
    ) -> Result<Vec<VolatileSlice<'_>>, Violation> {
        if len == 0 {
            return Ok(Vec::new());
        }
        let outside = || Violation::Outside { call, gpa, len };
        self.within(gpa, len).ok_or_else(outside)?;
        let len = usize::try_from(len).map_err(|_| outside())?;
        let slices = self.memory.get_slices(GuestAddress(gpa), len);
        slices.collect::<Result<_, _>>().map_err(|_| outside())
    }

    /// A buffer that is written. One of no bytes is nowhere.
    pub(super) fn writable(
        &self,
        call: &'static str,
        gpa: u64,
        len: u64,
    ) -> Result<Vec<VolatileSlice<'_>>, Violation> {
        self.may_write(call, gpa, len)?;
        self.readable(call, gpa, len)
    }

    /// The end of a range that is all in memory.
    fn within(&self, gpa: u64, len: u64) -> Option<u64> {
        let Range { start, end: last } = self.readable;
        gpa.checked_add(len).filter(|end| gpa >= start && *end <= last)
    }

    fn may_write(&self, call: &'static str, gpa: u64, len: u64) -> Result<(), Violation> {
        if len == 0 {
            return Ok(());
        }
        let end = self.within(gpa, len).ok_or(Violation::Outside { call, gpa, len })?;
        let forbidden = |range: &Range<u64>| gpa < range.end && range.start < end;
        match gpa < self.writable || self.read_only.iter().any(forbidden) {
            true => Err(Violation::ReadOnly { call, gpa, len }),
            false => Ok(()),
        }
    }
}
