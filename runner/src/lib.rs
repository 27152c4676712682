//! runner boots unikernel images on the host's accelerator.
//!
//! What a guest is, and what follows from that, is one table: [`family`].
//!
//! A run goes through phases that types enforce: [`plan::Plan`] (everything opened and parsed),
//! [`machine::Machine`] (VM, RAM, boot data), [`machine::Parked`] (all threads bound and waiting),
//! the run itself, the stop. Everything is generic over [`hv::Hypervisor`]; the program names a
//! backend in one place, [`host`].

pub mod boot;
pub mod cli;
pub mod config;
pub mod devices;
pub mod doctor;
pub mod emulate;
pub mod family;
pub mod host;
pub mod image;
pub mod io;
pub mod jail;
pub mod log;
pub mod machine;
pub mod net;
pub mod outcome;
pub mod p9;
pub mod plan;
pub mod program;
pub mod run;
