//! What only the host's operating system can tell.

#[cfg(all(target_os = "macos", target_arch = "aarch64"))]
mod macos;
#[cfg(not(all(target_os = "macos", target_arch = "aarch64")))]
mod other;

#[cfg(all(target_os = "macos", target_arch = "aarch64"))]
pub(crate) use macos::{counter, facts, hertz};
#[cfg(not(all(target_os = "macos", target_arch = "aarch64")))]
pub(crate) use other::{counter, facts, hertz};
