//! (being written)
#![cfg(target_os = "linux")]

pub mod probe;
