//! What a guest of the aarch64 machine finds beside itself: the device tree, and its registers as
//! Linux's arm64 boot protocol has them (`Documentation/arch/arm64/booting.rst`, "Call the kernel
//! image"): EL1, MMU off, interrupts masked, X0 at the device tree, X1 to X3 zero.
//!
//! Nanos is entered so, too: it wants X1 to be zero, and looks for the device tree where it is put here,
//! at the beginning of RAM. OSv moves the tree, and first writes into it where nothing is said to it
//! (`arch/aarch64/arch-dtb.cc`, `dtb_setup`).

use hv::State;
use hv::arch::aarch64;

use super::fdt::{self, Chosen, Seed};
use super::layout::DEVICE_TREE;
use super::load::{Loading, does_not_fit};
use super::{BootPlan, Error, Gpas};
use crate::family::System;
use crate::io::random;

/// The most bytes of a command line that OSv takes on arm64, without its NUL (`include/osv/commands.hh`): of more it
/// dies.
pub const OSV_COMMAND_LINE_MAX: usize = 1023;

/// What it needs in the tree to put such a line there as a property, with a name.
const OSV_ROOM: usize = OSV_COMMAND_LINE_MAX + 64;

impl BootPlan {
    /// Writes the boot data, and returns the boot vCPU's registers.
    pub(super) fn load_virt(
        &self,
        ram: &[Gpas],
        ram_disk: Option<&Gpas>,
        loading: &mut Loading<'_>,
    ) -> Result<State, Error> {
        self.fits(&DEVICE_TREE, ram, || "the device tree".to_owned())?;
        let mut seed: Seed = [0; 40];
        random::fill(&mut seed)?;
        let (command_line, is_module) = (&self.command_line, self.is_hermit_loader());
        let chosen = Chosen { ram, ram_disk, is_module, command_line, seed: &seed };
        let mut tree = self.tree.bytes(&chosen).map_err(|error| Error::Tree(error.to_string()))?;
        if self.kernel.system() == Some(System::Osv) {
            fdt::make_room(&mut tree, OSV_ROOM);
        }
        let range = DEVICE_TREE.start..DEVICE_TREE.start.saturating_add(tree.len() as u64);
        if range.end > DEVICE_TREE.end {
            let why = format!("its place ends at {:#x}", DEVICE_TREE.end);
            let remedy = "ask for fewer CPUs, or shorten --append";
            return Err(does_not_fit("the device tree".to_owned(), &range, why, remedy));
        }
        loading.write(range.start, &tree)?;
        Ok(aarch64::State::el1(self.entry, range.start).into())
    }
}

#[cfg(test)]
#[path = "virt_tests.rs"]
mod tests;
