//! The block device (virtio 1.2 §5.2): a raw file or block device, or an image whose format the user named.
//! What is in a file never says what it is.
//!
//! Bytes go straight between the file and guest memory. Everything about a request is checked
//! before any of them moves.

mod granules;
mod medium;
mod overlay;
mod patched;
mod qcow2;
mod request;
mod segments;

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_ID_BYTES,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;
use vm_memory::VolatileSlice;

use super::COMMON_FEATURES;
use super::chain::{Broken, Buffers, Chain, MAX_SEGMENTS};
use super::state::Own;
use super::transport::Identity;
use super::worker::Backend;
use crate::devices::state::Refused;
use crate::image::Patch;
use medium::{AT_ONCE, Base, Medium, Raw};
use overlay::Overlay;
pub use overlay::Scratch;
use patched::Patched;
pub use patched::write_patch;
pub use qcow2::{Qcow2, Qcow2Error};
use request::{Answer, Operation, Request, place};
use segments::{Segment, Use};

/// Bytes of a sector, whatever the medium's (§5.2).
pub const SECTOR: u64 = BLOCK_SIZE as u64;
const BLOCK_SIZE: u32 = 512;

/// Entries of the request queue.
const QUEUE_SIZE: u16 = MAX_SEGMENTS;

/// Pieces of data in a request: what a header and a status leave.
const SEG_MAX: u32 = QUEUE_SIZE as u32 - 2;

/// Sectors to which a driver should align what it discards: a file gives back whole blocks of 4 KiB.
const DISCARD_ALIGNMENT: u32 = 8;

/// A disk behind its queue.
pub struct Disk {
    name: String,
    id: [u8; VIRTIO_BLK_ID_BYTES as usize],
    medium: Medium,
    sectors: u64,
    read_only: bool,
    /// What the driver accepted.
    features: AtomicU64,
    /// Writes that have come to an end, well or not: a part may have been written all the same.
    written: AtomicU64,
    /// Held while the medium is flushed.
    flushed: Mutex<Flushed>,
}

/// What flushes came to.
#[derive(Debug, Default)]
struct Flushed {
    /// How many writes are durable.
    durable: u64,
    /// One failed: what it should have saved may be gone, and no later one can tell.
    failed: bool,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} sectors", self.name, self.sectors)?;
        match self.medium.scratch() {
            Some(folder) => write!(f, ", written to {folder}"),
            None => Ok(()),
        }
    }
}

impl Disk {
    /// A disk on `file`, which has `len` bytes; what is beyond the last whole sector is not visible.
    /// `id` is what the guest can ask for; `path` is for messages.
    pub fn new(id: &str, path: &str, file: Arc<File>, len: u64, read_only: bool) -> Self {
        Self::on(id, path, Medium::Base(Base::Raw(Raw::new(file))), len, read_only)
    }

    /// The same, but the guest sees `patch` in the place of what `file` has there. When the guest
    /// writes, the patch is written first.
    pub fn patched(id: &str, path: &str, file: Arc<File>, len: u64, patch: Patch) -> Self {
        let patched = Patched::new(Raw::new(file), patch);
        Self::on(id, path, Medium::Patched(patched), len, false)
    }

    /// The same, but `file` is only read: what the guest writes goes to `scratch`, and is gone with
    /// it.
    pub fn ephemeral(id: &str, path: &str, file: Arc<File>, len: u64, scratch: Scratch) -> Self {
        let base = Base::Raw(Raw::new(file));
        let overlay = Overlay::new(base, scratch, len.saturating_sub(len % SECTOR));
        Self::on(id, path, Medium::Overlay(overlay), len, false)
    }

    /// A disk on an image, which is only read: with `scratch` as in [`Disk::ephemeral`], else by the
    /// guest, too.
    pub fn qcow2(id: &str, path: &str, image: Qcow2, scratch: Option<Scratch>) -> Self {
        let (len, read_only, base) = (image.size(), scratch.is_none(), Base::Qcow2(image));
        let medium = match scratch {
            Some(scratch) => {
                Medium::Overlay(Overlay::new(base, scratch, len.saturating_sub(len % SECTOR)))
            }
            None => Medium::Base(base),
        };
        Self::on(id, path, medium, len, read_only)
    }

    /// Writes `patch` as the guest could, before it does.
    ///
    /// # Errors
    /// When the medium does not take it.
    pub fn apply(&self, mut patch: Patch) -> io::Result<()> {
        self.medium.write(patch.at, &[patch.bytes.as_mut_slice().into()])
    }

