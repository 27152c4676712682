//! The guest's memory as hypercalls reach it: all of it from boot info on to read, what the guest itself
//! may write to write.

use std::ops::Range;

use hv::GuestMemory;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, VolatileSlice};

use crate::boot::hvt::{BOOT_INFO, KERNELS};
use crate::machine::stop::Reason;

/// How a guest broke the rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A call that there is not.
    #[error("hypercall {0} does not exist")]
    Call(u64),
    /// A call by a write of another width, or beside its place.
    #[error(
        "a hypercall is a write of 32 bits, and this was another, {0:#x} behind the first one's place"
    )]
    Width(u64),
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
#[derive(Debug)]
pub struct Guest {
    memory: GuestMemory,
    len: u64,
    /// What the guest must not write, of what lies behind its first MiB.
    read_only: Vec<Range<u64>>,
}

impl Guest {
    /// Memory from 0 on, without gaps, of which the guest must not write `read_only`.
    pub fn new(memory: GuestMemory, read_only: Vec<Range<u64>>) -> Self {
        let len = memory.last_addr().0.saturating_add(1);
        Self { memory, len, read_only }
    }

    /// The fields of 64 bits of a structure.
    pub(super) fn words<const N: usize>(
        &self,
        call: &'static str,
        gpa: u64,
    ) -> Result<[u64; N], Violation> {
        let len = (N as u64).saturating_mul(8);
        let outside = Violation::Outside { call, gpa, len };
        self.within(gpa, len).ok_or(outside.clone())?;
        let mut words = [0; N];
        for (index, word) in (0..).zip(&mut words) {
            let at = 8_u64.saturating_mul(index).saturating_add(gpa);
            let bytes: [u8; 8] =
                self.memory.read_obj(GuestAddress(at)).map_err(|_| outside.clone())?;
            *word = u64::from_le_bytes(bytes);
        }
        Ok(words)
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

    /// A buffer that is read.
    pub(super) fn readable(
        &self,
        call: &'static str,
        gpa: u64,
        len: u64,
    ) -> Result<Vec<VolatileSlice<'_>>, Violation> {
        let outside = || Violation::Outside { call, gpa, len };
        self.within(gpa, len).ok_or_else(outside)?;
        let len = usize::try_from(len).map_err(|_| outside())?;
        let slices = self.memory.get_slices(GuestAddress(gpa), len);
        slices.collect::<Result<_, _>>().map_err(|_| outside())
    }

    /// A buffer that is written.
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
        gpa.checked_add(len).filter(|end| gpa >= BOOT_INFO && *end <= self.len)
    }

    fn may_write(&self, call: &'static str, gpa: u64, len: u64) -> Result<(), Violation> {
        let end = self.within(gpa, len).ok_or(Violation::Outside { call, gpa, len })?;
        let forbidden = |range: &Range<u64>| gpa < range.end && range.start < end;
        match gpa < KERNELS || self.read_only.iter().any(forbidden) {
            true => Err(Violation::ReadOnly { call, gpa, len }),
            false => Ok(()),
        }
    }
}
