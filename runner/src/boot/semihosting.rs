//! How a Nanos guest on arm64 ends with a status: Arm's semihosting ("Semihosting for AArch32 and
//! AArch64", SYS_EXIT), which no CPU offers a virtual machine's monitor.
//!
//! The guest executes `HLT #0xf000` with the operation in W0, its one use of semihosting (nanos,
//! `src/aarch64/crt0.S`, `angel_shutdown`). In the copy that is loaded it becomes `HVC #0`: where the
//! hypervisor shows us that call ([`hv::Caps::hypercalls`]), it is the exit; where it does not, the guest
//! is told that there is no such call, and switches itself off, as it does where nothing listens to its
//! HLT.

use hv::GuestMemory;
use vm_memory::{Bytes, GuestAddress};

use super::Gpas;

/// `HLT #0xf000` (DDI 0487, C6.2, "HLT").
const HLT_SEMIHOSTING: [u8; WORD] = 0xd45e_0000u32.to_le_bytes();
/// `HVC #0` (DDI 0487, C6.2, "HVC").
const HVC: [u8; WORD] = 0xd400_0002u32.to_le_bytes();
/// Bytes of an instruction.
const WORD: usize = 4;
/// Bytes that are looked at in one piece.
const CHUNK: usize = 16 << 10;

/// Makes the one semihosting call in `code` a hypercall, and tells where it is. `None`, and nothing is
/// changed, unless there is exactly one: with several it would be guessed what they are.
///
/// # Errors
/// When `code` is not all in `memory`.
pub(super) fn reroute(memory: &GuestMemory, code: &[Gpas]) -> Result<Option<u64>, hv::Error> {
    let failed = |error: vm_memory::GuestMemoryError| {
        hv::Error::new("read the loaded kernel", hv::Kind::Invalid, error.to_string())
    };
    let mut found = None;
    let mut chunk = vec![0; CHUNK];
    for range in code {
        let mut at = range.start.next_multiple_of(WORD as u64);
        while at < range.end {
            let len = usize::try_from(range.end - at).unwrap_or(CHUNK).min(CHUNK);
            let bytes = &mut chunk[..len];
            memory.read_slice(bytes, GuestAddress(at)).map_err(failed)?;
            for (index, word) in (0..).zip(bytes.chunks_exact(WORD)) {
                if word == HLT_SEMIHOSTING {
                    if found.is_some() {
                        return Ok(None);
                    }
                    found = Some(at + index * WORD as u64);
                }
            }
            at += len as u64;
        }
    }
    if let Some(gpa) = found {
        memory.write_slice(&HVC, GuestAddress(gpa)).map_err(failed)?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hv::GuestRam;

    const BASE: u64 = 0x4000_0000;

    fn memory(words: &[(u64, [u8; 4])]) -> GuestMemory {
        let memory = hv::mem::memory([(BASE, GuestRam::new(1 << 20).unwrap())]).unwrap();
        for (at, word) in words {
            memory.write_slice(word, GuestAddress(BASE + at)).unwrap();
        }
        memory
    }

    fn word(memory: &GuestMemory, at: u64) -> [u8; 4] {
        memory.read_obj(GuestAddress(BASE + at)).unwrap()
    }

    #[test]
    fn the_one_call_becomes_a_hypercall_wherever_it_is() {
        for at in [0, 4, 0x3ffc, 0x4000, 0x5554] {
            let memory = memory(&[(at, HLT_SEMIHOSTING)]);
            let code = BASE..BASE + 0x5558;
            assert_eq!(reroute(&memory, &[code]).unwrap(), Some(BASE + at), "{at:#x}");
            assert_eq!(word(&memory, at), HVC);
        }
    }

    #[test]
    fn none_two_or_one_that_is_no_instruction_change_nothing() {
        let code = BASE..BASE + 0x8000;
        for places in [&[][..], &[0x10, 0x7000], &[2], &[0x8000]] {
            let words: Vec<_> = places.iter().map(|at| (*at, HLT_SEMIHOSTING)).collect();
            let memory = memory(&words);
            assert_eq!(reroute(&memory, std::slice::from_ref(&code)).unwrap(), None, "{places:?}");
            for at in places {
                assert_eq!(word(&memory, *at), HLT_SEMIHOSTING);
            }
        }
    }

    #[test]
    fn code_outside_of_memory_is_an_error_and_not_a_guess() {
        let memory = memory(&[(0x10, HLT_SEMIHOSTING)]);
        let code = BASE..BASE + (2 << 20);
        assert!(reroute(&memory, &[code]).is_err());
        assert_eq!(word(&memory, 0x10), HLT_SEMIHOSTING);
    }
}
