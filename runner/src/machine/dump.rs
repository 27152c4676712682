//! A guest's memory and registers as a core file, for debuggers: an ELF file (gABI, "Program Header") with all
//! memory in one segment and the registers in a note as Linux has it for a process (`NT_PRSTATUS`,
//! `include/uapi/linux/elfcore.h`; the registers in it, `struct user_regs_struct` and `struct user_pt_regs`).
//!
//! It is what Solo5's tender writes when a unikernel aborts. Pages of zeros are holes.

use std::fs::File;
use std::io;

use hv::{Arch, GuestMemory, Resume, State, Vcpu};
use rustix::fs::ftruncate;
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend as _, VolatileSlice};

use super::stop::Reason;
use crate::boot::bytes::Bytes;
use crate::io::file;
use crate::plan::DumpPlan;
use crate::plan::dump::HEADERS as MEMORY_AT;
use crate::warning;

/// What a unikernel ends with when it aborts (`SOLO5_EXIT_ABORT`).
const ABORT: u64 = 255;

const PAGE: usize = 4096;
/// Bytes that are read from memory at once.
const CHUNK: usize = 16 * PAGE;

const EHDR: usize = 64;
const PHDR: usize = 56;
const NOTE_AT: usize = EHDR + 2 * PHDR;
/// Bytes of a note's header, with the name `CORE`.
const NOTE_HEADER: usize = 20;
/// Where `NT_PRSTATUS` has the registers, and what is behind them: whether others follow.
const REGISTERS_AT: usize = 112;
const FPVALID: usize = 8;
/// The signal that it looks like: an abort.
const SIGABRT: u16 = 6;
/// A process needs a number.
const PROCESS: u32 = 1;

/// Whether `reason` is one for a dump: the guest aborted, or was stopped for what it did.
fn is_wanted(reason: &Reason) -> bool {
    match reason {
        Reason::Exit { raw, .. } => *raw == ABORT,
        Reason::Crash { .. }
        | Reason::Halted { .. }
        | Reason::Unhandled { .. }
        | Reason::Violation(_) => true,
        _ => false,
    }
}

/// Writes the dump of a guest that ended for `reason`, if that is one for it, and says so.
pub(super) fn take(
    plan: &DumpPlan,
    reason: &Reason,
    arch: Arch,
    vcpu: &mut impl Vcpu,
    memory: &GuestMemory,
) {
    if !is_wanted(reason) {
        return;
    }
    let path = plan.printable_path();
    warning!("dumping guest core to: {path}");
    let state = registers(vcpu);
    if state.is_none() {
        warning!("{path}: the registers cannot be read, and are zeros there");
    }
    match write(plan.file(), arch, state.as_ref(), memory) {
        Ok(pages) => {
            plan.keep();
            warning!("dumped {pages} pages");
        }
        Err(error) => {
            warning!("{path}: {error}: there is no dump; make room, or try another folder")
        }
    }
}

/// Those between two instructions: whatever it was about to be answered is nothing.
fn registers(vcpu: &mut impl Vcpu) -> Option<State> {
    match vcpu.settle(Resume::Go).or_else(|_| vcpu.settle(Resume::Value(0))) {
        Ok(None) => vcpu.state().ok(),
        Ok(Some(_)) | Err(_) => None,
    }
}

/// Writes it all; how many pages are no holes.
fn write(
    file: &File,
    arch: Arch,
    state: Option<&State>,
    memory: &GuestMemory,
) -> io::Result<usize> {
    let end = memory.iter().map(|region| region.end()).max().unwrap_or_default();
    ftruncate(file, MEMORY_AT.saturating_add(end))?;
    let mut chunk = vec![0; CHUNK];
    put(file, 0, &mut headers(arch, state, end))?;
    let mut pages = 0;
    for region in memory.iter() {
        let mut at = region.gpa();
        while at < region.end() {
            let len = usize::try_from(region.end() - at).unwrap_or(CHUNK).min(CHUNK);
            let bytes = chunk.get_mut(..len).unwrap_or_default();
            memory.read_slice(bytes, GuestAddress(at)).map_err(io::Error::other)?;
            for (page, at) in bytes.chunks_mut(PAGE).zip((at..).step_by(PAGE)) {
                if page.iter().any(|byte| *byte != 0) {
                    put(file, MEMORY_AT.saturating_add(at), page)?;
                    pages += 1;
                }
            }
            at += len as u64;
        }
    }
    Ok(pages)
}

