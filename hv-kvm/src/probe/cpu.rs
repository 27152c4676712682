//! `kvm-cpu`: whether the CPU says that it virtualizes (proc_cpuinfo(5), `flags`).

use hv::Check;

use super::Execution;
use super::host::Host;
use super::module;
use super::place::{Machine, Wsl};
use super::trial::Trial;

const ID: &str = "kvm-cpu";

/// The check, on an x86 host. Elsewhere no flag says it, and only the device does.
pub(super) fn check(host: &Host, trial: &Trial) -> Option<Check> {
    if !host.is_x86() {
        return None;
    }
    Some(match (host.cpu_flag("vmx"), host.cpu_flag("svm")) {
        (Some(true), _) => Check::ok(ID, "the CPU has VT-x (vmx)"),
        (_, Some(true)) => Check::ok(ID, "the CPU has AMD-V (svm)"),
        (None, None) if trial.works() => Check::ok(ID, "/proc/cpuinfo names no flags; KVM works"),
        (None, None) => Check::warn(
            ID,
            "/proc/cpuinfo cannot be read, so whether the CPU virtualizes is not known",
            "mount /proc",
        ),
        _ => without_flag(host, trial),
    })
}

/// Neither vmx nor svm. That is the end of it, except for a KVM that does without.
fn without_flag(host: &Host, trial: &Trial) -> Check {
    let machine = Machine::around(host);
    let finding = format!("the CPU of {} shows neither vmx nor svm", machine.name());
    if trial.execution() == Some(Execution::OnCpu) {
        return Check::ok(ID, format!("{finding}, and yet guest code runs on it"));
    }
    let advice = remedy(host, &machine);
    if module::loaded(host).contains(&module::PVM) {
        let finding = format!("{finding}; this host's KVM is para-virtual and does without");
        Check::warn(ID, finding, format!("for guests at full speed, {advice}"))
    } else if trial.works() {
        let finding = format!("{finding}; this host's KVM does without");
        Check::warn(ID, finding, format!("for guests at full speed, {advice}"))
    } else {
        Check::fail(ID, finding, advice)
    }
}

/// Where virtualization is switched on.
pub(super) fn remedy(host: &Host, machine: &Machine) -> String {
    if let Some(wsl) = Wsl::around(host) {
        return wsl.remedy().into();
    }
    match machine.nesting() {
        Some(nesting) => nesting.into(),
        None => format!(
            "switch on {} in the BIOS or UEFI settings (often below CPU, Advanced or Security), \
             then switch the machine off and on; without such a setting the CPU cannot virtualize",
            setting(host)
        ),
    }
}

/// What firmware calls it on this CPU.
pub(super) fn setting(host: &Host) -> &'static str {
    match host.cpuinfo("vendor_id").as_deref() {
        Some("GenuineIntel") => "Intel Virtualization Technology (VT-x)",
        Some("AuthenticAMD" | "HygonGenuine") => "SVM Mode (AMD-V)",
        _ => "VT-x (Intel) or SVM Mode (AMD)",
    }
}
