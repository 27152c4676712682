//! How an aarch64 guest ends with a status: SYS_EXIT of Arm's semihosting ("Semihosting for AArch32 and
//! AArch64", release 2.0, "SYS_EXIT (0x18)"), as a hypercall: the operation in W0, in X1 the address of
//! a block of two 64-bit words, why it ends and with which status.

use hv::GuestMemory;
use vm_memory::{Bytes, GuestAddress};

use crate::machine::stop::{Reason, Stop};

/// The operation, which is the hypercall's function.
pub const SYS_EXIT: u32 = 0x18;

/// `ADP_Stopped_ApplicationExit`: the program has ended, and the second word is its status.
const APPLICATION_EXIT: u64 = 0x2_0026;

/// The status of an end for any other reason, as in QEMU.
const ABNORMAL: u8 = 1;

/// Takes a guest's SYS_EXIT.
#[derive(Debug)]
pub struct Semihosting {
    memory: GuestMemory,
    stop: Stop,
}

impl Semihosting {
    /// For the guest in `memory`.
    pub fn new(memory: GuestMemory, stop: Stop) -> Self {
        Self { memory, stop }
    }

    /// The guest ends, with what it says in the block at its address `block`. Where there is no such
    /// block it has not said anything, and goes on.
    pub fn exit(&self, block: u64, translate: impl Fn(u64) -> Option<u64>) {
        let word = |address: u64| {
            let gpa = GuestAddress(translate(address)?);
            self.memory.read_obj::<u64>(gpa).ok()
        };
        let words = word(block).zip(block.checked_add(8).and_then(word));
        let Some((why, code)) = words else { return };
        let (raw, status) = match why {
            APPLICATION_EXIT => (code, code.to_le_bytes()[0]),
            other => (other, ABNORMAL),
        };
        self.stop.request(Reason::Exit { raw, status });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hv::GuestRam;

    const RAM: u64 = 0x4000_0000;
    const PAGE: u64 = 0x1000;

    /// What becomes of a call with a block of these words at the end of the first page. The second
    /// page of the guest's addresses is the fourth of its memory.
    fn end(words: [u64; 2], block: u64) -> Option<Reason> {
        let memory = hv::mem::memory([(RAM, GuestRam::new(16 * PAGE).unwrap())]).unwrap();
        memory.write_obj(words[0], GuestAddress(RAM + PAGE - 8)).unwrap();
        memory.write_obj(words[1], GuestAddress(RAM + 3 * PAGE)).unwrap();
        let stop = Stop::default();
        Semihosting::new(memory, stop.clone()).exit(block, |address| match address / PAGE {
            0 => Some(RAM + address),
            1 => Some(RAM + 2 * PAGE + address),
            2 => Some(0),
            _ => None,
        });
        stop.reason().cloned()
    }

    #[test]
    fn the_status_is_the_second_word_wherever_the_guests_tables_put_it() {
        let exit = |raw, status| Some(Reason::Exit { raw, status });
        assert_eq!(end([0x2_0026, 42], PAGE - 8), exit(42, 42));
        assert_eq!(end([0x2_0026, 0x1_0007], PAGE - 8), exit(0x1_0007, 7));
        assert_eq!(end([0x2_0023, 42], PAGE - 8), exit(0x2_0023, 1));
    }

    #[test]
    fn a_block_that_is_not_in_memory_ends_nothing() {
        for block in [2 * PAGE, 2 * PAGE - 8, 3 * PAGE, u64::MAX, u64::MAX - 7] {
            assert_eq!(end([0x2_0026, 42], block), None, "{block:#x}");
        }
    }
}
