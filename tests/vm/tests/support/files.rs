//! Files that tests boot and read.

use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The checkout.
pub(crate) fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A micro-guest for this machine.
pub(crate) fn kernel(name: &str) -> PathBuf {
    kernel_for(std::env::consts::ARCH, name)
}

/// The same for another architecture's machine.
pub(crate) fn kernel_for(arch: &str, name: &str) -> PathBuf {
    checkout().join(format!("tests/guests/{arch}/kernels/{name}.elf"))
}

/// A micro-guest for x86_64 as a kernel of the system whose sections have such a name.
#[cfg(target_arch = "x86_64")]
pub(crate) fn marked(name: &str, section: &str) -> Vec<u8> {
    let mut bytes = fs::read(kernel(name)).unwrap();
    let (names, len) = (bytes.len() as u64, section.len() as u64 + 2);
    bytes.extend(format!("\0{section}\0").bytes());
    let table = bytes.len() as u64;
    // An empty one, and one with the names.
    let mut sections = [0; 128];
    sections[64 + 24..64 + 32].copy_from_slice(&names.to_le_bytes());
    sections[64 + 32..64 + 40].copy_from_slice(&len.to_le_bytes());
    bytes.extend(sections);
    // e_shoff; e_shentsize, e_shnum, e_shstrndx.
    bytes[40..48].copy_from_slice(&table.to_le_bytes());
    bytes[58..64].copy_from_slice(&[64, 0, 2, 0, 1, 0]);
    bytes
}

/// The images that the two real writers of OPS images made (tests/vm/data/images/README.md).
pub(crate) const OPS_IMAGES: [&str; 5] =
    ["tfs-v4-go-bios", "tfs-v5-c-bios", "tfs-v5-c-uefi", "tfs-v5-go-bios", "tfs-v5-go-uefi"];

/// One of [`OPS_IMAGES`], unpacked.
pub(crate) fn ops_image(name: &str) -> Vec<u8> {
    let path = checkout().join(format!("tests/vm/data/images/{name}.img.gz"));
    let mut image = Vec::new();
    flate2::read::GzDecoder::new(File::open(path).unwrap()).read_to_end(&mut image).unwrap();
    image
}

/// A folder for one test.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// One in memory, where this machine has a place for that: its file system cannot zero a part of
    /// a file in place.
    #[cfg(target_os = "linux")]
    pub(crate) fn in_memory() -> Self {
        tempfile::tempdir_in("/dev/shm").map_or_else(|_| Self::new(), Self)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, in folders that are made for it, and returns its path.
    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Changes the permissions of a file, or of the folder, which has no name in itself.
    pub(crate) fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path().join(name), Permissions::from_mode(mode)).unwrap();
    }
}
