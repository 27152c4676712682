//! Why a vCPU came out of the guest, and what it is told when it goes back in
//! (contract 3).
//!
//! Both are `Copy`, borrow nothing and allocate nothing: an exit costs a match.

use crate::insn::Instruction;

/// Where the guest reached for: an x86 I/O port, or a guest physical address that no RAM backs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An x86 I/O port, 0 to 0xffff.
    Port(u16),
    /// A guest physical address (GPA).
    Mmio(u64),
}

/// How many bytes an access moves.
///
/// Only these four reach a caller. Where a host hands out odd pieces (KVM cuts an access at a page
/// boundary, into 3 and 5 bytes for instance) the backend cuts further, lowest address first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Width {
    /// 1 byte.
    W1,
    /// 2 bytes.
    W2,
    /// 4 bytes.
    W4,
    /// 8 bytes.
    W8,
}

impl Width {
    /// All widths, narrowest first.
    pub const ALL: [Width; 4] = [Width::W1, Width::W2, Width::W4, Width::W8];

    /// The number of bytes: 1, 2, 4 or 8.
    pub const fn bytes(self) -> usize {
        match self {
            Width::W1 => 1,
            Width::W2 => 2,
            Width::W4 => 4,
            Width::W8 => 8,
        }
    }

    /// The bits of a `u64` that an access of this width carries.
    pub const fn mask(self) -> u64 {
        match self {
            Width::W1 => 0xff,
            Width::W2 => 0xffff,
            Width::W4 => 0xffff_ffff,
            Width::W8 => u64::MAX,
        }
    }

    /// The widest width of at most `bytes` bytes; nothing for 0.
    pub const fn at_most(bytes: usize) -> Option<Width> {
        match bytes {
            0 => None,
            1 => Some(Width::W1),
            2 | 3 => Some(Width::W2),
            4..8 => Some(Width::W4),
            _ => Some(Width::W8),
        }
    }
}

/// What the vCPU is told when it runs again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Go on: the first run, and after every exit but [`Exit::Read`].
    Go,
    /// The answer to an [`Exit::Read`]; bits above its width are ignored.
    Value(u64),
}

/// Why [`Vcpu::run`](crate::Vcpu::run) came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// The guest reads; the next run must bring [`Resume::Value`].
    Read {
        /// Where from.
        at: Address,
        /// How much.
        width: Width,
    },
    /// The guest writes.
    Write {
        /// Where to.
        at: Address,
        /// How much.
        width: Width,
        /// What; bits above `width` are 0.
        value: u64,
    },
    /// Somebody called [`Kicker::kick`](crate::Kicker::kick).
    Kicked,
    /// The vCPU waits for an interrupt. Only VMs without an in-kernel irqchip show it.
    Halted,
    /// arm64: the guest called (HVC) a function that the VM was [asked] to show. Nothing is pending:
    /// the vCPU stands behind the call with the registers that the guest left, and goes on with
    /// them, unless the caller answers by writing others.
    ///
    /// [asked]: crate::VmConfig::hypercall
    Hypercall {
        /// W0: which function.
        function: u32,
        /// X1 and X2.
        args: [u64; 2],
    },
    /// The guest asked to be switched off (PSCI `SYSTEM_OFF`).
    Shutdown,
    /// The guest asked to be reset (PSCI `SYSTEM_RESET`).
    Reset,
    /// The guest cannot go on, and it is the guest's doing.
    Crash(Crash),
    /// The guest cannot go on, and it is the host's doing or ours.
    Unhandled(Unhandled),
}

/// How a guest broke itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Crash {
    /// x86: an exception while delivering a double fault. Also the last resort of a guest that
    /// wants a reset: what it means is up to the guest's boot protocol.
    TripleFault,
    /// The guest told the hypervisor that it crashed.
    Reported,
}

/// An exit that this host or this backend can do nothing with (contract 10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unhandled {
    /// What sort of exit it was.
    pub cause: Cause,
    /// The host's own number for it: an exit reason, a suberror, a syndrome.
    pub code: u64,
    /// The instruction the guest was at, where that is known.
    pub instruction: Option<Instruction>,
}

/// The sorts of [`Unhandled`] exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The host's hypervisor would have had to emulate the instruction and cannot.
    Instruction,
    /// arm64: a data abort without a syndrome (`ISV` 0): nobody can say what to load or store. The
    /// code is the guest physical address.
    NoSyndrome,
    /// arm64: the guest fetches an instruction from where no RAM is. The code is the guest physical
    /// address.
    NoCode,
    /// The host refused to enter the guest with the registers it has.
    EntryFailed,
    /// The guest reached for memory that its map promises and the host could not provide.
    Memory,
    /// The hypervisor reports an error of its own.
    Internal,
    /// An exit reason that this backend does not know.
    UnknownExit,
}

impl std::fmt::Display for Unhandled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let code = self.code;
        match self.cause {
            Cause::Instruction => write!(f, "the host's hypervisor cannot execute an instruction"),
            Cause::NoSyndrome => write!(
                f,
                "an access to a device at GPA {code:#x} that the CPU does not describe (a pair, a \
                 vector, a write-back)"
            ),
            Cause::NoCode => write!(f, "the guest runs at GPA {code:#x}, where no RAM is"),
            Cause::EntryFailed => write!(f, "the host refused to enter the guest ({code:#x})"),
            Cause::Memory => write!(f, "the host could not provide guest memory at {code:#x}"),
            Cause::Internal => write!(f, "the hypervisor reports an internal error ({code})"),
            Cause::UnknownExit => write!(f, "an exit of unknown reason {code:#x}"),
        }?;
        match self.instruction {
            Some(instruction) => write!(f, ": {instruction}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_piece_is_cut_into_widths_that_add_up() {
        for bytes in 1..=16usize {
            let mut left = bytes;
            while let Some(width) = Width::at_most(left) {
                left -= width.bytes();
            }
            assert_eq!(left, 0, "{bytes} bytes");
        }
    }

    #[test]
    fn a_mask_covers_exactly_the_bytes_of_its_width() {
        for width in Width::ALL {
            assert_eq!(width.mask().count_ones() as usize, width.bytes() * 8);
        }
    }
}
