//! How an aarch64 guest ends with a status: semihosting's `SYS_EXIT` (Arm, "Semihosting for AArch32 and
//! AArch64", 7.2.8), asked for by `HVC #0` in place of `HLT #0xf000`, with the operation in W0 and the
//! address of its block in X1. Nothing else of semihosting is there.
//!
//! QEMU's `virt` has no register for it, and PSCI's `SYSTEM_OFF` carries no status.

use hv::GuestMemory;
use vm_memory::{Bytes, GuestAddress};

use super::power::ExitCode;
use crate::machine::bus::Calls;
use crate::machine::stop::{Reason, Stop};

/// The operation, as a hypercall's function.
pub const SYS_EXIT: u32 = 0x18;

/// The guest's program has ended, and says how.
const ADP_STOPPED_APPLICATION_EXIT: u64 = 0x2_0026;
/// What any other reason means, as for C's `EXIT_FAILURE`.
const FAILURE: u64 = 1;

/// Ends the run when the guest asks for it.
#[derive(Debug)]
pub struct Semihosting {
    memory: GuestMemory,
    code: ExitCode,
    stop: Stop,
}

impl Semihosting {
    /// Statuses mean what `code` says.
    pub fn new(memory: GuestMemory, code: ExitCode, stop: Stop) -> Self {
        Self { memory, code, stop }
    }

    /// The eight bytes at the virtual address `at`. Nothing where they are not all in one page of RAM,
    /// as a block's fields are, which are aligned.
    fn word(&self, at: u64, translate: &dyn Fn(u64) -> Option<u64>) -> Option<u64> {
        if !at.is_multiple_of(8) {
            return None;
        }
        self.memory.read_obj(GuestAddress(translate(at)?)).ok()
    }
}

impl Calls for Semihosting {
    fn call(&self, function: u32, args: [u64; 2], translate: &dyn Fn(u64) -> Option<u64>) {
        let [block, _] = args;
        let word = |at| self.word(at, translate);
        // A block that cannot be read is no exit: the guest goes on, behind its call.
        if function == SYS_EXIT
            && let Some(reason) = word(block)
            && let Some(code) = block.checked_add(8).and_then(word)
        {
            let raw = if reason == ADP_STOPPED_APPLICATION_EXIT { code } else { FAILURE };
            if let Some(status) = self.code.status(raw) {
                self.stop.request(Reason::Exit { raw, status });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hv::{GuestRam, mem};

    const RAM: u64 = 0x4000_0000;

    /// What ends the run when a guest with such a block calls.
    fn ended(
        block: [u64; 2],
        function: u32,
        at: u64,
        translate: &dyn Fn(u64) -> Option<u64>,
    ) -> Option<Reason> {
        let memory = mem::memory([(RAM, GuestRam::new(1 << 20).unwrap())]).unwrap();
        for (value, offset) in block.into_iter().zip([0, 8]) {
            memory.write_obj(value, GuestAddress(RAM + 0x1000 + offset)).unwrap();
        }
        let stop = Stop::default();
        let code = crate::family::ends::AARCH64.code();
        Semihosting::new(memory, code, stop.clone()).call(function, [at, 0], translate);
        stop.reason().cloned()
    }

    #[test]
    fn a_programs_status_is_the_runs_and_any_other_reason_is_a_failure() {
        let at = RAM + 0x1000;
        let same = |address| Some(address);
        let exit = |raw, status| Some(Reason::Exit { raw, status });
        assert_eq!(ended([0x2_0026, 0], 0x18, at, &same), exit(0, 0));
        assert_eq!(ended([0x2_0026, 0x107], 0x18, at, &same), exit(0x107, 7));
        assert_eq!(ended([0x2_0023, 9], 0x18, at, &same), exit(1, 1));
    }

    #[test]
    fn the_block_is_where_the_guests_tables_say() {
        let shifted = |address: u64| address.checked_sub(0xffff_0000_0000_0000);
        let at = 0xffff_0000_0000_0000 + RAM + 0x1000;
        let exit = Some(Reason::Exit { raw: 3, status: 3 });
        assert_eq!(ended([0x2_0026, 3], 0x18, at, &shifted), exit);
    }

    #[test]
    fn another_operation_and_a_block_that_is_nowhere_end_nothing() {
        let (at, same) = (RAM + 0x1000, |address| Some(address));
        assert_eq!(ended([0x2_0026, 3], 0x20, at, &same), None);
        for at in [0, 1, at + 4, RAM + (1 << 20) - 8, RAM + (1 << 20), u64::MAX - 7, u64::MAX] {
            assert_eq!(ended([0x2_0026, 3], 0x18, at, &same), None, "{at:#x}");
        }
        assert_eq!(ended([0x2_0026, 3], 0x18, at, &|_| None), None);
    }
}
