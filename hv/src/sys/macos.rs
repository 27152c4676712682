//! macOS: see madvise(2).

/// The pages no longer count as the process's, and go when the system wants some; who touches one finds
/// what was there, or zeros.
pub(crate) const GIVE_BACK: libc::c_int = libc::MADV_FREE_REUSABLE;

/// It has pages of one size.
pub(crate) const SMALL_PAGES: Option<libc::c_int> = None;
