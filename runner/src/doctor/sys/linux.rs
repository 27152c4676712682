//! Linux asks a program for no signature.

/// Nothing signs.
pub(super) const CODESIGN: Option<&str> = None;