fn put(file: &File, at: u64, bytes: &mut [u8]) -> io::Result<()> {
    file::write_all_at(file, at, &[VolatileSlice::from(bytes)])
}

/// All that is before the memory, of which there are `memory` bytes.
fn headers(arch: Arch, state: Option<&State>, memory: u64) -> Vec<u8> {
    let note = note(arch, state);
    let machine = match arch {
        Arch::X86_64 => 62,
        Arch::Aarch64 => 183,
    };
    let ident = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0";
    let (core, version) = (4, 1);
    let header = Bytes::default().put(&ident).u16(core).u16(machine).u32(version);
    // No entry; program headers, no section headers; flags; sizes and numbers.
    let header = header.u64(0).u64(EHDR as u64).u64(0).u32(0);
    let header = header.u16(64).u16(56).u16(2).u16(0).u16(0).u16(0);
    let (pt_note, pt_load, read_write) = (4, 1, 6);
    let len = note.len() as u64;
    let header = header.u32(pt_note).u32(0).u64(NOTE_AT as u64).u64(0).u64(0).u64(len).u64(len);
    let header = header.u64(4).u32(pt_load).u32(read_write).u64(MEMORY_AT).u64(0).u64(0);
    let header = header.u64(memory).u64(memory).u64(PAGE as u64);
    header.put(&note).up_to(PAGE).0
}

/// `NT_PRSTATUS`.
fn note(arch: Arch, state: Option<&State>) -> Vec<u8> {
    let registers = registers_of(arch, state);
    let len = REGISTERS_AT + 8 * registers.len() + FPVALID;
    let prstatus = 1;
    let size = u32::try_from(len).unwrap_or_default();
    let note = Bytes::default().u32(5).u32(size).u32(prstatus).put(b"CORE\0\0\0\0");
    let note = note.up_to(NOTE_HEADER + 12).u16(SIGABRT).up_to(NOTE_HEADER + 32).u32(PROCESS);
    let note = note.up_to(NOTE_HEADER + REGISTERS_AT);
    let note = registers.into_iter().fold(note, Bytes::u64);
    note.up_to(NOTE_HEADER + len).0
}

