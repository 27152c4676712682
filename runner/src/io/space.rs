//! Parts of files that take no room, or are zeros: punched, zeroed by the file system, or written.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::sys;

/// Zeros in one write, where a file system cannot make them.
const CHUNK: usize = 256 << 10;

/// Gives back the room that `len` bytes from `offset` on take in a regular file, where its file
/// system can. What can then be read there is zeros, or what was there.
///
/// # Errors
/// What the operating system says, unless it is that it cannot do this.
pub fn discard(file: &File, offset: u64, len: u64) -> io::Result<()> {
    able(sys::punch_hole(file, offset, len)).map(|_| ())
}

/// The same for a block device.
///
/// # Errors
/// As [`discard`].
pub fn discard_on_device(file: &File, offset: u64, len: u64) -> io::Result<()> {
    able(sys::discard_on_device(file, offset, len)).map(|_| ())
}

/// Fills `len` bytes from `offset` on with zeros. With `hole` they need take no room. The file must
/// be that long.
///
/// # Errors
/// What the operating system says.
pub fn zero(file: &File, offset: u64, len: u64, hole: bool) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    let punched = match hole {
        true => able(sys::punch_hole(file, offset, len))?,
        false => false,
    };
    if punched || able(sys::zero_range(file, offset, len))? {
        return Ok(());
    }
    write_zeros(file, offset, len)
}

fn write_zeros(file: &File, mut offset: u64, len: u64) -> io::Result<()> {
    let end = offset.saturating_add(len);
    let zeros = vec![0; CHUNK.min(usize::try_from(len).unwrap_or(CHUNK))];
    while offset < end {
        let rest = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
        let chunk = zeros.get(..rest).unwrap_or(&zeros);
        file.write_all_at(chunk, offset)?;
        offset = offset.saturating_add(chunk.len() as u64);
    }
    Ok(())
}

/// Whether it was done, as opposed to something that cannot be done here.
fn able(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Err(error) if is_unable(&error) => Ok(false),
        result => result.map(|()| true),
    }
}

/// Whether the system, the file system or the device cannot do it: not at all, not at this
/// alignment, or not for this kind of file.
fn is_unable(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    let unable =
        [libc::EOPNOTSUPP, libc::ENOTSUP, libc::ENOSYS, libc::EINVAL, libc::ENODEV, libc::ENOTTY];
    unable.map(Some).contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    const SIZE: usize = 64 << 10;
    const LEN: u64 = SIZE as u64;

    fn file() -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0x5a; SIZE]).unwrap();
        file
    }

    fn bytes(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    /// What a file reads like when `offset` and `len` are zeros.
    fn zeroed(offset: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0x5a; SIZE];
        bytes[offset..offset + len].fill(0);
        bytes
    }

    #[test]
    fn zeros_are_where_they_were_asked_for_and_nowhere_else() {
        for (offset, len) in [(0, 512), (512, 4096), (4096, 8192), (1000, 1), (0, LEN), (7, 0)] {
            let expected = zeroed(offset.try_into().unwrap(), len.try_into().unwrap());
            for hole in [false, true] {
                let file = file();
                zero(&file, offset, len, hole).unwrap();
                assert!(bytes(&file) == expected, "{offset} {len} {hole}");
                assert_eq!(file.metadata().unwrap().len(), LEN);
            }
            let file = file();
            write_zeros(&file, offset, len).unwrap();
            assert!(bytes(&file) == expected, "{offset} {len} written");
        }
    }

    #[test]
    fn zeros_in_more_than_one_piece_are_all_written() {
        let file = tempfile::tempfile().unwrap();
        let len = 2 * CHUNK as u64 + 12345;
        file.write_all_at(&[0x5a; 3], len).unwrap();
        write_zeros(&file, 0, len + 1).unwrap();
        assert_eq!(file.metadata().unwrap().len(), len + 3);
        let mut end = [0; 4];
        file.read_exact_at(&mut end, len - 1).unwrap();
        assert_eq!(end, [0, 0, 0x5a, 0x5a]);
    }

    #[test]
    fn room_is_given_back_where_the_file_system_can() {
        let file = file();
        file.sync_all().unwrap();
        let before = file.metadata().unwrap().blocks();
        match sys::punch_hole(&file, 0, LEN) {
            Err(error) if is_unable(&error) => println!("skipped: no holes in files here: {error}"),
            result => {
                result.unwrap();
                assert!(file.metadata().unwrap().blocks() < before);
            }
        }
        // The same, and no error wherever this runs.
        discard(&file, 0, LEN).unwrap();
    }

    #[test]
    fn what_can_be_neither_punched_nor_zeroed_is_written() {
        // A character device: ENODEV, ENOTTY.
        let null = File::options().write(true).open("/dev/null").unwrap();
        zero(&null, 0, 4096, true).unwrap();
        zero(&null, 0, 4096, false).unwrap();
        discard(&null, 0, 4096).unwrap();
        discard_on_device(&null, 0, 4096).unwrap();
    }

    #[test]
    fn a_file_that_may_not_be_written_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, [0x5a; 4096]).unwrap();
        let file = File::open(&path).unwrap();
        zero(&file, 0, 4096, true).unwrap_err();
        zero(&file, 0, 4096, false).unwrap_err();
        discard(&file, 0, 4096).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), [0x5a; 4096]);
    }

    /// A block device on a file, where this user may make one. It goes when this does.
    #[cfg(target_os = "linux")] // losetup(8)
    struct Loop(String);

    #[cfg(target_os = "linux")] // see above
    impl Loop {
        fn on(path: &std::path::Path) -> Result<Self, String> {
            let mut losetup = std::process::Command::new("losetup");
            let made = losetup.args(["--show", "-f"]).arg(path).output();
            let made = made.map_err(|error| format!("losetup: {error}"))?;
            match made.status.success() {
                true => Ok(Self(String::from_utf8(made.stdout).unwrap().trim().to_owned())),
                false => Err(String::from_utf8_lossy(&made.stderr).trim().replace('\n', "; ")),
            }
        }
    }

    #[cfg(target_os = "linux")] // see above
    impl Drop for Loop {
        fn drop(&mut self) {
            // Fails for a device that is gone.
            let _ = std::process::Command::new("losetup").args(["-d", &self.0]).status();
        }
    }

    #[cfg(target_os = "linux")] // see above
    #[test]
    fn a_block_device_is_zeroed_and_discarded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, [0x5a; SIZE]).unwrap();
        let device = match Loop::on(&path) {
            Ok(device) => device,
            Err(why) => return println!("skipped: no block device to try: {why}"),
        };
        let file = File::options().read(true).write(true).open(&device.0).unwrap();
        for (offset, hole) in [(4096, false), (16384, true)] {
            zero(&file, offset, 8192, hole).unwrap();
        }
        // Not a whole block of any device: written.
        zero(&file, 100, 1, true).unwrap();
        let mut expected = zeroed(4096, 8192);
        expected[16384..16384 + 8192].fill(0);
        expected[100] = 0;
        assert!(bytes(&file) == expected);
        file.sync_all().unwrap();
        assert!(std::fs::read(&path).unwrap() == expected);
        sys::discard_on_device(&file, 32768, 16384).unwrap();
        discard_on_device(&file, 0, 4096).unwrap();
        assert!(std::fs::read(&path).unwrap()[32768..32768 + 16384].iter().all(|byte| *byte == 0));
    }
}
