//! `hv_return_t` as the contract's one error (Apple's documentation, "Hypervisor Errors").

use std::path::Path;

use hv::{Error, Kind, OsCode};

/// The codes that the framework documents.
#[expect(missing_docs, reason = "the names are the framework's")]
pub mod code {
    pub const HV_ERROR: u32 = 0xfae9_4001;
    pub const HV_BUSY: u32 = 0xfae9_4002;
    pub const HV_BAD_ARGUMENT: u32 = 0xfae9_4003;
    pub const HV_ILLEGAL_GUEST_STATE: u32 = 0xfae9_4004;
    pub const HV_NO_RESOURCES: u32 = 0xfae9_4005;
    pub const HV_NO_DEVICE: u32 = 0xfae9_4006;
    pub const HV_DENIED: u32 = 0xfae9_4007;
    pub const HV_FAULT: u32 = 0xfae9_4008;
    pub const HV_UNSUPPORTED: u32 = 0xfae9_400f;
}

/// The failure of the framework's call `op` with `raw`, which is not `HV_SUCCESS`.
pub fn error(op: &'static str, raw: u32) -> Error {
    let (kind, remedy) = match raw {
        code::HV_BUSY if op == "hv_vm_create" => {
            (Kind::Busy, "macOS allows one VM per process: end the other one first".into())
        }
        code::HV_BUSY => (Kind::Busy, "HV_BUSY: another thread uses it; try again".into()),
        code::HV_BAD_ARGUMENT => {
            (Kind::Invalid, "HV_BAD_ARGUMENT: correct the value named here".into())
        }
        code::HV_ILLEGAL_GUEST_STATE => {
            (Kind::Host, "HV_ILLEGAL_GUEST_STATE: the guest's registers cannot be run".into())
        }
        code::HV_NO_RESOURCES => (
            Kind::Exhausted,
            "HV_NO_RESOURCES: end other virtual machines or ask for less, then try again".into(),
        ),
        code::HV_NO_DEVICE => {
            (Kind::Order, "HV_NO_DEVICE: there is no such VM or vCPU: a bug in the caller".into())
        }
        code::HV_DENIED => (Kind::Permission, denied()),
        code::HV_FAULT => (Kind::Host, "HV_FAULT: an address given is not this process's".into()),
        code::HV_UNSUPPORTED => (Kind::Unsupported, UNSUPPORTED.into()),
        code::HV_ERROR => (Kind::Host, "HV_ERROR: macOS gives no reason; see Console.app".into()),
        _ => (Kind::Host, "a code this program does not know; see `runner doctor`".into()),
    };
    let mut error = Error::new(op, kind, "").remedy(remedy);
    error.os_code = Some(OsCode::Hv(raw));
    error
}

/// What to do where the framework says that this Mac cannot do it.
pub(crate) const UNSUPPORTED: &str = "HV_UNSUPPORTED: inside a virtual machine, run on the Mac \
     itself or switch nested virtualization on (M3 or later, macOS 15)";

/// The command that gives this program its entitlement.
pub(crate) fn denied() -> String {
    denied_to(&std::env::current_exe().unwrap_or_else(|_| "PROGRAM".into()))
}

/// The same for `program`: `runner` signs itself, anything else is the work of cargo's runner for macOS or of
/// the command behind it.
fn denied_to(program: &Path) -> String {
    let shown = program.display();
    if program.file_name() == Some("runner".as_ref()) {
        return format!("sign it, after every build: '{shown}' doctor --sign");
    }
    format!(
        "sign it, after every build: codesign --sign - --force --entitlements \
         hv-hvf/hypervisor.entitlements '{shown}'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_code_has_a_kind_and_is_named_in_the_message() {
        use code::*;
        let cases = [
            (HV_ERROR, Kind::Host, "HV_ERROR"),
            (HV_BUSY, Kind::Busy, "HV_BUSY"),
            (HV_BAD_ARGUMENT, Kind::Invalid, "HV_BAD_ARGUMENT"),
            (HV_ILLEGAL_GUEST_STATE, Kind::Host, "HV_ILLEGAL_GUEST_STATE"),
            (HV_NO_RESOURCES, Kind::Exhausted, "HV_NO_RESOURCES"),
            (HV_NO_DEVICE, Kind::Order, "HV_NO_DEVICE"),
            (HV_DENIED, Kind::Permission, "codesign --sign - --force --entitlements"),
            (HV_FAULT, Kind::Host, "HV_FAULT"),
            (HV_UNSUPPORTED, Kind::Unsupported, "nested virtualization"),
        ];
        for (raw, kind, text) in cases {
            let error = error("hv_vm_map", raw);
            assert_eq!(error.kind, kind, "{raw:#x}");
            assert_eq!(error.os_code, Some(OsCode::Hv(raw)));
            assert!(error.to_string().contains(text), "{error}");
            assert!(error.to_string().starts_with("hv_vm_map"), "{error}");
        }
    }

    #[test]
    fn an_unknown_code_is_shown_as_it_came() {
        let error = error("hv_vcpu_run", 0xfae9_4077);
        assert_eq!(error.kind, Kind::Host);
        assert!(error.to_string().contains("0xfae94077"), "{error}");
    }

    #[test]
    fn a_second_vm_is_told_why_it_cannot_be() {
        let error = error("hv_vm_create", code::HV_BUSY);
        assert_eq!(error.kind, Kind::Busy);
        assert!(error.to_string().contains("one VM per process"), "{error}");
    }

    #[test]
    fn the_command_for_a_missing_entitlement_names_this_program() {
        let program = std::env::current_exe().unwrap();
        let message = error("hv_vm_create", code::HV_DENIED).to_string();
        assert!(message.contains(&*program.to_string_lossy()), "{message}");
    }

    #[test]
    fn runner_signs_itself() {
        let message = denied_to(Path::new("/usr/local/bin/runner"));
        assert_eq!(message, "sign it, after every build: '/usr/local/bin/runner' doctor --sign");
        assert!(denied_to(Path::new("/t/deps/runner-1")).contains("codesign --sign -"));
    }
}