/// The registers in the order of `arch`'s structure.
fn registers_of(arch: Arch, state: Option<&State>) -> Vec<u64> {
    match (arch, state) {
        (_, Some(State::X86_64(state))) => {
            let regs = &state.regs;
            let no_call = u64::MAX;
            let first = [regs.r15, regs.r14, regs.r13, regs.r12, regs.rbp, regs.rbx];
            let second = [regs.r11, regs.r10, regs.r9, regs.r8, regs.rax, regs.rcx, regs.rdx];
            let third = [regs.rsi, regs.rdi, no_call, regs.rip, state.cs.selector.into()];
            let fourth = [regs.rflags, regs.rsp, state.ss.selector.into()];
            let bases = [state.fs.base, state.gs.base];
            let segments = [&state.ds, &state.es, &state.fs, &state.gs];
            let segments = segments.map(|segment| segment.selector.into());
            [&first[..], &second, &third, &fourth, &bases, &segments].concat()
        }
        (_, Some(State::Aarch64(state))) => {
            [&state.x[..], &[state.sp_el1, state.pc, state.pstate]].concat()
        }
        (Arch::X86_64, None) => vec![0; 27],
        (Arch::Aarch64, None) => vec![0; 34],
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use hv::arch::{aarch64, x86_64};
    use hv::{GuestRam, mem};

    use super::*;

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn the_registers_are_where_a_debugger_looks_for_them() {
        let mut pc = x86_64::State::long_mode(0x10_0000, 0, 0);
        (pc.regs.r15, pc.regs.rdi, pc.regs.rsp, pc.fs.base) = (0x15, 0xd1, 0x59, 0xf5);
        let note = note(Arch::X86_64, Some(&pc.into()));
        assert_eq!(note.len(), 20 + 336);
        assert_eq!(note[..20], *b"\x05\0\0\0\x50\x01\0\0\x01\0\0\0CORE\0\0\0\0");
        let register = |index: usize| u64_at(&note, 20 + 112 + 8 * index);
        // r15, rdi, orig_rax, rip, cs, eflags, rsp, fs_base.
        let all = [0, 14, 15, 16, 17, 18, 19, 21].map(register);
        assert_eq!(all, [0x15, 0xd1, u64::MAX, 0x10_0000, 0x10, 2, 0x59, 0xf5]);

        let mut arm = aarch64::State::el1(0x4020_0000, 0);
        (arm.x[30], arm.sp_el1) = (0x30, 0x59);
        let note = super::note(Arch::Aarch64, Some(&arm.into()));
        assert_eq!((note.len(), note[4]), (20 + 392, 136));
        let register = |index: usize| u64_at(&note, 20 + 112 + 8 * index);
        assert_eq!([30, 31, 32, 33].map(register), [0x30, 0x59, 0x4020_0000, 0x3c5]);
    }

    #[test]
    fn guests_that_were_stopped_for_what_they_did_leave_a_dump_and_those_that_end_do_not() {
        let exit = |raw| Reason::Exit { raw, status: 0 };
        assert!(is_wanted(&exit(255)) && is_wanted(&Reason::Halted { vcpu: 0 }));
        assert!(!is_wanted(&exit(0)) && !is_wanted(&exit(1)));
    }

    #[test]
    fn memory_is_one_segment_from_0_on_and_pages_of_zeros_are_holes() {
        let (low, high) = (GuestRam::new(2 << 20).unwrap(), GuestRam::new(4 << 20).unwrap());
        let memory = mem::memory([(0, low), (2 << 20, high)]).unwrap();
        memory.write_slice(b"first", GuestAddress(0x1ff)).unwrap();
        memory.write_slice(b"across", GuestAddress((3 << 20) - 3)).unwrap();
        memory.write_slice(b"last", GuestAddress((6 << 20) - 4)).unwrap();
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let file = tempfile::tempfile().unwrap();
            assert_eq!(write(&file, arch, None, &memory).unwrap(), 4);
            let metadata = file.metadata().unwrap();
            assert_eq!(metadata.len(), 4096 + (6 << 20));
            assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
            let mut all = vec![0; usize::try_from(metadata.len()).unwrap()];
            file.read_exact_at(&mut all, 0).unwrap();
            assert_eq!(all[..5], *b"\x7fELF\x02");
            assert_eq!((all[16], all[56]), (4, 2));
            // The second program header: its type, where its bytes are, and how many.
            let load = 64 + 56;
            assert_eq!((all[load], u64_at(&all, load + 8)), (1, 4096));
            assert_eq!((u64_at(&all, load + 16), u64_at(&all, load + 32)), (0, 6 << 20));
            let memory = &all[4096..];
            assert_eq!(memory[0x1ff..0x204], *b"first");
            assert_eq!(memory[(3 << 20) - 3..][..6], *b"across");
            assert!(memory.ends_with(b"last"));
        }
    }

    #[test]
    fn a_guest_that_ends_well_or_is_ended_leaves_no_dump() {
        let exit = |raw, status| Reason::Exit { raw, status };
        let wanted = [exit(255, 255), Reason::Violation(String::new())];
        assert!(wanted.iter().all(is_wanted));
        let others =
            [exit(0, 0), exit(1, 1), exit(0x1ff, 255), Reason::TimedOut, Reason::Signal(2)];
        assert!(!others.iter().any(is_wanted));
    }
}
