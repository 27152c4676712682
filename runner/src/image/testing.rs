//! Builders of images, whole and broken, for tests.

/// A program header, field by field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phdr {
    pub(crate) kind: u32,
    pub(crate) flags: u32,
    pub(crate) offset: u64,
    pub(crate) vaddr: u64,
    pub(crate) paddr: u64,
    pub(crate) file_size: u64,
    pub(crate) mem_size: u64,
    pub(crate) align: u64,
}

/// An ELF file whose fields can all be made wrong; of 64 bits, or of 32 by [`ElfFile::short`].
#[derive(Debug, Clone)]
pub(crate) struct ElfFile {
    pub(crate) ident: [u8; 16],
    pub(crate) kind: u16,
    pub(crate) machine: u16,
    pub(crate) version: u32,
    pub(crate) entry: u64,
    pub(crate) phoff: u64,
    pub(crate) phentsize: u16,
    /// Instead of the number of program headers.
    pub(crate) phnum: Option<u16>,
    pub(crate) phdrs: Vec<Phdr>,
    /// What lies at `BODY` in the file.
    pub(crate) body: Vec<u8>,
}

/// Room for eight program headers.
const BODY: usize = 512;

impl ElfFile {
    /// An x86_64 file without program headers.
    pub(crate) fn new(entry: u64) -> Self {
        let mut ident = [0; 16];
        ident[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        Self {
            ident,
            kind: 2,
            machine: 62,
            version: 1,
            entry,
            phoff: 64,
            phentsize: 56,
            phnum: None,
            phdrs: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A kernel at 1 MiB: 16 bytes to execute, 16 zero bytes behind them.
    pub(crate) fn kernel() -> Self {
        let mut file = Self::new(0x10_0000);
        file.load(0x10_0000, &[0xf4; 16], 32);
        file
    }

    /// The same of 32 bits, for x86.
    pub(crate) fn short(mut self) -> Self {
        (self.ident[4], self.machine, self.phoff, self.phentsize) = (1, 3, 52, 32);
        self
    }

    fn add(&mut self, kind: u32, flags: u32, addr: u64, bytes: &[u8], mem_size: u64) -> &mut Phdr {
        let offset = (BODY + self.body.len()) as u64;
        self.body.extend_from_slice(bytes);
        self.phdrs.push(Phdr {
            kind,
            flags,
            offset,
            vaddr: addr,
            paddr: addr,
            file_size: bytes.len() as u64,
            mem_size,
            align: 4,
        });
        self.phdrs.last_mut().unwrap()
    }

    /// Adds a segment to read and execute.
    pub(crate) fn load(&mut self, addr: u64, bytes: &[u8], mem_size: u64) -> &mut Phdr {
        self.add(1, 5, addr, bytes, mem_size)
    }

    /// Adds a segment of notes.
    pub(crate) fn notes(&mut self, notes: &[u8]) -> &mut Phdr {
        self.add(4, 4, 0, notes, 0)
    }

    /// Adds a program interpreter.
    pub(crate) fn interpreter(&mut self, name: &[u8]) -> &mut Phdr {
        self.add(3, 4, 0, name, 0)
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let mut file = self.ident.to_vec();
        let phnum = self.phnum.unwrap_or_else(|| u16::try_from(self.phdrs.len()).unwrap());
        file.extend(self.kind.to_le_bytes());
        file.extend(self.machine.to_le_bytes());
        file.extend(self.version.to_le_bytes());
        let short = self.ident[4] == 1;
        let long = |field: u64| match short {
            true => field.to_le_bytes()[..4].to_vec(),
            false => field.to_le_bytes().to_vec(),
        };
        for field in [self.entry, self.phoff, 0] {
            file.extend(long(field));
        }
        file.extend(0_u32.to_le_bytes());
        for field in [if short { 52 } else { 64 }, self.phentsize, phnum, 0, 0, 0] {
            file.extend(field.to_le_bytes());
        }
        for phdr in &self.phdrs {
            let Phdr { kind, flags, offset, vaddr, paddr, file_size, mem_size, align } = *phdr;
            file.extend(kind.to_le_bytes());
            // They are elsewhere in short ones.
            file.extend(flags.to_le_bytes().iter().filter(|_| !short));
            for field in [offset, vaddr, paddr, file_size, mem_size] {
                file.extend(long(field));
            }
            file.extend(flags.to_le_bytes().iter().filter(|_| short));
            file.extend(long(align));
        }
        assert!(file.len() <= BODY, "too many program headers for this builder");
        file.resize(BODY, 0);
        file.extend_from_slice(&self.body);
        file
    }
}

/// A note, padded to 4 bytes.
pub(crate) fn note(name: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    note.extend(u32::try_from(name.len()).unwrap().to_le_bytes());
    note.extend(u32::try_from(desc.len()).unwrap().to_le_bytes());
    note.extend(kind.to_le_bytes());
    note.extend_from_slice(name);
    note.resize(note.len().next_multiple_of(4), 0);
    note.extend_from_slice(desc);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

/// A PVH note.
pub(crate) fn pvh_note(entry: u32) -> Vec<u8> {
    note(b"Xen\0", 18, &entry.to_le_bytes())
}

/// A note that a Solo5 unikernel is built for `target`.
pub(crate) fn solo5_note(target: u32, version: u32) -> Vec<u8> {
    let desc = [target, version, 0, 0].map(u32::to_le_bytes).concat();
    note(b"Solo5\0", 0x3149_4241, &desc)
}

/// The description of a Solo5 manifest with devices of these names and types, as elftool writes it.
pub(crate) fn solo5_manifest(devices: &[(&str, u32)]) -> Vec<u8> {
    let count = u32::try_from(devices.len() + 1).unwrap();
    let mut desc = [0, 1, count].map(u32::to_le_bytes).concat();
    for (name, kind) in [("", 1 << 30)].iter().chain(devices) {
        let mut entry = name.as_bytes().to_vec();
        entry.resize(68, 0);
        entry.extend(kind.to_le_bytes());
        entry.resize(104, 0);
        desc.extend(entry);
    }
    desc
}

/// A unikernel for hvt, with those devices.
pub(crate) fn solo5_file(devices: &[(&str, u32)]) -> ElfFile {
    let mut file = ElfFile::kernel();
    file.interpreter(b"/nonexistent/solo5/\0");
    file.notes(&solo5_note(1, 2));
    file.notes(&note(b"Solo5\0", 0x3154_464d, &solo5_manifest(devices))).align = 8;
    file
}

/// A relocation: where, of what kind, with which symbol, and what is added.
pub(crate) type Rela = (u64, u32, u32, u64);

/// A position-independent unikernel of Hermit's for `interface`: 16 bytes to execute at 0, data from 0x1000 on,
/// of which the first 24 bytes are free, with two symbols behind them, one at 0x40 and one that is nowhere, and
/// the relocations.
pub(crate) fn hermit_file(interface: Option<u32>, relocations: &[Rela]) -> ElfFile {
    let mut file = ElfFile::new(0);
    file.kind = 3;
    file.load(0, &[0xf4; 16], 0x100);
    let mut data = vec![0; 24];
    let symbol = |info: u8, section: u16, value: u64| {
        let mut bytes = [0; 24];
        bytes[4] = info;
        bytes[6..8].copy_from_slice(&section.to_le_bytes());
        bytes[8..16].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    data.extend([symbol(0x10, 1, 0x40), symbol(0x20, 0, 0), symbol(0x10, 0, 0)].concat());
    for (offset, kind, symbol, addend) in relocations {
        data.extend(offset.to_le_bytes());
        data.extend(kind.to_le_bytes());
        data.extend(symbol.to_le_bytes());
        data.extend(addend.to_le_bytes());
    }
    file.load(0x1000, &data, 0x2000.max(data.len() as u64)).flags = 6;
    let size = relocations.len() as u64 * 24;
    let table = [(6, 0x1018), (7, 0x1060), (8, size), (9, 24), (0, 0)];
    let table: Vec<u8> = table
        .iter()
        .flat_map(|(tag, value): &(u64, u64)| [*tag, *value])
        .flat_map(u64::to_le_bytes)
        .collect();
    file.add(2, 6, 0, &table, 0);
    file.add(7, 4, 0x1000, &[], 0x81).align = 8;
    file.notes(&note(b"HERMIT\0", 0x5a00, &[4]));
    if let Some(version) = interface {
        file.notes(&note(b"UHYVEIF\0", 0x5b00, &version.to_be_bytes()));
    }
    file
}

/// A big-endian base-128 number.
pub(crate) fn varint(value: u64) -> Vec<u8> {
    let mut groups = vec![u8::try_from(value & 0x7f).unwrap()];
    let mut rest = value >> 7;
    while rest > 0 {
        groups.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    groups.reverse();
    groups
}

/// A value to be encoded; what a log says about a tuple.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Text(&'static str),
    Number(u64),
    Deleted,
    Tuple(Vec<(&'static str, Node)>),
    Vector(Vec<Node>),
    /// More entries for the tuple with this number.
    More(u64, Vec<(&'static str, Node)>),
}

/// Value types, as [`header`] takes them.
pub(crate) const TUPLE: u8 = 1;
pub(crate) const VECTOR: u8 = 2;
pub(crate) const INTEGER: u8 = 3;
pub(crate) const STRING: u8 = 4;

/// A value header of TFS `version`.
pub(crate) fn header(version: u8, immediate: bool, kind: u8, len: u64) -> Vec<u8> {
    let (low_bits, kind_shift) = if version == 4 { (5, 6) } else { (3, 4) };
    let mut first = u8::from(immediate) << 7 | kind << kind_shift;
    if len < 1 << low_bits {
        first |= u8::try_from(len).unwrap();
        return vec![first];
    }
    let mut out = vec![first | 1 << low_bits];
    out.extend(varint(len));
    out
}

impl Node {
    /// The bytes of it. Version 4 has tuples for vectors and strings for numbers.
    pub(crate) fn encode(&self, version: u8) -> Vec<u8> {
        let string = if version == 4 { 0 } else { STRING };
        let text = |text: &str| {
            let mut out = header(version, true, string, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
            out
        };
        match self {
            Self::Text(value) => text(value),
            Self::Number(value) if version == 4 => text(&value.to_string()),
            Self::Number(value) => [header(5, true, INTEGER, 0), varint(*value)].concat(),
            Self::Deleted => header(version, true, 0, 0),
            Self::Tuple(entries) => {
                [header(version, true, TUPLE, entries.len() as u64), pairs(version, entries)]
                    .concat()
            }
            Self::More(tuple, entries) => {
                let head = header(version, false, TUPLE, entries.len() as u64);
                [head, varint(*tuple), pairs(version, entries)].concat()
            }
            Self::Vector(elements) if version == 4 => {
                let keys = ["0", "1", "2", "3"];
                let entries: Vec<_> = keys.into_iter().zip(elements.iter().cloned()).collect();
                Self::Tuple(entries).encode(4)
            }
            Self::Vector(elements) => {
                let mut out = header(5, true, VECTOR, elements.len() as u64);
                out.extend(elements.iter().flat_map(|element| element.encode(5)));
                out
            }
        }
    }
}

fn pairs(version: u8, entries: &[(&'static str, Node)]) -> Vec<u8> {
    entries
        .iter()
        .flat_map(|(key, value)| [symbol(version, key), value.encode(version)].concat())
        .collect()
}

/// An immediate key.
pub(crate) fn symbol(version: u8, key: &str) -> Vec<u8> {
    let mut out = header(version, true, 0, key.len() as u64);
    out.extend_from_slice(key.as_bytes());
    out
}

/// The record that holds a whole tuple.
pub(crate) fn record(bytes: &[u8]) -> Vec<u8> {
    let len = varint(bytes.len() as u64);
    [&[2][..], &len, &len, bytes].concat()
}

/// The record that leads to another extension.
pub(crate) fn link(sector: u64, sectors: u64) -> Vec<u8> {
    [vec![5], varint(sector), varint(sectors)].concat()
}

/// An extension that is not the first, padded to its length.
pub(crate) fn extension(version: u8, sectors: u64, records: &[u8]) -> Vec<u8> {
    let mut out = [&b"NVMTFS"[..], &[version], &varint(sectors), records].concat();
    let size = usize::try_from(sectors * 512).unwrap();
    assert!(out.len() <= size, "{} bytes of log in {sectors} sectors", out.len());
    out.resize(size, 0);
    out
}

/// The first extension, in sector 0.
pub(crate) fn first_extension(version: u8, records: &[u8]) -> Vec<u8> {
    extension(version, 1, &[b"a-UUID-of-16-byt", &b"label\0"[..], records].concat())
}

/// A log with these tuples, in sectors 0 to 1 + `sectors`.
pub(crate) fn log(version: u8, sectors: u64, tuples: &[Node]) -> Vec<u8> {
    let mut records: Vec<u8> =
        tuples.iter().flat_map(|tuple| record(&tuple.encode(version))).collect();
    records.push(1);
    [first_extension(version, &link(1, sectors)), extension(version, sectors, &records)].concat()
}

/// The metadata of a file with one extent.
pub(crate) fn file(length: u64, offset: u64, sectors: u64) -> Node {
    let numbers = [("offset", offset), ("length", sectors), ("allocated", sectors)];
    let extent = numbers.map(|(name, value)| (name, Node::Number(value))).to_vec();
    let extents = Node::Tuple(vec![("0", Node::Tuple(extent))]);
    Node::Tuple(vec![("filelength", Node::Number(length)), ("extents", extents)])
}

/// A root tuple with one file.
pub(crate) fn directory(name: &'static str, file: Node) -> Node {
    Node::Tuple(vec![("children", Node::Tuple(vec![(name, file)]))])
}

/// A file system of six sectors and the file: its log, and `kernel` in sector 5 and on.
pub(crate) fn boot_filesystem(version: u8, kernel: &[u8]) -> Vec<u8> {
    let length = kernel.len() as u64;
    let sectors = length.div_ceil(512);
    let mut out = log(version, 4, &[directory("kernel", file(length, 5, sectors))]);
    out.extend_from_slice(kernel);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

/// A disk: a partition table with these (type, sector, sectors), zeros up to sector 2, then
/// `contents`.
pub(crate) fn disk(entries: &[(u8, u32, u32)], contents: &[u8]) -> Vec<u8> {
    let mut disk = vec![0; 1024];
    for (i, (kind, sector, sectors)) in entries.iter().enumerate() {
        let at = 0x1be + 16 * i;
        disk[at + 4] = *kind;
        disk[at + 8..at + 12].copy_from_slice(&sector.to_le_bytes());
        disk[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    }
    disk[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    disk.extend_from_slice(contents);
    disk
}

/// A disk with only a boot file system.
pub(crate) fn boot_disk(filesystem: &[u8]) -> Vec<u8> {
    let sectors = u32::try_from(filesystem.len() / 512).unwrap();
    disk(&[(0x83, 2, sectors)], filesystem)
}

/// A bzImage whose fields can all be made wrong.
#[derive(Debug, Clone)]
pub(crate) struct BzImageFile {
    pub(crate) bytes: Vec<u8>,
}

impl BzImageFile {
    /// Protocol 2.15, one sector of setup code, 4 KiB of kernel that halts, at 16 MiB.
    pub(crate) fn new() -> Self {
        let mut bytes = vec![0; 1024];
        bytes.resize(1024 + 0x1000, 0xf4);
        let mut file = Self { bytes };
        file.byte(0x1f1, 1);
        file.u32(0x1f4, 0x1000 / 16);
        file.u16(0x1fe, 0xaa55);
        file.byte(0x200, 0xeb);
        file.byte(0x201, 0x6a);
        file.put(0x202, b"HdrS");
        file.u16(0x206, 0x020f);
        file.u16(0x20e, 0x100);
        file.put(0x300, b"6.1 (me) \x1b\0");
        file.byte(0x211, 1);
        file.u32(0x214, 0x10_0000);
        file.u32(0x22c, 0x7fff_ffff);
        file.u32(0x230, 0x20_0000);
        file.byte(0x234, 1);
        file.u16(0x236, 1);
        file.u32(0x238, 2047);
        file.u64(0x258, 0x100_0000);
        file.u32(0x260, 0x8000);
        file
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn byte(&mut self, at: usize, value: u8) {
        self.put(at, &[value]);
    }

    pub(crate) fn u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, at: usize, value: u32) {
        self.put(at, &value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        self.bytes.clone()
    }
}

/// `file` with a table of two sections, the second of which has the names.
pub(crate) fn with_sections(file: &ElfFile, names: &[u8]) -> Vec<u8> {
    let mut bytes = file.build();
    let short = bytes[4] == 1;
    let (size, offset_at, len_at) = if short { (40, 16, 20) } else { (64, 24, 32) };
    let names_at = bytes.len();
    bytes.extend(names);
    let table = bytes.len();
    let mut section = vec![0; size];
    section[offset_at..offset_at + 4]
        .copy_from_slice(&u32::try_from(names_at).unwrap().to_le_bytes());
    section[len_at..len_at + 4].copy_from_slice(&u32::try_from(names.len()).unwrap().to_le_bytes());
    bytes.extend(vec![0; size]);
    bytes.extend(section);
    let at = if short { 32 } else { 40 };
    bytes[at..at + 4].copy_from_slice(&u32::try_from(table).unwrap().to_le_bytes());
    let at = if short { 46 } else { 58 };
    for (index, field) in [u16::try_from(size).unwrap(), 2, 1].into_iter().enumerate() {
        bytes[at + 2 * index..at + 2 * index + 2].copy_from_slice(&field.to_le_bytes());
    }
    bytes
}

/// An arm64 Image of 128 bytes with such fields in its header.
pub(crate) fn arm64_image(text_offset: u64, image_size: u64, flags: u64) -> Vec<u8> {
    let mut image = vec![0; 128];
    for (at, value) in [(8, text_offset), (16, image_size), (24, flags)] {
        image[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    image[56..60].copy_from_slice(b"ARM\x64");
    image
}
