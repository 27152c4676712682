//! Carrying out a boot plan: everything checked against the machine's memory, then read straight
//! into place.

use std::cmp::Reverse;

use hv::{GuestMemory, State};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::layout::{COMMAND_LINE, Places};
use super::pc::Machine;
use super::{BootPlan, Error, Gpas, Platform, Protocol, semihosting};
use crate::image::{Segment, Source};
use crate::io::file;

const MORE_MEMORY: &str = "give the guest more memory (-m)";
const SMALLER: &str = "use a smaller one: the kernel reaches no further, or RAM has its hole there";
const RELINK: &str = "link the kernel elsewhere";
/// Linux's 64-bit protocol wants the kernel mapped to itself; our tables map the first GiB.
const MAPPED: u64 = 1 << 30;

/// What loading left: the boot vCPU's registers, and what was written where.
#[derive(Debug)]
pub struct Loaded {
    /// For the boot vCPU; the others wait for it.
    pub state: State,
    /// Guest memory that is not zero any more.
    pub ranges: Vec<Gpas>,
}

impl BootPlan {
    /// Writes the kernel and its boot data into `memory`, zeroed until now, for a machine of `platform`'s.
    ///
    /// # Errors
    /// When something does not fit, or a file cannot be read.
    pub fn load(&self, memory: &GuestMemory, platform: Platform) -> Result<Loaded, Error> {
        let ram = ram_of(memory);
        let mut loading = Loading { memory, ranges: Vec::new() };
        if self.protocol == Protocol::Uhyve {
            self.spare_uhyve(memory);
        }
        self.load_kernel(&ram, &mut loading)?;
        if self.exits_by_semihosting && platform == Platform::Hypervisor {
            let code = self.kernel.segments().iter().filter(|segment| segment.executable());
            // Behind a segment's bytes there is no code, however much memory it claims.
            let code = code.map(|it| it.paddr..it.paddr.saturating_add(it.file_size));
            let code: Vec<Gpas> = code.collect();
            semihosting::reroute(memory, &code)?;
        }
        let initrd = self.load_initrd(&ram, &mut loading)?;
        let (initrd, into) = (initrd.as_ref(), &mut loading);
        let pc = Machine { ram: &ram, initrd, platform };
        let state = match self.protocol {
            Protocol::Linux64 => self.load_linux64(&pc, into),
            Protocol::Linux32 => self.load_linux32(&pc, into),
            Protocol::Pvh => self.load_pvh(&pc, into),
            Protocol::Multiboot => self.load_multiboot(&pc, into),
            Protocol::Arm64 => self.load_virt(&ram, initrd, into),
            Protocol::Hvt => self.load_hvt(&ram, self.is_guarded(&ram), into),
            Protocol::Uhyve => self.load_uhyve(&ram, into),
        }?;
        Ok(Loaded { state, ranges: loading.ranges })
    }

    fn load_kernel(&self, ram: &[Gpas], loading: &mut Loading<'_>) -> Result<(), Error> {
        for segment in self.kernel.segments() {
            let range = segment.paddr..segment.end();
            let what = || format!("the kernel's segment {}", segment.index);
            self.fits(&range, ram, what)?;
            if self.protocol == Protocol::Linux64
                && range.contains(&self.entry)
                && range.end > MAPPED
            {
                let why = format!("only memory below {MAPPED:#x} is mapped at its 64-bit entry");
                return Err(does_not_fit(what(), &range, why, RELINK));
            }
            for (taken, name) in self.places().taken {
                if range.start < taken.end && taken.start < range.end {
                    return Err(does_not_fit(what(), &range, format!("{name} is there"), RELINK));
                }
            }
            self.load_segment(segment, loading)?;
        }
        Ok(())
    }

    /// What lies behind a segment's bytes is zero, as all memory is until somebody writes it; no
    /// two segments overlap.
    fn load_segment(&self, segment: &Segment, loading: &mut Loading<'_>) -> Result<(), Error> {
        for piece in self.kernel.pieces(segment) {
            if let Some(offset) = piece.source {
                let source = self.kernel.view().source();
                let gpa = segment.paddr.saturating_add(piece.at);
                loading.read(source, offset, gpa, piece.len)?;
            }
        }
        Ok(())
    }

