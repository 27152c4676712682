//! The one place that names a backend.

cfg_if::cfg_if! {
    if #[cfg(target_os = "linux")] {
        /// What this host runs guests on.
        pub type Accelerator = hv_kvm::Kvm;
    } else {
        /// What this host runs guests on.
        pub type Accelerator = hv_hvf::Hvf;
    }
}
