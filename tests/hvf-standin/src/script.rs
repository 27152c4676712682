//! What a vCPU's guest does, exit by exit, and what the backend must do about it.

use crate::esr;

/// A register of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reg {
    /// X0 to X30.
    X(u8),
    /// The program counter.
    Pc,
    /// The floating-point control register.
    Fpcr,
    /// The floating-point status register.
    Fpsr,
    /// The current program status register.
    Cpsr,
    /// A system register, by the framework's number.
    Sys(u16),
}

/// How much an access moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the number is the number of bytes")]
pub enum Width {
    W1,
    W2,
    W4,
    W8,
}

/// One exit.
///
/// The registers at the next `hv_vcpu_run` must be those at this exit, but for the changes that
/// [`then`](Step::then) and [`advances`](Step::advances) ask for.
#[derive(Clone, Debug)]
pub struct Step {
    pub(crate) reason: u32,
    pub(crate) syndrome: u64,
    pub(crate) ipa: u64,
    /// The virtual address; a script has none.
    pub(crate) seen_at: Option<u64>,
    pub(crate) has: Vec<(Reg, u64)>,
    pub(crate) then: Vec<(Reg, u64)>,
    pub(crate) pc_step: u64,
    /// Otherwise a guest shows by itself what the backend has done to its registers.
    pub(crate) scripted: bool,
}

impl Step {
    /// An exit of `hv_exit_reason_t` `reason`.
    pub fn exit(reason: u32) -> Self {
        // What is left of an earlier exception must not be believed.
        let syndrome = esr::store(Width::W4, 0);
        let (has, then, pc_step, scripted) = (vec![], vec![], 0, true);
        Self { reason, syndrome, ipa: 0xbad_0000, seen_at: None, has, then, pc_step, scripted }
    }

    /// An exception with this `ESR_EL2`.
    pub fn exception(syndrome: u64) -> Self {
        Self { syndrome, ipa: 0, ..Self::exit(1) }
    }

    /// The guest does not come back from this: whatever its registers are next is right.
    #[must_use]
    pub fn for_good(self) -> Self {
        self.of_guest()
    }

    /// The exit of a guest that runs.
    pub(crate) fn of_guest(mut self) -> Self {
        self.scripted = false;
        self
    }

    /// A load from `ipa` whose answer leaves `value` in `Xrt`.
    pub fn load(ipa: u64, syndrome: u64, rt: u8, value: u64) -> Self {
        Self::exception(syndrome).at(ipa).then(Reg::X(rt), value).advances()
    }

    /// A store of `Xrt`, which holds `value`, to `ipa`.
    pub fn store(ipa: u64, syndrome: u64, rt: u8, value: u64) -> Self {
        Self::exception(syndrome).at(ipa).has(Reg::X(rt), value).advances()
    }

    /// The guest physical address that the exception gives.
    #[must_use]
    pub fn at(mut self, ipa: u64) -> Self {
        self.ipa = ipa;
        self
    }

    /// The virtual address of the guest's that the exception gives.
    #[allow(dead_code, reason = "an interpreter has no virtual addresses")]
    pub(crate) fn seen_at(mut self, address: u64) -> Self {
        self.seen_at = Some(address);
        self
    }

    /// The guest has put `value` into `register` when it exits.
    #[must_use]
    pub fn has(mut self, register: Reg, value: u64) -> Self {
        self.has.push((register, value));
        self
    }

    /// The backend must have put `value` into `register`.
    #[must_use]
    pub fn then(mut self, register: Reg, value: u64) -> Self {
        self.then.push((register, value));
        self
    }

    /// The backend must have moved the program counter on by one instruction.
    #[must_use]
    pub fn advances(mut self) -> Self {
        self.pc_step = 4;
        self
    }
}
