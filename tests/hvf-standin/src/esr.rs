//! Makes the `ESR_EL2` that a guest's instruction would cause (Arm ARM DDI 0487, "ESR_EL2"), from
//! the instruction's side: the backend takes it apart from the other one.

use crate::Width;

/// IL: the instruction has 32 bits, as all of AArch64's have.
const IL: u64 = 1 << 25;
const WFX: u64 = 0x01 << 26;
const HVC: u64 = 0x16 << 26;
const SMC: u64 = 0x17 << 26;
const SYSTEM: u64 = 0x18 << 26;
const INSTRUCTION_ABORT: u64 = 0x20 << 26;
const DATA_ABORT: u64 = 0x24 << 26;
const ISV: u64 = 1 << 24;
const SSE: u64 = 1 << 21;
const SF: u64 = 1 << 15;
const CM: u64 = 1 << 8;
const WNR: u64 = 1 << 6;
/// DFSC: translation fault, level 3.
const TRANSLATION: u64 = 0x07;
/// DFSC: permission fault, level 3.
const PERMISSION: u64 = 0x0f;

/// WFI (0), WFE (1), WFIT (2) or WFET (3), by TI.
pub fn wait(ti: u64) -> u64 {
    WFX | IL | 0x1e << 20 | ti
}

/// `HVC #imm`.
pub fn hvc(imm: u16) -> u64 {
    HVC | IL | u64::from(imm)
}

/// `SMC #imm`.
pub fn smc(imm: u16) -> u64 {
    SMC | IL | u64::from(imm)
}

/// `MRS Xrt, S<op0>_<op1>_C<crn>_C<crm>_<op2>`.
pub fn mrs(rt: u8, [op0, op1, crn, crm, op2]: [u8; 5]) -> u64 {
    let [op0, op1, crn, crm, op2] = [op0, op1, crn, crm, op2].map(u64::from);
    let register = op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | crm << 1;
    SYSTEM | IL | register | u64::from(rt) << 5 | 1
}

/// `MSR S<op0>_<op1>_C<crn>_C<crm>_<op2>, Xrt`.
pub fn msr(rt: u8, register: [u8; 5]) -> u64 {
    mrs(rt, register) & !1
}

/// A load that zero-extends: `LDRB`, `LDRH`, `LDR Wrt`, `LDR Xrt`.
pub fn load(width: Width, rt: u8) -> u64 {
    access(width, rt, width == Width::W8)
}

/// A load that sign-extends into `Xrt` (`sixty_four`) or `Wrt`: `LDRSB`, `LDRSH`, `LDRSW`.
pub fn load_signed(width: Width, rt: u8, sixty_four: bool) -> u64 {
    access(width, rt, sixty_four) | SSE
}

/// A store to where nothing is mapped: `STRB`, `STRH`, `STR Wrt`, `STR Xrt`.
pub fn store(width: Width, rt: u8) -> u64 {
    access(width, rt, width == Width::W8) | WNR
}

/// A store to memory that is mapped read-only.
pub fn store_denied(width: Width, rt: u8) -> u64 {
    denied(store(width, rt))
}

/// The same access, where something is mapped that does not allow it.
pub(crate) fn denied(syndrome: u64) -> u64 {
    syndrome & !0x3f | PERMISSION
}

/// An instruction fetched from where nothing is mapped.
pub fn instruction_abort() -> u64 {
    INSTRUCTION_ABORT | IL | TRANSLATION
}

/// A load or store of which the hardware tells nothing: `LDP`, SIMD, write-back.
pub fn no_syndrome(write: bool) -> u64 {
    DATA_ABORT | IL | TRANSLATION | if write { WNR } else { 0 }
}

/// A data abort, with its other fields.
#[allow(dead_code, reason = "only hardware gives them")]
pub(crate) fn data_abort(iss: u64) -> u64 {
    DATA_ABORT | IL | iss
}

/// `DC IVAC` and the like.
pub fn cache_maintenance() -> u64 {
    no_syndrome(true) | CM
}

fn access(width: Width, rt: u8, sixty_four: bool) -> u64 {
    let sas = match width {
        Width::W1 => 0,
        Width::W2 => 1,
        Width::W4 => 2,
        Width::W8 => 3,
    };
    let sf = if sixty_four { SF } else { 0 };
    DATA_ABORT | IL | ISV | sas << 22 | u64::from(rt) << 16 | sf | TRANSLATION
}