    /// Where the ram disk goes: pages of its own, at the end of low memory or of what the kernel can
    /// reach.
    ///
    /// # Errors
    /// When there is no room for it in `ram`.
    pub fn initrd_place(&self, ram: &[Gpas]) -> Result<Option<Gpas>, Error> {
        let Some(source) = &self.initrd else { return Ok(None) };
        if self.is_hermit_loader() && self.protocol == Protocol::Multiboot {
            return self.behind_command_line(source, ram).map(Some);
        }
        let limit = self
            .kernel
            .setup()
            .map_or(u64::MAX, |setup| u64::from(setup.initrd_addr_max).saturating_add(1));
        let limit = limit.min(self.places().ram_disk.end);
        let low_end = ram.first().map_or(0, |low| low.end).min(limit);
        if let Some(start) = self.last_gap(source.len(), low_end) {
            return Ok(Some(start..start + source.len()));
        }
        let what = format!("the ram disk {}", source.name());
        let from = self.places().ram_disk.start;
        let range = from..from.saturating_add(source.len());
        let why = format!("memory for it ends at {low_end:#x}, with the kernel before it");
        let with_more = self.last_gap(source.len(), limit);
        let remedy = if with_more.is_some() { MORE_MEMORY } else { SMALLER };
        Err(does_not_fit(what, &range, why, remedy))
    }

    /// Where the command line goes. Hermit's loader by Multiboot maps the page behind itself, where QEMU has
    /// it, and none of the lower ones but Multiboot's own.
    pub(super) fn command_line_place(&self) -> u64 {
        match self.is_hermit_loader() && self.protocol == Protocol::Multiboot {
            true => page_behind(self.kernel.segments().iter().map(Segment::end).max()),
            false => COMMAND_LINE,
        }
    }

    /// The same loader takes all behind its ram disk for free, and loads the unikernel there.
    fn behind_command_line(&self, source: &Source, ram: &[Gpas]) -> Result<Gpas, Error> {
        let line = self.command_line_place().saturating_add(self.command_line.len() as u64);
        let start = page_behind(line.checked_add(1));
        let range = start..start.saturating_add(source.len());
        let what = || format!("the ram disk {}", source.name());
        self.fits_or(&range, ram, what, SMALLER)?;
        Ok(range)
    }

    /// The highest page of where ram disks can be from where `len` bytes are free of the kernel, all of them below
    /// `end`.
    fn last_gap(&self, len: u64, mut end: u64) -> Option<u64> {
        let mut segments: Vec<_> = self.kernel.segments().iter().collect();
        segments.sort_unstable_by_key(|segment| Reverse(segment.paddr));
        let from = self.places().ram_disk.start;
        let below = |end: u64| Some(end.checked_sub(len)? & !0xfff).filter(|at| *at >= from);
        for segment in segments {
            if segment.paddr >= end {
                continue;
            }
            match below(end) {
                Some(start) if start >= segment.end() => return Some(start),
                // No two segments overlap: the next gap ends where this one begins.
                Some(_) => end = segment.paddr & !0xfff,
                None => return None,
            }
        }
        below(end)
    }

    fn load_initrd(&self, ram: &[Gpas], loading: &mut Loading<'_>) -> Result<Option<Gpas>, Error> {
        let place = self.initrd_place(ram)?;
        if let (Some(source), Some(place)) = (&self.initrd, &place) {
            loading.read(source, 0, place.start, source.len())?;
        }
        Ok(place)
    }

