//! How guests end, and what they say by it: which value, given where, stands for which exit status. It is
//! part of what a [`Family`](super::Family) is, and one table: 41 is success for one guest, and a failure's
//! number for another. README.md has it, too, and a test compares.
//!
//! What has no value, a reset, PSCI's calls or a crash, is the same for all guests of a machine ([`Silent`]), and
//! `outcome` says what becomes of it.

use std::fmt;

use hv::Crash;

use crate::devices::power::{ExitCode, PanicPort, Raw, Status};
use crate::machine::stop::Reason;
use crate::outcome::status::CRASHED;
use crate::outcome::{Origin, Outcome};

/// The port a guest writes its exit value to (QEMU's `isa-debug-exit` as OPS places it).
pub const EXIT_PORT: u16 = 0x501;

/// How guests of a kind end with a value.
#[derive(Debug, PartialEq, Eq)]
pub struct Ends {
    /// Which guests, for a person.
    pub guests: &'static str,
    /// Where they give a value, and what it means.
    pub exits: &'static [(Place, ExitCode)],
    /// How they end without one, as others do.
    pub silent: &'static Silent,
}

/// Ends without a value, of all guests of a machine or an interface.
#[derive(Debug, PartialEq, Eq)]
pub struct Silent {
    /// Whose, for a person.
    pub guests: &'static str,
    /// What the guest does, and what the run ends for.
    pub ends: &'static [(&'static str, Reason)],
}

/// Where a guest gives a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// By a write to an I/O port.
    Port(u16),
    /// The same, to pvpanic's.
    Panic(u16),
    /// By semihosting's `SYS_EXIT`.
    SysExit,
    /// By hvt's hypercall `halt`.
    Halt,
    /// By uhyve's hypercall `exit`.
    Exit,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Port(port) => write!(f, "a write to port {port:#x}"),
            Place::Panic(port) => write!(f, "a write to port {port:#x} (pvpanic)"),
            Place::SysExit => f.write_str("`SYS_EXIT`"),
            Place::Halt => f.write_str("`halt`"),
            Place::Exit => f.write_str("`exit`"),
        }
    }
}

/// The value is the status.
const VALUE: ExitCode = ExitCode(&[(Raw::Any, Status::Low)]);

/// Guests of the x86_64 machine.
pub static PC: Ends = Ends {
    guests: "x86_64: Nanos, and all that are not named",
    exits: &[(Place::Port(EXIT_PORT), VALUE)],
    silent: &SILENT_PC,
};

/// Where QEMU's PC has pvpanic (`hw/misc/pvpanic-isa.c`).
const PANIC_PORT: u16 = 0x505;

/// Those that may be a Linux, which is told of pvpanic by ACPI and has a driver for it.
pub static LINUX: Ends = Ends {
    guests: "x86_64: Linux, and others by PVH or in a bzImage",
    exits: &[
        (Place::Port(EXIT_PORT), VALUE),
        (
            Place::Panic(PANIC_PORT),
            ExitCode(&[(Raw::Bit(PanicPort::PANICKED), Status::Is(CRASHED))]),
        ),
    ],
    silent: &SILENT_PC,
};

/// Where QEMU's PC has the control register of ACPI's power management (PM1a, ACPI 6.5, 4.8.3.2.1), and the
/// bit in it that switches it off (`SLP_EN`).
pub(crate) const POWER_PORT: u16 = 0x604;
const SLEEP: u32 = 13;

/// Unikraft for QEMU's PC (`plat/common/x86/cpu_native.c`): power off, or where that did nothing, 41 to the port that
/// ends QEMU; a crash says 42 there before. For Firecracker it resets.
pub static UNIKRAFT: Ends = Ends {
    guests: "x86_64: Unikraft for QEMU",
    exits: &[
        (
            Place::Port(EXIT_PORT),
            ExitCode(&[
                (Raw::Is(41), Status::Is(0)),
                (Raw::Is(42), Status::Is(CRASHED)),
                (Raw::Any, Status::Low),
            ]),
        ),
        (Place::Port(POWER_PORT), ExitCode(&[(Raw::Bit(SLEEP), Status::Is(0))])),
    ],
    silent: &SILENT_PC,
};

/// The same of a machine without PM1 (sleep control register, 4.8.3.7), which has that at the same port.
const SLEEP_BYTE: u32 = 5;

/// OSv (`arch/x64/power.cc`), which with ACPI tables, as several processors take, has no other way to end.
pub static OSV: Ends = Ends {
    guests: "x86_64: OSv",
    exits: &[
        (Place::Port(EXIT_PORT), VALUE),
        (Place::Port(POWER_PORT), ExitCode(&[(Raw::Bit(SLEEP_BYTE), Status::Is(0))])),
    ],
    silent: &SILENT_PC,
};

