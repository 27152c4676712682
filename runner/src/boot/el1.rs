//! Entering an arm64 guest with its MMU on (Arm ARM DDI 0487, D19.2): a vCPU starts with it off, and the few
//! instructions that turn it on are ours, in a page of the guest's. It is entered with its system registers
//! as its protocol has them, one argument in X0, another in X1, and X2 to X5 zero.

use hv::arch::aarch64;

use super::Error;
use super::load::Loading;

/// What the MMU is told, by the registers' names.
pub(super) struct Mmu {
    pub(super) mair: u64,
    pub(super) tcr: u64,
    pub(super) cpacr: u64,
    pub(super) sctlr: u64,
}

/// The register that has what the guest finds in X1.
pub(super) const SECOND_ARGUMENT: usize = 17;

/// X1 to X5 into their registers, cleared then, and on to where X16 says with X17 in X1.
const CODE: [u32; 16] = [
    0xd518_a201, // msr  mair_el1, x1
    0xd518_2042, // msr  tcr_el1, x2
    0xd518_2003, // msr  ttbr0_el1, x3
    0xd518_1044, // msr  cpacr_el1, x4
    0xd503_3f9f, // dsb  sy
    0xd508_871f, // tlbi vmalle1
    0xd503_3f9f, // dsb  sy
    0xd503_3fdf, // isb
    0xd518_1005, // msr  sctlr_el1, x5
    0xd503_3fdf, // isb
    0xaa11_03e1, // mov  x1, x17
    0xaa1f_03e2, // mov  x2, xzr
    0xaa1f_03e3, // mov  x3, xzr
    0xaa1f_03e4, // mov  x4, xzr
    0xaa1f_03e5, // mov  x5, xzr
    0xd61f_0200, // br   x16
];

/// Writes the instructions to `at`, a page that `tables` map to itself, and returns the registers: the first
/// argument and the stack are the caller's to add.
pub(super) fn start(
    mmu: &Mmu,
    tables: u64,
    at: u64,
    entry: u64,
    loading: &mut Loading<'_>,
) -> Result<aarch64::State, Error> {
    loading.write(at, &CODE.map(u32::to_le_bytes).concat())?;
    let mut state = aarch64::State::el1(at, 0);
    let values = [mmu.mair, mmu.tcr, tables, mmu.cpacr, mmu.sctlr];
    for (x, value) in state.x.iter_mut().skip(1).zip(values) {
        *x = value;
    }
    state.x[16] = entry;
    Ok(state)
}
