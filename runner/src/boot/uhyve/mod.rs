//! Hermit's entry as uhyve makes it (uhyve 0.10, `src/mem_layout.rs`, `src/arch`, `src/vm.rs`; `hermit-entry` 0.10,
//! `src/boot_info`).
//!
//! The first 256 KiB of memory are for what the kernel is given: a descriptor table, boot info, a device
//! tree, page tables, and the first processor's stack, of which it is told the lowest address. Behind them
//! is the kernel, relocated, unless it has a place of its own. It is entered with paging on, all up to its
//! end mapped to itself, and two arguments: where boot info is, and the processor's number. All processors
//! begin so, each waits for its turn.
//!
//! Boot info and device tree name the rate of the processors' counter, and are written when that is known.

mod aarch64;
mod info;
mod tree;
mod x86_64;

use std::ops::Range;
use std::time::Duration;

use hv::{Arch, GuestMemory, State};
use vm_memory::{GuestAddress, GuestMemoryBackend as _};

use super::load::{Loading, does_not_fit};
use super::{BootPlan, Error, Gpas};
use crate::image::Kernel;
use crate::image::hermit::Hermit;
use crate::machine::map::uhyve::board;

/// Where things are, from the beginning of memory.
const GDT: u64 = 0;
/// What turns paging on, on arm64.
const START: u64 = 0x4000;
const BOOT_INFO: u64 = 0x5000;
const DEVICE_TREE: Range<u64> = 0x6000..0x1_0000;
const PAGE_TABLES: Range<u64> = 0x1_0000..0x3_8000;
/// The first processor's stack, its lowest address: the kernel adds its length.
const STACK: u64 = 0x3_8000;
/// The kernel, and all that is free.
pub(super) const KERNEL: u64 = 0x4_0000;

/// Bytes of a page.
const PAGE: u64 = 0x1000;
/// The most bytes of a command line: 16 KiB of the device tree's place are left for the rest.
pub const COMMAND_LINE_MAX: usize = 24 << 10;
/// How much a kernel leaves to its page tables, from the first multiple of this behind its end, and uses a few pages of.
const SPARSE: u64 = 2 << 20;
/// What the first kernels find mapped.
const GIB: u64 = 1 << 30;

/// What boot adds to a kernel that is entered as by uhyve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uhyve {
    /// Where in the guest's file system uhyve's files are.
    pub mounts: Vec<String>,
}

/// A kernel in its place, and the machine that it is for.
pub(super) fn placed(
    kernel: Kernel,
) -> Result<(Kernel, &'static crate::machine::map::Board), Error> {
    let name = kernel.view().source().name().to_owned();
    let Some(hermit) = kernel.hermit() else { return Err(Error::NoEntry { name }) };
    let board = board(kernel.arch(), hermit.interface);
    let start = board.ram(u64::MAX).first().map_or(0, |ram| ram.start);
    let kernel = match hermit.is_relocatable {
        true => kernel.moved(start.saturating_add(KERNEL)),
        false => Some(kernel),
    };
    Ok((kernel.ok_or(Error::NoEntry { name })?, board))
}

impl BootPlan {
    /// Where memory begins, and ends.
    fn memory_of(ram: &[Gpas]) -> Gpas {
        let (first, last) = (ram.first(), ram.last());
        first.map_or(0, |ram| ram.start)..last.map_or(0, |ram| ram.end)
    }

    /// What the kernel takes in memory.
    fn image(&self) -> Gpas {
        let segments = self.kernel.segments().iter();
        let start = segments.clone().map(|segment| segment.paddr).min().unwrap_or_default();
        start..segments.map(crate::image::Segment::end).max().unwrap_or_default()
    }

    fn hermit(&self) -> Result<&Hermit, Error> {
        let name = || self.kernel.view().source().name().to_owned();
        self.kernel.hermit().ok_or_else(|| Error::NoEntry { name: name() })
    }

