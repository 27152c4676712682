//! The device tree that Hermit is given (uhyve, `src/fdt.rs`; `hermit-kernel`, `src/env`): memory, arguments and
//! environment, where files are, processors and their counter; on arm64 the interrupt controller and the
//! timers as well, and virtio devices or the PCI bus. On x86_64 Hermit looks for both where QEMU has them.

use std::ops::Range;

use hv::Arch;
use vm_fdt::{Error, FdtWriter};

use crate::boot::BootPlan;
use crate::boot::fdt::{memory, parent_interrupts};

/// What is known when the guest is loaded.
pub(super) struct Place {
    pub(super) ram: Range<u64>,
    /// The rate of the processors' counter.
    pub(super) khz: Option<u32>,
}

impl BootPlan {
    pub(super) fn uhyve_tree(&self, place: &Place) -> Result<Vec<u8>, Error> {
        let mut fdt = FdtWriter::new()?;
        let root = fdt.begin_node("")?;
        fdt.property_string("compatible", "hermit,uhyve")?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        if self.board.arch == Arch::Aarch64 {
            parent_interrupts(&mut fdt)?;
        }
        let chosen = fdt.begin_node("chosen")?;
        fdt.property_string("bootargs", self.command_line.as_str())?;
        fdt.end_node(chosen)?;
        memory(&mut fdt, &place.ram)?;
        let mounts = self.uhyve.iter().flat_map(|uhyve| &uhyve.mounts);
        let mounts: Vec<String> = mounts.cloned().collect();
        if !mounts.is_empty() {
            let node = fdt.begin_node("uhyve,mounts")?;
            fdt.property_string_list("mounts", mounts)?;
            fdt.end_node(node)?;
        }
        match self.board.arch {
            Arch::X86_64 => self.tree.plain_processors(&mut fdt)?,
            Arch::Aarch64 => self.tree.processors_and_devices(&mut fdt)?,
        }
        if let Some(khz) = place.khz {
            let node = fdt.begin_node("hermit,tsc")?;
            fdt.property_u32("khz", khz)?;
            fdt.end_node(node)?;
        }
        fdt.end_node(root)?;
        fdt.finish()
    }
}