    fn places(&self) -> &'static Places {
        match (self.protocol, self.kernel.hermit()) {
            (Protocol::Hvt, _) => Places::of_hvt(),
            (Protocol::Uhyve, Some(hermit)) => Places::of_uhyve(self.board.arch, hermit.interface),
            _ => Places::of(self.board.arch),
        }
    }

    /// Whether what the guest must not write is RAM of its own.
    fn is_guarded(&self, ram: &[Gpas]) -> bool {
        self.read_only().iter().all(|range| ram.contains(range))
    }

    /// Whether `range`, where something is linked to, lies in one piece of RAM.
    pub(super) fn fits(
        &self,
        range: &Gpas,
        ram: &[Gpas],
        what: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        self.fits_or(range, ram, what, self.places().out_of_hole)
    }

    /// The same, and what to do about what reaches into where there is never RAM.
    fn fits_or(
        &self,
        range: &Gpas,
        ram: &[Gpas],
        what: impl FnOnce() -> String,
        out_of_hole: &'static str,
    ) -> Result<(), Error> {
        if ram.iter().any(|piece| piece.start <= range.start && range.end <= piece.end) {
            return Ok(());
        }
        let memory: u64 = ram.iter().map(|piece| piece.end - piece.start).sum();
        let why = format!("the guest has {} MiB, up to {:#x}", memory >> 20, end_of(ram));
        let hole = &self.places().hole;
        let in_hole = range.end > hole.start && range.start < hole.end;
        let remedy = if in_hole { out_of_hole } else { MORE_MEMORY };
        Err(does_not_fit(what(), range, why, remedy))
    }
}

/// What memory there is, in order.
pub(super) fn ram_of(memory: &GuestMemory) -> Vec<Gpas> {
    let range = |start: u64, len| start..start + len;
    memory.iter().map(|region| range(region.start_addr().0, region.len())).collect()
}

/// Memory being filled.
pub(super) struct Loading<'a> {
    pub(super) memory: &'a GuestMemory,
    pub(super) ranges: Vec<Gpas>,
}

impl Loading<'_> {
    pub(super) fn write(&mut self, gpa: u64, bytes: &[u8]) -> Result<(), Error> {
        self.put(gpa, bytes)?;
        self.ranges.push(gpa..gpa + bytes.len() as u64);
        Ok(())
    }

    /// Writes over what has been written before.
    pub(super) fn put(&self, gpa: u64, bytes: &[u8]) -> Result<(), Error> {
        self.memory
            .write_slice(bytes, GuestAddress(gpa))
            .map_err(|error| outside(gpa, &error.to_string()))
    }

    /// 64 bits that have been written before.
    pub(super) fn get(&self, gpa: u64) -> Result<u64, Error> {
        let mut bytes = [0; 8];
        let read = self.memory.read_slice(&mut bytes, GuestAddress(gpa));
        read.map_err(|error| outside(gpa, &error.to_string()))?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads `len` bytes at `offset` of `source`, straight into place.
    fn read(&mut self, source: &Source, offset: u64, gpa: u64, len: u64) -> Result<(), Error> {
        let end = || usize::try_from(offset.checked_add(len)?).ok();
        if let Some(bytes) = source.bytes() {
            let range = usize::try_from(offset).ok().zip(end());
            let bytes = range.and_then(|(start, end)| bytes.get(start..end));
            return self.write(gpa, bytes.unwrap_or_default());
        }
        let Some(file) = source.file() else { return Ok(()) };
        let slices: Result<Vec<_>, _> = usize::try_from(len)
            .map(|len| self.memory.get_slices(GuestAddress(gpa), len).collect())
            .unwrap_or_else(|_| Ok(Vec::new()));
        let slices = slices.map_err(|error| outside(gpa, &error.to_string()))?;
        file::read_exact_at(file, offset, &slices)
            .map_err(|error| Error::Read { name: source.name().to_owned(), error })?;
        self.ranges.push(gpa..gpa + len);
        Ok(())
    }
}

/// The first page that is free where all before `end` is taken.
fn page_behind(end: Option<u64>) -> u64 {
    end.and_then(|end| end.checked_next_multiple_of(4096)).unwrap_or_default()
}

fn outside(gpa: u64, why: &str) -> Error {
    hv::Error::new("load", hv::Kind::Invalid, format!("GPA {gpa:#x}: {why}")).into()
}

fn end_of(ram: &[Gpas]) -> u64 {
    ram.last().map_or(0, |last| last.end)
}

pub(super) fn does_not_fit(what: String, range: &Gpas, why: String, remedy: &'static str) -> Error {
    Error::DoesNotFit { what, start: range.start, end: range.end, why, remedy }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
