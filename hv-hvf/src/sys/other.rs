//! Everything that is not macOS on Apple silicon.

use std::sync::LazyLock;
use std::time::Instant;

use crate::host::Facts;

/// There is no framework to find out about.
pub(crate) fn facts() -> Facts {
    Facts::Elsewhere { macos: cfg!(target_os = "macos") }
}

/// Nanoseconds, for a stand-in's guests.
pub(crate) fn counter() -> u64 {
    static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGIN.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// How often [`counter`] counts in a second.
pub(crate) fn hertz() -> u64 {
    1_000_000_000
}
