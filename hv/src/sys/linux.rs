//! Linux: see madvise(2).

/// The pages go at once; who touches one finds zeros.
pub(crate) const GIVE_BACK: libc::c_int = libc::MADV_DONTNEED;
