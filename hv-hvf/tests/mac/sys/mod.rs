//! Who is the framework.

#[cfg(all(target_os = "macos", target_arch = "aarch64"))]
mod macos;
#[cfg(not(all(target_os = "macos", target_arch = "aarch64")))]
mod other;

#[cfg(all(target_os = "macos", target_arch = "aarch64"))]
pub(crate) use macos::Framework;
#[cfg(not(all(target_os = "macos", target_arch = "aarch64")))]
pub(crate) use other::Framework;

/// An exit that a guest's instruction causes, for a framework that cannot run it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Played {
    pub(crate) esr: u64,
    pub(crate) ipa: u64,
    pub(crate) pc: u64,
}
