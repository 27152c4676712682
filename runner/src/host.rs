//! The one place that names a backend.

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        /// What this host runs guests on.
        pub type Accelerator = hv_kvm::Kvm;
    } else if #[cfg(all(target_os = "macos", target_arch = "aarch64"))] {
        /// What this host runs guests on.
        pub type Accelerator = hv_hvf::Hvf;
    } else if #[cfg(target_os = "macos")] {
        compile_error!(
            "runner on macOS is for Apple silicon (aarch64), and this builds it for an Intel Mac (x86_64), whose \
             last macOS is 26: on Apple silicon build with `--target aarch64-apple-darwin`; an Intel Mac has no \
             accelerator for it"
        );
    } else {
        compile_error!("runner runs on Linux (x86_64, aarch64), and on macOS on Apple silicon (aarch64)");
    }
}
