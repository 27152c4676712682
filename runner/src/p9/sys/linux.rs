//! What Linux does its own way: openat(2), fchmodat2(2), proc(5).

// UNSAFETY: fchmodat2 has no safe interface yet.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{FileType, Mode, OFlags, RawMode, Stat, fstatfs};

use crate::p9::errno::Errno;
use crate::p9::tree::Attributes;

/// How folders on the way down are opened: a way through is enough.
pub(in crate::p9) const WALK: OFlags = OFlags::PATH;

/// Whether the folder is of proc(5) or sysfs(5), whose files are processes and devices.
pub(in crate::p9) fn is_the_kernels(folder: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    const PROC: i64 = 0x9fa0;
    const SYSFS: i64 = 0x6265_6572;
    let magic = fstatfs(folder)?.f_type;
    Ok([PROC, SYSFS].contains(&magic))
}

/// A mode as the system has it.
pub(in crate::p9) fn raw(mode: u32) -> RawMode {
    mode
}

/// What kind of file a mode is of.
pub(in crate::p9) fn kind(mode: u32) -> FileType {
    FileType::from_raw_mode(mode)
}

/// Sets the mode of what `name` itself is. `OPNOTSUPP` for a link, and from kernels before 6.6, which
/// cannot without following it.
pub(in crate::p9) fn set_mode(
    folder: BorrowedFd<'_>,
    name: &[u8],
    mode: Mode,
) -> Result<(), Errno> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    let (fd, mode) = (folder.as_raw_fd(), mode.as_raw_mode());
    // SAFETY: a string that outlives the call, and numbers.
    let result = unsafe {
        let flags = libc::AT_SYMLINK_NOFOLLOW;
        libc::syscall(libc::SYS_fchmodat2, fd, name.as_ptr(), mode, flags)
    };
    match result {
        0 => Ok(()),
        _ => match std::io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOSYS) => Err(Errno::OPNOTSUPP),
            error => Err(error.into()),
        },
    }
}

/// What the system says about a file.
#[allow(clippy::useless_conversion, reason = "arm64 has narrower ones")]
pub(in crate::p9) fn attributes(stat: &Stat) -> Attributes {
    Attributes {
        device: stat.st_dev,
        inode: stat.st_ino,
        mode: stat.st_mode,
        links: stat.st_nlink.into(),
        uid: stat.st_uid,
        gid: stat.st_gid,
        special: stat.st_rdev,
        size: stat.st_size.cast_unsigned(),
        block_size: i64::from(stat.st_blksize).cast_unsigned(),
        blocks: stat.st_blocks.cast_unsigned(),
        accessed: (stat.st_atime.cast_unsigned(), stat.st_atime_nsec),
        modified: (stat.st_mtime.cast_unsigned(), stat.st_mtime_nsec),
        changed: (stat.st_ctime.cast_unsigned(), stat.st_ctime_nsec),
    }
}
