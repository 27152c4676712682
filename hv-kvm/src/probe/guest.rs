//! A few instructions in a VM of their own: whether they run on the CPU or KVM interprets them,
//! and which ones it cannot execute.
//!
//! KVM can be there, create VMs, and still not virtualize: a para-virtual KVM interprets a guest's
//! kernel code and knows only part of the instruction set. No flag tells; time does. The exits: Linux
//! `Documentation/virt/kvm/api.rst`, section 5.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use hv::{Error, Kind, Result};
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::{Execution, Ran};
use crate::error::call;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
pub(super) use aarch64::run;

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub(super) use x86_64::run;

/// From this many instructions a second on, the CPU itself executes them. Interpreters have been
/// seen at 1.8 million and CPUs at billions; a CPU that is itself emulated reaches 100 million. The
/// limit stands far from all of them, so a busy machine does not blur it.
const ON_CPU: u64 = 20_000_000;
/// How often the loop is tried. The fastest counts, since noise only ever slows a run down.
const TRIES: u32 = 6;
/// How long a try should take: long enough that the cost of an exit does not matter, short enough
/// that nobody notices six of them.
const TRY: Duration = Duration::from_millis(2);
/// The first and smallest count: about a millisecond for an interpreter.
const FEWEST: u64 = 1_000;

/// How a stretch of guest code ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// It said that it got there.
    Done,
    /// KVM could not go on: it does not know the instruction.
    #[cfg_attr(
        target_arch = "aarch64",
        allow(dead_code, reason = "arm64's KVM interprets nothing")
    )]
    Unknown,
    /// The instruction raised an exception.
    Exception,
    /// Anything else, in words.
    Other(String),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Done => f.write_str("ran"),
            End::Unknown => f.write_str("ended in KVM_EXIT_INTERNAL_ERROR"),
            End::Exception => f.write_str("ended in an exception"),
            End::Other(words) => f.write_str(words),
        }
    }
}

/// Runs until the guest stops, which `end` puts in our words, and says how long that took.
fn timed(vcpu: &mut VcpuFd, end: impl Fn(VcpuExit<'_>) -> End) -> Result<(End, Duration)> {
    let begin = Instant::now();
    let end = loop {
        match vcpu.run() {
            Ok(exit) => break end(exit),
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) => return call("KVM_RUN", Err(error)),
        }
    };
    let took = begin.elapsed();
    // KVM finishes an access before registers are set again. It returns EINTR at once, which is all there is to it.
    vcpu.set_kvm_immediate_exit(1);
    let _ = vcpu.run();
    vcpu.set_kvm_immediate_exit(0);
    Ok((end, took))
}

/// Times a loop of `instructions`, of which `run` makes as many rounds as it is told, with a count
/// that fits the speed seen so far.
fn execution(
    instructions: u64,
    mut run: impl FnMut(u64) -> Result<(End, Duration)>,
) -> Result<Execution> {
    let mut count = FEWEST;
    let mut fastest = 0;
    for _ in 0..TRIES {
        let (end, took) = run(count)?;
        if end != End::Done {
            let why = format!("a loop that counts down {end}");
            return Err(Error::new("KVM_RUN", Kind::Host, why));
        }
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        let billions = count.saturating_mul(instructions).saturating_mul(1_000_000_000);
        fastest = billions.div_euclid(nanos).max(fastest);
        if fastest >= ON_CPU {
            return Ok(Execution::OnCpu);
        }
        count = per(fastest, TRY).checked_div(instructions).unwrap_or(0).max(FEWEST);
    }
    Ok(Execution::Interpreted { per_second: fastest })
}

/// How many come in `time` at so many a second.
fn per(second: u64, time: Duration) -> u64 {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    second.saturating_mul(micros).div_euclid(1_000_000)
}

/// An access outside the guest's RAM, which would be a mistake in this folder.
fn beyond(error: vm_memory::GuestMemoryError) -> Error {
    Error::new("write guest RAM", Kind::Invalid, error.to_string())
}
