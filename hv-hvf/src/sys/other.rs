//! Everything that is not macOS on Apple silicon.

use crate::host::Facts;

/// There is no framework to find out about.
pub(crate) fn facts() -> Facts {
    Facts::Elsewhere { macos: cfg!(target_os = "macos") }
}
