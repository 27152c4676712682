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
