//! A kernel that can be loaded: segments, where their bytes are, and the addresses it can be
//! entered at.

use std::ops::Range;

use hv::Arch;

use super::bzimage::{BzImage, Setup};
use super::elf::{Elf, ElfError, Segment};
use super::hermit::Hermit;
use super::multiboot::Multiboot;
use super::solo5::{Abi, Solo5, Solo5Error};
use super::source::{ReadError, Source};
use super::view::{Piece, View};
use super::{Error, Problem, recognise};
use crate::family::System;
use crate::machine::map::hvt::{KERNELS, PAGE};

/// Where kernels are linked, and no linker puts a Linux program by default. x86_64: from 1 MiB,
/// where boot loaders begin, to 4 MiB, where ld and Go begin; lld begins at 2 MiB, but with the ELF
/// header in memory. aarch64: the first GiB of RAM of QEMU's `virt`; ld begins at 4 MiB there, too.
fn kernel_bases(arch: Arch) -> Range<u64> {
    match arch {
        Arch::X86_64 => 0x10_0000..0x40_0000,
        Arch::Aarch64 => 0x4000_0000..0x8000_0000,
    }
}

/// A kernel, checked so far as its file allows. Whether its segments lie in RAM is for the boot
/// plan to check.
#[derive(Debug, Clone)]
pub struct Kernel {
    view: View,
    arch: Arch,
    segments: Vec<Segment>,
    entry: Option<u64>,
    entry32: Option<u32>,
    pvh_entry: Option<u32>,
    multiboot: Option<Multiboot>,
    setup: Option<Setup>,
    solo5: Option<Solo5>,
    hermit: Option<Hermit>,
    system: Option<System>,
}

/// The version of hvt's ABI that is spoken here (`HVT_ABI_VERSION`).
const HVT_VERSION: u32 = 2;

impl Kernel {
    /// The kernel that the user names as such (`--kernel`): a file that [`super::Image::recognise`]
    /// would take for an ELF kernel, and one in which nothing marks a kernel as well.
    ///
    /// # Errors
    /// As [`super::Image::recognise`].
    pub fn open(source: &Source) -> Result<Self, Error> {
        recognise::kernel(source).map_err(|problem| Error::new(source.name(), problem))
    }

    /// `file`: the name inside an image, for messages. `multiboot`: what it has beside ELF's own entry.
    pub(super) fn new(
        view: View,
        elf: Elf,
        multiboot: Option<Multiboot>,
        file: Option<&str>,
    ) -> Result<Self, Problem> {
        let wrong = |error| Problem::Elf { file: file.map(str::to_owned), error };
        if let Some(interpreter) = &elf.interpreter {
            return Err(match file {
                Some(_) => wrong(ElfError::Interpreter(interpreter.escape_ascii().to_string())),
                None => Problem::LinuxProgram { why: asks_for(interpreter) },
            });
        }
        if elf.dynamic {
            return Err(wrong(ElfError::Relocatable));
        }
        let pvh_entry = elf.pvh_entry().map_err(wrong)?;
        let entry = match elf.is_32_bit {
            true => None,
            false => elf.physical_entry().map_err(wrong)?,
        };
        if entry.is_none() && pvh_entry.is_none() && multiboot.is_none() {
            return Err(wrong(match elf.is_32_bit {
                true => ElfError::Class32,
                false => ElfError::EntryVirtual(elf.entry),
            }));
        }
        let system = match file {
            // What a disk's file system has is Nanos.
            Some(_) => None,
            None => System::of_elf(&view, &elf),
        };
        let Elf { arch, segments, .. } = elf;
        Ok(Self { entry, pvh_entry, multiboot, system, ..Self::loading(view, arch, segments) })
    }

    /// Hermit's loader: it is entered wherever something is loaded, which in some is a segment that is only to be read.
    pub(super) fn of_hermits_loader(
        view: View,
        elf: Elf,
        multiboot: Option<Multiboot>,
    ) -> Result<Self, Problem> {
        match elf.loaded_entry() {
            Some(entry) if !elf.is_32_bit && !elf.dynamic && elf.interpreter.is_none() => {
                let Elf { arch, segments, .. } = elf;
                let entry = Some(entry);
                Ok(Self { entry, multiboot, ..Self::loading(view, arch, segments) })
            }
            _ => Self::new(view, elf, multiboot, None),
        }
    }

