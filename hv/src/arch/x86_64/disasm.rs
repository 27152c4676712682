//! Naming an x86_64 instruction for a report.

use iced_x86::{Decoder, DecoderOptions, FastFormatter};

/// The 64-bit instruction that `bytes` begin with, as Intel writes it, and its length in bytes;
/// nothing if they are not one.
pub fn disassemble(pc: u64, bytes: &[u8]) -> Option<(String, usize)> {
    let instruction = Decoder::with_ip(64, bytes, pc, DecoderOptions::NONE).decode();
    if instruction.is_invalid() {
        return None;
    }
    let mut text = String::new();
    let mut formatter = FastFormatter::new();
    formatter.options_mut().set_use_hex_prefix(true);
    formatter.format(&instruction, &mut text);
    Some((text, instruction.len()))
}
