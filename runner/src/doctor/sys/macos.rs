//! macOS has what signs programs.

/// codesign(1).
pub(super) const CODESIGN: Option<&str> = Some("/usr/bin/codesign");