    fn on(id: &str, path: &str, medium: Medium, len: u64, read_only: bool) -> Self {
        let mut bytes = [0; VIRTIO_BLK_ID_BYTES as usize];
        for (byte, value) in bytes.iter_mut().zip(id.bytes()) {
            *byte = value;
        }
        Self {
            name: format!("{id} ({path})"),
            id: bytes,
            medium,
            sectors: len / SECTOR,
            read_only,
            features: AtomicU64::new(0),
            written: AtomicU64::new(0),
            flushed: Mutex::default(),
        }
    }

    /// What the driver is told.
    pub fn identity(&self) -> Identity {
        let mut features = COMMON_FEATURES
            | 1 << VIRTIO_BLK_F_SEG_MAX
            | 1 << VIRTIO_BLK_F_BLK_SIZE
            | 1 << VIRTIO_BLK_F_FLUSH;
        features |= match self.read_only {
            true => 1 << VIRTIO_BLK_F_RO,
            false => 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES,
        };
        Identity {
            name: self.name.clone(),
            device: VIRTIO_ID_BLOCK,
            features,
            queues: vec![QUEUE_SIZE],
            config: self.config(),
            writable: 0..0,
        }
    }

    /// struct virtio_blk_config (§5.2.4), as far as the features go.
    fn config(&self) -> Vec<u8> {
        let mut config = Vec::new();
        let mut words = |words: &[u32]| {
            for word in words {
                config.extend(word.to_le_bytes());
            }
        };
        let capacity = self.sectors.to_le_bytes();
        let (low, high) = capacity.split_at(4);
        for half in [low, high] {
            words(&[u32::from_le_bytes(half.try_into().unwrap_or_default())]);
        }
        // size_max, seg_max, geometry, blk_size
        words(&[0, SEG_MAX, 0, BLOCK_SIZE]);
        // topology (two words), writeback and num_queues: not offered
        words(&[0, 0, 0]);
        if !self.read_only {
            words(&[Use::Discard.max_sectors(), Use::Discard.max_segments(), DISCARD_ALIGNMENT]);
            // ... and write_zeroes_may_unmap
            words(&[Use::Zero.max_sectors(), Use::Zero.max_segments(), 1]);
        }
        config
    }
}

impl Backend for Disk {
    fn activate(&self, features: u64) {
        self.features.store(features, Ordering::Relaxed);
    }

    fn serve(&self, chain: Chain<'_>, slow: &mut dyn FnMut()) -> Result<u32, Broken> {
        let request = Request::parse(chain)?;
        let (answer, filled) = match request.operation {
            Operation::Read { sector } => match self.read(sector, &request.input, slow) {
                Answer::Ok => (Answer::Ok, request.input.len()),
                other => (other, 0),
            },
            Operation::Write { sector } => (self.write(sector, &request.output, slow), 0),
            Operation::Flush => (self.flush(slow), 0),
            Operation::GetId => (Answer::Ok, request.input.copy_from(&self.id) as u64),
            Operation::Discard => (self.segments(Use::Discard, &request.output, slow), 0),
            Operation::WriteZeroes => (self.segments(Use::Zero, &request.output, slow), 0),
            Operation::Unknown => (Answer::Unsupported, 0),
            Operation::Truncated => (Answer::Error, 0),
        };
        Ok(request.answer(answer, filled))
    }

    fn describe(&self) -> Result<Own, &'static str> {
        if self.medium.scratch().is_some() {
            return Err(
                "what the guest has written is in this process's scratch file alone: run the disk \
                        without `ephemeral`",
            );
        }
        let flushed = self.flushed.lock().unwrap_or_else(PoisonError::into_inner);
        let unflushed = flushed.durable < self.written.load(Ordering::Acquire);
        Ok(Own::Block { unflushed, failed: flushed.failed })
    }

    fn restore(&self, own: &Own) -> Result<(), Refused> {
        let Own::Block { unflushed, failed } = *own else { return Err(Own::foreign("`block`")) };
        // They are the system's, whichever process wrote them.
        self.written.fetch_add(unflushed.into(), Ordering::Release);
        self.flushed.lock().unwrap_or_else(PoisonError::into_inner).failed = failed;
        Ok(())
    }

    fn work(&self, chain: &Chain<'_>) -> u64 {
        let (operation, output) = Request::peek(chain);
        let more = match operation {
            Operation::Discard => segments::work(Use::Discard, &output, self.sectors),
            Operation::WriteZeroes => segments::work(Use::Zero, &output, self.sectors),
            _ => 0,
        };
        chain.len().saturating_add(more)
    }

    fn finish(&self) -> Result<(), String> {
        match self.flush(&mut || ()) {
            Answer::Ok => Ok(()),
            _ => Err(format!("{}: not all that the guest wrote is on the disk", self.name)),
        }
    }
}

