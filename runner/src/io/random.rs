//! Random bytes from the operating system.

// UNSAFETY: getentropy(3) is called.
#![allow(unsafe_code)]

/// The most bytes at once.
pub const MOST: usize = 256;

/// Fills `bytes`, at most [`MOST`].
///
/// # Errors
/// What the system said: it has none to give before it has started, or was asked for too many.
pub fn fill(bytes: &mut [u8]) -> std::io::Result<()> {
    // SAFETY: it writes so many bytes there.
    match unsafe { libc::getentropy(bytes.as_mut_ptr().cast(), bytes.len()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_different_each_time_and_too_many_are_an_error() {
        let (mut one, mut other) = ([0; 40], [0; 40]);
        fill(&mut one).unwrap();
        fill(&mut other).unwrap();
        assert_ne!(one, other);
        fill(&mut [0; MOST + 1]).unwrap_err();
    }
}
