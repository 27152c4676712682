//! The registers of an x86_64 vCPU, and the states that boot protocols start from.

use super::tables::{CODE32, CODE64, DATA, GDT_SIZE, TSS};

/// CR0: protection enable.
const CR0_PE: u64 = 1 << 0;
/// CR0: extension type, always 1 since the 486.
const CR0_ET: u64 = 1 << 4;
/// CR0: numeric error, x87 errors as exceptions.
const CR0_NE: u64 = 1 << 5;
/// CR0: write protect, also for the supervisor.
const CR0_WP: u64 = 1 << 16;
/// CR0: paging.
const CR0_PG: u64 = 1 << 31;
/// CR4: physical address extension, needed in long mode.
const CR4_PAE: u64 = 1 << 5;
/// EFER: long mode enable and active.
const EFER_LME_LMA: u64 = 1 << 8 | 1 << 10;
/// RFLAGS: bit 1 reads as 1; everything else clear, so interrupts are off.
const RFLAGS_RESERVED: u64 = 1 << 1;

/// General-purpose registers, instruction pointer and flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the processor's own")]
pub struct Regs {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// What the guest sees in the register.
    pub selector: u16,
    /// First linear address.
    pub base: u64,
    /// Last offset, in bytes (granularity already applied).
    pub limit: u32,
    /// Access rights, in the layout of descriptor bits 40 to 55: type 3:0, S 4, DPL 6:5, P 7,
    /// AVL 12, L 13, D/B 14, G 15; bits 11:8 are 0.
    pub access: u16,
}

impl Segment {
    /// The flat segment that GDT entry `descriptor` describes, loaded from `selector`.
    const fn flat(selector: u16, descriptor: u64) -> Self {
        let [low, high, ..] = (descriptor >> 40).to_le_bytes();
        let access = u16::from_le_bytes([low, high]) & 0xf0ff;
        Self { selector, base: 0, limit: u32::MAX, access }
    }
}

/// A descriptor table register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Linear address of the table.
    pub base: u64,
    /// Last valid offset: size in bytes less one.
    pub limit: u16,
}

/// The registers of an x86_64 vCPU that a boot protocol sets. The FPU, MSRs other than EFER and
/// the local APIC keep what the processor's reset gave them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the processor's own")]
pub struct State {
    pub regs: Regs,
    pub cs: Segment,
    pub ds: Segment,
    pub es: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub ss: Segment,
    pub tr: Segment,
    pub ldt: Segment,
    pub gdt: Table,
    pub idt: Table,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
}

impl State {
    /// 64-bit mode at `entry` with flat segments, interrupts off, and paging through the tables at
    /// `cr3` (see [`write_identity_map`](super::write_identity_map)). `gdt` is where
    /// [`write_gdt`](super::write_gdt) put the table the segments were loaded from.
    pub fn long_mode(entry: u64, cr3: u64, gdt: u64) -> Self {
        Self {
            cs: Segment::flat(0x10, CODE64),
            cr0: CR0_PE | CR0_ET | CR0_NE | CR0_WP | CR0_PG,
            cr3,
            cr4: CR4_PAE,
            efer: EFER_LME_LMA,
            ..Self::protected_mode(entry, gdt)
        }
    }

    /// 32-bit protected mode at `entry` with flat segments, paging and interrupts off, and the GDT
    /// of [`write_gdt`](super::write_gdt) at `gdt`.
    pub fn protected_mode(entry: u64, gdt: u64) -> Self {
        let data = Segment::flat(0x18, DATA);
        Self {
            regs: Regs { rip: entry, rflags: RFLAGS_RESERVED, ..Regs::default() },
            cs: Segment::flat(0x8, CODE32),
            ds: data,
            es: data,
            fs: data,
            gs: data,
            ss: data,
            tr: Segment { limit: 0x67, ..Segment::flat(0x20, TSS) },
            gdt: Table { base: gdt, limit: GDT_SIZE - 1 },
            cr0: CR0_PE | CR0_ET | CR0_NE,
            ..Self::default()
        }
    }
}