/// Where Hermit's loader and kernel have QEMU's `isa-debug-exit`.
const DEBUG_PORT: u16 = 0xf4;

/// Hermit by its own loader (`hermit-kernel`, `src/arch/x86_64/kernel/processor.rs`, `shutdown`): whether its
/// program failed, and not by what.
pub static HERMIT_LOADER: Ends = Ends {
    guests: "x86_64: Hermit by its loader",
    exits: &[(
        Place::Port(DEBUG_PORT),
        ExitCode(&[(Raw::Is(1), Status::Is(0)), (Raw::Any, Status::Is(1))]),
    )],
    silent: &SILENT_PC,
};

/// Guests of the aarch64 machine.
pub static AARCH64: Ends = Ends {
    guests: "aarch64: Nanos, and all others",
    exits: &[(Place::SysExit, VALUE)],
    silent: &SILENT_AARCH64,
};

/// Solo5's guests for hvt.
pub static HVT: Ends =
    Ends { guests: "Solo5, hvt", exits: &[(Place::Halt, VALUE)], silent: &SILENT_HVT };

/// Hermit's guests by uhyve's interface.
pub static UHYVE: Ends =
    Ends { guests: "Hermit, uhyve", exits: &[(Place::Exit, VALUE)], silent: &SILENT_UHYVE };

/// Those of the x86_64 machine.
pub static SILENT_PC: Silent = Silent {
    guests: "x86_64",
    ends: &[
        ("a reset (0xfe to port 0x64, which is ACPI's reset register, too)", Reason::Reset),
        ("a triple fault", Reason::Crash { vcpu: 0, crash: Crash::TripleFault }),
        ("all vCPUs halted with interrupts off", Reason::Asleep),
    ],
};

/// Those of the aarch64 machine.
pub static SILENT_AARCH64: Silent = Silent {
    guests: "aarch64",
    ends: &[("PSCI's `SYSTEM_OFF`", Reason::Shutdown), ("PSCI's `SYSTEM_RESET`", Reason::Restart)],
};

/// Those of hvt.
pub static SILENT_HVT: Silent = Silent {
    guests: "hvt",
    ends: &[
        ("a vCPU that halts: nothing wakes it", Reason::Halted { vcpu: 0 }),
        (
            "a write to constants, a pointer out of memory, a call that there is none of",
            Reason::Violation(String::new()),
        ),
    ],
};

/// Those of uhyve's interface. A call that there is none of does nothing, as with uhyve (`src/linux/x86_64/kvm_cpu.rs`).
pub static SILENT_UHYVE: Silent = Silent {
    guests: "uhyve",
    ends: &[("a pointer out of memory", Reason::Violation(String::new()))],
};

impl Silent {
    /// All there are.
    pub const ALL: [&Silent; 4] = [&SILENT_PC, &SILENT_AARCH64, &SILENT_HVT, &SILENT_UHYVE];
}

impl Ends {
    /// All there are.
    pub const ALL: [&Ends; 8] =
        [&PC, &LINUX, &UNIKRAFT, &OSV, &HERMIT_LOADER, &AARCH64, &HVT, &UHYVE];

    /// All ends, for a person.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let exits = self.exits.iter().flat_map(|(place, code)| {
            code.words().map(move |(value, status)| format!("{place}: {value} gives {status}"))
        });
        exits.chain(self.silent.ends.iter().map(|(how, reason)| {
            let Outcome { status, origin, .. } = Outcome::of(reason);
            let whose = match origin {
                Origin::Guest => "",
                Origin::Runner => ", which is runner's",
                Origin::Unknown => ", and nobody knows the guest's",
            };
            format!("{how}: gives {status}{whose}")
        }))
    }

    /// What the value means that a guest ends with where every guest of its machine does.
    #[must_use]
    pub fn code(&self) -> ExitCode {
        self.exits.first().map_or(VALUE, |(_, code)| *code)
    }

    /// The port at which every such guest ends, where it is one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.ports().next().map(|(port, _)| port)
    }

    /// The ports at which such a guest ends.
    pub fn ports(&self) -> impl Iterator<Item = (u16, ExitCode)> {
        self.exits.iter().filter_map(|(place, code)| match place {
            Place::Port(port) => Some((*port, *code)),
            Place::Panic(_) | Place::SysExit | Place::Halt | Place::Exit => None,
        })
    }

    /// The port at which its kernel says that it has panicked.
    #[must_use]
    pub fn panic(&self) -> Option<(u16, ExitCode)> {
        self.exits.iter().find_map(|(place, code)| match place {
            Place::Panic(port) => Some((*port, *code)),
            _ => None,
        })
    }
}

#[cfg(test)]
#[path = "ends_tests.rs"]
mod tests;