impl Disk {
    fn accepted(&self, feature: u32) -> bool {
        self.features.load(Ordering::Relaxed) & 1 << feature != 0
    }

    fn read(&self, sector: u64, input: &Buffers<'_>, slow: &mut dyn FnMut()) -> Answer {
        match place(sector, input.len(), self.sectors) {
            Some(offset) => self.fill(offset, input.slices(), slow),
            None => Answer::Error,
        }
    }

    fn fill(&self, offset: u64, input: &[VolatileSlice<'_>], slow: &mut dyn FnMut()) -> Answer {
        match self.medium.read(offset, input, slow) {
            Ok(()) => Answer::Ok,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.failed("read", offset, &"the file has become shorter")
            }
            Err(error) => self.failed("read", offset, &error),
        }
    }

    /// Fills `input` from byte `offset` on, both whole sectors on the disk, for another device than
    /// virtio's. Whether it could is said here, why not on stderr.
    pub fn read_at(&self, offset: u64, input: &[VolatileSlice<'_>]) -> bool {
        self.fill(offset, input, &mut || ()) == Answer::Ok
    }

    /// Writes all of `output` from byte `offset` on, as [`Disk::read_at`]. It is durable behind
    /// [`Backend::finish`].
    pub fn write_at(&self, offset: u64, output: &[VolatileSlice<'_>]) -> bool {
        if self.read_only {
            return false;
        }
        self.written.fetch_add(1, Ordering::Release);
        match self.medium.write(offset, output) {
            Ok(()) => true,
            Err(error) => self.failed("write", offset, &error) == Answer::Ok,
        }
    }

    fn write(&self, sector: u64, output: &Buffers<'_>, slow: &mut dyn FnMut()) -> Answer {
        if self.read_only {
            return Answer::Error;
        }
        let Some(offset) = place(sector, output.len(), self.sectors) else { return Answer::Error };
        if output.len() > AT_ONCE {
            slow();
        }
        let result = self.medium.write(offset, output.slices());
        self.written(result, "write", offset, slow)
    }

    /// Discards, or fills with zeros, what the request lists. Nothing is done unless all of it can.
    fn segments(&self, wanted: Use, output: &Buffers<'_>, slow: &mut dyn FnMut()) -> Answer {
        if self.read_only || !self.accepted(wanted.feature()) {
            return Answer::Unsupported;
        }
        let segments = match segments::parse(wanted, output, self.sectors) {
            Ok(segments) => segments,
            Err(answer) => return answer,
        };
        slow();
        for Segment { offset, len, unmap } in segments {
            let result = match wanted {
                Use::Discard => self.medium.discard(offset, len),
                Use::Zero => self.medium.zero(offset, len, unmap),
            };
            match self.written(result, wanted.verb(), offset, slow) {
                Answer::Ok => {}
                other => return other,
            }
        }
        Answer::Ok
    }

    /// What a change of the disk came to. A driver that cannot flush has every write made durable
    /// before it is answered (§5.2.6.2).
    fn written(
        &self,
        result: io::Result<()>,
        what: &str,
        offset: u64,
        slow: &mut dyn FnMut(),
    ) -> Answer {
        self.written.fetch_add(1, Ordering::Release);
        match result {
            Err(error) => self.failed(what, offset, &error),
            Ok(()) if self.accepted(VIRTIO_BLK_F_FLUSH) => Answer::Ok,
            Ok(()) => self.flush(slow),
        }
    }

    /// Makes durable what was written and answered before: fdatasync, on macOS F_FULLFSYNC (std
    /// chooses). Of two flushes at once the second waits for what the first one came to: the system
    /// tells an error once, and it counts for both.
    fn flush(&self, slow: &mut dyn FnMut()) -> Answer {
        let written = self.written.load(Ordering::Acquire);
        let mut flushed = match self.flushed.try_lock() {
            Ok(flushed) => flushed,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                slow();
                self.flushed.lock().unwrap_or_else(PoisonError::into_inner)
            }
        };
        if flushed.durable < written && !flushed.failed {
            slow();
            match self.medium.sync() {
                Ok(()) => flushed.durable = written,
                Err(error) => {
                    flushed.failed = true;
                    crate::warning!("{}: flush: {error}; every later flush fails, too", self.name);
                }
            }
        }
        match flushed.failed {
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
