//! The contract's conformance suite over the stand-in for Hypervisor.framework, which plays the
//! suite's guests instruction by instruction: see `hv::conformance`.

fn main() -> std::process::ExitCode {
    hvf_standin::run_guests();
    hv::conformance::main::<hv_hvf::Hvf>()
}
