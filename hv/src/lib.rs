//! A small, honest abstraction of vCPUs and guest memory.
//!
//! (The tour is being written.)

pub mod arch;
pub mod mem;
pub mod script;

mod caps;
mod config;
mod error;
mod exit;
mod host;
mod insn;
mod pending;
mod roster;
mod traits;

pub use arch::{Arch, State};
pub use caps::Caps;
pub use config::{IrqChip, Parts, RamFlags, Slot, VmConfig, check_slot};
pub use error::{Error, Kind, OsCode, Result};
pub use exit::{Address, Cause, Crash, Exit, Resume, Unhandled, Width};
pub use host::{Check, HostReport, Verdict};
pub use insn::{Instruction, MAX_INSTRUCTION};
pub use mem::{GuestMemory, GuestRam};
pub use pending::Pending;
pub use roster::{Place, Roster};
pub use traits::{Doorbell, EdgeLine, Hypervisor, Kicker, LevelLine, Vcpu, VcpuSeed, Vm};
