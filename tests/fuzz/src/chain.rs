//! Descriptor chains: two tables of any contents, and the walk through them, compared with one that
//! was written once more and checks nothing it need not.

use hv::{GuestMemory, GuestRam};
use runner::devices::virtio::chain::{Buffers, Chain, MAX_SEGMENTS, Table};
use vm_memory::{Bytes, GuestAddress};

use super::input::Input;

/// Two pieces of RAM, side by side, and a third behind a hole.
const PIECES: [(u64, u64); 3] = [(0, 0x8000), (0x8000, 0x8000), (0x2_0000, 0x1000)];
const TABLE: u64 = 0x1000;
const INDIRECT: u64 = 0x2000;
const SIZE: u16 = 16;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const REFERS: u16 = 4;

/// Descriptors for both tables, then what is done with the buffers.
pub fn chain(data: &[u8]) {
    let mut input = Input(data);
    let memory = memory();
    let first = input.byte();
    let (indirect, head) = (first & 0x80 != 0, u16::from(first & 0x1f));
    for table in [TABLE, INDIRECT] {
        for index in 0..u64::from(SIZE) {
            write_descriptor(&memory, table + 16 * index, &mut input);
        }
    }
    let table = Table { address: TABLE, size: SIZE, indirect };
    let read = Chain::read(&memory, table, head);
    let lens = read.as_ref().ok().map(|chain| (chain.readable.len(), chain.writable.len()));
    assert_eq!(lens, walk(&memory, table, head), "{read:?}");
    match read {
        Ok(mut chain) => {
            assert_eq!(chain.len(), chain.readable.len() + chain.writable.len());
            use_up(&mut chain.readable, &mut input);
            use_up(&mut chain.writable, &mut input);
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control)),
    }
}

/// Mostly a descriptor that leads to the next one, and a buffer in RAM.
fn write_descriptor(memory: &GuestMemory, at: u64, input: &mut Input<'_>) {
    let (address, len) = match input.byte() % 8 {
        0 => (input.long(), input.word()),
        1 => (INDIRECT + u64::from(input.byte() % 64), u32::from(input.byte() % 20) * 16),
        2 => (0x1_0000 - u64::from(input.byte()), input.half().into()),
        3 => (0x2_0000 + u64::from(input.half()), input.byte().into()),
        _ => (u64::from(input.half()), input.byte().into()),
    };
    let (flags, next) = match input.byte() {
        byte @ 0..0xc0 => (u16::from(byte) & (NEXT | WRITE | REFERS), u16::from(byte >> 3)),
        _ => (input.half(), input.half()),
    };
    let mut bytes = address.to_le_bytes().to_vec();
    bytes.extend(len.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(next.to_le_bytes());
    memory.write_slice(&bytes, GuestAddress(at)).expect("tables are in RAM");
}

/// Bytes that can be read and written, of a chain that breaks no rule.
fn walk(memory: &GuestMemory, table: Table, head: u16) -> Option<(u64, u64)> {
    let (mut at, mut size, mut index, mut inside) = (table.address, table.size, head, false);
    let (mut readable, mut writable, mut seen_writable) = (0u64, 0u64, false);
    for _ in 0..=MAX_SEGMENTS {
        if index >= size {
            return None;
        }
        let place = at.checked_add(16 * u64::from(index))?;
        let mut bytes = [0; 16];
        in_ram(place, 16).then_some(())?;
        memory.read_slice(&mut bytes, GuestAddress(place)).expect("it is in RAM");
        let address = u64::from_le_bytes(bytes[..8].try_into().expect("8"));
        let len = u32::from_le_bytes(bytes[8..12].try_into().expect("4"));
        let flags = u16::from_le_bytes(bytes[12..14].try_into().expect("2"));
        let next = u16::from_le_bytes(bytes[14..].try_into().expect("2"));
        if flags & REFERS != 0 {
            let entries = u16::try_from(len / 16).ok()?;
            if !table.indirect || inside || flags & NEXT != 0 || len % 16 != 0 || entries == 0 {
                return None;
            }
            (at, size, index, inside) = (address, entries, 0, true);
            continue;
        }
        if !in_ram(address, len.into()) || flags & WRITE == 0 && seen_writable {
            return None;
        }
        match flags & WRITE != 0 {
            true => (writable, seen_writable) = (writable + u64::from(len), true),
            false => readable += u64::from(len),
        }
        if readable + writable > 1 << 32 {
            return None;
        }
        if flags & NEXT == 0 {
            return Some((readable, writable));
        }
        index = next;
    }
    None
}

/// Whether `len` bytes from `address` on are in RAM; no byte is anywhere.
fn in_ram(address: u64, len: u64) -> bool {
    let Some(end) = address.checked_add(len) else { return len == 0 };
    let whole = [(0, 0x1_0000), (0x2_0000, 0x2_1000)];
    len == 0 || whole.iter().any(|(start, stop)| *start <= address && end <= *stop)
}

/// Cuts buffers in two and copies through both halves.
fn use_up(buffers: &mut Buffers<'_>, input: &mut Input<'_>) {
    let whole = buffers.len();
    let wanted = u64::from(input.half());
    let taken = buffers.take(wanted);
    assert_eq!(taken.len(), wanted.min(whole));
    assert_eq!(buffers.len(), whole - taken.len());
    for part in [&taken, buffers] {
        let in_slices: u64 = part.slices().iter().map(|slice| slice.len() as u64).sum();
        assert_eq!(in_slices, part.len());
        let mut bytes = vec![0; usize::from(input.byte())];
        let room = part.len().min(bytes.len() as u64);
        assert_eq!(part.copy_to(&mut bytes) as u64, room);
        assert_eq!(part.copy_from(&bytes) as u64, room);
    }
}

fn memory() -> GuestMemory {
    let piece = |(start, len)| (start, GuestRam::new(len).expect("a few pages"));
    hv::mem::memory(PIECES.map(piece)).expect("they do not overlap")
}
