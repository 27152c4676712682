//! Why an ELF file cannot be loaded.

use crate::image::notes::NoteError;
use crate::image::source::ReadError;

/// An ELF file that cannot be loaded. Program headers are counted from 0, as readelf prints them.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Shorter than a header.
    #[error("it has {0} bytes, and an ELF header has 64: it is truncated, copy or build it again")]
    NoHeader(u64),
    /// No ELF file.
    #[error("it does not begin as an ELF file does: name an ELF kernel")]
    Magic,
    /// 32 bits, and neither an entry for that nor a machine that has one.
    #[error(
        "it is a 32-bit ELF file: runner boots 64-bit kernels, and 32-bit x86 ones by PVH or Multiboot"
    )]
    Class32,
    /// Neither 32 nor 64 bits.
    #[error("ELF class {0} (byte 4) does not exist: the file is damaged, build it again")]
    Class(u8),
    /// Big-endian, or neither.
    #[error("ELF data encoding {0} (byte 5) is not little-endian: build it for x86_64 or aarch64")]
    Endian(u8),
    /// Not version 1.
    #[error("ELF version {0} does not exist: the file is damaged, build it again")]
    Version(u32),
    /// Another machine.
    #[error("it is for ELF machine {0}: runner boots kernels for x86_64 (62) and aarch64 (183)")]
    Machine(u16),
    /// Neither an executable nor a shared object.
    #[error("it is {0}, which cannot be run: name the linked kernel")]
    Type(String),
    /// `e_phentsize`.
    #[error(
        "its program headers have {0} bytes instead of {1}: the file is damaged, build it again"
    )]
    PhdrSize(u16, usize),
    /// `e_phnum`.
    #[error("it says it has {0} program headers; between 1 and 65534 can be loaded")]
    PhdrCount(u16),
    /// The table lies outside of the file.
    #[error(
        "its {count} program headers at byte {offset} lie outside of its {len} bytes: it is truncated or damaged, \
         copy or build it again"
    )]
    PhdrsPastEnd {
        /// Number of headers.
        count: u16,
        /// Where the table should begin.
        offset: u64,
        /// Length of the file.
        len: u64,
    },
    /// A segment's contents lie outside of the file.
    #[error(
        "program header {index} takes {size} bytes at byte {offset}, and the file has {len}: it is truncated or \
         damaged, copy or build it again"
    )]
    SegmentPastEnd {
        /// Number of the program header.
        index: usize,
        /// `p_offset`.
        offset: u64,
        /// `p_filesz`.
        size: u64,
        /// Length of the file.
        len: u64,
    },
    /// More bytes in the file than in memory.
    #[error(
        "program header {index} loads {file_size} bytes into {mem_size}: the file is damaged, build it again"
    )]
    SegmentTooLong {
        /// Number of the program header.
        index: usize,
        /// `p_filesz`.
        file_size: u64,
        /// `p_memsz`.
        mem_size: u64,
    },
    /// The addresses wrap around.
    #[error(
        "program header {index}: {size:#x} bytes at {addr:#x} reach past the last address: build it again"
    )]
    SegmentWraps {
        /// Number of the program header.
        index: usize,
        /// `p_paddr` or `p_vaddr`.
        addr: u64,
        /// `p_memsz`.
        size: u64,
    },
    /// Two segments claim the same memory.
    #[error("program headers {0} and {1} load to the same memory, at {2:#x}: build it again")]
    Overlap(usize, usize, u64),
    /// Nothing to load.
    #[error("no program header loads anything: name the linked kernel")]
    NothingToLoad,
    /// More of them than any kernel has.
    #[error(
        "{0} program headers load something, and no kernel has more than 512: link it with fewer segments"
    )]
    TooMany(usize),
    /// A note segment longer than any kernel's.
    #[error("program header {index} holds {size} bytes of notes; no kernel has more than 65536")]
    NotesTooLong {
        /// Number of the program header.
        index: usize,
        /// Bytes of notes up to and with this header.
        size: u64,
    },
    /// A note cannot be read.
    #[error("program header {index}: {error}: the file is damaged, build it again")]
    Note {
        /// Number of the program header.
        index: usize,
        /// What is wrong.
        error: NoteError,
    },
    /// The entry is where nothing is loaded.
    #[error("its {which} entry {entry:#x} lies in no segment: the file is damaged, build it again")]
    EntryOutside {
        /// `ELF` or `PVH`.
        which: &'static str,
        /// The address.
        entry: u64,
    },
    /// The entry cannot be executed.
    #[error(
        "its {which} entry {entry:#x} lies in a segment that is not executable: build it again"
    )]
    EntryNotExecutable {
        /// `ELF` or `PVH`.
        which: &'static str,
        /// The address.
        entry: u64,
    },
    /// The entry is an address that only exists with paging, and no other entry is given.
    #[error(
        "its entry {0:#x} is a virtual address, and it has no PVH note with a physical one: no protocol enters it"
    )]
    EntryVirtual(u64),
    /// A program where a kernel should be.
    #[error(
        "it asks for the interpreter {0}, so it is a Linux program and not a kernel: build the image again"
    )]
    Interpreter(String),
    /// Needs relocating.
    #[error(
        "it is a position-independent executable, which no boot protocol relocates: link it at a fixed address"
    )]
    Relocatable,
}
