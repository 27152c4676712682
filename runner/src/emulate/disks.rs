//! The disks' files for QEMU, which shows its guest files as they are: what the plan lays over one is
//! written into it first, as the guest's first write would do, or into a copy where what the guest writes
//! is thrown away.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{SeekFrom, seek};

use crate::devices::virtio::block::write_patch;
use crate::plan::{DiskPlan, Plan};

/// Bytes that are copied at once.
const BUFFER: usize = 1 << 20;

/// A disk as QEMU has it.
#[derive(Debug)]
pub(super) struct DiskFile {
    /// The file.
    pub(super) file: Arc<File>,
    /// QEMU keeps what the guest writes to itself.
    pub(super) snapshot: bool,
}

/// All of them, in the plan's order.
///
/// # Errors
/// What the operating system said.
pub(super) fn files(plan: &Plan) -> io::Result<Vec<DiskFile>> {
    plan.disks.iter().map(prepare).collect()
}

fn prepare(disk: &DiskPlan) -> io::Result<DiskFile> {
    let file = match (&disk.patch, &disk.scratch) {
        (None, scratch) => {
            return Ok(DiskFile { file: Arc::clone(&disk.file), snapshot: scratch.is_some() });
        }
        (Some(_), None) => &disk.file,
        (Some(_), Some(scratch)) => {
            copy(&disk.file, &scratch.file, disk.source.len())?;
            &scratch.file
        }
    };
    if let Some(patch) = disk.patch.clone() {
        write_patch(Arc::clone(file), patch)?;
    }
    Ok(DiskFile { file: Arc::clone(file), snapshot: false })
}

/// Copies `len` bytes into `to`, which has as many zeros; holes stay holes. Devices have none.
fn copy(from: &File, to: &File, len: u64) -> io::Result<()> {
    let mut at = 0;
    while at < len {
        // Behind the last of the data there is none (ENXIO); a file system without holes is all data.
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(rustix::io::Errno::INVAL) => at,
            Err(error) => return Err(error.into()),
        };
        let end = seek(from, SeekFrom::Hole(start)).unwrap_or(len).min(len);
        let mut buffer = vec![0; BUFFER];
        at = start;
        while at < end {
            let piece = usize::try_from(end - at).unwrap_or(BUFFER).min(BUFFER);
            let piece = &mut buffer[..piece];
            from.read_exact_at(piece, at)?;
            to.write_all_at(piece, at)?;
            at += piece.len() as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::virtio::block::Scratch;
    use crate::emulate::testing::plan;
    use crate::image::Patch;
    use std::os::unix::fs::MetadataExt;

    const LEN: u64 = 64 << 20;

    fn sector(file: &File, at: u64) -> [u8; 512] {
        let mut bytes = [0; 512];
        file.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    /// A disk of 64 MiB with data here and there, and a patch of its second and third sector.
    fn patched(ephemeral: bool) -> (Plan, Arc<File>) {
        let mut plan = plan(&[false]);
        let disk = &mut plan.disks[0];
        let file = tempfile::tempfile().unwrap();
        file.set_len(LEN).unwrap();
        for at in [0, 512, 1024, 1536, LEN / 2 + 512, LEN - 512] {
            file.write_all_at(&[0x5a; 512], at).unwrap();
        }
        disk.source = crate::image::Source::from_file(file, "disk").unwrap();
        disk.file = Arc::clone(disk.source.file().unwrap());
        disk.patch = Some(Patch { at: 512, bytes: vec![0xaa; 1024] });
        disk.scratch = ephemeral.then(|| {
            let file = tempfile::tempfile().unwrap();
            file.set_len(LEN).unwrap();
            Scratch { file: Arc::new(file), folder: "/tmp".into() }
        });
        let file = Arc::clone(&disk.file);
        (plan, file)
    }

    #[test]
    fn what_is_laid_over_an_ephemeral_disk_is_in_a_copy_whose_holes_are_holes() {
        let (plan, original) = patched(true);
        let files = files(&plan).unwrap();
        let copy = &files[0].file;
        assert!(!files[0].snapshot && !Arc::ptr_eq(copy, &original));
        for (at, byte) in [(0, 0x5a), (512, 0xaa), (1024, 0xaa), (1536, 0x5a), (LEN / 2, 0)] {
            assert_eq!(sector(copy, at), [byte; 512], "{at}");
        }
        assert_eq!(sector(copy, LEN / 2 + 512), [0x5a; 512]);
        assert_eq!(sector(copy, LEN - 512), [0x5a; 512]);
        assert_eq!(sector(&original, 512), [0x5a; 512]);
        let metadata = copy.metadata().unwrap();
        assert_eq!(metadata.len(), LEN);
        assert!(metadata.blocks() * 512 < LEN / 2, "{} blocks", metadata.blocks());
    }

    #[test]
    fn what_is_laid_over_a_disk_that_the_guest_writes_is_in_its_file() {
        let (plan, original) = patched(false);
        let files = files(&plan).unwrap();
        assert!(Arc::ptr_eq(&files[0].file, &original) && !files[0].snapshot);
        assert_eq!((sector(&original, 512), sector(&original, 1536)), ([0xaa; 512], [0x5a; 512]));
    }

    #[test]
    fn a_disk_with_nothing_over_it_is_the_file_itself_and_ephemeral_by_qemu() {
        let (mut plan, original) = patched(true);
        plan.disks[0].patch = None;
        let files = files(&plan).unwrap();
        assert!(Arc::ptr_eq(&files[0].file, &original) && files[0].snapshot);
    }
}
