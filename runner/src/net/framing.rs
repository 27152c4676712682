//! Frames on a stream, each behind its length in four bytes, the highest first (QEMU, `net/stream.c`).

use std::io::{self, Read};

use super::frame::LARGEST;

/// Bytes of a length.
pub const LENGTH: usize = 4;

/// Room for what has been read and not been taken: the largest frame at least.
const ROOM: usize = 128 << 10;

/// A length that is no frame's: what comes behind it makes no sense any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it has announced a frame of {0} bytes")]
pub struct TooLong(pub usize);

/// The length that stands before a frame of `len` bytes, if there are such.
pub fn length(len: usize) -> Option<[u8; LENGTH]> {
    u32::try_from(len).ok().filter(|_| len <= LARGEST).map(u32::to_be_bytes)
}

/// Takes frames from a stream, however they are cut on the way.
#[derive(Debug)]
pub struct Reader {
    buffer: Vec<u8>,
    /// What has been read and not been taken.
    start: usize,
    end: usize,
}

impl Default for Reader {
    fn default() -> Self {
        Self { buffer: vec![0; ROOM], start: 0, end: 0 }
    }
}

impl Reader {
    /// Reads once, as much as there is room for. Returns how many bytes came, as `stream` does. There
    /// is room unless a whole frame has not been taken.
    ///
    /// # Errors
    /// What `stream` says.
    pub fn fill(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end.saturating_sub(self.start));
        let read = stream.read(self.buffer.get_mut(self.end..).unwrap_or_default())?;
        self.end = self.end.saturating_add(read);
        Ok(read)
    }

    /// The next frame, if all of it is there.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn frame(&mut self) -> Result<Option<&mut [u8]>, TooLong> {
        let waiting = self.buffer.get_mut(self.start..self.end).unwrap_or_default();
        let Some((length, rest)) = waiting.split_first_chunk_mut::<LENGTH>() else {
            return Ok(None);
        };
        match usize::try_from(u32::from_be_bytes(*length)) {
            Ok(len) if len <= LARGEST => Ok(rest.get_mut(..len)),
            len => Err(TooLong(len.unwrap_or(usize::MAX))),
        }
    }

    /// Takes the next frame away.
    pub fn take(&mut self) {
        let len = match self.frame() {
            Ok(Some(frame)) => frame.len(),
            _ => return,
        };
        self.start = self.start.saturating_add(LENGTH).saturating_add(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_one_after_the_other_and_what_is_cut_is_waited_for() {
        let mut reader = Reader::default();
        let mut stream = &b"\0\0\0\x03abc\0\0\0\0\0\0\0\x02d"[..];
        assert_eq!(reader.fill(&mut stream).unwrap(), 16);
        assert_eq!(reader.frame().unwrap().unwrap(), b"abc");
        assert_eq!(reader.frame().unwrap().unwrap(), b"abc");
        reader.take();
        assert_eq!(reader.frame().unwrap().unwrap(), b"");
        reader.take();
        assert_eq!(reader.frame(), Ok(None));
        reader.take();
        reader.fill(&mut &b"e\0\0"[..]).unwrap();
        assert_eq!(reader.frame().unwrap().unwrap(), b"de");
        reader.take();
        assert_eq!(reader.frame(), Ok(None));
    }

    #[test]
    fn the_largest_frame_fits_behind_another_that_is_cut() {
        let mut reader = Reader::default();
        let largest = [&length(LARGEST).unwrap()[..], &vec![7; LARGEST]].concat();
        let all = [&b"\0\0\0\x01a"[..], &largest, &largest].concat();
        let mut stream = all.as_slice();
        let mut frames = Vec::new();
        while frames.len() < 3 {
            reader.fill(&mut stream).unwrap();
            while let Some(frame) = reader.frame().unwrap() {
                frames.push(frame.len());
                reader.take();
            }
        }
        assert_eq!(frames, [1, LARGEST, LARGEST]);
    }

    #[test]
    fn a_length_beyond_every_frame_is_an_error_for_ever() {
        assert_eq!(length(LARGEST + 1), None);
        for len in [LARGEST + 1, u32::MAX as usize] {
            let mut reader = Reader::default();
            reader.fill(&mut u32::try_from(len).unwrap().to_be_bytes().as_slice()).unwrap();
            assert_eq!(reader.frame(), Err(TooLong(len)));
            reader.take();
            assert_eq!(reader.frame(), Err(TooLong(len)));
        }
    }
}
