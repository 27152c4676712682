//! The contract's conformance suite over the stand-in for Hypervisor.framework, which plays the
//! suite's guests instruction by instruction: see `hv::conformance`.

fn main() -> std::process::ExitCode {
    hvf_standin::run_guests();
    let why = "the scripted stand-in plays a few forms of instructions only";
    hv::conformance::main_without_processor::<hv_hvf::Hvf>(why)
}
