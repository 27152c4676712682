//! The bytes at a guest's program counter, and the name of the instruction they encode, for
//! reports that a person can act on.
//!
//! Decoding follows Intel SDM volume 2 and AMD APM volume 3 (crate `iced-x86`) and runs only when
//! a report is printed.

use std::fmt;

use crate::arch::Arch;

/// The longest instruction there is: 15 bytes on x86, 4 on arm64.
pub const MAX_INSTRUCTION: usize = 15;

/// An instruction where the guest stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    arch: Arch,
    pc: u64,
    bytes: [u8; MAX_INSTRUCTION],
    len: u8,
}

impl Instruction {
    /// The bytes at `pc`, a guest virtual address; those after the 15th are dropped.
    pub fn new(arch: Arch, pc: u64, bytes: &[u8]) -> Self {
        let mut kept = [0; MAX_INSTRUCTION];
        let mut len = 0;
        for (to, from) in kept.iter_mut().zip(bytes) {
            *to = *from;
            len += 1;
        }
        Self { arch, pc, bytes: kept, len }
    }

    /// The guest virtual address of the instruction.
    pub fn pc(&self) -> u64 {
        self.pc
    }

    /// The bytes known, at most 15; may be more than the instruction has, and none at all.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The instruction as a disassembler writes it, and its length, where the bytes decode.
    fn decode(&self) -> Option<(String, usize)> {
        match self.arch {
            Arch::X86_64 => crate::arch::x86_64::disassemble(self.pc, self.bytes()),
            Arch::Aarch64 => None,
        }
    }

    /// The instruction as a disassembler writes it, where the bytes decode.
    pub fn name(&self) -> Option<String> {
        self.decode().map(|(name, _)| name)
    }
}

impl fmt::Display for Instruction {
    /// Name, address and bytes; of bytes that decode, those of the instruction alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut len = self.bytes().len();
        if let Some((name, decoded)) = self.decode() {
            write!(f, "`{name}` ")?;
            len = decoded;
        }
        write!(f, "at {:#x}", self.pc)?;
        for (index, byte) in self.bytes().iter().take(len).enumerate() {
            write!(f, "{}{byte:02x}", if index == 0 { ", bytes " } else { " " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instruction({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_is_named_with_its_address_and_bytes() {
        let mulps = Instruction::new(Arch::X86_64, 0x10_0000, &[0x0f, 0x59, 0xc1, 0x90]);
        assert_eq!(mulps.to_string(), "`mulps xmm0,xmm1` at 0x100000, bytes 0f 59 c1");
    }

    #[test]
    fn bytes_that_decode_to_nothing_are_still_shown() {
        let odd = Instruction::new(Arch::X86_64, 0x1000, &[0x0f]);
        assert_eq!(odd.to_string(), "at 0x1000, bytes 0f");
    }

    #[test]
    fn more_than_fifteen_bytes_are_cut_and_none_are_fine() {
        assert_eq!(Instruction::new(Arch::X86_64, 0, &[0x90; 40]).bytes().len(), 15);
        assert_eq!(Instruction::new(Arch::Aarch64, 8, &[]).to_string(), "at 0x8");
    }
}
