//! Whether this host has Hypervisor.framework and lets us use it: the findings behind
//! `runner doctor`, judged from plain facts.

use hv::{Check, Error, HostReport, Kind, Result, Verdict};

use crate::errors;
use crate::ffi;
use crate::trial;

/// The first version of macOS whose framework has an interrupt controller.
const OLDEST: u32 = 15;

/// What the operating system tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "each system makes one kind; tests make all")]
pub(crate) enum Facts {
    /// macOS on Apple silicon.
    Mac {
        /// `kern.osproductversion`: `15.5`.
        version: Option<String>,
        /// `machdep.cpu.brand_string`: `Apple M2`.
        cpu: Option<String>,
        /// `kern.hv_support`.
        hv_support: Option<bool>,
        /// `kern.hv_vmm_present`: this macOS is a guest itself.
        in_vm: bool,
    },
    /// Anything else.
    Elsewhere {
        /// A program for Intel Macs.
        macos: bool,
    },
}

/// What keeps a VM from being created at all, as far as the system tells.
pub(crate) fn obstacle(facts: &Facts) -> Option<Error> {
    match facts {
        // Whoever linked the framework's symbols into this program is the framework.
        Facts::Elsewhere { .. } => None,
        Facts::Mac { .. } => {
            let checks = judge(facts);
            let failure = checks.into_iter().find(|check| check.verdict == Verdict::Fail)?;
            let error = Error::new("open Hypervisor.framework", Kind::NotFound, failure.finding);
            Some(error.remedy(failure.remedy.unwrap_or_default()))
        }
    }
}

/// One line for [`Caps::description`](hv::Caps).
pub(crate) fn description(facts: &Facts) -> String {
    match facts {
        Facts::Mac { version: Some(version), .. } => {
            format!("Hypervisor.framework, macOS {version}")
        }
        Facts::Mac { version: None, .. } => "Hypervisor.framework".into(),
        Facts::Elsewhere { .. } => "a stand-in for Hypervisor.framework".into(),
    }
}

/// Judges `facts`; asks the framework itself only where nothing speaks against it.
pub(crate) fn report(facts: &Facts) -> HostReport {
    let mut report = HostReport { checks: judge(facts) };
    if report.usable() {
        let attempt = try_vm();
        let may_run = attempt.is_ok();
        report.checks.push(entitlement(attempt));
        if may_run {
            report.checks.push(execution(trial::trial()));
        }
    }
    report
}

/// The checks that need no framework.
pub(crate) fn judge(facts: &Facts) -> Vec<Check> {
    match facts {
        Facts::Elsewhere { macos: false } => {
            vec![Check::fail("hvf-os", "Hypervisor.framework is part of macOS", "on Linux use KVM")]
        }
        Facts::Elsewhere { macos: true } => vec![Check::fail(
            "hvf-cpu",
            "this program is built for Intel Macs, whose last version of macOS is 26",
            "use a Mac with Apple silicon and the program built for it",
        )],
        Facts::Mac { version, cpu, hv_support, in_vm } => vec![
            self::version(version.as_deref()),
            self::cpu(cpu.as_deref()),
            support(*hv_support, *in_vm),
        ],
    }
}

fn version(version: Option<&str>) -> Check {
    const ID: &str = "hvf-macos";
    let Some(version) = version else {
        return Check::warn(ID, "macOS does not tell its version", "macOS 15 or later is needed");
    };
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(major) if major >= OLDEST => Check::ok(ID, format!("macOS {version}")),
        Some(_) => Check::fail(ID, format!("macOS {version}"), "update to macOS 15 or later"),
        None => Check::warn(ID, format!("macOS {version}"), "macOS 15 or later is needed"),
    }
}

fn cpu(cpu: Option<&str>) -> Check {
    Check::ok("hvf-cpu", cpu.unwrap_or("Apple silicon"))
}

fn support(hv_support: Option<bool>, in_vm: bool) -> Check {
    const ID: &str = "hvf-support";
    match (hv_support, in_vm) {
        (Some(true), _) => Check::ok(ID, "kern.hv_support is 1"),
        (Some(false), true) => Check::fail(
            ID,
            "this macOS runs in a virtual machine without nested virtualization (HV_UNSUPPORTED)",
            "run on the Mac itself, or switch nested virtualization on (M3 or later, macOS 15)",
        ),
        (Some(false), false) => {
            Check::fail(ID, "kern.hv_support is 0", "this Mac cannot run virtual machines")
        }
        (None, _) => Check::warn(
            ID,
            "macOS does not tell kern.hv_support",
            "a start will say whether it works",
        ),
    }
}

/// Creates a VM and destroys it.
fn try_vm() -> Result<()> {
    let bits = ffi::max_ipa_bits()?;
    ffi::Vm::create(u8::try_from(bits).unwrap_or(u8::MAX)).map(drop)
}

