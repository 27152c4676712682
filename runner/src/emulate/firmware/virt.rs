//! The ROM that brings QEMU's boot vCPU from reset to the registers a boot plan asks for:
//! `tests/guests/aarch64/firmware/enter.S`, and behind it what that does first: it programs the BARs of
//! the devices on the PCI bus, as our machine has them programmed, and puts the device tree where QEMU
//! has one of its own.

use std::ops::Range;

use guests::aarch64::firmware::ENTER;
use hv::GuestMemory;
use hv::arch::aarch64;
use vm_memory::{Bytes, GuestAddress};

use crate::devices::pci::config::{BAR, COMMAND, COMMAND_BUS_MASTER, COMMAND_MEMORY};
use crate::machine::map::virt::KERNELS;
use crate::machine::slot::{PciHost, Place};
use crate::plan::Plan;

/// The BAR of a modern virtio device of QEMU's (hw/virtio/virtio-pci.c, `modern_mem_bar_idx`), which is
/// 64 bits wide and 16 KiB long.
const MODERN_BAR: u16 = BAR + 4 * 4;
/// Bytes of configuration space from a device to the next.
const DEVICE: u64 = 0x8000;

/// Makes the ROM. Takes those of `ranges` that lie before all kernels: it writes them itself.
///
/// # Errors
/// When memory cannot be read.
pub(super) fn rom(
    state: &aarch64::State,
    plan: &Plan,
    memory: &GuestMemory,
    ranges: &mut Vec<Range<u64>>,
) -> Result<Vec<u8>, String> {
    let places = plan.slots().map(|slot| slot.place);
    let writes = bars(plan.boot.board.virtio.pci, places);
    let mut words = vec![writes.len() as u64];
    words.extend(writes.into_iter().flat_map(<[u64; 2]>::from));
    let mut rom = [ENTER, &bytes(&words)].concat();
    let (early, rest) = ranges.drain(..).partition(|range| range.start < KERNELS);
    *ranges = rest;
    let early: Vec<Range<u64>> = early;
    for range in early.iter().filter(|range| !range.is_empty()) {
        let blocks = (range.end - range.start).div_ceil(16);
        rom.extend(bytes(&[range.start, blocks]));
        let len = usize::try_from(blocks * 16).map_err(|error| error.to_string())?;
        let mut content = vec![0; len];
        // What is behind the end is zero there, too.
        memory
            .read_slice(&mut content, GuestAddress(range.start))
            .map_err(|error| error.to_string())?;
        rom.extend(content);
    }
    rom.extend(bytes(&[0, 0, state.sp_el1, state.pc, state.pstate]));
    rom.extend(bytes(&state.x));
    Ok(rom)
}

/// What is written where: each BAR at its home, both halves, and the function switched on.
fn bars(host: PciHost, places: impl Iterator<Item = Place>) -> Vec<(u64, u64)> {
    let on = u64::from(COMMAND_MEMORY | COMMAND_BUS_MASTER);
    let writes = places.map(|place| {
        let Place::Pci { device, bar, .. } = place else { return Vec::new() };
        let config = host.ecam + u64::from(device) * DEVICE;
        let at = |register: u16| config + u64::from(register);
        vec![(at(MODERN_BAR), bar.into()), (at(MODERN_BAR + 4), 0), (at(COMMAND), on)]
    });
    writes.flatten().collect()
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
#[path = "virt_tests.rs"]
mod tests;
