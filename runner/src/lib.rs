//! (being written)
pub mod cli;
pub mod config;
