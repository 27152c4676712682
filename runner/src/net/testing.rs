//! A guest's side for tests: frames in guest memory, and a mailbox for those that come.

use std::io;

use hv::{GuestMemory, GuestRam};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend as _, VolatileSlice};

use super::frame::{Bytes, Frame, LARGEST, Offload};
use super::{Inbox, Put};

/// Memory with one frame in it.
pub(crate) struct Sheet(GuestMemory);

impl Default for Sheet {
    fn default() -> Self {
        Self(hv::mem::memory([(0, GuestRam::new(0x20000).unwrap())]).unwrap())
    }
}

impl Sheet {
    /// Calls `with` with a frame of `bytes`, which lies in two pieces.
    pub(crate) fn frame<T>(
        &self,
        offload: Offload,
        bytes: &[u8],
        with: impl FnOnce(&Frame<'_>) -> T,
    ) -> T {
        self.0.write_slice(bytes, GuestAddress(0)).unwrap();
        let middle = bytes.len() / 2;
        let slice = |at: usize, len| self.0.get_slice(GuestAddress(at as u64), len).unwrap();
        let slices = [slice(0, middle), slice(middle, bytes.len() - middle)];
        with(&Frame { offload, bytes: Bytes::new(&slices) })
    }
}

/// What a guest has got, and room for so many frames more.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    pub(crate) frames: Vec<(Offload, Vec<u8>)>,
    pub(crate) room: usize,
}

impl Mailbox {
    pub(crate) fn with_room(room: usize) -> Self {
        Self { frames: Vec::new(), room }
    }

    /// The frames alone.
    pub(crate) fn bytes(&self) -> Vec<&[u8]> {
        self.frames.iter().map(|(_, frame)| frame.as_slice()).collect()
    }

    fn take(&mut self) -> bool {
        let room = self.room > 0;
        self.room = self.room.saturating_sub(1);
        room
    }
}

impl Inbox for Mailbox {
    fn room(&mut self) -> usize {
        if self.room > 0 { LARGEST } else { 0 }
    }

    fn put(&mut self, offload: Offload, pieces: &[&[u8]]) -> Put {
        if !self.take() {
            return Put::Full;
        }
        let frame = pieces.concat();
        assert!(frame.len() <= LARGEST, "{} bytes", frame.len());
        self.frames.push((offload, frame));
        Put::Done
    }

    fn fill(
        &mut self,
        most: usize,
        with_header: bool,
        read: &mut dyn FnMut(&[VolatileSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Put> {
        if self.room == 0 {
            return Ok(Put::Full);
        }
        let memory = hv::mem::memory([(0, GuestRam::new(0x20000).unwrap())]).unwrap();
        let len = read(&[memory.get_slice(GuestAddress(0), most).unwrap()])?;
        let mut bytes = vec![0; len];
        memory.read_slice(&mut bytes, GuestAddress(0)).unwrap();
        let mut offload = Offload::default();
        if with_header {
            let frame = bytes.split_off(super::frame::HEADER);
            offload = Offload::parse(&bytes.try_into().unwrap(), frame.len()).unwrap();
            bytes = frame;
        }
        self.take();
        self.frames.push((offload, bytes));
        Ok(Put::Done)
    }
}
