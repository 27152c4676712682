//! What Linux does its own way: openat(2), stat(2), proc(5).

use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, OFlags, RawMode, Stat, fstatfs};

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