    /// A Solo5 unikernel for hvt, which is entered in one way only.
    pub(super) fn of_solo5(view: View, elf: &Elf, abi: Abi) -> Result<Self, Problem> {
        if abi.version != HVT_VERSION {
            return Err(Solo5Error::Version(abi.version).into());
        }
        let manifest = elf.notes.solo5_manifest.clone().ok_or(Solo5Error::NoManifest)?;
        if elf.dynamic {
            return Err(Solo5Error::Dynamic.into());
        }
        for segment in &elf.segments {
            let (index, start) = (segment.index, segment.paddr);
            if segment.vaddr != start {
                return Err(Solo5Error::Virtual(index).into());
            }
            if start < KERNELS {
                return Err(Solo5Error::TooLow { index, start }.into());
            }
            if segment.executable() && segment.writable() {
                return Err(Solo5Error::WriteExecute(index).into());
            }
        }
        let mut sorted: Vec<&Segment> = elf.segments.iter().collect();
        sorted.sort_by_key(|segment| segment.paddr);
        for pair in sorted.windows(2) {
            if let [below, above] = pair
                && below.end().saturating_sub(1) / PAGE == above.paddr / PAGE
            {
                return Err(Solo5Error::SharedPage(below.index, above.index).into());
            }
        }
        let entry = elf.physical_entry().map_err(|error| Problem::Elf { file: None, error })?;
        let entry = entry.unwrap_or(elf.entry);
        let solo5 = Some(Solo5 { abi, manifest, entry });
        Ok(Self { solo5, ..Self::loading(view, elf.arch, elf.segments.clone()) })
    }

    /// A Hermit unikernel with version `entry` of its entry, by which alone it is entered.
    pub(super) fn of_hermit(view: View, elf: &Elf, entry: u8) -> Result<Self, Problem> {
        let hermit = Some(Hermit::new(&view, elf, entry)?);
        Ok(Self { hermit, ..Self::loading(view, elf.arch, elf.segments.clone()) })
    }

    /// The kernel in a bzImage.
    pub(super) fn of_bzimage(view: View, image: BzImage) -> Self {
        let BzImage { segment, entry64, entry32, setup } = image;
        let (system, entry32, setup) = (System::of_bzimage(&setup), Some(entry32), Some(setup));
        let rest = Self::loading(view, Arch::X86_64, vec![segment]);
        Self { entry: entry64, entry32, setup, system, ..rest }
    }

    /// The kernel in a file that only its Multiboot header describes.
    pub(super) fn of_multiboot(view: View, multiboot: Multiboot) -> Self {
        let segments = multiboot.segment.into_iter().collect();
        let rest = Self::loading(view, Arch::X86_64, segments);
        Self { multiboot: Some(multiboot), ..rest }
    }

    /// The kernel as Multiboot loads it: what its header says counts, and not its ELF segments.
    #[must_use]
    pub fn by_multiboot(mut self) -> Self {
        if let Some(Multiboot { segment: Some(segment), .. }) = self.multiboot {
            self.segments = vec![segment];
        }
        self
    }

    /// The kernel as that of a system, which something beside its file says.
    #[must_use]
    pub fn of_system(mut self, system: System) -> Self {
        self.system = Some(system);
        self
    }

    /// The kernel in an arm64 Image, `system`'s.
    pub(super) fn of_arm64_image(view: View, segment: Segment, system: Option<System>) -> Self {
        let entry = Some(segment.paddr);
        Self { entry, system, ..Self::loading(view, Arch::Aarch64, vec![segment]) }
    }

    /// What is loaded, without a way in.
    fn loading(view: View, arch: Arch, segments: Vec<Segment>) -> Self {
        Self {
            view,
            arch,
            segments,
            entry: None,
            entry32: None,
            pvh_entry: None,
            multiboot: None,
            setup: None,
            solo5: None,
            hermit: None,
            system: None,
        }
    }

    /// A kernel that can lie anywhere, `base` above where it is linked. `None` where an address would
    /// overflow.
    #[must_use]
    pub fn moved(mut self, base: u64) -> Option<Self> {
        for segment in &mut self.segments {
            for place in [&mut segment.paddr, &mut segment.vaddr] {
                *place = place.checked_add(base)?;
            }
            segment.paddr.checked_add(segment.mem_size)?;
        }
        self.hermit = match self.hermit {
            Some(hermit) => Some(hermit.moved(base)?),
            None => None,
        };
        Some(self)
    }

