//! The guest's loaded memory as a file for QEMU: an ELF image (System V ABI, "Object Files") with
//! one segment for each stretch that is not zero.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;

use hv::GuestMemory;
use vm_memory::{GuestAddress, GuestMemoryBackend};

use crate::io::file;

const HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;
const PT_LOAD: u32 = 1;

/// Writes `ranges` of `memory` into `file`, which is empty, for processors of the kind `machine`.
pub(super) fn write(
    mut file: &File,
    machine: u16,
    memory: &GuestMemory,
    ranges: &[Range<u64>],
) -> io::Result<()> {
    let ranges: Vec<_> = ranges.iter().filter(|range| !range.is_empty()).collect();
    let count = u16::try_from(ranges.len()).map_err(invalid)?;
    let mut head = header(machine, count);
    let mut offset = HEADER + u64::from(count) * PROGRAM_HEADER;
    for range in &ranges {
        head.extend(program_header(offset, range));
        let len = usize::try_from(range.end - range.start).map_err(invalid)?;
        let slices = memory.get_slices(GuestAddress(range.start), len);
        let slices: Vec<_> = slices.collect::<Result<_, _>>().map_err(invalid)?;
        file::write_all_at(file, offset, &slices)?;
        offset += range.end - range.start;
    }
    file.write_all(&head)
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}

fn header(machine: u16, segments: u16) -> Vec<u8> {
    let mut header = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
    header.resize(16, 0);
    header.extend(2u16.to_le_bytes()); // ET_EXEC
    header.extend(machine.to_le_bytes());
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

#[cfg(test)]
mod tests {
    use super::*;
    use hv::GuestRam;
    use std::os::unix::fs::FileExt;
    use vm_memory::Bytes;

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn every_range_is_a_segment_with_its_bytes_at_its_address() {
        let ram = |len| GuestRam::new(len).unwrap();
        let memory = hv::mem::memory([(0, ram(1 << 20)), (4 << 30, ram(1 << 20))]).unwrap();
        memory.write_slice(b"low", GuestAddress(0x500)).unwrap();
        memory.write_slice(b"higher", GuestAddress((4 << 30) + 7)).unwrap();
        let high = (4u64 << 30) + 7;
        let file = tempfile::tempfile().unwrap();
        write(&file, 62, &memory, &[0x500..0x503, 0x600..0x600, high..high + 6]).unwrap();
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!((&bytes[..4], bytes[18]), (&b"\x7fELF"[..], 62));
        assert_eq!((bytes[54], bytes[56]), (56, 2), "size and number of program headers");
        for (at, gpa, content) in [(64, 0x500, &b"low"[..]), (120, high, b"higher")] {
            let offset = usize::try_from(u64_at(&bytes, at + 8)).unwrap();
            assert_eq!(bytes[at], 1, "PT_LOAD");
            assert_eq!(u64_at(&bytes, at + 24), gpa);
            assert_eq!(u64_at(&bytes, at + 32), u64_at(&bytes, at + 40));
            assert_eq!(&bytes[offset..offset + content.len()], content);
        }
    }

    #[test]
    fn a_range_outside_of_memory_is_an_error() {
        let memory = hv::mem::memory([(0, GuestRam::new(4096).unwrap())]).unwrap();
        let file = tempfile::tempfile().unwrap();
        assert!(write(&file, 62, &memory, &[4000..5000]).is_err());
    }
}
