//! A guest's side for tests: frames in guest memory, and a mailbox for those that come.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hv::{GuestMemory, GuestRam};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryBackend as _, VolatileSlice};

use super::frame::{Bytes, Frame, LARGEST, Offload};
use super::{Inbox, Link, Offer, Put, Sent};
use crate::io::event_loop::{Ready, Watcher};

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
    fn room(&mut self, most: usize) -> usize {
        if self.room > 0 { most } else { 0 }
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

/// A frame for the guest, and whether it comes behind a header of virtio's, or in pieces.
type Given = (bool, Vec<u8>);

/// A link that gives what it is told to, and keeps what it is given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scripted {
    /// For the guest.
    frames: Arc<Mutex<VecDeque<Given>>>,
    /// From the guest.
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
    /// So many frames are not taken at first.
    pub(crate) later: u32,
    /// How often it was over.
    finished: Arc<AtomicU32>,
}

impl Scripted {
    pub(crate) fn of(frames: impl IntoIterator<Item = Given>) -> Self {
        let link = Self::default();
        frames.into_iter().for_each(|(filled, frame)| link.give(filled, frame));
        link
    }

    /// One more for the guest.
    pub(crate) fn give(&self, filled: bool, frame: Vec<u8>) {
        self.frames.lock().unwrap().push_back((filled, frame));
    }

    pub(crate) fn sent(&self) -> Vec<Vec<u8>> {
        self.sent.lock().unwrap().clone()
    }

    pub(crate) fn finished(&self) -> u32 {
        self.finished.load(Ordering::SeqCst)
    }

    fn hand_over((filled, frame): &Given, inbox: &mut dyn Inbox) -> Put {
        if !filled {
            let (first, second) = frame.split_at(frame.len() / 2);
            return inbox.put(Offload::default(), &[first, second]);
        }
        let checksum = Some((34, 16)).filter(|_| frame.len() > 60);
        let bytes = [&Offload { checksum, segment: None }.header(54, 1)[..], frame].concat();
        let mut read = |buffers: &[VolatileSlice<'_>]| {
            buffers[0].copy_from(&bytes);
            Ok(bytes.len())
        };
        inbox.fill(bytes.len(), true, &mut read).unwrap()
    }
}

impl Link for Scripted {
    fn offer(&self) -> Offer {
        Offer { features: 7, mac: [2; 6], mtu: 1400 }
    }

    fn descriptors(&self) -> u64 {
        3
    }

    fn watch(&mut self, _watcher: Watcher) -> io::Result<()> {
        Ok(())
    }

    fn activate(&mut self, _features: Option<u64>) {}

    fn send(&mut self, frame: &Frame<'_>, _now: Duration) -> Sent {
        if let Some(later) = self.later.checked_sub(1) {
            self.later = later;
            return Sent::Later;
        }
        let mut bytes = vec![0; frame.bytes.len()];
        frame.bytes.copy_to(&mut bytes);
        self.sent.lock().unwrap().push(bytes);
        Sent::Done
    }

    fn receive(&mut self, inbox: &mut dyn Inbox, _now: Duration) {
        let mut frames = self.frames.lock().unwrap();
        while frames.front().is_some_and(|frame| Self::hand_over(frame, inbox) == Put::Done) {
            frames.pop_front();
        }
    }

    fn ready(&mut self, _ready: Ready, _now: Duration) {}

    fn deadline(&self) -> Option<Duration> {
        None
    }

    fn finish(&mut self) {
        self.finished.fetch_add(1, Ordering::SeqCst);
    }
}
