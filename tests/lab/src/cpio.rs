//! The newc cpio archive that Linux unpacks as its initial root (kernel documentation,
//! driver-api/early-userspace/buffer-format).

use crate::command::Result;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const DATA: u32 = 0o100_644;

/// An archive in memory, entries in the order they were added.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<PathBuf>,
}

impl Archive {
    /// Adds a directory and those above it, each once.
    pub(crate) fn directory(&mut self, path: &Path) -> Result<()> {
        let path = inside(path);
        for dir in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if !dir.as_os_str().is_empty() && self.directories.insert(dir.to_owned()) {
                self.entry(dir, DIRECTORY, &[])?;
            }
        }
        Ok(())
    }

    /// Adds a file that anyone may run, or only read, with the directories above it.
    pub(crate) fn file(&mut self, path: &Path, executable: bool, data: &[u8]) -> Result<()> {
        let path = inside(path);
        if let Some(parent) = path.parent() {
            self.directory(parent)?;
        }
        self.entry(path, if executable { PROGRAM } else { DATA }, data)
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry(Path::new("TRAILER!!!"), 0, &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, path: &Path, mode: u32, data: &[u8]) -> Result<()> {
        let name = path.as_os_str().as_encoded_bytes();
        let too_large = |_| format!("{} is too large for a cpio archive", path.display());
        let size = u32::try_from(data.len()).map_err(too_large)?;
        let name_size = u32::try_from(name.len()).map_err(too_large)?.saturating_add(1);
        self.bytes.extend(b"070701");
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor,
        // namesize, check. With nlink 1 the kernel does not look at ino.
        for field in [0, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name);
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(data);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Archive names are relative to the root they are unpacked on.
fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, mode and data of every entry, read back by the format's own rules.
    fn entries(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut at = 0;
        let mut entries = Vec::new();
        while at < bytes.len() {
            assert_eq!(&bytes[at..at + 6], b"070701", "magic at {at}");
            let field = |n: usize| {
                let start = at + 6 + 8 * n;
                let text = std::str::from_utf8(&bytes[start..start + 8]).unwrap();
                usize::from_str_radix(text, 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6), field(11));
            let name = at + 110;
            let data = (name + name_size).next_multiple_of(4);
            assert_eq!(bytes[name + name_size - 1], 0, "names end with a zero");
            entries.push((
                String::from_utf8(bytes[name..name + name_size - 1].to_vec()).unwrap(),
                u32::try_from(mode).unwrap(),
                bytes[data..data + size].to_vec(),
            ));
            at = (data + size).next_multiple_of(4);
        }
        assert_eq!(at, bytes.len(), "the last entry is padded too");
        entries
    }

    #[test]
    fn an_archive_reads_back_as_it_was_written() {
        let mut archive = Archive::default();
        archive.file(Path::new("/init"), true, b"#!").unwrap();
        archive.file(Path::new("/a/b/c"), false, b"12345").unwrap();
        let read = entries(&archive.finish().unwrap());
        let expected: [(&str, u32, &[u8]); 5] = [
            ("init", 0o100_755, b"#!"),
            ("a", 0o040_755, b""),
            ("a/b", 0o040_755, b""),
            ("a/b/c", 0o100_644, b"12345"),
            ("TRAILER!!!", 0, b""),
        ];
        assert_eq!(read, expected.map(|(n, m, d)| (n.to_owned(), m, d.to_vec())));
    }

    #[test]
    fn a_directory_is_written_once() {
        let mut archive = Archive::default();
        archive.directory(Path::new("/a/b")).unwrap();
        archive.directory(Path::new("/a/b/c")).unwrap();
        archive.file(Path::new("/a/d"), false, b"").unwrap();
        let names: Vec<_> =
            entries(&archive.finish().unwrap()).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/d", "TRAILER!!!"]);
    }
}
