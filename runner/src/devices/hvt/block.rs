//! Block storage: the media of virtio's block device, read and written while the guest waits.
//!
//! As with Solo5's tender what is written reaches the file at once and the disk when the system likes, at
//! the end of the run at the latest: there is no call to flush.

use super::{Answer, Guest, Violation};
use crate::devices::virtio::block::Disk;
use crate::devices::virtio::worker::Backend;
use crate::machine::stop::Stop;

/// Bytes that are moved before anybody asks whether the run is over.
const CHUNK: u64 = 4 << 20;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// Into the guest's memory.
    Read,
    /// Out of it.
    Write,
}

impl Direction {
    pub(super) fn call(self) -> &'static str {
        match self {
            Direction::Read => "block_read",
            Direction::Write => "block_write",
        }
    }
}

/// What is asked for, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) offset: u64,
    pub(super) data: u64,
    pub(super) len: u64,
}

/// A block device.
#[derive(Debug)]
pub struct Block {
    disk: Disk,
    capacity: u64,
    block_size: u64,
}

impl Block {
    /// A device on `disk`, which has `capacity` bytes, a multiple of `block_size`.
    pub fn new(disk: Disk, capacity: u64, block_size: u16) -> Self {
        Self { disk, capacity, block_size: block_size.into() }
    }

    pub(super) fn finish(&self) -> Result<(), String> {
        self.disk.finish()
    }

    /// Moves whole blocks, all of them on the device.
    pub(super) fn transfer(
        &self,
        guest: &Guest,
        stop: &Stop,
        direction: Direction,
        request: Request,
    ) -> Result<Answer, Violation> {
        let Request { offset, data, len } = request;
        let end = offset.checked_add(len).filter(|end| *end <= self.capacity);
        let whole = |bytes: u64| bytes.is_multiple_of(self.block_size);
        if end.is_none() || offset >= self.capacity || !whole(offset) || !whole(len) {
            return Ok(Answer::Invalid);
        }
        let call = direction.call();
        // All of it before the first byte moves.
        match direction {
            Direction::Read => guest.writable(call, data, len)?,
            Direction::Write => guest.readable(call, data, len)?,
        };
        let mut done = 0;
        while done < len && !stop.requested() {
            let chunk = len.saturating_sub(done).min(CHUNK);
            let slices = guest.readable(call, data.saturating_add(done), chunk)?;
            let at = offset.saturating_add(done);
            let moved = match direction {
                Direction::Read => self.disk.read_at(at, &slices),
                Direction::Write => self.disk.write_at(at, &slices),
            };
            if !moved {
                return Ok(Answer::Failed);
            }
            done = done.saturating_add(chunk);
        }
        Ok(Answer::Ok)
    }
}
