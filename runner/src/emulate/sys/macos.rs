//! What macOS does this way.

use std::fs::File;
use std::io;

/// An empty file without a name, which is gone when nobody has it open any more, and which only this user
/// can open before.
pub(in crate::emulate) fn scratch_file() -> io::Result<File> {
    tempfile::tempfile()
}

/// Nothing: macOS has no way to end a process with its parent. QEMU is ended on every way out of
/// runner but one, runner being killed with SIGKILL or by a second signal; then it has to be ended
/// by hand.
pub(in crate::emulate) fn end_with_parent(_parent: u32) -> io::Result<()> {
    Ok(())
}
