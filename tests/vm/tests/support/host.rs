//! What this machine has that a test may need.

/// An accelerator that boots guests of ours. Asked of the system and not of `runner`, whose
/// mistakes must not turn into skips.
pub(crate) fn accelerator() -> Result<(), String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("the guests are for KVM on x86_64".to_owned());
    }
    match std::fs::File::options().read(true).write(true).open("/dev/kvm") {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("/dev/kvm: {error}")),
    }
}
