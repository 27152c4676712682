//! Boot info, the manifest with what its devices are, and the command line, one behind the other
//! (`struct hvt_boot_info`, `struct mft`).
//!
//! The fields for a ring of network frames, which newer guests look for behind the old structure, are
//! zero: there is none, and such a guest goes on with hypercalls.

use crate::boot::CommandLine;
use crate::image::solo5::{ENTRY, NAME_SIZE, Solo5};

use super::{BOOT_INFO, Hvt};

/// Bytes of boot info.
const SIZE: u64 = 56;
/// `cpu_cycle_freq`, from its beginning.
pub(super) const COUNTER: u64 = 16;
/// The most bytes of a command line without its NUL (`HVT_CMDLINE_SIZE`).
pub(in crate::boot) const COMMAND_LINE_MAX: usize = 8191;
/// The version of a manifest.
const MANIFEST_VERSION: u32 = 1;
/// The type of what is no device.
const RESERVED: u32 = 1 << 30;

/// A device that is there, as the guest is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// Block storage.
    Block {
        /// Its bytes.
        capacity: u64,
        /// Bytes of a block, a power of two from 512 on.
        block_size: u16,
    },
    /// A network.
    Net {
        /// The guest's hardware address.
        mac: [u8; 6],
        /// Bytes of the largest IP packet.
        mtu: u16,
    },
}

/// What a guest's memory is.
pub(super) struct Place {
    /// Its bytes.
    pub(super) memory: u64,
    /// The address behind the kernel.
    pub(super) kernel_end: u64,
}

/// All of it.
pub(super) fn bytes(place: &Place, solo5: &Solo5, hvt: &Hvt, line: &CommandLine) -> Vec<u8> {
    let manifest = manifest(solo5, hvt);
    let manifest_at = BOOT_INFO + SIZE;
    let line_at = manifest_at + manifest.len() as u64;
    let mut bytes = Vec::new();
    // The counter's frequency is known later; the last two are features and ring.
    for field in [place.memory, place.kernel_end, 0, line_at, manifest_at, 0, 0] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(manifest);
    bytes.extend(line.terminated());
    bytes
}

fn manifest(solo5: &Solo5, hvt: &Hvt) -> Vec<u8> {
    let entries = &solo5.manifest.entries;
    let mut bytes = Vec::new();
    bytes.extend(MANIFEST_VERSION.to_le_bytes());
    bytes.extend(u32::try_from(entries.len()).unwrap_or_default().to_le_bytes());
    for (handle, declared) in entries.iter().enumerate() {
        let attached = hvt.attached.iter().find(|(attached, _)| *attached == handle);
        let name = declared.as_ref().map_or("", |declared| declared.name.as_str());
        let kind = declared.as_ref().map_or(RESERVED, |declared| declared.kind.number());
        let mut entry = name.as_bytes().to_vec();
        entry.resize(NAME_SIZE, 0);
        entry.extend(kind.to_le_bytes());
        match attached {
            Some((_, Attached::Block { capacity, block_size })) => {
                entry.extend(capacity.to_le_bytes());
                entry.extend(block_size.to_le_bytes());
            }
            Some((_, Attached::Net { mac, mtu })) => {
                entry.extend(mac);
                entry.extend(mtu.to_le_bytes());
            }
            None => {}
        }
        // The host's own, which is nothing for the guest, and whether there is a device.
        entry.resize(96, 0);
        entry.push(attached.is_some().into());
        entry.resize(ENTRY, 0);
        bytes.extend(entry);
    }
    bytes
}
