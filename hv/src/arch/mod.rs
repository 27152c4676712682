//! Registers, keyed by architecture. Every type compiles on every host, so that a plan for an
//! arm64 guest can be made, read and tested on x86_64 and the other way round.

pub mod aarch64;
pub mod x86_64;

use std::fmt;

/// The architecture of a guest. A hypervisor runs its host's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    /// AMD64, Intel 64.
    X86_64,
    /// Arm v8-A and later, 64-bit.
    Aarch64,
}

impl Arch {
    /// The architecture this program was built for, if it is one of ours.
    pub const HOST: Option<Arch> = if cfg!(target_arch = "x86_64") {
        Some(Arch::X86_64)
    } else if cfg!(target_arch = "aarch64") {
        Some(Arch::Aarch64)
    } else {
        None
    };
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        })
    }
}

/// The registers of one vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Of an x86_64 vCPU.
    X86_64(x86_64::State),
    /// Of an aarch64 vCPU.
    Aarch64(aarch64::State),
}

impl State {
    /// Which architecture they belong to.
    pub fn arch(&self) -> Arch {
        match self {
            State::X86_64(_) => Arch::X86_64,
            State::Aarch64(_) => Arch::Aarch64,
        }
    }
}

impl From<x86_64::State> for State {
    fn from(state: x86_64::State) -> Self {
        State::X86_64(state)
    }
}

impl From<aarch64::State> for State {
    fn from(state: aarch64::State) -> Self {
        State::Aarch64(state)
    }
}
