//! macOS, and any system but Linux, has no jail in this version, and says so.

use std::io;

use hv::Check;

use crate::jail::{Error, Missing, Needs, Role};

const NONE: &str = "runner has no jail on this system yet: whoever breaks out of a guest has this \
                    user's rights";

pub(super) fn missing() -> Vec<Missing> {
    // Said with -v alone: it is known, and true of every run here.
    vec![Missing { what: NONE.to_owned(), is_a_hole: false }]
}

pub(super) fn has_lists() -> bool {
    false
}

pub(super) fn prepare() {}

pub(super) fn enter(_needs: Needs) -> Result<Vec<String>, Error> {
    Ok(Vec::new())
}

pub(super) fn prepare_child() -> Result<(), Error> {
    Ok(())
}

pub(super) fn lock(_role: Role, _descriptors: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn lists() -> Vec<String> {
    Vec::new()
}

pub(super) fn checks() -> Vec<Check> {
    vec![Check::warn("jail", NONE, "run guests you trust, or run on Linux")]
}
