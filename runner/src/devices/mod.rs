//! The devices of the machine, each written once, against nothing but the bus and its interrupt.
//!
//! Guests are hostile: nothing here indexes, narrows or adds unchecked, and nothing panics.

#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::panic
)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

pub mod hvt;
pub mod hypercall;
pub mod pci;
pub mod pl011;
pub mod pl031;
pub mod power;
pub mod rtc;
pub mod semihosting;
pub mod serial;
pub mod state;
pub mod uart;
pub mod uhyve;
pub mod virtio;

use std::sync::Arc;

/// How a device interrupts the guest: an event on its line. Made from an hv line by the machine.
pub type Interrupt = Arc<dyn Fn() + Send + Sync>;

/// How a device holds a line up, and lets it go. Made from an hv line by the machine.
pub type Level = Arc<dyn Fn(bool) + Send + Sync>;

/// What all of those say that failed.
pub(crate) fn together(ends: impl IntoIterator<Item = Result<(), String>>) -> Result<(), String> {
    let failures: Vec<String> = ends.into_iter().filter_map(Result::err).collect();
    match failures.is_empty() {
        true => Ok(()),
        false => Err(failures.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::together;

    #[test]
    fn every_failure_is_told() {
        let failed = |what: &str| Err(what.to_owned());
        assert_eq!(together([Ok(()), Ok(())]), Ok(()));
        let told = together([failed("disk0"), Ok(()), failed("share0"), failed("share1")]);
        assert_eq!(told, failed("disk0; share0; share1"));
    }
}
