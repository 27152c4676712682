//! What `ASSUMPTIONS.md` says of Hypervisor.framework, asked of the framework itself: a test for each
//! line that a program can settle, named by its number. `cargo run -p lab -- mac` runs them on a Mac, each in a
//! process of its own, and writes down what came of it.
//!
//! On any other system the stand-in answers, so that these tests have run before the first Mac runs them.
//! They show nothing about Apple's framework there.

// clippy knows #[test] functions as tests, and not what they share.
#![allow(clippy::unwrap_used, clippy::panic)]

mod calls;
mod interrupts;
mod machine;
mod memory;
mod sys;
mod traps;
