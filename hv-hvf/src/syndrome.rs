//! Why a vCPU came out of the guest: the framework's exit reason, and what `ESR_EL2` says about an
//! exception. Plain functions over numbers, so that every field is tested on any machine.
//!
//! Follows the Arm Architecture Reference Manual (DDI 0487), "ESR_EL2, Exception Syndrome Register
//! (EL2)"; the comments name the ISS encoding by the title it has there.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use hv::Width;

/// The register number that reads as zero and discards what is written: XZR, WZR.
pub const XZR: u8 = 31;

/// `hv_exit_reason_t`, from the raw number: the framework may know more than we do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `HV_EXIT_REASON_CANCELED`: somebody called `hv_vcpus_exit`.
    Canceled,
    /// `HV_EXIT_REASON_EXCEPTION`: the guest trapped; see [`Class`].
    Exception,
    /// `HV_EXIT_REASON_VTIMER_ACTIVATED`: the virtual timer fired and is masked now.
    VtimerActivated,
    /// `HV_EXIT_REASON_UNKNOWN` (3), or a number that is not documented.
    Unknown(u32),
}

impl From<u32> for Reason {
    fn from(raw: u32) -> Self {
        match raw {
            0 => Reason::Canceled,
            1 => Reason::Exception,
            2 => Reason::VtimerActivated,
            other => Reason::Unknown(other),
        }
    }
}

/// An exception by its class, `ESR_EL2.EC`, with what its syndrome tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// EC 0x01: a wait instruction.
    Wait(Wait),
    /// EC 0x16: HVC from AArch64, with its immediate.
    Hvc(u16),
    /// EC 0x17: SMC from AArch64, with its immediate.
    Smc(u16),
    /// EC 0x18: MSR, MRS or a system instruction.
    System(SystemAccess),
    /// EC 0x20: the guest fetched an instruction from where nothing is.
    InstructionAbort,
    /// EC 0x24: a load or store.
    DataAbort(DataAbort),
    /// EC 0x3c: BRK, with its comment field.
    Breakpoint(u16),
    /// Any other class.
    Other(u8),
}

impl Class {
    /// Decodes `ESR_EL2`.
    pub fn of(esr: u64) -> Self {
        match bits(esr, 26, 6) {
            0x01 => Class::Wait(Wait::of(esr)),
            0x16 => Class::Hvc(low16(esr)),
            0x17 => Class::Smc(low16(esr)),
            0x18 => Class::System(SystemAccess::of(esr)),
            0x20 => Class::InstructionAbort,
            0x24 => Class::DataAbort(DataAbort::of(esr)),
            0x3c => Class::Breakpoint(low16(esr)),
            other => Class::Other(other),
        }
    }

    /// How far the program counter is behind the next instruction once this exception has been
    /// dealt with, in bytes. The preferred return address of HVC is the next instruction already;
    /// that of everything trapped is the instruction itself.
    pub fn pc_step(self) -> u64 {
        match self {
            Class::Wait(_) | Class::Smc(_) | Class::System(_) | Class::DataAbort(_) => 4,
            Class::Hvc(_) | Class::InstructionAbort | Class::Breakpoint(_) | Class::Other(_) => 0,
        }
    }
}

/// "ISS encoding for an exception from a WF* instruction": the field TI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the instructions'")]
pub enum Wait {
    Wfi,
    Wfe,
    Wfit,
    Wfet,
}

impl Wait {
    fn of(esr: u64) -> Self {
        match bits(esr, 0, 2) {
            0 => Wait::Wfi,
            1 => Wait::Wfe,
            2 => Wait::Wfit,
            _ => Wait::Wfet,
        }
    }

    /// Whether it waits for an interrupt; otherwise for an event.
    pub fn for_interrupt(self) -> bool {
        matches!(self, Wait::Wfi | Wait::Wfit)
    }
}

/// A system register, by the fields of the instruction that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the instruction's fields")]
pub struct SystemRegister {
    pub op0: u8,
    pub op1: u8,
    pub crn: u8,
    pub crm: u8,
    pub op2: u8,
}

