//! The partition table of a disk image, as OPS writes it.
//!
//! Only the table at 0x1BE matters: four entries of 16 bytes, type at +4, first sector at +8,
//! number of sectors at +12 (little-endian, sectors of 512 bytes), and the signature 55 AA behind
//! them. With an entry 0 of type 0xEF (a FAT partition for UEFI) the boot file system is entry 1,
//! otherwise entry 0; the root file system follows it and reaches to the end of the disk, whatever
//! its entry says.

use super::bytes::{array, u32_at};
use super::tfs::Region;

/// Bytes in a sector.
pub const SECTOR: u64 = 512;
const TABLE: usize = 0x1be;
const ENTRY: usize = 16;
const EFI: u8 = 0xef;
const GPT: u8 = 0xee;

/// A partition table that does not describe an OPS image. Entries are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MbrError {
    /// A protective entry.
    #[error(
        "the disk has a GPT partition table, and images built by `ops` have an MBR: build one with `ops`"
    )]
    Gpt,
    /// No boot file system.
    #[error(
        "partition entry {0} should be the boot file system, and is unused: build the image with `ops`"
    )]
    Unused(usize),
    /// A partition that would hold the table itself.
    #[error("partition entry {0} begins at sector 0, where the table is: build the image again")]
    OnTable(usize),
    /// A partition that is not, or not wholly, in the file.
    #[error(
        "partition entry {entry} needs bytes {start} to {end}, and the image has {len}: it is truncated, copy or \
         build it again"
    )]
    PastEnd {
        /// Number of the entry.
        entry: usize,
        /// First byte of the partition.
        start: u64,
        /// The byte after its last.
        end: u64,
        /// Length of the image in bytes.
        len: u64,
    },
    /// Two partitions share sectors.
    #[error("partition entries {0} and {1} overlap: build the image again")]
    Overlap(usize, usize),
    /// No TFS where the boot file system should be.
    #[error(
        "it is a disk image without Nanos on it (no TFS at byte {start}, in partition entry {entry}): runner boots \
         disk images built by `ops`"
    )]
    NotTfs {
        /// Number of the entry.
        entry: usize,
        /// First byte of the partition.
        start: u64,
    },
}

/// Where the file systems of an OPS image are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Whether the disk has a UEFI partition first.
    pub uefi: bool,
    /// Entry number of the boot file system.
    pub entry: usize,
    /// The file system with the kernel.
    pub boot: Region,
    /// The file system with the program and the manifest.
    pub root: Option<Region>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    index: usize,
    kind: u8,
    sector: u64,
    sectors: u64,
}

impl Entry {
    fn start(self) -> u64 {
        self.sector.saturating_mul(SECTOR)
    }

    fn end(self) -> u64 {
        self.sector.saturating_add(self.sectors).saturating_mul(SECTOR)
    }

    /// A region from the partition's start to `end`, which lies in the image's `len` bytes.
    fn region(self, end: u64, len: u64) -> Result<Region, MbrError> {
        let start = self.start();
        if self.sector == 0 {
            return Err(MbrError::OnTable(self.index));
        }
        match end.checked_sub(start).filter(|size| *size > 0 && end <= len) {
            Some(size) => Ok(Region { start, len: size }),
            None => Err(MbrError::PastEnd { entry: self.index, start, end: self.end(), len }),
        }
    }
}

/// Whether the first sector ends with the signature of a partition table. A bzImage has it too.
#[must_use]
pub fn signed(head: &[u8]) -> bool {
    array(head, 0x1fe) == Some([0x55, 0xaa])
}

/// The boot and root file systems by the table in `head`, the image's first sector; `len` is the
/// image's length in bytes. `None` without a table. What is in the partitions is not looked at.
///
/// # Errors
/// [`MbrError`] when the table names no boot file system, or one that cannot be.
pub fn layout(head: &[u8], len: u64) -> Option<Result<Layout, MbrError>> {
    if !signed(head) {
        return None;
    }
    let entries = [entry(head, 0)?, entry(head, 1)?, entry(head, 2)?, entry(head, 3)?];
    Some(by_entries(entries, len))
}

fn entry(head: &[u8], index: usize) -> Option<Entry> {
    let raw: [u8; ENTRY] = array(head, TABLE.checked_add(index.checked_mul(ENTRY)?)?)?;
    let [_, _, _, _, kind, ..] = raw;
    Some(Entry { index, kind, sector: u32_at(&raw, 8)?.into(), sectors: u32_at(&raw, 12)?.into() })
}

