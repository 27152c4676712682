//! The ROM that brings QEMU's boot vCPU from reset to the registers a boot plan asks for:
//! `tests/guests/x86_64/firmware/enter.S`, with those registers filled in.

use guests::x86_64::firmware::ENTER;
use hv::arch::x86_64;

/// What QEMU wants a ROM to be a multiple of.
const SIZE: usize = 64 << 10;

/// EFER: long mode enable.
const LME: u64 = 1 << 8;

/// Makes the ROM.
///
/// # Errors
/// Which register cannot be set this way.
pub(super) fn rom(state: &x86_64::State) -> Result<Vec<u8>, String> {
    let block = block(state)?;
    let code = ENTER.get(block.len()..).unwrap_or_default();
    let mut rom = vec![0; SIZE - block.len() - code.len()];
    rom.extend(block);
    rom.extend(code);
    Ok(rom)
}

/// The registers in the order in which `enter.S` has them.
///
/// What it does not set stays as reset leaves it, as every boot protocol of ours is content with:
/// TR and LDTR. The hidden parts of segment registers come from the plan's GDT.
fn block(state: &x86_64::State) -> Result<Vec<u8>, String> {
    let mut block = Vec::new();
    below_4_gib("CR0", state.cr0)?;
    below_4_gib("CR3", state.cr3)?;
    below_4_gib("CR4", state.cr4)?;
    for register in [state.cr0, state.cr2, state.cr3, state.cr4, state.efer] {
        block.extend(register.to_le_bytes());
    }
    for table in [state.gdt, state.idt] {
        block.extend(table.limit.to_le_bytes());
        block.extend(table.base.to_le_bytes());
    }
    for segment in [state.ds, state.es, state.fs, state.gs] {
        block.extend(segment.selector.to_le_bytes());
    }
    block.resize(block.len().next_multiple_of(8), 0);
    let regs = &state.regs;
    for register in [
        regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.r8, regs.r9,
        regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
    ] {
        block.extend(register.to_le_bytes());
    }
    let (cs, ss) = (u64::from(state.cs.selector), u64::from(state.ss.selector));
    for value in [regs.rip, cs, regs.rflags, regs.rsp, ss] {
        block.extend(value.to_le_bytes());
    }
    // Of no use in long mode, where RIP may be anything.
    let eip = match state.efer & LME {
        0 => below_4_gib("EIP", regs.rip)?,
        _ => 0,
    };
    block.extend(eip.to_le_bytes());
    block.extend(state.cs.selector.to_le_bytes());
    Ok(block)
}

fn below_4_gib(register: &str, value: u64) -> Result<u32, String> {
    u32::try_from(value).map_err(|_| format!("{register} = {value:#x} is beyond 32 bits"))
}

#[cfg(test)]
#[path = "pc_tests.rs"]
mod tests;
