//! Errors as the guest is told them: Linux's numbers (`include/uapi/asm-generic/errno.h`), whatever
//! system this is.

use std::io;

/// An error's number on Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub(crate) u32);

impl Errno {
    pub(crate) const PERM: Self = Self(1);
    pub(crate) const NOENT: Self = Self(2);
    pub(crate) const IO: Self = Self(5);
    pub(crate) const NXIO: Self = Self(6);
    pub(crate) const BADF: Self = Self(9);
    pub(crate) const NOMEM: Self = Self(12);
    pub(crate) const FAULT: Self = Self(14);
    pub(crate) const BUSY: Self = Self(16);
    pub(crate) const EXIST: Self = Self(17);
    pub(crate) const XDEV: Self = Self(18);
    pub(crate) const NOTDIR: Self = Self(20);
    pub(crate) const ISDIR: Self = Self(21);
    pub(crate) const INVAL: Self = Self(22);
    pub(crate) const NFILE: Self = Self(23);
    pub(crate) const ROFS: Self = Self(30);
    pub(crate) const NAMETOOLONG: Self = Self(36);
    pub(crate) const LOOP: Self = Self(40);
    pub(crate) const PROTO: Self = Self(71);
    pub(crate) const MSGSIZE: Self = Self(90);
    pub(crate) const OPNOTSUPP: Self = Self(95);

    /// As calls return it.
    pub(crate) fn negative(self) -> i64 {
        i64::from(self.0).saturating_neg()
    }

    /// What this system calls `number`; an input/output error where Linux has none like it.
    fn of(number: i32) -> Self {
        NUMBERS
            .iter()
            .find_map(|(own, linux)| (*own == number).then_some(Self(*linux)))
            .unwrap_or(Self::IO)
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(error: rustix::io::Errno) -> Self {
        Self::of(error.raw_os_error())
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        error.raw_os_error().map_or(Self::IO, Self::of)
    }
}

/// This system's number of an error, and Linux's.
const NUMBERS: [(i32, u32); 45] = [
    (libc::EPERM, 1),
    (libc::ENOENT, 2),
    (libc::EINTR, 4),
    (libc::EIO, 5),
    (libc::ENXIO, 6),
    (libc::E2BIG, 7),
    (libc::EBADF, 9),
    (libc::EAGAIN, 11),
    (libc::ENOMEM, 12),
    (libc::EACCES, 13),
    (libc::EFAULT, 14),
    (libc::EBUSY, 16),
    (libc::EEXIST, 17),
    (libc::EXDEV, 18),
    (libc::ENODEV, 19),
    (libc::ENOTDIR, 20),
    (libc::EISDIR, 21),
    (libc::EINVAL, 22),
    (libc::ENFILE, 23),
    (libc::EMFILE, 24),
    (libc::ENOTTY, 25),
    (libc::ETXTBSY, 26),
    (libc::EFBIG, 27),
    (libc::ENOSPC, 28),
    (libc::ESPIPE, 29),
    (libc::EROFS, 30),
    (libc::EMLINK, 31),
    (libc::EPIPE, 32),
    (libc::ERANGE, 34),
    (libc::EDEADLK, 35),
    (libc::ENAMETOOLONG, 36),
    (libc::ENOLCK, 37),
    (libc::ENOSYS, 38),
    (libc::ENOTEMPTY, 39),
    (libc::ELOOP, 40),
    (libc::EPROTO, 71),
    (libc::EOVERFLOW, 75),
    (libc::EILSEQ, 84),
    (libc::EMSGSIZE, 90),
    (libc::EOPNOTSUPP, 95),
    (libc::ENOTSUP, 95),
    (libc::ETIMEDOUT, 110),
    (libc::ESTALE, 116),
    (libc::EDQUOT, 122),
    (libc::ECANCELED, 125),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_without_a_like_on_linux_is_an_input_output_error() {
        assert_eq!(Errno::of(99_999), Errno::IO);
        assert_eq!(Errno::from(io::Error::other("no number")), Errno::IO);
    }

    #[test]
    fn errors_keep_their_meaning() {
        for (own, linux) in [
            (libc::ENOTEMPTY, 39),
            (libc::ELOOP, 40),
            (libc::ENAMETOOLONG, 36),
            (libc::EOPNOTSUPP, 95),
            (libc::EDQUOT, 122),
        ] {
            assert_eq!(Errno::of(own), Errno(linux));
        }
        assert_eq!(Errno::from(rustix::io::Errno::XDEV), Errno::XDEV);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn on_linux_every_number_is_its_own() {
        for (own, linux) in NUMBERS {
            assert_eq!(u32::try_from(own), Ok(linux));
        }
    }
}
