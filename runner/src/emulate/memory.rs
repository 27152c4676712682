//! The guest's loaded memory as a file for QEMU: an ELF image (System V ABI, "Object Files") with one segment for
//! each stretch that is not zero.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;

use hv::GuestMemory;
use vm_memory::{GuestAddress, GuestMemoryBackend};

use crate::io::file;

const HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;

/// Writes `ranges` of `memory` into `file`, which is empty.
pub(super) fn write(
    mut file: &File,
    memory: &GuestMemory,
    ranges: &[Range<u64>],
) -> io::Result<()> {
    let count = u16::try_from(ranges.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    file.write_all(&header(count))?;
    let mut offset = HEADER + u64::from(count) * PROGRAM_HEADER;
    for range in ranges {
        file.write_all(&program_header(offset, range))?;
        offset += range.end - range.start;
    }
    let mut offset = HEADER + u64::from(count) * PROGRAM_HEADER;
    for range in ranges {
        let len = range.end - range.start;
        let outside = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let slices: Result<Vec<_>, _> = memory
            .get_slices(GuestAddress(range.start), usize::try_from(len).map_err(outside_usize)?)
            .collect();
        file::write_all_at(file, offset, &slices.map_err(outside)?)?;
        offset += len;
    }
    Ok(())
}

fn outside_usize(_: std::num::TryFromIntError) -> io::Error {
    io::ErrorKind::InvalidInput.into()
}

fn header(segments: u16) -> Vec<u8> {
    let mut header = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
    header.resize(16, 0);
    header.extend(2u16.to_le_bytes()); // ET_EXEC
    header.extend(EM_X86_64.to_le_bytes());
    header.extend(1u32.to_le_bytes());
    header.extend(0u64.to_le_bytes()); // nobody enters here: the firmware knows where
    header.extend(HEADER.to_le_bytes());
    header.extend(0u64.to_le_bytes());
    header.extend(0u32.to_le_bytes());
    header.extend([64, 0, 56, 0]); // sizes of the header and of a program header
    header.extend(segments.to_le_bytes());
    header.extend([64, 0, 0, 0, 0, 0]); // no sections
    header
}

fn program_header(offset: u64, range: &Range<u64>) -> Vec<u8> {
    let len = range.end - range.start;
    let mut header = Vec::new();
    header.extend(PT_LOAD.to_le_bytes());
    header.extend(7u32.to_le_bytes());
    for value in [offset, range.start, range.start, len, len, 1] {
        header.extend(value.to_le_bytes());
    }
    header
}
