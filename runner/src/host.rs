//! The one place that names a backend.

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        /// What this host runs guests on.
        pub type Accelerator = hv_kvm::Kvm;
    } else if #[cfg(all(target_os = "macos", target_arch = "aarch64"))] {
        /// What this host runs guests on.
        pub type Accelerator = hv_hvf::Hvf;
    } else {
        compile_error!("runner runs on Linux, and on macOS on Apple silicon");
    }
}
