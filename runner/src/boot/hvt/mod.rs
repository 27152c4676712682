//! Solo5's hvt: what its tender hands to a unikernel (Solo5, `include/hvt_abi.h`; `tenders/hvt` for what
//! the header leaves open).
//!
//! The first MiB belongs to whoever runs the unikernel. The first 64 KiB of it are mapped nowhere, and
//! have the descriptor table and the page tables; behind them, read-only for the guest, are boot info,
//! manifest and command line. Of the rest each page has the rights of the segment that it is in; what is in
//! none is data. The unikernel is entered with one argument, where boot info is, and a stack at the end of
//! memory. It has one CPU, and no devices: what it wants it asks for by hypercalls
//! ([`crate::devices::hvt`]).

mod aarch64;
mod info;
mod paging;
mod x86_64;

use std::ops::Range;

use hv::{Arch, GuestMemory, State};
use vm_memory::{Bytes, GuestAddress};

use super::load::{Loading, does_not_fit};
use super::{BootPlan, Error, Gpas};
use crate::image::Segment;
use crate::machine::map::hvt::MEMORY_UNIT;
pub use crate::machine::map::hvt::{KERNELS, PAGE};

pub use info::Attached;
pub use info::COMMAND_LINE_MAX;

/// Boot info; below it nothing is mapped.
pub const BOOT_INFO: u64 = 0x1_0000;

/// What a guest may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    /// Nothing.
    None,
    /// Read it.
    Read,
    /// Read and execute it.
    Execute,
    /// Read and execute it. Tables let it be written: then the write reaches RAM that the VM has read-only, the run
    /// ends there, and the address is named. By the tables it would be a fault in a guest that handles none.
    Guarded,
    /// Read and write it.
    Write,
}

/// What boot adds to a kernel that is entered by hvt.
#[derive(Clone, Debug, Default)]
pub struct Hvt {
    /// The devices that are there, by handle.
    pub attached: Vec<(usize, Attached)>,
}

/// The pages of a segment, which may lie anywhere until it is loaded.
fn pages(segment: &Segment) -> Range<u64> {
    let end = segment.end().checked_next_multiple_of(PAGE);
    segment.paddr & !(PAGE - 1)..end.unwrap_or(!(PAGE - 1))
}

impl BootPlan {
    /// Where the guest's memory is that it must not write, in order and in whole pages: none but for hvt.
    pub fn read_only(&self) -> Vec<Gpas> {
        if self.hvt.is_none() {
            return Vec::new();
        }
        let segments = self.kernel.segments().iter().filter(|segment| !segment.writable());
        let mut all: Vec<Gpas> = segments.map(pages).collect();
        all.sort_by_key(|range| range.start);
        let mut joined: Vec<Gpas> = Vec::new();
        for range in all {
            match joined.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => joined.push(range),
            }
        }
        joined
    }

    /// Writes all but the kernel, and returns the vCPU's registers. `guarded`: the guest cannot write what
    /// is read-only even where its page tables let it.
    pub(super) fn load_hvt(
        &self,
        ram: &[Gpas],
        guarded: bool,
        loading: &mut Loading<'_>,
    ) -> Result<State, Error> {
        let (Some(solo5), Some(hvt)) = (self.kernel.solo5(), &self.hvt) else {
            return Err(Error::NoEntry { name: self.kernel.view().source().name().to_owned() });
        };
        let memory = ram.last().map_or(0, |last| last.end);
        if !memory.is_multiple_of(MEMORY_UNIT) {
            let why = format!("memory ends at {memory:#x}, which is no multiple of 2 MiB");
            let remedy = "give the guest a multiple of 2 MiB (-m)";
            return Err(does_not_fit("the page tables".to_owned(), &(0..memory), why, remedy));
        }
        let kernel_end = self.kernel.segments().iter().map(|segment| pages(segment).end).max();
        let place = info::Place { memory, kernel_end: kernel_end.unwrap_or(KERNELS) };
        loading.write(BOOT_INFO, &info::bytes(&place, solo5, hvt, &self.command_line))?;
        let rights = paging::Map::new(self.kernel.segments(), memory, guarded);
        match self.board.arch {
            Arch::X86_64 => x86_64::load(solo5.entry, &rights, loading),
            Arch::Aarch64 => aarch64::load(solo5.entry, &rights, loading),
        }
    }
}

/// Writes how fast the guest's counter counts to where the guest looks for it: in Hz, 64 bits.
pub(super) fn tell_counter(memory: &GuestMemory, hz: Option<u64>) -> hv::Result<()> {
    let Some(hz) = hz else {
        let error = hv::Error::new("boot", hv::Kind::Unsupported, "its counter has no fixed rate");
        return Err(error.remedy("a Solo5 unikernel needs a host whose TSC is stable"));
    };
    let failed = |error: vm_memory::GuestMemoryError| {
        hv::Error::new("boot", hv::Kind::Invalid, error.to_string())
    };
    memory.write_obj(hz, GuestAddress(BOOT_INFO + info::COUNTER)).map_err(failed)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
