//! The block device (virtio 1.2 §5.2): a raw file or block device, never another format.
//!
//! Bytes go straight between the file and guest memory. Everything about a request is checked
//! before any of them moves.

mod request;

use std::fs::File;
use std::sync::Arc;
use std::{fmt, io};

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_ID_BYTES,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;

use super::COMMON_FEATURES;
use super::chain::{Broken, Buffers, Chain, MAX_SEGMENTS};
use super::transport::Identity;
use super::worker::Backend;
use crate::io::file;
use request::{Answer, Operation, Request, place};

/// Bytes of a sector, whatever the medium's (§5.2).
pub const SECTOR: u64 = BLOCK_SIZE as u64;
const BLOCK_SIZE: u32 = 512;

/// Entries of the request queue.
const QUEUE_SIZE: u16 = MAX_SEGMENTS;

/// Pieces of data in a request: what a header and a status leave.
const SEG_MAX: u32 = QUEUE_SIZE as u32 - 2;

/// A disk behind its queue.
pub struct Disk {
    name: String,
    id: [u8; VIRTIO_BLK_ID_BYTES as usize],
    file: Arc<File>,
    sectors: u64,
    read_only: bool,
    /// The driver cannot flush, so every write is made durable before it is answered (§5.2.6.2).
    write_through: bool,
    /// Something was written since the last flush.
    unflushed: bool,
    /// A flush failed: what it should have saved may be gone, and no later one can tell.
    flush_failed: bool,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} sectors", self.name, self.sectors)
    }
}

impl Disk {
    /// A disk on `file`, which has `len` bytes; what is beyond the last whole sector is not visible.
    /// `id` is what the guest can ask for; `path` is for messages.
    pub fn new(id: &str, path: &str, file: Arc<File>, len: u64, read_only: bool) -> Self {
        let mut bytes = [0; VIRTIO_BLK_ID_BYTES as usize];
        for (byte, value) in bytes.iter_mut().zip(id.bytes()) {
            *byte = value;
        }
        Self {
            name: format!("{id} ({path})"),
            id: bytes,
            file,
            sectors: len / SECTOR,
            read_only,
            write_through: false,
            unflushed: false,
            flush_failed: false,
        }
    }

    /// What the driver is told.
    pub fn identity(&self) -> Identity {
        let mut features = COMMON_FEATURES
            | 1 << VIRTIO_BLK_F_SEG_MAX
            | 1 << VIRTIO_BLK_F_BLK_SIZE
            | 1 << VIRTIO_BLK_F_FLUSH;
        if self.read_only {
            features |= 1 << VIRTIO_BLK_F_RO;
        }
        // struct virtio_blk_config: capacity, size_max, seg_max, geometry, blk_size.
        let mut config = Vec::new();
        config.extend(self.sectors.to_le_bytes());
        config.extend(0u32.to_le_bytes());
        config.extend(SEG_MAX.to_le_bytes());
        config.extend(0u32.to_le_bytes());
        config.extend(BLOCK_SIZE.to_le_bytes());
        Identity {
            name: self.name.clone(),
            device: VIRTIO_ID_BLOCK,
            features,
            queues: vec![QUEUE_SIZE],
            config,
        }
    }
}

impl Backend for Disk {
    fn activate(&mut self, features: u64) {
        self.write_through = features & (1 << VIRTIO_BLK_F_FLUSH) == 0;
    }

    fn serve(&mut self, chain: Chain<'_>) -> Result<u32, Broken> {
        let request = Request::parse(chain)?;
        let (answer, filled) = match request.operation {
            Operation::Read { sector } => match self.read(sector, &request.input) {
                Answer::Ok => (Answer::Ok, request.input.len()),
                other => (other, 0),
            },
            Operation::Write { sector } => (self.write(sector, &request.output), 0),
            Operation::Flush => (self.flush(), 0),
            Operation::GetId => (Answer::Ok, request.input.copy_from(&self.id) as u64),
            Operation::Unknown => (Answer::Unsupported, 0),
            Operation::Truncated => (Answer::Error, 0),
        };
        Ok(request.answer(answer, filled))
    }

    fn finish(&mut self) -> Result<(), String> {
        match self.flush() {
            Answer::Ok => Ok(()),
            _ => Err(format!("{}: not all that the guest wrote is on the disk", self.name)),
        }
    }
}

impl Disk {
    fn read(&self, sector: u64, input: &Buffers<'_>) -> Answer {
        let Some(offset) = place(sector, input.len(), self.sectors) else { return Answer::Error };
        match file::read_exact_at(&self.file, offset, input.slices()) {
            Ok(()) => Answer::Ok,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.failed("read", offset, &"the file has become shorter")
            }
            Err(error) => self.failed("read", offset, &error),
        }
    }

    fn write(&mut self, sector: u64, output: &Buffers<'_>) -> Answer {
        if self.read_only {
            return Answer::Error;
        }
        let Some(offset) = place(sector, output.len(), self.sectors) else { return Answer::Error };
        // Also when it fails: a part may have been written.
        self.unflushed = true;
        if let Err(error) = file::write_all_at(&self.file, offset, output.slices()) {
            return self.failed("write", offset, &error);
        }
        match self.write_through {
            true => self.flush(),
            false => Answer::Ok,
        }
    }

    /// Makes durable what was written: fdatasync, on macOS F_FULLFSYNC (std chooses).
    fn flush(&mut self) -> Answer {
        if self.unflushed && !self.flush_failed {
            match self.file.sync_data() {
                Ok(()) => self.unflushed = false,
                Err(error) => {
                    self.flush_failed = true;
                    crate::warning!("{}: flush: {error}; every later flush fails, too", self.name);
                }
            }
        }
        match self.flush_failed {
            true => Answer::Error,
            false => Answer::Ok,
        }
    }

    /// The guest sees an I/O error and decides; the user sees why.
    fn failed(&self, what: &str, offset: u64, why: &dyn fmt::Display) -> Answer {
        crate::warning!("{}: {what} at byte {offset}: {why}; the guest sees an error", self.name);
        Answer::Error
    }
}
