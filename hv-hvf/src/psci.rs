//! What the guest asks for with HVC or SMC: the Power State Coordination Interface (PSCI 1.1, Arm
//! DEN 0022) over the SMC Calling Convention (SMCCC 1.1, Arm DEN 0028). The framework does none of it.
//!
//! Plain functions over numbers, and one state for all vCPUs of a VM ([`Power`]), so that every call
//! and every race is tested on any machine. What differs from KVM's PSCI: `ON_PENDING` is told, and an
//! entry point that is no RAM is refused.

mod power;

pub use power::{Entry, Power};

/// What a call returns in X0 (DEN 0022, "Return error codes").
mod code {
    pub(super) const SUCCESS: i64 = 0;
    /// Also of an unknown function (DEN 0028, "Unknown Function Identifier").
    pub(super) const NOT_SUPPORTED: i64 = -1;
    pub(super) const INVALID_PARAMETERS: i64 = -2;
    pub(super) const ALREADY_ON: i64 = -4;
    pub(super) const ON_PENDING: i64 = -5;
    pub(super) const INVALID_ADDRESS: i64 = -9;
}

/// `PSCI_VERSION` and `SMCCC_VERSION`: major in the upper half, minor in the lower one.
const VERSION_1_1: i64 = 0x1_0001;
/// `MIGRATE_INFO_TYPE`: there is no trusted OS, or it needs no migration.
const NO_MIGRATION: i64 = 2;
/// Bit 30 of a function identifier: SMC64, whose arguments are X registers.
const SMC64: u32 = 1 << 30;

/// The functions there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    SmcccVersion,
    SmcccArchFeatures,
    Version,
    CpuSuspend,
    CpuOff,
    CpuOn,
    AffinityInfo,
    MigrateInfoType,
    SystemOff,
    SystemReset,
    Features,
}

impl Function {
    fn of(id: u32) -> Option<Self> {
        Some(match id {
            0x8000_0000 => Function::SmcccVersion,
            0x8000_0001 => Function::SmcccArchFeatures,
            0x8400_0000 => Function::Version,
            0x8400_0001 | 0xc400_0001 => Function::CpuSuspend,
            0x8400_0002 => Function::CpuOff,
            0x8400_0003 | 0xc400_0003 => Function::CpuOn,
            0x8400_0004 | 0xc400_0004 => Function::AffinityInfo,
            0x8400_0006 => Function::MigrateInfoType,
            0x8400_0008 => Function::SystemOff,
            0x8400_0009 => Function::SystemReset,
            0x8400_000a => Function::Features,
            _ => return None,
        })
    }

    fn is_smccc(self) -> bool {
        matches!(self, Function::SmcccVersion | Function::SmcccArchFeatures)
    }
}

/// What a call leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest goes on with this in X0.
    Return(u64),
    /// `CPU_ON`: the guest goes on with 0 in X0; the vCPU with this number has an entry to take.
    Start(u32),
    /// `CPU_SUSPEND`: waits as WFI does, then goes on with 0 in X0.
    Standby,
    /// `CPU_OFF`. The vCPU is off; the call does not return.
    Off,
    /// `SYSTEM_OFF`. Does not return to the guest.
    Shutdown,
    /// `SYSTEM_RESET`. Does not return to the guest.
    Reset,
}

impl From<i64> for Outcome {
    fn from(code: i64) -> Self {
        Outcome::Return(code.cast_unsigned())
    }
}

/// The outcome of the call by vCPU `caller` with these X0 to X3. Only W0 is the identifier, and of
/// SMC32 calls only W registers are arguments (DEN 0028, "Register use in AArch64 SMC and HVC
/// calls"). `is_ram` says whether an instruction can be at an address.
pub fn call(
    registers: [u64; 4],
    caller: u32,
    power: &Power,
    is_ram: impl FnOnce(u64) -> bool,
) -> Outcome {
    let [id, first, second, third] = registers;
    let id = low(id);
    let argument = |x: u64| if id & SMC64 == 0 { low(x).into() } else { x };
    match Function::of(id) {
        None => code::NOT_SUPPORTED.into(),
        Some(Function::SmcccVersion | Function::Version) => VERSION_1_1.into(),
        Some(Function::SmcccArchFeatures) => {
            has(Function::of(low(first)).is_some_and(Function::is_smccc)).into()
        }
        Some(Function::Features) => has(feature(low(first))).into(),
        Some(Function::MigrateInfoType) => NO_MIGRATION.into(),
        // A power-down state may be answered with a standby (DEN 0022, 5.4.2): registers survive.
        Some(Function::CpuSuspend) => Outcome::Standby,
        Some(Function::CpuOff) => {
            power.switch_off(caller);
            Outcome::Off
        }
        Some(Function::CpuOn) => {
            let entry = Entry { pc: argument(second), context: argument(third) };
            cpu_on(argument(first), entry, power, is_ram)
        }
        Some(Function::AffinityInfo) => affinity_info(argument(first), low(second), power).into(),
        Some(Function::SystemOff) => Outcome::Shutdown,
        Some(Function::SystemReset) => Outcome::Reset,
    }
}

/// Whether `PSCI_FEATURES` has the function. `SMCCC_VERSION` is asked for there, too (DEN 0028,
/// "Discovery of SMCCC_VERSION").
fn feature(id: u32) -> bool {
    Function::of(id).is_some_and(|function| function != Function::SmcccArchFeatures)
}

/// The answer of the two functions that tell whether there is another. No flags: `CPU_SUSPEND` has
/// the original format of power states, coordinated by the platform.
fn has(there: bool) -> i64 {
    if there { code::SUCCESS } else { code::NOT_SUPPORTED }
}

fn cpu_on(target: u64, entry: Entry, power: &Power, is_ram: impl FnOnce(u64) -> bool) -> Outcome {
    let Some(cpu) = power.find(target) else { return code::INVALID_PARAMETERS.into() };
    // A64 instructions are aligned to 4 bytes.
    if !entry.pc.is_multiple_of(4) || !is_ram(entry.pc) {
        return code::INVALID_ADDRESS.into();
    }
    match power.switch_on(cpu, entry) {
        Ok(()) => Outcome::Start(cpu),
        Err(power::Refusal::On) => code::ALREADY_ON.into(),
        Err(power::Refusal::Pending) => code::ON_PENDING.into(),
    }
}

/// 0 when a CPU of that affinity is on, 1 when all are off, 2 when one is to be switched on. Level n
/// leaves the n lowest affinity fields out, as KVM's does.
fn affinity_info(target: u64, level: u32, power: &Power) -> i64 {
    power.info(target, level).map_or(code::INVALID_PARAMETERS, i64::from)
}

/// The W register of an X register.
pub(crate) fn low(x: u64) -> u32 {
    let [a, b, c, d, ..] = x.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests;