    /// Has the host give what a kernel leaves to its page tables by small pages: one of 2 MiB would be for nothing. What
    /// the kernel itself lies in is better off with large ones, at each of which it stops once, but where it fills little of
    /// one. To be called before anything is written.
    pub(super) fn spare_uhyve(&self, memory: &GuestMemory) {
        let ram = Self::memory_of(&super::load::ram_of(memory));
        let image = self.image();
        let Some(behind) = image.end.checked_next_multiple_of(SPARSE) else { return };
        let is_small = image.end.saturating_sub(image.start) <= SPARSE / 4;
        let start = if is_small { ram.start } else { behind };
        let end = behind.saturating_add(SPARSE).min(ram.end);
        let len = usize::try_from(end.saturating_sub(start)).unwrap_or_default();
        if let Ok(pages) = memory.get_slice(GuestAddress(start), len) {
            hv::mem::in_small_pages(&pages);
        }
    }

    /// Relocates the kernel, writes all but what [`BootPlan::complete`] does, and returns the first
    /// processor's registers.
    pub(super) fn load_uhyve(
        &self,
        ram: &[Gpas],
        loading: &mut Loading<'_>,
    ) -> Result<State, Error> {
        let (hermit, memory) = (self.hermit()?, Self::memory_of(ram));
        self.fits(&(memory.start..memory.start.saturating_add(KERNEL)), ram, || {
            "what Hermit is given".to_owned()
        })?;
        let base = if hermit.is_relocatable { memory.start.saturating_add(KERNEL) } else { 0 };
        let (view, arch) = (self.kernel.view(), self.kernel.arch());
        hermit.relocate(view, arch, (self.kernel.segments(), base), &mut |gpa, value| {
            loading.put(gpa, &value.to_le_bytes())
        })?;
        let mapped = memory.start..self.mapped_end(hermit, memory.start);
        match arch {
            Arch::X86_64 => x86_64::load(hermit.entry, &mapped, loading),
            Arch::Aarch64 => aarch64::load(hermit.entry, &mapped, loading),
        }
    }

    /// How far memory is mapped: to the kernel's end, and on x86_64 for kernels before 0.10, which do not say
    /// what they are, to that of a GiB.
    fn mapped_end(&self, hermit: &Hermit, start: u64) -> u64 {
        let end = self.image().end.max(start.saturating_add(KERNEL));
        match (hermit.kernel, self.board.arch) {
            (None, Arch::X86_64) => end.max(start.saturating_add(GIB)),
            _ => end,
        }
    }

    /// Writes what tells a Hermit guest about its machine.
    pub(super) fn complete_uhyve(
        &self,
        memory: &GuestMemory,
        counter_hz: Option<u64>,
        now: Duration,
    ) -> Result<(), Error> {
        let (hermit, ram) = (self.hermit()?, super::load::ram_of(memory));
        let ram = Self::memory_of(&ram);
        let khz = counter_hz.and_then(|hz| u32::try_from(hz / 1000).ok());
        let place = tree::Place { ram: ram.clone(), khz };
        let tree = self.uhyve_tree(&place).map_err(|error| Error::Tree(error.to_string()))?;
        let start = ram.start.saturating_add(DEVICE_TREE.start);
        let range = start..start.saturating_add(tree.len() as u64);
        if range.end > ram.start.saturating_add(DEVICE_TREE.end) {
            let why = "boot data is behind its place".to_owned();
            let remedy = "ask for fewer CPUs, or shorten --args, --envs and --append";
            return Err(does_not_fit("the device tree".to_owned(), &range, why, remedy));
        }
        let info = info::Info {
            ram: ram.clone(),
            device_tree: start,
            image: self.image(),
            cpus: self.tree.cpus,
            khz,
            now,
        };
        let mut loading = Loading { memory, ranges: Vec::new() };
        loading.write(start, &tree)?;
        loading.write(ram.start.saturating_add(BOOT_INFO), &info.bytes(hermit, self.board.arch))
    }
}

/// The registers of processor `id`, where `first` are the first one's.
pub(super) fn state_of(first: &State, id: u32) -> State {
    let mut state = first.clone();
    match &mut state {
        State::X86_64(state) => state.regs.rsi = id.into(),
        State::Aarch64(state) => state.x[aarch64::SECOND_ARGUMENT] = id.into(),
        #[allow(unreachable_patterns)]
        _ => {}
    }
    state
}

#[cfg(test)]
mod tests;
