//! The engine behind the checker where the host has one: a real CPU.

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod kvm;
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
mod none;

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
pub(crate) use kvm::{Machine, Processor, is_there};
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
pub(crate) use none::{Machine, Processor, is_there};