    /// The machine it is for.
    #[must_use]
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// What to load. No two segments overlap in physical memory.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Physical address of the Linux entry, on x86_64 the 64-bit one, in an executable segment; for an
    /// ELF kernel, its ELF entry. `None` when that is a virtual address, which no protocol can enter, and when a
    /// bzImage has none; there is another entry then.
    #[must_use]
    pub fn entry(&self) -> Option<u64> {
        self.entry
    }

    /// Physical address of a bzImage's 32-bit entry.
    #[must_use]
    pub fn entry32(&self) -> Option<u32> {
        self.entry32
    }

    /// What a bzImage says beside its entries.
    #[must_use]
    pub fn setup(&self) -> Option<&Setup> {
        self.setup.as_ref()
    }

    /// Physical address of the PVH entry, in an executable segment.
    #[must_use]
    pub fn pvh_entry(&self) -> Option<u32> {
        self.pvh_entry
    }

    /// Whose kernel it is, if it says so and it matters.
    #[must_use]
    pub fn system(&self) -> Option<System> {
        self.system
    }

    /// Whether it is Hermit's loader, given a Hermit unikernel as its ram disk: its text says so, and nothing
    /// that it is anything else.
    #[must_use]
    pub fn is_hermits_loader(&self) -> bool {
        let is_other = self.system.is_some()
            || self.pvh_entry.is_some()
            || self.setup.is_some()
            || self.solo5.is_some()
            || self.hermit.is_some();
        !is_other && System::by_text(&self.view, &self.segments) == Some(System::HermitLoader)
    }

    /// What a Solo5 unikernel says of itself, and where it is entered.
    #[must_use]
    pub fn solo5(&self) -> Option<&Solo5> {
        self.solo5.as_ref()
    }

    /// What a Hermit unikernel says of itself, and where it is entered.
    #[must_use]
    pub fn hermit(&self) -> Option<&Hermit> {
        self.hermit.as_ref()
    }

    /// Physical address of the Multiboot entry.
    #[must_use]
    pub fn multiboot_entry(&self) -> Option<u32> {
        self.multiboot.as_ref().map(|multiboot| multiboot.entry)
    }

    /// The kernel's file.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Where the bytes of a segment are: the pieces cover `file_size` bytes in order, [`Piece::at`]
    /// from the segment's `paddr` on. What lies behind them, up to `mem_size`, is zero, and so is a
    /// piece without a source.
    pub fn pieces(&self, segment: &Segment) -> impl Iterator<Item = Piece> + '_ {
        self.view.pieces(segment.file_offset, segment.file_size)
    }

    /// Reads a part of the kernel's source, at an offset that a [`Piece`] names.
    ///
    /// # Errors
    /// [`Error`] when the file has become shorter, or cannot be read.
    pub fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        let source = self.view.source();
        source
            .read_exact_at(offset, buf)
            .map_err(|error: ReadError| Error::new(source.name(), error))
    }
}

/// Why the ELF file is a Linux program and no kernel, if it is one.
///
/// A kernel has a PVH note, or physical addresses other than its virtual ones, or lies where no
/// linker puts a program by default ([`kernel_bases`]), with its ELF header out of memory. (A
/// Multiboot header marks one too, and is looked for first.) An interpreter, or the need to be
/// relocated, marks a program whatever else is there.
pub(super) fn program(elf: &Elf) -> Option<String> {
    if let Some(interpreter) = &elf.interpreter {
        return Some(asks_for(interpreter));
    }
    if elf.notes.pvh_entry.is_some()
        || elf.segments.iter().any(|segment| segment.paddr != segment.vaddr)
    {
        return None;
    }
    if elf.dynamic {
        return Some("it is position-independent, and nothing marks a kernel".into());
    }
    if elf.notes.linux_abi || elf.gnu_abi {
        return Some("its ABI is GNU/Linux".into());
    }
    let lowest = elf.segments.iter().map(|segment| segment.paddr).min().unwrap_or_default();
    let header_loaded =
        elf.segments.iter().any(|segment| segment.file_offset == 0 && segment.file_size > 0);
    if kernel_bases(elf.arch).contains(&lowest) && !header_loaded {
        return None;
    }
    Some(format!("it is linked at {lowest:#x} as programs are, and nothing marks a kernel"))
}

fn asks_for(interpreter: &[u8]) -> String {
    format!("it asks for the interpreter {}", interpreter.escape_ascii())
}