fn by_entries([first, second, third, _]: [Entry; 4], len: u64) -> Result<Layout, MbrError> {
    if first.kind == GPT {
        return Err(MbrError::Gpt);
    }
    let uefi = first.kind == EFI;
    let (boot, root) = if uefi { (second, third) } else { (first, second) };
    if boot.sectors == 0 {
        return Err(MbrError::Unused(boot.index));
    }
    let boot_region = boot.region(boot.end(), len)?;
    let root_region = if root.sectors == 0 {
        None
    } else {
        let region = root.region(len, len)?;
        if root.start() < boot.end() && boot.start() < root.end() {
            return Err(MbrError::Overlap(boot.index, root.index));
        }
        Some(region)
    };
    Ok(Layout { uefi, entry: boot.index, boot: boot_region, root: root_region })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EFI_ENTRY: (u8, u32, u32) = (0xef, 103, 1000);

    /// A first sector with these (type, sector, sectors).
    fn table(entries: &[(u8, u32, u32)]) -> Vec<u8> {
        let mut head = vec![0; 512];
        for (i, (kind, sector, sectors)) in entries.iter().enumerate() {
            let at = TABLE + i * ENTRY;
            head[at + 4] = *kind;
            head[at + 8..at + 12].copy_from_slice(&sector.to_le_bytes());
            head[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
        }
        head[0x1fe..].copy_from_slice(&[0x55, 0xaa]);
        head
    }

    fn of(entries: &[(u8, u32, u32)], sectors: u64) -> Result<Layout, MbrError> {
        layout(&table(entries), sectors * SECTOR).unwrap()
    }

    #[test]
    fn without_the_signature_there_is_no_table() {
        let head = table(&[(0x83, 1, 2)]);
        assert!(layout(&head[..511], 4096).is_none());
        assert!(layout(&[], 0).is_none());
        let mut unsigned = head;
        unsigned[0x1ff] = 0;
        assert!(layout(&unsigned, 4096).is_none());
    }

    #[test]
    fn the_root_file_system_reaches_to_the_end_of_the_disk() {
        let found = of(&[(0x83, 103, 10), (0x83, 113, 4)], 200).unwrap();
        assert_eq!(found.boot, Region { start: 103 * SECTOR, len: 10 * SECTOR });
        assert_eq!(found.root, Some(Region { start: 113 * SECTOR, len: 87 * SECTOR }));
        assert!(!found.uefi);
    }

    #[test]
    fn an_efi_partition_shifts_everything_by_one() {
        let found = of(&[EFI_ENTRY, (0x83, 1200, 10), (0x83, 1300, 4)], 2000).unwrap();
        assert!(found.uefi);
        assert_eq!((found.entry, found.boot.start), (1, 1200 * SECTOR));
        assert_eq!(found.root, Some(Region { start: 1300 * SECTOR, len: 700 * SECTOR }));
        assert_eq!(of(&[EFI_ENTRY], 2000), Err(MbrError::Unused(1)));
    }

    #[test]
    fn an_image_without_a_root_file_system_has_none() {
        assert_eq!(of(&[(0x83, 103, 10)], 200).unwrap().root, None);
    }

    #[test]
    fn a_partition_at_sector_0_is_refused() {
        assert_eq!(of(&[(0x83, 0, 10)], 200), Err(MbrError::OnTable(0)));
        assert_eq!(of(&[(0x83, 1, 10), (0x83, 0, 10)], 200), Err(MbrError::OnTable(1)));
    }

    #[test]
    fn a_partition_past_the_end_names_itself_and_the_bytes() {
        let error = of(&[(0x83, 103, 200)], 200).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("entry 0 needs bytes 52736 to 155136, and the image has 102400"),
            "{text}"
        );
        assert!(matches!(
            of(&[(0x83, u32::MAX, u32::MAX)], 200),
            Err(MbrError::PastEnd { entry: 0, .. })
        ));
        let behind = of(&[(0x83, 1, 10), (0x83, 200, 10)], 200);
        assert!(matches!(behind, Err(MbrError::PastEnd { entry: 1, .. })));
    }

    #[test]
    fn overlapping_partitions_are_refused() {
        assert_eq!(of(&[(0x83, 1, 10), (0x83, 10, 10)], 200), Err(MbrError::Overlap(0, 1)));
        assert_eq!(of(&[(0x83, 1, 10), (0x83, 1, 10)], 200), Err(MbrError::Overlap(0, 1)));
        assert!(of(&[(0x83, 100, 10), (0x83, 1, 10)], 200).is_ok());
    }

    #[test]
    fn a_gpt_disk_is_named() {
        assert_eq!(of(&[(0xee, 1, u32::MAX)], 200), Err(MbrError::Gpt));
    }
}
