//! Formats that are recognised by a few bytes, in order to be named.

use super::bytes::{array, u16_at, u32_at};

/// A format that has to be converted first: its name with article, and how.
pub(super) struct Foreign {
    pub(super) what: &'static str,
    pub(super) remedy: &'static str,
}

const TO_RAW: &str = "convert it with `qemu-img convert -O raw IMAGE IMAGE.raw`, and run that";
const NOT_IMAGE: &str = "build an image with `ops`, then run that";

/// (offset, bytes, name, remedy)
const FOREIGN: &[(usize, &[u8], &str, &str)] = &[
    (0, b"QFI\xfb", "a qcow2 disk", TO_RAW),
    (0, b"QED\0", "a QED disk", TO_RAW),
    (0, b"KDMV", "a VMDK disk", TO_RAW),
    (0, b"COWD", "a VMDK disk", TO_RAW),
    (0, b"# Disk DescriptorFile", "the description of a VMDK disk", TO_RAW),
    (0, b"vhdxfile", "a VHDX disk", TO_RAW),
    (0, b"conectix", "a VHD disk", TO_RAW),
    (0x40, b"\x7f\x10\xda\xbe", "a VDI disk", TO_RAW),
    (0, b"\x1f\x8b", "a gzip file", "unpack it with `gunzip`, and run what comes out"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard file", "unpack it with `unzstd`, and run what comes out"),
    (0, b"\xfd7zXZ\0", "an xz file", "unpack it with `unxz`, and run what comes out"),
    (0, b"BZh", "a bzip2 file", "unpack it with `bunzip2`, and run what comes out"),
    (0, b"\x04\x22\x4d\x18", "an LZ4 file", "unpack it with `unlz4`, and run what comes out"),
    (0, b"\x02\x21\x4c\x18", "an LZ4 file", "unpack it with `unlz4`, and run what comes out"),
    (0, b"PK\x03\x04", "a ZIP archive", "unpack it with `unzip`, and name the image in it"),
    (257, b"ustar", "a tar archive", "unpack it with `tar`, and name the image in it"),
    (0, b"#!", "a script", NOT_IMAGE),
    (0, b"\xcf\xfa\xed\xfe", "a macOS program", NOT_IMAGE),
    (0, b"\xca\xfe\xba\xbe", "a macOS program", NOT_IMAGE),
];

/// The format of a file that has to be converted.
pub(super) fn foreign(head: &[u8]) -> Option<Foreign> {
    let known = FOREIGN
        .iter()
        .find(|(at, magic, ..)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    known.map(|&(_, _, what, remedy)| Foreign { what, remedy })
}

/// A kernel packed for EFI (Linux, `drivers/firmware/efi/libstub/zboot-header.S`): what it is packed
/// with, printable.
pub(super) fn efi_zboot(head: &[u8]) -> Option<String> {
    if !head.starts_with(b"MZ") || array(head, 4) != Some(*b"zimg") {
        return None;
    }
    let name: [u8; 32] = array(head, 24)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(name.escape_ascii().to_string())
}

/// PE: what remains of EFI programs when nothing else is found in them.
pub(super) fn is_pe(head: &[u8]) -> bool {
    let at = u32_at(head, 0x3c).and_then(|at| usize::try_from(at).ok());
    head.starts_with(b"MZ") && at.is_some_and(|at| array(head, at) == Some(*b"PE\0\0"))
}

/// The header of Multiboot version 2, in the image's first 32 KiB. Its four words add up to 0.
pub(super) fn multiboot2(head: &[u8]) -> bool {
    let head = head.get(..head.len().min(32 << 10)).unwrap_or_default();
    (0..head.len()).step_by(8).any(|at| {
        let word = |index: usize| u32_at(head, at.checked_add(index.checked_mul(4)?)?);
        let sum = (0..4).try_fold(0_u32, |sum, index| Some(sum.wrapping_add(word(index)?)));
        word(0) == Some(0xe852_50d6) && sum == Some(0)
    })
}

/// Whether a 32-bit ELF file is for x86.
pub(super) fn is_elf32_for_x86(head: &[u8]) -> bool {
    u16_at(head, 18) == Some(3)
}

/// `e_machine` of a 32-bit ELF file, by its name.
pub(super) fn machine_of_elf32(head: &[u8]) -> &'static str {
    match u16_at(head, 18) {
        Some(3) => "a 32-bit x86 ELF file",
        Some(40) => "a 32-bit Arm ELF file",
        _ => "a 32-bit ELF file",
    }
}

#[cfg(test)]
#[path = "magic_tests.rs"]
mod tests;
