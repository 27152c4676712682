//! The contract's conformance suite over Apple's own Hypervisor.framework, on a Mac: nothing of the stand-in is
//! linked. `conformance` is the same over the stand-in, everywhere.

#[cfg(all(target_os = "macos", target_arch = "aarch64"))]
fn main() -> std::process::ExitCode {
    hv::conformance::main::<hv_hvf::Hvf>()
}

#[cfg(not(all(target_os = "macos", target_arch = "aarch64")))]
fn main() {
    println!(
        "\nrunning 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n"
    );
}
