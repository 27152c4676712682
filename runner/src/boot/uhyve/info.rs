//! Boot info (`hermit-entry`, `src/boot_info/mod.rs`, `RawBootInfo`): a structure of the guest's compiler, with
//! the same fields at the same places on both architectures, but for the last.

use std::ops::Range;
use std::time::Duration;

use hv::Arch;

use crate::boot::bytes::Bytes;
use crate::image::elf::Tls;
use crate::image::hermit::{Hermit, Interface};

/// The kind of platform that uhyve is.
const UHYVE: u32 = 1;

/// Bytes of it.
const SIZE: usize = 128;

/// Where the guest writes characters, by interface.
fn serial_port(interface: Interface) -> u64 {
    match interface {
        Interface::V1 => 0x800,
        Interface::V2 => 0x1030,
    }
}

/// What is told of the machine.
pub(super) struct Info {
    pub(super) ram: Range<u64>,
    pub(super) device_tree: u64,
    /// Where the kernel is.
    pub(super) image: Range<u64>,
    pub(super) cpus: u32,
    /// The rate of the processors' counter.
    pub(super) khz: Option<u32>,
    /// Since 1970.
    pub(super) now: Duration,
}

impl Info {
    pub(super) fn bytes(&self, hermit: &Hermit, arch: Arch) -> Vec<u8> {
        let Tls { vaddr, file_size, mem_size, align } = hermit.tls.unwrap_or_default();
        let words = [
            self.ram.start,
            self.ram.end,
            serial_port(hermit.interface),
            self.device_tree,
            self.image.start,
            self.image.end,
            vaddr,
            file_size,
            mem_size,
            align,
            UHYVE.into(),
            // There is a PCI bus.
            1,
            self.cpus.into(),
        ];
        let info = words.into_iter().fold(Bytes::default(), Bytes::u64);
        let info = info.u32(self.khz.unwrap_or_default());
        let info = if arch == Arch::X86_64 { info.u32(0) } else { info };
        info.put(&self.now.as_nanos().to_le_bytes()).up_to(SIZE).0
    }
}