impl std::fmt::Display for SystemRegister {
    /// The generic name that assemblers take: `S3_0_C9_C12_0`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { op0, op1, crn, crm, op2 } = self;
        write!(f, "S{op0}_{op1}_C{crn}_C{crm}_{op2}")
    }
}

/// "ISS encoding for an exception from MSR, MRS, or System instruction execution in AArch64 state".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemAccess {
    /// Which register.
    pub register: SystemRegister,
    /// The general-purpose register it moves to or from; [`XZR`] for 31.
    pub rt: u8,
    /// MRS, a read of the system register; otherwise MSR or an instruction such as DC.
    pub read: bool,
}

impl SystemAccess {
    fn of(esr: u64) -> Self {
        let register = SystemRegister {
            op0: bits(esr, 20, 2),
            op2: bits(esr, 17, 3),
            op1: bits(esr, 14, 3),
            crn: bits(esr, 10, 4),
            crm: bits(esr, 1, 4),
        };
        Self { register, rt: bits(esr, 5, 5), read: bit(esr, 0) }
    }
}

/// "ISS encoding for an exception from a Data Abort", as far as a device access needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataAbort {
    /// CM: a cache maintenance instruction. There is nothing to maintain in a device.
    CacheMaintenance,
    /// DFSC says that the memory failed, not that the map has nothing (or nothing writable) there.
    External,
    /// ISV is 0 (load or store pair, SIMD, write-back, a table walk): the rest of the syndrome
    /// means nothing, and nobody can say what to load or store.
    NoSyndrome,
    /// A load or store of one general-purpose register.
    Access(Access),
}

impl DataAbort {
    fn of(esr: u64) -> Self {
        // DFSC: address size, translation, access flag and permission faults, the last two of the
        // list those of level -1. All others are errors of the memory or of the access itself.
        if !matches!(bits(esr, 0, 6), 0x00..=0x0f | 0x29 | 0x2b) {
            return DataAbort::External;
        }
        // S1PTW: it is the guest's tables that lie where nothing is, whatever the instruction.
        if bit(esr, 7) {
            return DataAbort::NoSyndrome;
        }
        if bit(esr, 8) {
            return DataAbort::CacheMaintenance;
        }
        if !bit(esr, 24) {
            return DataAbort::NoSyndrome;
        }
        DataAbort::Access(Access {
            width: match bits(esr, 22, 2) {
                0 => Width::W1,
                1 => Width::W2,
                2 => Width::W4,
                _ => Width::W8,
            },
            sign_extend: bit(esr, 21),
            rt: bits(esr, 16, 5),
            sixty_four: bit(esr, 15),
            write: bit(esr, 6),
        })
    }
}

/// A load or store that gave a syndrome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// SAS: how much is accessed.
    pub width: Width,
    /// SSE: a load sign-extends.
    pub sign_extend: bool,
    /// SRT: the register to load or store; [`XZR`] for 31.
    pub rt: u8,
    /// SF: the register is an X register; otherwise a W register, whose upper half becomes 0.
    pub sixty_four: bool,
    /// WnR: a store.
    pub write: bool,
}

impl Access {
    /// What the register holds after a load of `value`; bits above the width are ignored.
    pub fn loaded(&self, value: u64) -> u64 {
        let mask = self.width.mask();
        let mut value = value & mask;
        let negative = value & !(mask >> 1) != 0;
        if self.sign_extend && negative {
            value |= !mask;
        }
        if self.sixty_four { value } else { value & Width::W4.mask() }
    }

    /// What a store of a register that holds `register` writes.
    pub fn stored(&self, register: u64) -> u64 {
        register & self.width.mask()
    }
}

/// `count` bits (at most 8) of `esr` from bit `from` (below 64).
fn bits(esr: u64, from: u32, count: u32) -> u8 {
    let mask = 0xffu8.checked_shr(8u32.saturating_sub(count)).unwrap_or(0);
    let [low, ..] = esr.checked_shr(from).unwrap_or(0).to_le_bytes();
    low & mask
}

fn bit(esr: u64, at: u32) -> bool {
    bits(esr, at, 1) == 1
}

fn low16(esr: u64) -> u16 {
    let [low, high, ..] = esr.to_le_bytes();
    u16::from_le_bytes([low, high])
}

#[cfg(test)]
mod tests;
