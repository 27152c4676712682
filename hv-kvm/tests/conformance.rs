//! The contract's conformance suite over KVM: see `hv::conformance`.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    hv::conformance::main::<hv_kvm::Kvm>()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("skipped: KVM is part of Linux");
}
