//! What this host offers to KVM guests: the findings behind `runner doctor`.
//!
//! Every look at the host goes through `Host`, which can be a directory laid out by a
//! test; every try of KVM ends as a `Trial`, which can be made up by one. The
//! checks are judgements over these two. Sources: Linux `Documentation/virt/kvm/api.rst` for the
//! calls, proc(5) and sysfs(5) for the files.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::panic
    )
)]

use std::fmt;

use hv::HostReport;

mod cpu;
mod device;
mod guest;
mod host;
mod module;
mod place;
mod trial;
mod vm;

#[cfg(test)]
mod tests;

use host::Host;
use trial::Trial;

/// Looks at this host and tries its KVM: opens it, makes a VM, runs a few instructions. Takes
/// milliseconds (never more than some seconds, whatever KVM does), needs no privileges and leaves
/// nothing behind.
pub fn report() -> HostReport {
    let host = Host::here();
    let trial = device::try_out(&host);
    judge(&host, &trial)
}

/// How this host's KVM executes guest kernel code, or in one line why that is not known. Makes a VM
/// of its own, which takes milliseconds.
///
/// # Errors
/// The finding of the check that fails.
pub fn execution() -> Result<Execution, String> {
    let host = Host::here();
    match device::try_out(&host) {
        Trial::Vm(Ok(ran)) => Ok(ran.execution),
        Trial::Vm(Err(why)) => Err(why),
        trial => Err(judge(&host, &trial)
            .failure()
            .map_or_else(|| "KVM was not tried".into(), |check| check.finding.clone())),
    }
}

/// All checks as far as the trial came.
fn judge(host: &Host, trial: &Trial) -> HostReport {
    let mut checks = Vec::new();
    checks.extend(cpu::check(host, trial));
    checks.extend(module::check(host, trial));
    checks.extend(device::check(host, trial));
    checks.extend(vm::checks(host, trial));
    HostReport { checks }
}

/// How guest kernel code is executed. `Display` says it as `-v` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execution {
    /// By the CPU, at its own speed.
    OnCpu,
    /// By KVM, one instruction after the other, and not all of them.
    Interpreted {
        /// Instructions a second, as measured.
        per_second: u64,
    },
}

impl fmt::Display for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Execution::OnCpu => f.write_str("guest code runs on the CPU"),
            Execution::Interpreted { per_second } => {
                let tenths = per_second.div_euclid(100_000);
                let (whole, tenth) = (tenths.div_euclid(10), tenths.rem_euclid(10));
                write!(
                    f,
                    "KVM interprets guest kernel code, {whole}.{tenth} million instructions a second"
                )
            }
        }
    }
}

/// What a few instructions in a VM showed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ran {
    execution: Execution,
    /// Of the instructions tried, those that did not do what the CPU would.
    failed: Vec<&'static str>,
}
