//! hv over Apple's Hypervisor.framework: macOS 15 or later on Apple silicon.
//!
//! The framework runs vCPUs and emulates a GICv3; everything else that KVM does in the kernel is
//! done here and never shows: decoding traps ([`syndrome`]), moving the program counter on, PSCI
//! ([`psci`]), registers that the framework leaves to us ([`sysreg`]), the end of a wait ([`timer`]).
//!
//! The crate compiles on every unix. Its `hv_*` symbols are the framework's on macOS; anywhere else
//! a program that uses it has to bring its own, as the tests do (`tests/hvf-standin`). What we take
//! for granted about the real framework without having seen it is listed in `ASSUMPTIONS.md`.
//!
//! Order (contract 1): [`Hvf::create`](hv::Hypervisor::create) makes the VM, maps RAM and
//! creates the interrupt controller; `bind()` creates the vCPU on its thread, as the framework
//! wants it. One vCPU per thread, one VM per process.

mod ffi;
mod host;
mod kick;
mod park;
mod signals;
mod sys;
mod trial;
mod vcpu;
mod vm;

pub mod errors;
pub mod gic;
pub mod psci;
pub mod syndrome;
pub mod sysreg;
pub mod timer;

pub use kick::HvfKicker;
pub use vcpu::{HvfSeed, HvfVcpu};
pub use vm::{Hvf, HvfEdge, HvfLevel, HvfVm, NoDoorbell};

// The table is read by whoever settles it (`lab mac`); that it can be is checked here.
#[cfg(test)]
mod assumptions;

// Unit tests are a program, too: somebody has to be the framework.
#[cfg(test)]
use hvf_standin as _;
