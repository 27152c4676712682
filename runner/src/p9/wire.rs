//! Integers and strings as they are in messages: little-endian, a string behind its length in two bytes.

use super::HEADER;

/// A message ends before what it should hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Truncated;

/// Takes a message apart, from its first byte on.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `len` bytes.
    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Truncated> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Truncated)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Truncated)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Truncated> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Truncated> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn string(&mut self) -> Result<&'a [u8], Truncated> {
        let len = self.u16()?;
        self.bytes(len.into())
    }
}

/// An answer in the making. It never takes more than its room: what does not fit is left out, and
/// [`Writer::finish`] says so.
#[derive(Debug)]
pub(super) struct Writer<'b> {
    bytes: &'b mut Vec<u8>,
    room: usize,
    overflown: bool,
}

impl<'b> Writer<'b> {
    /// Begins an answer in place of what is in `bytes`, of at most `room` bytes.
    pub(super) fn new(bytes: &'b mut Vec<u8>, room: usize) -> Self {
        bytes.clear();
        bytes.resize(HEADER, 0);
        Self { bytes, room, overflown: room < HEADER }
    }

    /// How many more bytes there is room for.
    pub(super) fn left(&self) -> usize {
        self.room.saturating_sub(self.bytes.len())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.overflown |= bytes.len() > self.left();
        if !self.overflown {
            self.bytes.extend_from_slice(bytes);
        }
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes(&value.to_le_bytes());
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// A string of at most 65,535 bytes; of a longer one nothing, and the answer does not come about.
    pub(super) fn string(&mut self, bytes: &[u8]) {
        match u16::try_from(bytes.len()) {
            Ok(len) => self.u16(len),
            Err(_) => self.overflown = true,
        }
        self.bytes(bytes);
    }

    /// Data that `fill` puts behind its length of four bytes: it is given room for at most `most`
    /// bytes, and returns how many it has filled.
    pub(super) fn data<E>(
        &mut self,
        most: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let at = self.bytes.len();
        self.u32(0);
        let start = self.bytes.len();
        let end = start.saturating_add(most.min(self.left()));
        self.bytes.resize(end, 0);
        let filled = fill(self.bytes.get_mut(start..).unwrap_or_default())?;
        self.bytes.truncate(start.saturating_add(filled).min(end));
        let len = u32::try_from(self.bytes.len().saturating_sub(start)).unwrap_or_default();
        if let Some(place) = self.bytes.get_mut(at..start).filter(|place| place.len() == 4) {
            place.copy_from_slice(&len.to_le_bytes());
        }
        Ok(())
    }

    /// Writes the header. False when not everything had room.
    pub(super) fn finish(self, kind: u8, tag: u16) -> bool {
        let len = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let [a, b, c, d] = len.to_le_bytes();
        let [e, f] = tag.to_le_bytes();
        if let Some(header) = self.bytes.first_chunk_mut() {
            *header = [a, b, c, d, kind, e, f];
        }
        !self.overflown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gives_what_is_there_and_nothing_beyond() {
        let mut reader = Reader::new(&[1, 2, 3, 4, 0, 0, 0, 2, 0, b'a', b'b', 3, 0, b'c']);
        assert_eq!((reader.u8(), reader.u16(), reader.u32()), (Ok(1), Ok(0x0302), Ok(4)));
        assert_eq!(reader.string(), Ok(&b"ab"[..]));
        assert_eq!(reader.string(), Err(Truncated));
        assert_eq!(reader.u64(), Err(Truncated));
    }

    #[test]
    fn an_answer_has_its_length_kind_and_tag_in_front() {
        let mut bytes = vec![9; 100];
        let mut writer = Writer::new(&mut bytes, 64);
        writer.string(b"ab");
        assert!(writer.finish(7, 0x1234));
        assert_eq!(bytes, [11, 0, 0, 0, 7, 0x34, 0x12, 2, 0, b'a', b'b']);
    }

    #[test]
    fn an_answer_never_takes_more_than_its_room() {
        let mut bytes = Vec::new();
        for room in 0..15 {
            let mut writer = Writer::new(&mut bytes, room);
            writer.u64(1);
            assert!(!writer.finish(7, 1), "{room}");
            assert!(bytes.len() <= room.max(HEADER));
        }
        let mut writer = Writer::new(&mut bytes, 1 << 20);
        writer.string(&[0; 1 << 16]);
        assert!(!writer.finish(7, 1));
    }

    #[test]
    fn data_is_cut_to_the_room_and_to_what_was_filled() {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, HEADER + 4 + 3);
        let result = writer.data::<()>(10, |room| {
            assert_eq!(room.len(), 3);
            room[0] = 7;
            Ok(1)
        });
        assert_eq!((result, writer.finish(1, 0)), (Ok(()), true));
        assert_eq!(bytes[HEADER..], [1, 0, 0, 0, 7]);
        let mut writer = Writer::new(&mut bytes, HEADER + 2);
        writer.data::<()>(10, |room| Ok(room.len())).unwrap();
        assert!(!writer.finish(1, 0));
    }
}
