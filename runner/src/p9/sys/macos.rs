//! What macOS does its own way: open(2), stat(2).

use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, OFlags, RawMode, Stat};

use crate::p9::tree::Attributes;

/// How folders on the way down are opened: there is no opening without reading.
pub(in crate::p9) const WALK: OFlags = OFlags::RDONLY;

/// There are no files here that are processes or devices, but for those in `/dev`, which is another
/// file system and holds no regular ones.
#[expect(clippy::unnecessary_wraps, reason = "Linux has to ask")]
pub(in crate::p9) fn is_the_kernels(_folder: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    Ok(false)
}

/// A mode as the system has it.
pub(in crate::p9) fn raw(mode: u32) -> RawMode {
    // Permissions and the kind of file take 16 bits.
    RawMode::try_from(mode & 0xffff).unwrap_or_default()
}

/// What kind of file a mode is of.
pub(in crate::p9) fn kind(mode: u32) -> FileType {
    FileType::from_raw_mode(raw(mode))
}

/// What the system says about a file.
pub(in crate::p9) fn attributes(stat: &Stat) -> Attributes {
    let time =
        |seconds: i64, nanoseconds: i64| (seconds.cast_unsigned(), nanoseconds.cast_unsigned());
    Attributes {
        device: i64::from(stat.st_dev).cast_unsigned(),
        inode: stat.st_ino,
        mode: stat.st_mode.into(),
        links: stat.st_nlink.into(),
        uid: stat.st_uid,
        gid: stat.st_gid,
        special: i64::from(stat.st_rdev).cast_unsigned(),
        size: stat.st_size.cast_unsigned(),
        block_size: i64::from(stat.st_blksize).cast_unsigned(),
        blocks: stat.st_blocks.cast_unsigned(),
        accessed: time(stat.st_atime, stat.st_atime_nsec),
        modified: time(stat.st_mtime, stat.st_mtime_nsec),
        changed: time(stat.st_ctime, stat.st_ctime_nsec),
    }
}
