//! x86_64: registers, the state each way of booting starts from, and the tables it needs in guest
//! memory. Sources: Intel SDM volume 3A chapters 2 to 4, AMD APM volume 2 chapters 1 to 5.

mod disasm;
mod state;
mod tables;

pub use disasm::disassemble;
pub use state::{Regs, Segment, State, Table};
pub use tables::{GDT_SIZE, IDENTITY_MAP_SIZE, write_gdt, write_identity_map};
