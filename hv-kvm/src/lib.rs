//! `hv` over Linux KVM (kernel documentation `virt/kvm/api.rst`).
//!
//! On x86_64 and on arm64 (GICv3).
//! The parts: [`Kvm`] opens and creates, `vm` holds slots and lines, `vcpu` runs, `access` cuts
//! port and MMIO exits into the contract's accesses, `run_page` reads what KVM shares with us,
//! `kick` interrupts, `arch` knows registers, interrupt controllers, CPUID and ID registers.
#![cfg(target_os = "linux")]

mod access;
mod arch;
mod error;
mod kick;
pub mod probe;
mod run_page;
mod system;
mod vcpu;
mod vm;

pub use kick::KvmKicker;
pub use system::Kvm;
pub use vcpu::{KvmSeed, KvmVcpu};
pub use vm::{KvmEdge, KvmLevel, KvmRegistration, KvmVm};
