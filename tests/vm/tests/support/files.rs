//! Files that tests boot and read.

use std::path::{Path, PathBuf};

/// The checkout.
pub(crate) fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A micro-guest, entered by Linux's 64-bit protocol.
pub(crate) fn kernel(name: &str) -> PathBuf {
    checkout().join(format!("tests/guests/x86_64/kernels/{name}.elf"))
}
