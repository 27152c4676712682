//! What QEMU's boot vCPU runs from its reset on: a ROM that brings it to the registers a boot plan asks
//! for, and into the guest.

mod pc;
mod virt;

use hv::{GuestMemory, State};

use crate::boot::Loaded;
use crate::plan::Plan;

/// Makes the ROM for a loaded guest, which may take something of `loaded` out of memory: QEMU loads
/// what is left.
///
/// # Errors
/// Which register cannot be set this way.
pub(super) fn rom(
    plan: &Plan,
    memory: &GuestMemory,
    loaded: &mut Loaded,
) -> Result<Vec<u8>, String> {
    match &loaded.state {
        State::X86_64(state) => pc::rom(state),
        State::Aarch64(state) => virt::rom(state, plan, memory, &mut loaded.ranges),
    }
}
