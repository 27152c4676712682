//! One set of micro-guests and expectations that every backend must meet (contract 12).
//!
//! A case is a guest of a few instructions (crate `guests`, folder `conformance`) and a function
//! that plays the machine around it: it answers reads, checks writes, kicks, interrupts. A backend
//! runs them all from a test target without libtest's harness:
//!
//! ```no_run
//! # type Backend = hv::script::Script;
//! fn main() -> std::process::ExitCode {
//!     hv::conformance::main::<Backend>()
//! }
//! ```
//!
//! Each case runs in a process of its own with a deadline, because one VM per process is the rule
//! on macOS and because a hang must not take the rest along. A single case can be played in the
//! calling process with [`Case::play`].
//!
//! A case that needs what the backend's [`Caps`] rule out, or instructions that this host's
//! hypervisor cannot execute, is skipped and says why. Nothing else is.

// A case's expectation that is not met panics, and its process ends with that message.
#![allow(clippy::panic)]

/// Declares the cases of a module: functions by name, each with its guest and its needs.
macro_rules! declare {
    ($($name:ident($image:expr) $(needs $($need:ident),+)?;)*) => {
        pub(super) fn cases<H: $crate::Hypervisor>() -> Vec<$crate::conformance::Case<H>> {
            vec![$($crate::conformance::Case {
                name: stringify!($name),
                image: $image,
                needs: &[$($($crate::conformance::Need::$need),+)?],
                play: $name::<H>,
            }),*]
        }
    };
}

mod bench;
mod suite;

mod aarch64;

#[cfg(target_os = "linux")] // doorbells signal an eventfd, which no other system has
mod doorbells;
mod ends;
mod instructions;
mod interrupts;
mod kicks;
mod memory;
mod mmio;
mod order;
mod pending;
mod ports;
mod registers;
mod strings;
mod vcpus;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use suite::{main, main_without_processor};

use crate::arch::Arch;
use crate::caps::{Caps, Monitors};
use crate::traits::Hypervisor;
use bench::{Bench, Skip};

/// The binaries of one guest, by architecture. A case exists where it has one.
#[derive(Clone, Copy, Debug)]
struct Image {
    x86_64: Option<&'static [u8]>,
    aarch64: Option<&'static [u8]>,
}

impl Image {
    const fn x86_64(image: &'static [u8]) -> Self {
        Self { x86_64: Some(image), aarch64: None }
    }

    const fn aarch64(image: &'static [u8]) -> Self {
        Self { x86_64: None, aarch64: Some(image) }
    }

    const fn both(x86_64: &'static [u8], aarch64: &'static [u8]) -> Self {
        Self { x86_64: Some(x86_64), aarch64: Some(aarch64) }
    }

    fn on(self, arch: Arch) -> Option<&'static [u8]> {
        match arch {
            Arch::X86_64 => self.x86_64,
            Arch::Aarch64 => self.aarch64,
        }
    }
}

/// What a case needs beyond vCPUs and RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// An interrupt controller in the host's kernel: the VM gets one.
    IrqChip,
    Doorbell,
    Msi,
    DirtyLog,
    ReadOnlyRam,
    Hypercalls,
    /// Registers of performance monitors: the VM gets them.
    Monitors,
    /// All that a processor does. Only a stand-in that plays a few forms of instructions lacks it.
    Processor,
    /// More than the general-purpose instructions, which a hypervisor that interprets kernel code
    /// may not know.
    Instructions,
}

impl Need {
    /// Why these abilities do not do; nothing if they do, or if only running can tell.
    fn missing(self, caps: &Caps) -> Option<&'static str> {
        let (there, what) = match self {
            Need::IrqChip | Need::Instructions | Need::Processor => return None,
            Need::Doorbell => (caps.doorbell, "doorbells"),
            Need::Msi => (caps.msi, "message-signalled interrupts"),
            Need::DirtyLog => (caps.dirty_log, "a record of written pages"),
            Need::ReadOnlyRam => (caps.read_only_ram, "read-only RAM"),
            Need::Monitors => (caps.monitors != Monitors::Absent, "performance monitors"),
            Need::Hypercalls => (caps.hypercalls, "exits for hypercalls"),
        };
        (!there).then_some(what)
    }
}

/// One thing that every backend must do.
pub struct Case<H: Hypervisor> {
    name: &'static str,
    image: Image,
    needs: &'static [Need],
    play: fn(&Bench<'_, H>),
}

impl<H: Hypervisor> fmt::Debug for Case<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How a case came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it must.
    Passed,
    /// It could not be played here, and why.
    Skipped(String),
    /// Not as it must: which expectation was not met.
    Failed(String),
}

impl<H: Hypervisor> Case<H> {
    /// Its name: a sentence with underscores.
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn needs_processor(&self) -> bool {
        self.needs.contains(&Need::Processor)
    }

    /// Plays it in this process, without a deadline.
    pub fn play(&self, hypervisor: &H) -> Outcome {
        let caps = hypervisor.caps();
        let Some(image) = self.image.on(caps.arch) else {
            return Outcome::Skipped(format!("it has no guest for {}", caps.arch));
        };
        if let Some(what) = self.needs.iter().find_map(|need| need.missing(caps)) {
            return Outcome::Skipped(format!("{} does not have {what} here", H::NAME));
        }
        let bench = Bench::new(hypervisor, image, self.needs);
        match catch_unwind(AssertUnwindSafe(|| (self.play)(&bench))) {
            Ok(()) => Outcome::Passed,
            Err(payload) => match payload.downcast::<Skip>() {
                Ok(skip) => Outcome::Skipped(skip.0),
                Err(payload) => Outcome::Failed(message(&*payload)),
            },
        }
    }
}

/// What a panic said.
fn message(payload: &(dyn std::any::Any + Send)) -> String {
    match (payload.downcast_ref::<String>(), payload.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (None, Some(text)) => (*text).to_owned(),
        (None, None) => "a panic without a message".to_owned(),
    }
}

/// The cases for backends whose guests are of `arch`.
pub fn cases<H: Hypervisor>(arch: Arch) -> Vec<Case<H>> {
    let mut cases = Vec::new();
    cases.extend(ports::cases());
    cases.extend(strings::cases());
    cases.extend(mmio::cases());
    cases.extend(memory::cases());
    cases.extend(pending::cases());
    cases.extend(kicks::cases());
    cases.extend(registers::cases());
    cases.extend(instructions::cases());
    cases.extend(ends::cases());
    cases.extend(vcpus::cases());
    cases.extend(interrupts::cases());
    #[cfg(target_os = "linux")]
    cases.extend(doorbells::cases());
    cases.extend(order::cases());
    cases.extend(aarch64::cases());
    cases.retain(|case| case.image.on(arch).is_some());
    cases
}

#[cfg(test)]
mod tests;
