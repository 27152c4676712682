//! Boot info, the manifest with what its devices are, and the command line, one behind the other
//! (`struct hvt_boot_info`, `struct mft`).
//!
//! The fields for a ring of network frames, which newer guests look for behind the old structure, are
//! zero: there is none, and such a guest goes on with hypercalls.

use crate::boot::CommandLine;
use crate::boot::bytes::Bytes;
use crate::image::solo5::{ENTRY, NAME_SIZE, Solo5};

use super::{BOOT_INFO, Hvt};

/// Bytes of boot info.
const SIZE: u64 = 56;
/// `cpu_cycle_freq`, from its beginning.
pub(super) const COUNTER: u64 = 16;
/// The most bytes of a command line without its NUL (`HVT_CMDLINE_SIZE`).
pub const COMMAND_LINE_MAX: usize = 8191;
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
    // The counter's frequency is known later; the last two are features and ring.
    let fields = [place.memory, place.kernel_end, 0, line_at, manifest_at, 0, 0];
    let info = fields.into_iter().fold(Bytes::default(), Bytes::u64);
    info.put(&manifest).put(&line.terminated()).0
}

fn manifest(solo5: &Solo5, hvt: &Hvt) -> Vec<u8> {
    let entries = &solo5.manifest.entries;
    let count = u32::try_from(entries.len()).unwrap_or_default();
    let mut bytes = Bytes::default().u32(MANIFEST_VERSION).u32(count);
    for (handle, declared) in entries.iter().enumerate() {
        let attached = hvt.attached.iter().find(|(attached, _)| *attached == handle);
        let name = declared.as_ref().map_or("", |declared| declared.name.as_str());
        let kind = declared.as_ref().map_or(RESERVED, |declared| declared.kind.number());
        let entry = Bytes::default().put(name.as_bytes()).up_to(NAME_SIZE).u32(kind);
        let entry = match attached {
            Some((_, Attached::Block { capacity, block_size })) => {
                entry.u64(*capacity).u16(*block_size)
            }
            Some((_, Attached::Net { mac, mtu })) => entry.put(mac).u16(*mtu),
            None => entry,
        };
        // The host's own, which is nothing for the guest, and whether there is a device.
        let entry = entry.up_to(96).put(&[attached.is_some().into()]).up_to(ENTRY);
        bytes = bytes.put(&entry.0);
    }
    bytes.0
}