/// Judges how the attempt went. A VM that this process has already proves as much as a new one.
fn entitlement(attempt: Result<()>) -> Check {
    const ID: &str = "hvf-entitlement";
    match attempt {
        Ok(()) => Check::ok(ID, "this program may create virtual machines"),
        Err(error) if error.kind == Kind::Busy => {
            Check::ok(ID, "this program has a virtual machine already")
        }
        Err(error) if error.kind == Kind::Permission => Check::fail(
            ID,
            "this program lacks the entitlement com.apple.security.hypervisor (HV_DENIED); \
             every build drops it",
            errors::denied(),
        ),
        Err(error) if error.kind == Kind::Unsupported => {
            Check::fail(ID, "macOS cannot create virtual machines here", errors::UNSUPPORTED)
        }
        Err(error) => Check::fail(ID, error.to_string(), "restart the Mac, then try again"),
    }
}

/// Judges how a guest's first instructions went.
fn execution(trial: Result<()>) -> Check {
    const ID: &str = "hvf-run";
    match trial {
        Ok(()) => Check::ok(ID, "a guest's instructions run on the CPU"),
        Err(error) => Check::fail(
            ID,
            format!("a guest's first instructions fail: {error}"),
            "restart the Mac, then try again; if it stays, report it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hvf_standin::{Session, code};

    fn mac(version: &str, hv_support: bool, in_vm: bool) -> Facts {
        Facts::Mac {
            version: Some(version.into()),
            cpu: Some("Apple M2".into()),
            hv_support: Some(hv_support),
            in_vm,
        }
    }

    #[test]
    fn another_system_is_told_where_the_framework_lives() {
        let report = report(&Facts::Elsewhere { macos: false });
        assert_eq!(report.failure().unwrap().finding, "Hypervisor.framework is part of macOS");
        let report = super::report(&Facts::Elsewhere { macos: true });
        assert!(report.failure().unwrap().finding.contains("Intel"), "{report:?}");
    }

    #[test]
    fn a_mac_that_can_is_asked_for_a_vm_and_all_is_well() {
        let session = Session::begin();
        hvf_standin::run_guests();
        let report = report(&mac("15.5", true, false));
        assert!(report.checks.iter().all(|check| check.verdict == Verdict::Ok), "{report:?}");
        assert_eq!(report.checks.len(), 5);
        // One VM to see whether there may be one, and one for the guest.
        assert_eq!(session.calls("hv_vm_create").len(), 2);
        assert_eq!(session.calls("hv_vm_destroy").len(), 2);
    }

    #[test]
    fn a_guest_that_does_not_run_is_a_failure_with_the_reason() {
        let session = Session::begin();
        session.fail("hv_vcpu_create", code::HV_NO_RESOURCES);
        let report = report(&mac("15.5", true, false));
        let failure = report.failure().unwrap();
        assert_eq!(failure.id, "hvf-run");
        assert!(failure.finding.contains("hv_vcpu_create"), "{failure:?}");
    }

    #[test]
    fn opening_names_the_check_that_fails() {
        assert!(obstacle(&mac("15.0", true, false)).is_none());
        assert!(obstacle(&Facts::Elsewhere { macos: false }).is_none());
        let error = obstacle(&mac("14.7", true, false)).unwrap();
        assert!(error.to_string().ends_with("macOS 14.7; update to macOS 15 or later"), "{error}");
        let error = obstacle(&mac("15.0", false, true)).unwrap();
        assert!(error.to_string().contains("nested virtualization"), "{error}");
    }

    #[test]
    fn an_old_macos_fails_and_an_unreadable_version_warns() {
        assert_eq!(version(Some("14.7.1")).verdict, Verdict::Fail);
        assert_eq!(version(Some("26.0")).verdict, Verdict::Ok);
        assert_eq!(version(Some("?")).verdict, Verdict::Warn);
        assert_eq!(version(None).verdict, Verdict::Warn);
    }

    #[test]
    fn a_guest_without_nesting_is_told_apart_from_a_mac_that_cannot() {
        let _session = Session::begin();
        let nested = report(&mac("15.5", false, true));
        assert!(nested.failure().unwrap().finding.contains("nested"), "{nested:?}");
        let never = report(&mac("15.5", false, false));
        assert!(never.failure().unwrap().finding.contains("kern.hv_support"), "{never:?}");
    }

    #[test]
    fn a_missing_entitlement_comes_with_the_command_that_gives_it() {
        let session = Session::begin();
        session.fail("hv_vm_create", code::HV_DENIED);
        let report = report(&mac("15.5", true, false));
        let failure = report.failure().unwrap();
        assert_eq!(failure.id, "hvf-entitlement");
        assert!(failure.remedy.as_ref().unwrap().contains("codesign --sign -"), "{failure:?}");
    }

    #[test]
    fn a_framework_that_cannot_or_fails_is_a_failure_and_one_in_use_is_not() {
        let session = Session::begin();
        for (raw, verdict) in [
            (code::HV_UNSUPPORTED, Verdict::Fail),
            (code::HV_NO_RESOURCES, Verdict::Fail),
            (code::HV_BUSY, Verdict::Ok),
        ] {
            session.fail("hv_vm_create", raw);
            assert_eq!(report(&mac("15.5", true, false)).checks[3].verdict, verdict, "{raw:#x}");
        }
    }
}
