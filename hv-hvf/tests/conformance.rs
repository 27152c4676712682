//! The contract's conformance suite over the stand-in for Hypervisor.framework: see `hv::conformance`.
//! On an aarch64 Linux with KVM the stand-in runs the suite's guests, elsewhere it plays those whose
//! instructions it knows.

fn main() -> std::process::ExitCode {
    if hvf_standin::run_guests() {
        return hv::conformance::main::<hv_hvf::Hvf>();
    }
    let why = "the scripted stand-in plays a few forms of instructions only";
    hv::conformance::main_without_processor::<hv_hvf::Hvf>(why)
}
